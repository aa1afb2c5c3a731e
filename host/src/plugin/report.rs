//! What the operator's log says about a call: the reason, the plugin, the run, and the setting that would
//! allow it.

use super::limits::setting;
use super::meter::Meter;
use super::outcome::Ended;
use crate::id::RunId;
use crate::tool::{OutcomeKind, ToolName};

/// Logs how a call ended; what is the guest's ordinary business only for whoever looks for it (`debug`). A call that
/// has not ended asks a human.
pub(super) fn report(ended: Option<&Ended>, tool: &ToolName, run: &RunId, meter: &Meter) {
    let (plugin, tool) = (tool.plugin(), tool.tool());
    let limits = |setting: &str| format!("plugins.{plugin}.limits.{setting}");
    let dropped = meter.usage().log_lines_dropped;
    if dropped > 0 {
        let setting = limits("log_lines");
        tracing::warn!(plugin.id = plugin, tool, run.id = %run, dropped, setting, "a plugin's log lines were dropped");
    }
    for (denial, times) in meter.denials() {
        let (capability, what) = (denial.capability, &denial.what);
        let setting = denial.setting.as_ref().map(|setting| format!("plugins.{plugin}.{setting}"));
        tracing::warn!(plugin.id = plugin, tool, run.id = %run, capability, what, setting, times, "a plugin was denied something");
    }
    let its_end = ended.map(|ended| &ended.kind);
    if let Some(limit) = meter.hit()
        && !matches!(its_end, Some(OutcomeKind::Limit { limit: last }) if *last == limit)
    {
        let setting = setting(plugin, limit);
        tracing::warn!(plugin.id = plugin, tool, run.id = %run, %limit, setting, "a plugin reached a limit and went on");
    }
    let Some(ended) = ended else { return };
    let reason = ended.reason.as_deref();
    match &ended.kind {
        OutcomeKind::Ok
        | OutcomeKind::ToolError
        | OutcomeKind::InvalidArgs
        | OutcomeKind::Rejected
        | OutcomeKind::Interrupted
        | OutcomeKind::Cancelled => {
            let outcome = ended.kind.word();
            tracing::debug!(plugin.id = plugin, tool, run.id = %run, outcome, "a call ended");
        }
        OutcomeKind::GuestFailure { code } => {
            tracing::debug!(plugin.id = plugin, tool, run.id = %run, code, "a plugin says that it failed");
        }
        // The breaker says itself when it opens and closes.
        OutcomeKind::Unavailable if reason.is_some() => {
            tracing::debug!(plugin.id = plugin, tool, run.id = %run, reason, "a call was not let through");
        }
        // What the guest itself was denied is told above.
        OutcomeKind::Denied { capability } => match reason {
            Some(reason) => {
                tracing::warn!(plugin.id = plugin, tool, run.id = %run, capability, reason, "a plugin was denied something");
            }
            None => {
                tracing::debug!(plugin.id = plugin, tool, run.id = %run, capability, "a call ended by a denial");
            }
        },
        OutcomeKind::Limit { limit } => {
            let setting = setting(plugin, *limit);
            tracing::warn!(plugin.id = plugin, tool, run.id = %run, %limit, setting, reason, "a plugin reached a limit");
        }
        OutcomeKind::Unavailable => {
            let setting = limits("concurrent_calls");
            tracing::warn!(plugin.id = plugin, tool, run.id = %run, setting, "a plugin was too busy for a call");
        }
        OutcomeKind::HostFault => {
            tracing::error!(plugin.id = plugin, tool, run.id = %run, reason, "a plugin could not be run");
        }
        OutcomeKind::Trap { trap } => {
            tracing::warn!(plugin.id = plugin, tool, run.id = %run, trap, reason, "a plugin crashed");
        }
        OutcomeKind::InvalidOutput => {
            tracing::warn!(plugin.id = plugin, tool, run.id = %run, reason, "a plugin's answer was not valid");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;

    use super::super::meter::Denial;
    use super::*;
    use crate::tool::Limit;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    fn logged(kind: OutcomeKind, meter: &Meter) -> String {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(lines.clone())
            .finish();
        let tool = ToolName::new("evil", "act").unwrap();
        tracing::subscriber::with_default(subscriber, || {
            report(Some(&Ended::of(kind, "text")), &tool, &RunId::from("run-1"), meter);
        });
        let text = lines.0.lock().unwrap().clone();
        String::from_utf8(text).unwrap()
    }

    /// The kind after this one, with what its line must say. A new kind does not compile until it is here.
    fn next(kind: &OutcomeKind) -> Option<(OutcomeKind, &'static [&'static str])> {
        Some(match kind {
            OutcomeKind::Ok => (OutcomeKind::ToolError, &["DEBUG", "tool-error"]),
            OutcomeKind::ToolError => {
                (OutcomeKind::GuestFailure { code: "no-luck".to_owned() }, &["DEBUG", "no-luck"])
            }
            OutcomeKind::GuestFailure { .. } => (OutcomeKind::InvalidArgs, &["DEBUG", "invalid-args"]),
            OutcomeKind::InvalidArgs => (OutcomeKind::InvalidOutput, &["WARN", "answer was not valid"]),
            OutcomeKind::InvalidOutput => {
                (OutcomeKind::Trap { trap: "unreachable".to_owned() }, &["WARN", "unreachable"])
            }
            OutcomeKind::Trap { .. } => (
                OutcomeKind::Limit { limit: Limit::Memory },
                &["WARN", "memory", "plugins.evil.limits.memory_bytes"],
            ),
            OutcomeKind::Limit { .. } => {
                (OutcomeKind::Denied { capability: "kv".to_owned() }, &["DEBUG", "kv"])
            }
            OutcomeKind::Denied { .. } => (OutcomeKind::Rejected, &["DEBUG", "rejected"]),
            OutcomeKind::Rejected => (OutcomeKind::Cancelled, &["DEBUG", "cancelled"]),
            OutcomeKind::Cancelled => (OutcomeKind::Interrupted, &["DEBUG", "interrupted"]),
            OutcomeKind::Interrupted => {
                (OutcomeKind::Unavailable, &["WARN", "plugins.evil.limits.concurrent_calls"])
            }
            OutcomeKind::Unavailable => (OutcomeKind::HostFault, &["ERROR", "could not be run"]),
            OutcomeKind::HostFault => return None,
        })
    }

    #[test]
    fn every_kind_has_a_line_with_plugin_tool_and_run() {
        let (mut kind, mut words): (_, &[&str]) = (OutcomeKind::Ok, &["DEBUG", "ok"]);
        loop {
            let line = logged(kind.clone(), &Meter::default());
            assert_eq!(line.lines().count(), 1, "{kind:?}: {line}");
            for word in words.iter().chain(&["evil", "act", "run-1"]) {
                assert!(line.contains(word), "{word}: {line}");
            }
            match next(&kind) {
                Some((after, its)) => (kind, words) = (after, its),
                None => return,
            }
        }
    }

    #[test]
    fn what_a_guest_coped_with_has_lines_too() {
        let meter = Meter::default();
        for (setting, times) in [("grants.kv = true", 2), ("grants.http", 1)] {
            for _ in 0..times {
                let setting = Some(setting.to_owned());
                meter.denied(Denial { capability: "kv", what: "to do it".to_owned(), setting });
            }
        }
        meter.reached(Limit::Memory);
        let text = logged(OutcomeKind::Ok, &meter);
        let lines: Vec<&str> = text.lines().collect();
        let expected: [&[&str]; 3] = [
            &["WARN", "denied", "plugins.evil.grants.kv = true", "times=2"],
            &["WARN", "denied", "plugins.evil.grants.http", "times=1"],
            &["WARN", "went on", "memory", "plugins.evil.limits.memory_bytes"],
        ];
        assert_eq!(lines.len(), 4, "and the call's own: {text}");
        for (line, words) in lines.iter().zip(expected) {
            for word in words.iter().chain(&["evil", "act", "run-1"]) {
                assert!(line.contains(word), "{word}: {line}");
            }
        }
    }
}
