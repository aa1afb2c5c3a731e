//! The calls of one turn: policy first, then execution, each start and each end in the journal.
//!
//! Read-only calls run side by side; calls with effects run one after another, in the model's order.
//! Calls that need a human wait until all the others of the turn have finished, then pause the run
//! together.

use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};

use super::Runner;
use super::drive::DriveError;
use super::presence::Present;
use super::verdict::{Asked, Inquirer, Runnable, Verdict, verdict};
use crate::agent::Agent;
use crate::escape::escaped;
use crate::plugin::Invocation;
use crate::registry::Version;
use crate::run::{DueCall, Run};
use crate::tool::{
    Inquiry, OutcomeKind, PendingApproval, Question, Returned, Suspension, ToolCall, ToolName, ToolOutcome,
};

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
                Verdict::Answer(outcome) => {
                    report_refusal(&run.spec().agent, &call, &outcome);
                    run.finished(&call.id, outcome, 0, self.clock.now())?;
                }
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
            let counts = what.answered.is_none();
            let fits = !counts || left > 0;
            left -= usize::from(counts && fits);
            fits
        });
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
                    run.suspended(call, Box::new(Suspension { worked_ms, ..suspension }), now)?;
                }
            }
            self.store.save(run).await?;
        }
        Ok(())
    }

    fn approval(&self, run: &Run, call: ToolCall, asked: Asked) -> PendingApproval {
        let Asked { question, tool, title, fingerprint, digest, gated } = asked;
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
            digest,
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
            digest: Some(digest),
            message: prompt,
            expires_at,
            inquiry: Some(Inquiry { answer_schema }),
        }
    }
}

/// How long a human has to decide about the tool's calls, and to answer what they ask.
fn answer_within(agent: &Agent, tool: &ToolName) -> Duration {
    let terms = agent.approval_terms(tool);
    Duration::from_millis(terms.expiry_ms.unwrap_or(agent.options.approval_expiry_ms))
}

/// For the operator: a call that did not run, and the rule that would let it. The run and the agent are in
/// the span around this.
fn report_refusal(agent: &Agent, call: &ToolCall, outcome: &ToolOutcome) {
    // The model may have made the name up.
    let tool = escaped(&call.name, 100);
    let kind = outcome.kind.word();
    if matches!(outcome.kind, OutcomeKind::Denied { .. }) {
        let setting = format!("agents.{}.approval", agent.id);
        tracing::warn!(tool, outcome = kind, setting, "the agent's policy forbids a call");
    } else {
        tracing::debug!(tool, outcome = kind, "a call did not run");
    }
}
