//! `holdfast:plugin/log`, and everything else a guest can put into the operator's log.
//!
//! Lines are counted, cut and escaped here: a guest can neither flood the log nor forge a line of it.

use std::sync::Arc;

use super::bindings::holdfast::plugin::log as wit;
use super::call::CallState;
use super::limits::Limits;
use super::meter::Meter;
use crate::escape::escaped;
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

impl wit::Host for CallState {
    fn write(&mut self, level: Level, message: String) -> wasmtime::Result<()> {
        self.meter.host_call(&self.limits, message.len())?;
        self.log.line(level, &message);
        Ok(())
    }
}
