//! How events make a run: the fold behind [`Run::replay`] and behind every transition.

use super::{CallRecord, CallState, Run, RunStatus, Start, Turn};
use crate::clock::Timestamp;
use crate::event::RunEvent;
use crate::id::CallId;
use crate::session::{Reply, Tokens};
use crate::tool::{
    Answered, Decided, Decision, OutcomeKind, PendingApproval, Question, Suspension, ToolCall, ToolOutcome,
};

impl Run {
    /// The fold. Total: what an event says has happened, whatever state it finds.
    pub(super) fn apply(&mut self, at: Timestamp, event: &RunEvent) {
        let down = matches!(event, RunEvent::Claimed { .. });
        if self.status == RunStatus::Running && !down {
            self.times.active_ms += at.millis_since(self.times.updated);
        }
        self.times.updated = at;
        self.version += 1;
        match event {
            // Nothing of a broken reply is part of the conversation: the event behind it ends the run.
            RunEvent::Created(_) | RunEvent::ReplyBroken { .. } => {}
            RunEvent::Started => {
                self.times.started = Some(at);
                self.status = RunStatus::Running;
            }
            RunEvent::Claimed { attempt } => {
                self.attempt = *attempt;
                self.change_calls(|record| {
                    if let CallState::Started(start) = &record.state {
                        record.state = CallState::InDoubt(start.clone());
                    }
                });
            }
            RunEvent::Replied { reply } => {
                self.count_reply(reply.tokens, reply.cost_micros);
                let requested =
                    |call: &ToolCall| CallRecord { call: call.clone(), state: CallState::Requested };
                let calls = reply.tool_calls.iter().map(requested).collect();
                self.turns.push(Turn { reply: Reply::clone(reply), calls, refused: None });
            }
            RunEvent::CallStarted { call_id, attempt } => {
                self.spent.tool_calls += 1;
                self.change_call(call_id, |record| start(record, *attempt));
            }
            RunEvent::CallResumed { call_id, attempt } => {
                self.change_call(call_id, |record| start(record, *attempt));
            }
            RunEvent::CallSuspended { call_id, suspension } => self.change_call(call_id, |record| {
                if let CallState::Started(start) = &record.state {
                    record.state = CallState::Suspended(start.clone(), suspension.clone());
                }
            }),
            RunEvent::CallFinished { call_id, outcome, duration_ms } => self.change_call(call_id, |record| {
                record.state = CallState::Finished { outcome: outcome.clone(), duration_ms: *duration_ms };
            }),
            RunEvent::Paused { approvals } => {
                for approval in approvals {
                    self.change_call(&approval.call.id, |record| {
                        record.state = CallState::Pending { before: Box::new(record.state.clone()) };
                    });
                }
                self.asked.extend_from_slice(approvals);
                self.decided_before = self.decided.len();
                self.status = RunStatus::Paused { pending: approvals.clone() };
            }
            RunEvent::Decided(decided) => self.apply_decision(decided, at),
            RunEvent::AnswerAccepted { json } => self.answer = Some(json.clone()),
            RunEvent::AnswerRefused { feedback } => {
                if let Some(turn) = self.turns.last_mut() {
                    turn.refused = Some(feedback.clone());
                }
            }
            RunEvent::FollowupsSuggested { questions, tokens, cost_micros } => {
                self.count_reply(*tokens, *cost_micros);
                self.followups.clone_from(questions);
            }
            RunEvent::Completed => {
                let said = || self.turns.last().map(|turn| turn.reply.content.clone());
                let output = self.answer.clone().or_else(said).unwrap_or_default();
                self.end(RunStatus::Completed { output }, at);
            }
            RunEvent::Failed { failure } => self.end(RunStatus::Failed { failure: failure.clone() }, at),
            RunEvent::Cancelled { by, key: _ } => self.end(RunStatus::Cancelled { by: by.clone() }, at),
        }
    }

    fn count_reply(&mut self, tokens: Tokens, cost_micros: Option<u64>) {
        self.model_calls += 1;
        self.spent.tokens.add(tokens);
        match cost_micros {
            Some(cost) => self.spent.cost_micros = self.spent.cost_micros.saturating_add(cost),
            None => self.unpriced += 1,
        }
    }

    fn apply_decision(&mut self, decided: &Decided, at: Timestamp) {
        self.decided.push(decided.clone());
        let RunStatus::Paused { pending } = &mut self.status else { return };
        let Some(index) = pending.iter().position(|approval| approval.id == decided.approval_id) else {
            return;
        };
        if let (Some(approval), Decision::Approve { .. }) = (pending.get(index), &decided.decision) {
            let votes = self.decided.iter().filter(|vote| vote.approval_id == approval.id).count();
            if votes < approval.approvers as usize {
                return;
            }
        }
        let approval = pending.remove(index);
        if pending.is_empty() {
            self.status = RunStatus::Running;
        }
        self.change_call(&approval.call.id, |record| decide(record, &approval, &decided.decision, at));
    }

    fn end(&mut self, status: RunStatus, at: Timestamp) {
        self.status = status;
        self.times.completed = Some(at);
        self.change_calls(|record| {
            if let CallState::Started(_) = record.state {
                let text = "The run ended before this call reported.";
                let outcome = Box::new(ToolOutcome::of(OutcomeKind::Cancelled, text));
                record.state = CallState::Finished { outcome, duration_ms: 0 };
            }
        });
    }

    fn change_calls(&mut self, change: impl FnMut(&mut CallRecord)) {
        if let Some(turn) = self.turns.last_mut() {
            turn.calls.iter_mut().for_each(change);
        }
    }

    fn change_call(&mut self, id: &CallId, mut change: impl FnMut(&mut CallRecord)) {
        self.change_calls(|record| {
            if record.call.id == *id {
                change(record);
            }
        });
    }
}

/// It begins, or goes on with the answer it has.
fn start(record: &mut CallRecord, attempt: u32) {
    let (approved, resumed) = match &record.state {
        CallState::Approved { fingerprint } => (Some(fingerprint.clone()), None),
        CallState::Answered(start, answered) => (start.approved.clone(), Some(answered.clone())),
        CallState::InDoubt(start) | CallState::Again(start) => {
            (start.approved.clone(), start.resumed.clone())
        }
        CallState::Requested
        | CallState::Pending { .. }
        | CallState::Started(_)
        | CallState::Suspended(..)
        | CallState::Finished { .. } => (None, None),
    };
    record.state = CallState::Started(Start { attempt, approved, resumed });
}

/// What a settled question makes of its call.
fn decide(record: &mut CallRecord, approval: &PendingApproval, decision: &Decision, at: Timestamp) {
    let CallState::Pending { before } = &record.state else { return };
    record.state = match (decision, before.as_ref()) {
        (Decision::Approve { edited: None, .. }, _) => {
            CallState::Approved { fingerprint: approval.fingerprint.clone() }
        }
        (Decision::Approve { edited: Some(edited), .. }, _) => {
            record.call.arguments = edited.arguments.to_string();
            CallState::Approved { fingerprint: edited.fingerprint.clone() }
        }
        (Decision::Answer { answer, .. }, CallState::Suspended(start, suspension)) => {
            let suspension = Suspension::clone(suspension);
            let answered = Answered { suspension, answer: answer.clone(), at };
            CallState::Answered(start.clone(), Box::new(answered))
        }
        (Decision::Reject { comment }, CallState::Suspended(_, suspension)) => {
            unanswered(comment.as_deref(), "A human did not answer what this tool asked", suspension)
        }
        (Decision::Expire, CallState::Suspended(_, suspension)) => {
            unanswered(None, "Nobody answered in time what this tool asked", suspension)
        }
        (Decision::Retry, CallState::InDoubt(start)) => CallState::Again(start.clone()),
        (Decision::Result { output }, _) => finished(OutcomeKind::Ok, output.clone()),
        (Decision::Fail { comment }, _) => failed(comment.as_deref()),
        (Decision::Expire | Decision::Retry, _) if approval.question == Question::OutcomeUnknown => {
            failed(None)
        }
        (Decision::Reject { comment }, _) => rejected(comment.as_deref(), "A human rejected this call"),
        (Decision::Expire | Decision::Retry | Decision::Answer { .. }, _) => {
            rejected(None, "Nobody approved this call in time")
        }
    };
}

fn failed(comment: Option<&str>) -> CallState {
    let what = "The server stopped while this call was running. Whether it took effect is not known";
    let text = match comment.map(str::trim).filter(|comment| !comment.is_empty()) {
        Some(comment) => format!("{what}. A human counts it as failed. Their comment: {comment}"),
        None => format!("{what}; it counts as failed."),
    };
    finished(OutcomeKind::Interrupted, text)
}

fn rejected(comment: Option<&str>, what: &str) -> CallState {
    let text = match comment.map(str::trim).filter(|comment| !comment.is_empty()) {
        Some(comment) => format!("{what}. It did not run. Their comment: {comment}"),
        None => format!("{what}. It did not run."),
    };
    finished(OutcomeKind::Rejected, text)
}

/// What it did before it asked has happened.
fn unanswered(comment: Option<&str>, what: &str, suspension: &Suspension) -> CallState {
    let text = match comment.map(str::trim).filter(|comment| !comment.is_empty()) {
        Some(comment) => format!("{what}, and the call ended there. Their comment: {comment}"),
        None => format!("{what}, and the call ended there."),
    };
    let outcome = Box::new(ToolOutcome::of(OutcomeKind::Rejected, text));
    CallState::Finished { outcome, duration_ms: suspension.worked_ms }
}

fn finished(kind: OutcomeKind, text: String) -> CallState {
    CallState::Finished { outcome: Box::new(ToolOutcome::of(kind, text)), duration_ms: 0 }
}
