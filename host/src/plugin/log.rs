//! `holdfast:plugin/log`, and everything else a guest can put into the operator's log.
//!
//! Lines are counted, cut and escaped here: a guest can neither flood the log nor forge a line of it.

use std::fmt::Write as _;
use std::sync::Arc;

use super::bindings::holdfast::plugin::log as wit;
use super::call::CallState;
use super::limits::Limits;
use super::meter::Meter;
use crate::id::RunId;

pub(super) use wit::Level;

/// Where one call's lines go.
pub(super) struct GuestLog {
    pub(super) plugin: Arc<str>,
    /// None while the plugin describes itself: then everything is dropped.
    pub(super) run: Option<RunId>,
    pub(super) limits: Arc<Limits>,
    pub(super) meter: Arc<Meter>,
}

impl GuestLog {
    /// One line of guest-controlled text.
    pub(super) fn line(&self, level: Level, text: &str) {
        let Some(run) = &self.run else { return };
        if !self.meter.log_line(&self.limits) {
            return;
        }
        let longest = usize::try_from(self.limits.log_line_bytes).unwrap_or(usize::MAX);
        let (plugin, text) = (&*self.plugin, escaped(text, longest));
        match level {
            Level::Trace => {
                tracing::trace!(target: "plugin", { plugin.id = plugin, run.id = %run }, "{text}");
            }
            Level::Debug => {
                tracing::debug!(target: "plugin", { plugin.id = plugin, run.id = %run }, "{text}");
            }
            Level::Info => tracing::info!(target: "plugin", { plugin.id = plugin, run.id = %run }, "{text}"),
            Level::Warn => tracing::warn!(target: "plugin", { plugin.id = plugin, run.id = %run }, "{text}"),
            Level::Error => {
                tracing::error!(target: "plugin", { plugin.id = plugin, run.id = %run }, "{text}");
            }
        }
    }
}

/// Guest-controlled text as one harmless line: at most `longest` bytes of it, control and text-direction
/// characters written as escapes.
pub(super) fn escaped(text: &str, longest: usize) -> String {
    let kept = &text[..text.floor_char_boundary(longest)];
    let mut line = String::with_capacity(kept.len() + 16);
    for character in kept.chars() {
        let moves_text =
            matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if character.is_control() || moves_text {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    if kept.len() < text.len() {
        // Writing to a `String` cannot fail.
        let _ = write!(line, "… ({} bytes cut)", text.len() - kept.len());
    }
    line
}

impl wit::Host for CallState {
    fn write(&mut self, level: Level, message: String) -> wasmtime::Result<()> {
        self.meter.host_call(&self.limits, message.len())?;
        self.log.line(level, &message);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn a_guest_cannot_forge_a_line_or_move_the_cursor() {
        assert_eq!(escaped("a\nERROR forged\u{1b}[2J\u{202e}é", 100), "a\\nERROR forged\\u{1b}[2J\\u{202e}é");
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        assert_eq!(escaped("aéé", 2), "a… (4 bytes cut)");
    }
}
