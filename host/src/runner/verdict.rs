//! What is to become of a call that is due: it runs, the model is told why not, or a human is asked first.
//!
//! Policy, the tool as it is loaded now, and what the call has been through decide; nothing here has an effect.

use std::sync::Arc;

use serde_json::Value;

use crate::agent::Agent;
use crate::plugin::Plugin;
use crate::registry::{ToolRegistry, Version};
use crate::run::Standing;
use crate::tool::{
    Answered, Approval, Fingerprint, OutcomeKind, Question, Suspension, ToolCall, ToolName, ToolOutcome,
};

/// What is to become of a due call.
pub(super) enum Verdict {
    Run(Runnable),
    /// The model is told, and nothing runs.
    Answer(ToolOutcome),
    Ask(Asked),
    /// The tool itself asks a human.
    Inquire(Inquirer),
}

pub(super) struct Runnable {
    pub(super) plugin: Arc<Plugin>,
    pub(super) tool: ToolName,
    pub(super) arguments: Value,
    pub(super) read_only: bool,
    /// It goes on with this; none = it starts.
    pub(super) answered: Option<Box<Answered>>,
}

pub(super) struct Inquirer {
    pub(super) tool: ToolName,
    pub(super) fingerprint: Fingerprint,
    pub(super) suspension: Box<Suspension>,
}

/// What a human is to be asked.
pub(super) struct Asked {
    pub(super) question: Question,
    pub(super) tool: ToolName,
    pub(super) title: Option<String>,
    pub(super) fingerprint: Fingerprint,
    pub(super) digest: Option<String>,
    /// It may run because a human said so, now or before the crash.
    pub(super) gated: bool,
}

pub(super) fn verdict(
    registry: &ToolRegistry,
    agent: &Agent,
    call: &ToolCall,
    standing: &Standing,
    bound: Option<&Version>,
) -> Verdict {
    let name = call.name.parse::<ToolName>().ok();
    let found = match (&name, bound) {
        (Some(name), None) => registry.get(name),
        (Some(name), Some(Version::There(plugin))) => plugin.spec(name).map(|spec| (plugin, spec)),
        (None, _) | (_, Some(Version::Revoked | Version::Unsigned | Version::Gone)) => None,
    };
    let Some((plugin, spec)) = found.filter(|(_, spec)| agent.may_use(&spec.name)) else {
        return match (standing, name) {
            (Standing::Requested, _) => Verdict::Answer(no_such_tool(registry, agent, &call.name)),
            (Standing::Approved(_) | Standing::Suspended(_) | Standing::Answered(_), _)
                if matches!(bound, Some(Version::Revoked)) =>
            {
                Verdict::Answer(revoked())
            }
            (Standing::Approved(_) | Standing::Suspended(_) | Standing::Answered(_), _)
                if matches!(bound, Some(Version::Unsigned)) =>
            {
                Verdict::Answer(unsigned())
            }
            (Standing::Approved(_), _) => Verdict::Answer(unavailable()),
            (Standing::Suspended(_) | Standing::Answered(_), _) => Verdict::Answer(replaced(&call.name)),
            (Standing::Again(_), _) | (Standing::InDoubt(_), None) => Verdict::Answer(not_run_again()),
            // That its tool is gone now does not mean that the call did not happen.
            (Standing::InDoubt(start), Some(tool)) => {
                let fingerprint = Fingerprint::of("", &tool, &call.parsed_arguments().unwrap_or_default());
                let (question, gated) = (Question::OutcomeUnknown, start.approved.is_some());
                Verdict::Ask(Asked { question, tool, title: None, fingerprint, digest: None, gated })
            }
        };
    };
    let arguments = match call.parsed_arguments() {
        Ok(arguments) => arguments,
        Err(problem) => return Verdict::Answer(invalid_arguments(&problem)),
    };
    let fingerprint = Fingerprint::of(plugin.digest(), &spec.name, &arguments);
    let run = |arguments, answered: Option<&Box<Answered>>| {
        Verdict::Run(Runnable {
            plugin: Arc::clone(plugin),
            tool: spec.name.clone(),
            arguments,
            read_only: spec.annotations.read_only,
            answered: answered.cloned(),
        })
    };
    let ask = |question, fingerprint, gated| {
        let (tool, title) = (spec.name.clone(), spec.annotations.title.clone());
        let digest = Some(plugin.digest().to_owned());
        Verdict::Ask(Asked { question, tool, title, fingerprint, digest, gated })
    };
    let unchanged =
        |approved: &Option<Fingerprint>| approved.as_ref().is_none_or(|approved| *approved == fingerprint);
    match standing {
        Standing::Requested => {
            // Before a human is asked: nobody should approve what cannot run.
            if let Err(problem) = plugin.check_arguments(&spec.name, &arguments) {
                return Verdict::Answer(invalid_arguments(&problem));
            }
            match agent.approval(spec) {
                Approval::Skip => run(arguments, None),
                Approval::Forbid => Verdict::Answer(forbidden(&spec.name)),
                Approval::Ask => ask(Question::Approval, fingerprint, true),
            }
        }
        Standing::Approved(approved) if *approved == fingerprint => run(arguments, None),
        Standing::Suspended(suspension) => Verdict::Inquire(Inquirer {
            tool: spec.name.clone(),
            fingerprint,
            suspension: suspension.clone(),
        }),
        Standing::Answered(answered) => run(arguments, Some(answered)),
        Standing::InDoubt(start) if spec.annotations.repeatable() && unchanged(&start.approved) => {
            run(arguments, start.resumed.as_ref())
        }
        Standing::InDoubt(start) => ask(Question::OutcomeUnknown, fingerprint, start.approved.is_some()),
        Standing::Again(start) if unchanged(&start.approved) => run(arguments, start.resumed.as_ref()),
        Standing::Again(_) => Verdict::Answer(not_run_again()),
        Standing::Approved(_) => Verdict::Answer(unavailable()),
    }
}

fn no_such_tool(registry: &ToolRegistry, agent: &Agent, name: &str) -> ToolOutcome {
    let names: Vec<String> = registry.specs_for(agent).iter().map(|spec| spec.name.to_string()).collect();
    let text = if names.is_empty() {
        format!("There is no tool `{name}`; you have no tools. Answer without one.")
    } else {
        format!("There is no tool `{name}`. You can call: {}.", names.join(", "))
    };
    ToolOutcome::of(OutcomeKind::InvalidArgs, text)
}

fn invalid_arguments(problem: &str) -> ToolOutcome {
    let text = format!("The call did not run: {problem}. Correct the arguments and call again.");
    ToolOutcome::of(OutcomeKind::InvalidArgs, text)
}

fn forbidden(tool: &ToolName) -> ToolOutcome {
    let kind = OutcomeKind::Denied { capability: "policy".to_owned() };
    ToolOutcome::of(kind, format!("The operator does not allow {tool}. Go on without it."))
}

fn unavailable() -> ToolOutcome {
    let text = "The tool changed or was removed after this call was approved, so it did not run. If it is still \
                needed, call the tool again.";
    ToolOutcome::of(OutcomeKind::Unavailable, text)
}

/// Logged: no human did anything wrong, and nobody else would learn why the answer came to nothing.
fn replaced(tool: &str) -> ToolOutcome {
    tracing::warn!(
        tool,
        "a tool asked a human, and may not go on: its version is gone, or what was granted to it was taken back"
    );
    let text = "The tool asked a human, and was changed or removed before it could go on with the answer. If it is \
                still needed, call the tool again.";
    ToolOutcome::of(OutcomeKind::Unavailable, text)
}

fn revoked() -> ToolOutcome {
    let kind = OutcomeKind::Denied { capability: "revoked".to_owned() };
    ToolOutcome::of(kind, "The operator has stopped this tool for good, so it did not run. Go on without it.")
}

fn unsigned() -> ToolOutcome {
    let kind = OutcomeKind::Denied { capability: "signature".to_owned() };
    let text = "The version of the tool that this call is bound to is not signed by anybody whom the operator trusts, \
                so it did not run. If it is still needed, call the tool again.";
    ToolOutcome::of(kind, text)
}

fn not_run_again() -> ToolOutcome {
    let text = "The server stopped while this call was running, and its tool changed or was removed since, so it was \
                not run again. Whether it took effect is not known.";
    ToolOutcome::of(OutcomeKind::Interrupted, text)
}
