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
use crate::registry::ToolRegistry;
use crate::run::{DueCall, Run, Standing};
use crate::tool::{
    Answered, Approval, Fingerprint, Inquiry, OutcomeKind, PendingApproval, Question, Returned, Suspension,
    ToolCall, ToolName, ToolOutcome,
};

/// What is to become of a due call.
enum Verdict {
    Run(Runnable),
    /// The model is told, and nothing runs.
    Answer(ToolOutcome),
    Ask(Asked),
    /// The tool itself asks a human.
    Inquire(Inquirer),
}

struct Runnable {
    plugin: Arc<Plugin>,
    tool: ToolName,
    arguments: Value,
    read_only: bool,
    /// It goes on with this; none = it starts.
    answered: Option<Box<Answered>>,
}

struct Inquirer {
    tool: ToolName,
    fingerprint: Fingerprint,
    suspension: Box<Suspension>,
}

/// What a human is to be asked.
struct Asked {
    question: Question,
    tool: ToolName,
    title: Option<String>,
    fingerprint: Fingerprint,
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
        for DueCall { call, standing } in due {
            match verdict(&registry, &run.spec().agent, &call, &standing) {
                Verdict::Run(what) => runnable.push((call, what)),
                Verdict::Answer(outcome) => run.finished(&call.id, outcome, 0, self.clock.now())?,
                Verdict::Ask(what) => asked.push(self.approval(run, call, what)),
                Verdict::Inquire(what) => asked.push(self.inquiry(call, what)),
            }
        }
        let side_by_side = runnable.iter().take_while(|(_, what)| what.read_only).count();
        runnable.truncate(side_by_side.max(1));
        // A call that goes on was counted when it started. Before a human is asked, too: nobody should approve what
        // cannot run.
        let starts = if runnable.is_empty() {
            asked.iter().any(|approval| approval.question != Question::Input)
        } else {
            runnable.iter().any(|(_, what)| what.answered.is_none())
        };
        if starts && let Some(failure) = self.tool_forbidden(run).await? {
            run.failed(failure, self.clock.now())?;
            return Ok(());
        }
        if runnable.is_empty() {
            if !asked.is_empty() {
                run.paused(asked, self.clock.now())?;
            }
            return Ok(());
        }
        let mut left = run.spec().agent.budget.calls_left(run.spent());
        runnable.retain(|(_, what)| {
            what.answered.is_some()
                || left.checked_sub(1).is_some_and(|fewer| {
                    left = fewer;
                    true
                })
        });
        self.execute(run, runnable, present).await
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
                answered: what.answered.as_deref(),
                answer_within: answer_within(&spec.agent, &what.tool),
                cancelled: present.cancelled().clone(),
            };
            under_way.push(async move { (&call.id, what, started_at, what.plugin.call(invocation).await) });
        }
        self.store.save(run).await?;
        while let Some((call, what, started_at, returned)) = under_way.next().await {
            let now = self.clock.now();
            let before = what.answered.as_ref().map_or(0, |answered| answered.suspension.worked_ms);
            let worked_ms = before.saturating_add(now.millis_since(started_at));
            match returned {
                Returned::Outcome(outcome) => run.finished(call, outcome, worked_ms, now)?,
                Returned::Suspension(suspension) => {
                    run.suspended(call, Box::new(Suspension { worked_ms, ..*suspension }), now)?;
                }
            }
            self.store.save(run).await?;
        }
        Ok(())
    }

    fn approval(&self, run: &Run, call: ToolCall, asked: Asked) -> PendingApproval {
        let Asked { question, tool, title, fingerprint, gated } = asked;
        let agent = &run.spec().agent;
        let terms = agent.approval_terms(&tool);
        let expiry = answer_within(agent, &tool);
        // What became of a call is a matter of fact, not of votes.
        let approvers = if question == Question::Approval { terms.approvers } else { 1 };
        let what = title.map_or_else(|| tool.to_string(), |title| format!("{title} ({tool})"));
        let message = match question {
            Question::Approval | Question::Input => {
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
            message,
            expires_at: self.clock.now().plus(expiry),
            inquiry: None,
        }
    }

    /// It may run already: anybody who may decide for the run can answer, its own user first of all.
    fn inquiry(
        &self,
        call: ToolCall,
        Inquirer { tool, fingerprint, suspension }: Inquirer,
    ) -> PendingApproval {
        let Suspension { prompt, answer_schema, digest, expires_at, .. } = *suspension;
        PendingApproval {
            id: self.ids.next(),
            question: Question::Input,
            approvers: 1,
            self_approval: true,
            call,
            tool,
            fingerprint,
            message: prompt,
            expires_at,
            inquiry: Some(Inquiry { answer_schema, digest }),
        }
    }
}

/// How long a human has to decide about the tool's calls, and to answer what they ask.
fn answer_within(agent: &Agent, tool: &ToolName) -> Duration {
    let terms = agent.approval_terms(tool);
    Duration::from_millis(terms.expiry_ms.unwrap_or(agent.options.approval_expiry_ms))
}

fn verdict(registry: &ToolRegistry, agent: &Agent, call: &ToolCall, standing: &Standing) -> Verdict {
    let name = call.name.parse::<ToolName>().ok();
    let found = name.as_ref().and_then(|name| match asked_before(standing) {
        None => registry.get(name),
        Some(suspension) => registry.get_of(name, &suspension.digest),
    });
    let Some((plugin, spec)) = found.filter(|(_, spec)| agent.may_use(&spec.name)) else {
        return match (standing, name) {
            (Standing::Requested, _) => Verdict::Answer(no_such_tool(registry, agent, &call.name)),
            (Standing::Approved(_), _) => Verdict::Answer(unavailable()),
            (Standing::Suspended(_) | Standing::Answered(_), _) => {
                Verdict::Answer(replaced(standing, &call.name))
            }
            (Standing::Again(_), _) | (Standing::InDoubt(_), None) => Verdict::Answer(not_run_again()),
            // That its tool is gone now does not mean that the call did not happen.
            (Standing::InDoubt(start), Some(tool)) => {
                let fingerprint = Fingerprint::of("", &tool, &call.parsed_arguments().unwrap_or_default());
                let (question, gated) = (Question::OutcomeUnknown, start.approved.is_some());
                Verdict::Ask(Asked { question, tool, title: None, fingerprint, gated })
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
        Verdict::Ask(Asked { question, tool, title, fingerprint, gated })
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

/// What the call asked, where only the plugin that asked can go on.
fn asked_before(standing: &Standing) -> Option<&Suspension> {
    match standing {
        Standing::Requested | Standing::Approved(_) => None,
        Standing::Suspended(suspension) => Some(suspension),
        Standing::Answered(answered) => Some(&answered.suspension),
        Standing::InDoubt(start) | Standing::Again(start) => {
            start.resumed.as_ref().map(|answered| &answered.suspension)
        }
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
fn replaced(standing: &Standing, tool: &str) -> ToolOutcome {
    let digest = asked_before(standing).map(|suspension| &suspension.digest);
    tracing::warn!(
        tool,
        digest,
        "a tool asked a human, and its plugin was replaced or removed before it could go on: put the plugin with \
         this digest back to answer such questions"
    );
    let text = "The tool asked a human, and was changed or removed before it could go on with the answer. If it is \
                still needed, call the tool again.";
    ToolOutcome::of(OutcomeKind::Unavailable, text)
}

fn not_run_again() -> ToolOutcome {
    let text = "The server stopped while this call was running, and its tool changed or was removed since, so it was \
                not run again. Whether it took effect is not known.";
    ToolOutcome::of(OutcomeKind::Interrupted, text)
}
