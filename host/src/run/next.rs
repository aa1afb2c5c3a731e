//! What a run needs next, said by its state alone.

use super::{CallRecord, CallState, Run, RunStatus, Start};
use crate::tool::{Answered, Fingerprint, Suspension, ToolCall};

/// What to do next.
#[derive(Clone, Debug)]
pub enum Step {
    CallModel,
    /// Some of the calls of this turn, in the model's order.
    CallTools(Vec<DueCall>),
    /// Does the answer fit the schema asked for?
    CheckAnswer,
    SuggestFollowups,
    /// A worker has to take it, humans have to decide first, or calls are under way.
    Wait,
    Done,
}

/// A call that is due, with what the runner must know to run it.
#[derive(Clone, Debug)]
pub struct DueCall {
    pub call: ToolCall,
    pub standing: Standing,
}

#[derive(Clone, Debug)]
pub enum Standing {
    /// Policy has not been asked yet.
    Requested,
    /// A human approved exactly this.
    Approved(Fingerprint),
    /// It asked for a human's answer.
    Suspended(Box<Suspension>),
    /// The answer is there.
    Answered(Box<Answered>),
    /// It started and never reported.
    InDoubt(Start),
    /// The same, and a human said to run it again.
    Again(Start),
}

impl Run {
    pub fn step(&self) -> Step {
        match &self.status {
            RunStatus::Queued | RunStatus::Paused { .. } => Step::Wait,
            RunStatus::Completed { .. } | RunStatus::Failed { .. } | RunStatus::Cancelled { .. } => {
                Step::Done
            }
            RunStatus::Running => match self.turns.last() {
                None => Step::CallModel,
                Some(turn) if turn.refused.is_some() => Step::CallModel,
                Some(_) if self.awaits_check() => Step::CheckAnswer,
                Some(turn) if turn.calls.is_empty() => Step::SuggestFollowups,
                Some(turn) if turn.calls.iter().any(CallRecord::is_under_way) => Step::Wait,
                Some(turn) => {
                    let due: Vec<DueCall> = turn.calls.iter().filter_map(due).collect();
                    if due.is_empty() { Step::CallModel } else { Step::CallTools(due) }
                }
            },
        }
    }

    /// The last reply is an answer of which nobody has said yet whether it fits.
    pub(super) fn awaits_check(&self) -> bool {
        self.wants_structure()
            && self.answer.is_none()
            && self.turns.last().is_some_and(|turn| turn.calls.is_empty() && turn.refused.is_none())
    }

    pub(super) fn wants_structure(&self) -> bool {
        self.new.agent.options.response_schema.is_some()
    }
}

fn due(record: &CallRecord) -> Option<DueCall> {
    let standing = match &record.state {
        CallState::Requested => Standing::Requested,
        CallState::Approved { fingerprint } => Standing::Approved(fingerprint.clone()),
        CallState::Suspended(_, suspension) => Standing::Suspended(suspension.clone()),
        CallState::Answered(_, answered) => Standing::Answered(answered.clone()),
        CallState::InDoubt(start) => Standing::InDoubt(start.clone()),
        CallState::Again(start) => Standing::Again(start.clone()),
        CallState::Pending { .. } | CallState::Started(_) | CallState::Finished { .. } => return None,
    };
    Some(DueCall { call: record.call.clone(), standing })
}
