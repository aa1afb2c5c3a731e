//! What the runner tells a run: each method checks that the transition is legal and records events.

use super::{CallState, InvalidTransition, REFUSAL, REPAIRS, Refusal, Run, RunStatus};
use crate::audit::Actor;
use crate::clock::Timestamp;
use crate::event::{Failure, FailureKind, Recorded, RunEvent};
use crate::id::CallId;
use crate::session::{Reply, Tokens};
use crate::tool::{Decided, PendingApproval, Suspension, ToolOutcome};

impl Run {
    /// A worker takes it from the queue.
    pub fn start(&mut self, at: Timestamp) -> Result<(), InvalidTransition> {
        if self.status != RunStatus::Queued {
            return Err(InvalidTransition::WrongStatus { status: self.status.word() });
        }
        self.record(at, RunEvent::Started);
        Ok(())
    }

    /// The model answered. Without calls in it that is the end, but for a check against the schema asked for
    /// and for follow-up questions.
    pub fn replied(&mut self, reply: Reply, at: Timestamp) -> Result<(), InvalidTransition> {
        self.check_running()?;
        let last = reply.tool_calls.is_empty();
        self.record(at, RunEvent::Replied { reply: Box::new(reply) });
        if last && !self.wants_structure() {
            self.answered(at);
        }
        Ok(())
    }

    /// The answer has this JSON in it, and it fits the schema asked for.
    pub fn answer_accepted(&mut self, json: String, at: Timestamp) -> Result<(), InvalidTransition> {
        self.check_answer()?;
        self.record(at, RunEvent::AnswerAccepted { json });
        self.answered(at);
        Ok(())
    }

    /// The answer does not fit. The model is told what is wrong and asked again, [`REPAIRS`] times; then the
    /// run fails.
    pub fn answer_refused(&mut self, refusal: &Refusal, at: Timestamp) -> Result<(), InvalidTransition> {
        self.check_answer()?;
        let refused_before = self.turns.iter().filter(|turn| turn.refused.is_some()).count();
        let Refusal { told, shown } = refusal;
        let feedback = format!(
            "{REFUSAL}: {told}. Answer again, with one JSON value that fits the schema and nothing else."
        );
        self.record(at, RunEvent::AnswerRefused { feedback });
        if refused_before == REPAIRS {
            let message = format!(
                "The model's answer does not fit the response schema, nor did it after {REPAIRS} repairs: {shown}."
            );
            let failure = Failure { kind: FailureKind::ModelError, message };
            self.record(at, RunEvent::Failed { failure });
        }
        Ok(())
    }

    fn answered(&mut self, at: Timestamp) {
        if !self.new.generate_followups {
            self.record(at, RunEvent::Completed);
        }
    }

    fn check_answer(&self) -> Result<(), InvalidTransition> {
        self.check_running()?;
        if self.awaits_check() { Ok(()) } else { Err(InvalidTransition::NoAnswer) }
    }

    /// The reply broke off after some of it had been streamed, and the run fails.
    pub fn reply_broken(
        &mut self,
        partial: Reply,
        failure: Failure,
        at: Timestamp,
    ) -> Result<(), InvalidTransition> {
        self.broke_off(partial, at)?;
        self.failed(failure, at)
    }

    /// The same, where something else than a failure ends the run in the same breath.
    pub fn broke_off(&mut self, partial: Reply, at: Timestamp) -> Result<(), InvalidTransition> {
        self.check_running()?;
        self.record(at, RunEvent::ReplyBroken { partial: Box::new(partial) });
        Ok(())
    }

    pub fn suggested(
        &mut self,
        questions: Vec<String>,
        tokens: Tokens,
        cost_micros: Option<u64>,
        at: Timestamp,
    ) -> Result<(), InvalidTransition> {
        self.check_running()?;
        self.record(at, RunEvent::FollowupsSuggested { questions, tokens, cost_micros });
        self.record(at, RunEvent::Completed);
        Ok(())
    }

    /// It has its answer, and no call is left for follow-up questions.
    pub fn complete(&mut self, at: Timestamp) -> Result<(), InvalidTransition> {
        self.check_running()?;
        self.record(at, RunEvent::Completed);
        Ok(())
    }

    /// The call is about to run, or to go on with the answer it asked for. Returns its attempt, from 1: an answer
    /// is no further one.
    pub fn started(&mut self, call: &CallId, at: Timestamp) -> Result<u32, InvalidTransition> {
        self.check_running()?;
        let (attempt, resumes) = match self.call_state(call) {
            Some(CallState::Requested | CallState::Approved { .. }) => (1, false),
            Some(CallState::Answered(start, _)) => (start.attempt, true),
            Some(CallState::InDoubt(start) | CallState::Again(start)) => {
                (start.attempt + 1, start.resumed.is_some())
            }
            Some(
                CallState::Pending { .. }
                | CallState::Started(_)
                | CallState::Suspended(..)
                | CallState::Finished { .. },
            )
            | None => return Err(InvalidTransition::WrongCall(call.clone())),
        };
        let call_id = call.clone();
        self.record(
            at,
            if resumes {
                RunEvent::CallResumed { call_id, attempt }
            } else {
                RunEvent::CallStarted { call_id, attempt }
            },
        );
        Ok(attempt)
    }

    /// The call asks for a human's answer.
    pub fn suspended(
        &mut self,
        call: &CallId,
        suspension: Box<Suspension>,
        at: Timestamp,
    ) -> Result<(), InvalidTransition> {
        self.check_running()?;
        if !matches!(self.call_state(call), Some(CallState::Started(_))) {
            return Err(InvalidTransition::WrongCall(call.clone()));
        }
        self.record(at, RunEvent::CallSuspended { call_id: call.clone(), suspension });
        Ok(())
    }

    /// The call ended, or was answered without having run (a denial, arguments that do not fit).
    pub fn finished(
        &mut self,
        call: &CallId,
        outcome: ToolOutcome,
        duration_ms: u64,
        at: Timestamp,
    ) -> Result<(), InvalidTransition> {
        self.check_running()?;
        match self.call_state(call) {
            Some(CallState::Pending { .. } | CallState::Finished { .. }) | None => {
                return Err(InvalidTransition::WrongCall(call.clone()));
            }
            Some(
                CallState::Requested
                | CallState::Approved { .. }
                | CallState::Started(_)
                | CallState::Suspended(..)
                | CallState::Answered(..)
                | CallState::InDoubt(_)
                | CallState::Again(_),
            ) => {}
        }
        let outcome = Box::new(outcome);
        self.record(at, RunEvent::CallFinished { call_id: call.clone(), outcome, duration_ms });
        Ok(())
    }

    /// These calls need a human. All the others of the turn have finished.
    pub fn paused(
        &mut self,
        approvals: Vec<PendingApproval>,
        at: Timestamp,
    ) -> Result<(), InvalidTransition> {
        self.check_running()?;
        for approval in &approvals {
            if !matches!(
                self.call_state(&approval.call.id),
                Some(CallState::Requested | CallState::Suspended(..) | CallState::InDoubt(_))
            ) {
                return Err(InvalidTransition::WrongCall(approval.call.id.clone()));
            }
        }
        self.record(at, RunEvent::Paused { approvals });
        Ok(())
    }

    /// All decisions take effect, or none. The run goes on when none is pending any more.
    pub fn decide(&mut self, decisions: Vec<Decided>, at: Timestamp) -> Result<(), InvalidTransition> {
        let RunStatus::Paused { pending } = &self.status else {
            return Err(InvalidTransition::WrongStatus { status: self.status.word() });
        };
        for decided in &decisions {
            match pending.iter().find(|approval| approval.id == decided.approval_id) {
                None => return Err(InvalidTransition::NotPending(decided.approval_id.clone())),
                Some(approval) if !decided.decision.answers(approval.question) => {
                    return Err(InvalidTransition::WrongAnswer(decided.approval_id.clone()));
                }
                Some(_) => {}
            }
        }
        for decided in decisions {
            self.record(at, RunEvent::Decided(decided));
        }
        Ok(())
    }

    pub fn failed(&mut self, failure: Failure, at: Timestamp) -> Result<(), InvalidTransition> {
        self.check_running()?;
        self.record(at, RunEvent::Failed { failure });
        Ok(())
    }

    /// Legal until the run has ended; the first reason stays.
    pub fn cancel(&mut self, by: impl Into<Actor>, at: Timestamp) -> Result<(), InvalidTransition> {
        if self.status.is_terminal() {
            return Err(InvalidTransition::WrongStatus { status: self.status.word() });
        }
        let Actor { user: by, key } = by.into();
        self.record(at, RunEvent::Cancelled { by, key });
        Ok(())
    }

    /// A process takes up a run whose former one is gone: calls under way are in doubt from here on.
    pub fn claim(&mut self, at: Timestamp) -> Result<(), InvalidTransition> {
        self.check_running()?;
        let attempt = self.attempt + 1;
        self.record(at, RunEvent::Claimed { attempt });
        Ok(())
    }

    fn check_running(&self) -> Result<(), InvalidTransition> {
        match self.status {
            RunStatus::Running => Ok(()),
            RunStatus::Queued
            | RunStatus::Paused { .. }
            | RunStatus::Completed { .. }
            | RunStatus::Failed { .. }
            | RunStatus::Cancelled { .. } => {
                Err(InvalidTransition::WrongStatus { status: self.status.word() })
            }
        }
    }

    fn call_state(&self, id: &CallId) -> Option<&CallState> {
        self.turns.last()?.calls.iter().find(|record| record.call.id == *id).map(|record| &record.state)
    }

    fn record(&mut self, at: Timestamp, event: RunEvent) {
        self.apply(at, &event);
        self.unsaved.push(Recorded { seq: self.version, at, event });
    }
}
