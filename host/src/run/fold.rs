//! How events make a run: the fold behind [`Run::replay`] and behind every transition.

use super::{CallRecord, CallState, Doubt, Run, RunStatus, Turn};
use crate::clock::Timestamp;
use crate::event::RunEvent;
use crate::id::CallId;
use crate::session::{Reply, Tokens};
use crate::tool::{Decided, Decision, OutcomeKind, PendingApproval, Question, ToolCall, ToolOutcome};

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
                    if let CallState::Started { attempt, approved } = &record.state {
                        record.state =
                            CallState::InDoubt(Doubt { attempt: *attempt, approved: approved.clone() });
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
                self.change_call(call_id, |record| {
                    let approved = match &record.state {
                        CallState::Approved { fingerprint } => Some(fingerprint.clone()),
                        CallState::InDoubt(doubt) | CallState::Again(doubt) => doubt.approved.clone(),
                        CallState::Requested
                        | CallState::Pending { .. }
                        | CallState::Started { .. }
                        | CallState::Finished { .. } => None,
                    };
                    record.state = CallState::Started { attempt: *attempt, approved };
                });
            }
            RunEvent::CallFinished { call_id, outcome, duration_ms } => self.change_call(call_id, |record| {
                record.state = CallState::Finished { outcome: outcome.clone(), duration_ms: *duration_ms };
            }),
            RunEvent::Paused { approvals } => {
                for approval in approvals {
                    self.change_call(&approval.call.id, |record| {
                        let in_doubt = match &record.state {
                            CallState::InDoubt(doubt) => Some(doubt.clone()),
                            CallState::Requested
                            | CallState::Pending { .. }
                            | CallState::Approved { .. }
                            | CallState::Started { .. }
                            | CallState::Again(_)
                            | CallState::Finished { .. } => None,
                        };
                        record.state = CallState::Pending { in_doubt };
                    });
                }
                self.asked.extend_from_slice(approvals);
                self.decided_before = self.decided.len();
                self.status = RunStatus::Paused { pending: approvals.clone() };
            }
            RunEvent::Decided(decided) => self.apply_decision(decided),
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

    fn apply_decision(&mut self, decided: &Decided) {
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
        self.change_call(&approval.call.id, |record| decide(record, &approval, &decided.decision));
    }

    fn end(&mut self, status: RunStatus, at: Timestamp) {
        self.status = status;
        self.times.completed = Some(at);
        self.change_calls(|record| {
            if let CallState::Started { .. } = record.state {
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

/// What a settled question makes of its call.
fn decide(record: &mut CallRecord, approval: &PendingApproval, decision: &Decision) {
    let in_doubt = match &record.state {
        CallState::Pending { in_doubt } => in_doubt.clone(),
        CallState::Requested
        | CallState::Approved { .. }
        | CallState::Started { .. }
        | CallState::InDoubt(_)
        | CallState::Again(_)
        | CallState::Finished { .. } => None,
    };
    record.state = match (decision, in_doubt) {
        (Decision::Approve { edited: None, .. }, _) => {
            CallState::Approved { fingerprint: approval.fingerprint.clone() }
        }
        (Decision::Approve { edited: Some(edited), .. }, _) => {
            record.call.arguments = edited.arguments.to_string();
            CallState::Approved { fingerprint: edited.fingerprint.clone() }
        }
        (Decision::Retry, Some(doubt)) => CallState::Again(doubt),
        (Decision::Result { output }, _) => finished(OutcomeKind::Ok, output.clone()),
        (Decision::Fail { comment }, _) => failed(comment.as_deref()),
        (Decision::Expire | Decision::Retry, _) if approval.question == Question::OutcomeUnknown => {
            failed(None)
        }
        (Decision::Reject { comment }, _) => rejected(comment.as_deref(), "A human rejected this call"),
        (Decision::Expire | Decision::Retry, _) => rejected(None, "Nobody approved this call in time"),
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

fn finished(kind: OutcomeKind, text: String) -> CallState {
    CallState::Finished { outcome: Box::new(ToolOutcome::of(kind, text)), duration_ms: 0 }
}
