//! What the operator's log says about a call: the reason, the plugin, the run, and the setting that would
//! allow it.

use super::limits::setting;
use super::meter::Meter;
use super::outcome::Ended;
use crate::id::RunId;
use crate::tool::{OutcomeKind, ToolName};

/// Logs what is not the guest's ordinary business. A call that has not ended asks a human.
pub(super) fn report(ended: Option<&Ended>, tool: &ToolName, run: &RunId, meter: &Meter) {
    let (plugin, tool) = (tool.plugin(), tool.tool());
    let limits = |setting: &str| format!("plugins.{plugin}.limits.{setting}");
    let dropped = meter.usage().log_lines_dropped;
    if dropped > 0 {
        let setting = limits("log_lines");
        tracing::warn!(plugin.id = plugin, tool, run.id = %run, dropped, setting, "a plugin's log lines were dropped");
    }
    if let Some((denial, denials)) = meter.denial() {
        let (capability, what) = (denial.capability, &denial.what);
        let setting = denial.setting.as_ref().map(|setting| format!("plugins.{plugin}.{setting}"));
        tracing::warn!(plugin.id = plugin, tool, run.id = %run, capability, what, setting, denials, "a plugin was denied something");
    }
    let Some(ended) = ended else { return };
    let reason = ended.reason.as_deref();
    match &ended.kind {
        OutcomeKind::Ok
        | OutcomeKind::ToolError
        | OutcomeKind::GuestFailure { .. }
        | OutcomeKind::InvalidArgs
        | OutcomeKind::Rejected
        | OutcomeKind::Interrupted
        | OutcomeKind::Cancelled => {}
        // The breaker says itself when it opens and closes.
        OutcomeKind::Unavailable if reason.is_some() => {}
        // What the guest itself was denied is told above.
        OutcomeKind::Denied { capability } => {
            if let Some(reason) = reason {
                tracing::warn!(plugin.id = plugin, tool, run.id = %run, capability, reason, "a plugin was denied something");
            }
        }
        OutcomeKind::Limit { limit } => {
            let setting = setting(*limit).map(limits);
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
