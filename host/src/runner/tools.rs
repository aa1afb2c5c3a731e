//! The calls of one turn: policy first, then execution, each start and each end in the journal.
//!
//! Read-only calls run side by side; calls with effects run one after another, in the model's order.
//! Calls that need a human wait until all the others of the turn have finished, then pause the run
//! together.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use serde_json::Value;

use super::Runner;
use super::drive::DriveError;
use super::presence::Present;
use crate::agent::Agent;
use crate::plugin::{Invocation, Plugin};
use crate::registry::{ToolRegistry, Version};
use crate::run::{DueCall, Run, Standing};
use crate::tool::{
    Approval, Fingerprint, OutcomeKind, PendingApproval, Question, ToolCall, ToolName, ToolOutcome,
};

/// What is to become of a due call.
enum Verdict {
    Run(Runnable),
    /// The model is told, and nothing runs.
    Answer(ToolOutcome),
    Ask(Asked),
}

struct Runnable {
    plugin: Arc<Plugin>,
    tool: ToolName,
    arguments: Value,
    read_only: bool,
}

/// What a human is to be asked.
struct Asked {
    question: Question,
    tool: ToolName,
    title: Option<String>,
    fingerprint: Fingerprint,
    digest: Option<String>,
    /// It may run because a human said so, now or before the crash.
    gated: bool,
}

impl Runner {
    /// Runs the first calls that may run; where none may, pauses the run for the ones that need a human.
    pub(super) async fn call_tools(
        &self,
        run: &mut Run,
        due: Vec<DueCall>,
        present: &Present,
    ) -> Result<(), DriveError> {
        let registry = self.registry.load_full();
        let mut runnable = Vec::new();
        let mut asked = Vec::new();
        for due in due {
            let bound = self.bound(run, &due).await?;
            let DueCall { call, standing } = due;
            match verdict(&registry, &run.spec().agent, &call, &standing, bound.as_ref()) {
                Verdict::Run(what) => runnable.push((call, what)),
                Verdict::Answer(outcome) => run.finished(&call.id, outcome, 0, self.clock.now())?,
                Verdict::Ask(what) => asked.push(self.approval(run, call, what)),
            }
        }
        // Before a human is asked, too: nobody should approve what cannot run.
        if !(runnable.is_empty() && asked.is_empty())
            && let Some(failure) = self.tool_forbidden(run).await?
        {
            run.failed(failure, self.clock.now())?;
            return Ok(());
        }
        if runnable.is_empty() {
            if !asked.is_empty() {
                run.paused(asked, self.clock.now())?;
            }
            return Ok(());
        }
        let side_by_side = runnable.iter().take_while(|(_, what)| what.read_only).count();
        let left = run.spec().agent.budget.calls_left(run.spent());
        runnable.truncate(side_by_side.max(1).min(left));
        self.execute(run, runnable, present).await
    }

    /// The version that somebody was asked about, in force or not.
    async fn bound(&self, run: &Run, due: &DueCall) -> Result<Option<Version>, DriveError> {
        match (run.bound_digest(due), due.call.name.parse::<ToolName>()) {
            (Some(digest), Ok(tool)) => Ok(Some(self.registry.plugin_for(&tool, digest).await?)),
            (None, _) | (_, Err(_)) => Ok(None),
        }
    }

    async fn execute(
        &self,
        run: &mut Run,
        batch: Vec<(ToolCall, Runnable)>,
        present: &Present,
    ) -> Result<(), DriveError> {
        let spec = run.spec().clone();
        let mut under_way = FuturesUnordered::new();
        for (call, what) in &batch {
            let started_at = self.clock.now();
            let invocation = Invocation {
                run: &spec.id,
                session: &spec.session,
                owner: &spec.owner,
                call: &call.id,
                attempt: run.started(&call.id, started_at)?,
                tool: &what.tool,
                arguments: &what.arguments,
                cancelled: present.cancelled().clone(),
            };
            under_way.push(async move { (&call.id, started_at, what.plugin.call(invocation).await) });
        }
        self.store.save(run).await?;
        while let Some((call, started_at, outcome)) = under_way.next().await {
            let now = self.clock.now();
            run.finished(call, outcome, now.millis_since(started_at), now)?;
            self.store.save(run).await?;
        }
        Ok(())
    }

    fn approval(&self, run: &Run, call: ToolCall, asked: Asked) -> PendingApproval {
        let Asked { question, tool, title, fingerprint, digest, gated } = asked;
        let agent = &run.spec().agent;
        let terms = agent.approval_terms(&tool);
        let expiry = Duration::from_millis(terms.expiry_ms.unwrap_or(agent.options.approval_expiry_ms));
        // What became of a call is a matter of fact, not of votes.
        let approvers = if question == Question::Approval { terms.approvers } else { 1 };
        let what = title.map_or_else(|| tool.to_string(), |title| format!("{title} ({tool})"));
        let message = match question {
            Question::Approval => {
                format!("{} wants to call {what}. Approve or reject this call.", agent.name)
            }
            Question::OutcomeUnknown => format!(
                "The server stopped while {what} was running, and whether it took effect is not known. Check, then \
                 RETRY the call, give its RESULT, or let it FAIL."
            ),
        };
        PendingApproval {
            id: self.ids.next(),
            question,
            approvers,
            // Nobody had to approve a call that was not gated, so nobody has to approve its retry.
            self_approval: terms.self_approval || !gated,
            call,
            tool,
            fingerprint,
            digest,
            message,
            expires_at: self.clock.now().plus(expiry),
        }
    }
}

fn verdict(
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
        (None, _) | (_, Some(Version::Revoked | Version::Gone)) => None,
    };
    let Some((plugin, spec)) = found.filter(|(_, spec)| agent.may_use(&spec.name)) else {
        return match (standing, name) {
            (Standing::Requested, _) => Verdict::Answer(no_such_tool(registry, agent, &call.name)),
            (Standing::Approved(_), _) if matches!(bound, Some(Version::Revoked)) => {
                Verdict::Answer(revoked())
            }
            (Standing::Approved(_), _) => Verdict::Answer(unavailable()),
            (Standing::Again(_), _) | (Standing::InDoubt(_), None) => Verdict::Answer(not_run_again()),
            // That its tool is gone now does not mean that the call did not happen.
            (Standing::InDoubt(doubt), Some(tool)) => {
                let fingerprint = Fingerprint::of("", &tool, &call.parsed_arguments().unwrap_or_default());
                let (question, gated) = (Question::OutcomeUnknown, doubt.approved.is_some());
                Verdict::Ask(Asked { question, tool, title: None, fingerprint, digest: None, gated })
            }
        };
    };
    let arguments = match call.parsed_arguments() {
        Ok(arguments) => arguments,
        Err(problem) => return Verdict::Answer(invalid_arguments(&problem)),
    };
    let fingerprint = Fingerprint::of(plugin.digest(), &spec.name, &arguments);
    let run = |arguments| {
        Verdict::Run(Runnable {
            plugin: Arc::clone(plugin),
            tool: spec.name.clone(),
            arguments,
            read_only: spec.annotations.read_only,
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
                Approval::Skip => run(arguments),
                Approval::Forbid => Verdict::Answer(forbidden(&spec.name)),
                Approval::Ask => ask(Question::Approval, fingerprint, true),
            }
        }
        Standing::Approved(approved) if *approved == fingerprint => run(arguments),
        Standing::InDoubt(doubt) if spec.annotations.repeatable() && unchanged(&doubt.approved) => {
            run(arguments)
        }
        Standing::InDoubt(doubt) => ask(Question::OutcomeUnknown, fingerprint, doubt.approved.is_some()),
        Standing::Again(doubt) if unchanged(&doubt.approved) => run(arguments),
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

fn revoked() -> ToolOutcome {
    let kind = OutcomeKind::Denied { capability: "revoked".to_owned() };
    ToolOutcome::of(kind, "The operator has stopped this tool for good, so it did not run. Go on without it.")
}

fn not_run_again() -> ToolOutcome {
    let text = "The server stopped while this call was running, and its tool changed or was removed since, so it was \
                not run again. Whether it took effect is not known.";
    ToolOutcome::of(OutcomeKind::Interrupted, text)
}
