//! The conversation of a run: what the model said, and what became of each call it asked for.

use super::Run;
use crate::session::{Message, PastTurn, Reply};
use crate::tool::{Answered, Fingerprint, Suspension, ToolCall, ToolOutcome};

/// One reply of the model and what became of the calls in it.
#[derive(Clone, Debug)]
pub struct Turn {
    pub reply: Reply,
    pub calls: Vec<CallRecord>,
    /// What the model was told about an answer that does not fit the schema asked for.
    pub refused: Option<String>,
}

/// What is wrong with an answer, as the rest of a sentence.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// For the model: with what it wrote.
    pub told: String,
    /// For everybody who reads the run's failure: an answer that was not accepted is not shown.
    pub shown: String,
}

impl Refusal {
    /// Of words that quote nothing.
    pub fn without_value(problem: String) -> Self {
        Self { told: problem.clone(), shown: problem }
    }

    /// Of an answer that was not written to its end.
    #[must_use]
    pub fn of_a_part(self) -> Self {
        let note = "(it was cut off at the length limit)";
        Self { told: format!("{} {note}", self.told), shown: format!("{} {note}", self.shown) }
    }
}

#[derive(Clone, Debug)]
pub struct CallRecord {
    /// With the arguments as they are or will be executed: an edit replaces the model's.
    pub call: ToolCall,
    pub state: CallState,
}

#[derive(Clone, Debug)]
pub enum CallState {
    Requested,
    /// Waits for a human. What it was before decides what comes of the decision.
    Pending {
        before: Box<CallState>,
    },
    Approved {
        fingerprint: Fingerprint,
    },
    Started(Start),
    /// It asked for a human's answer.
    Suspended(Start, Box<Suspension>),
    /// It has that answer, and is to go on.
    Answered(Start, Box<Answered>),
    /// It was under way when its process ended.
    InDoubt(Start),
    /// A human said to run it again.
    Again(Start),
    Finished {
        outcome: Box<ToolOutcome>,
        duration_ms: u64,
    },
}

/// How a call began.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    pub attempt: u32,
    /// What a human approved; none = it had needed no approval.
    pub approved: Option<Fingerprint>,
    /// It went on with this answer; none = it ran from its beginning.
    pub resumed: Option<Box<Answered>>,
}

impl CallRecord {
    /// Whatever a human had to say about it has been said.
    pub fn is_decided(&self) -> bool {
        match self.state {
            CallState::Requested | CallState::Pending { .. } | CallState::Suspended(..) => false,
            CallState::Approved { .. }
            | CallState::Started(_)
            | CallState::Answered(..)
            | CallState::InDoubt(_)
            | CallState::Again(_)
            | CallState::Finished { .. } => true,
        }
    }

    pub fn has_failed(&self) -> bool {
        matches!(&self.state, CallState::Finished { outcome, .. } if outcome.is_error())
    }

    pub(super) fn is_under_way(&self) -> bool {
        matches!(self.state, CallState::Started(_))
    }
}

impl Run {
    /// The conversation to send: earlier turns of the session, then this run's.
    pub fn messages(&self, history: &[PastTurn]) -> Vec<Message> {
        let mut messages = Vec::new();
        for past in history {
            messages.push(Message::User { text: past.input.clone(), media: Vec::new() });
            let reply = Reply { content: past.output.clone(), ..Reply::default() };
            messages.push(Message::Assistant(Box::new(reply)));
        }
        messages.push(Message::User { text: self.new.input.clone(), media: self.new.media.clone() });
        for turn in &self.turns {
            let mut reply = turn.reply.clone();
            // The model must see its call as it was executed, or the result makes no sense to it.
            reply.tool_calls = turn.calls.iter().map(|record| record.call.clone()).collect();
            messages.push(Message::Assistant(Box::new(reply)));
            for CallRecord { call, state } in &turn.calls {
                if let CallState::Finished { outcome, .. } = state {
                    messages.push(Message::Tool {
                        call: call.id.clone(),
                        name: call.name.clone(),
                        text: outcome.text.clone(),
                        failed: outcome.is_error(),
                    });
                }
            }
            if let Some(feedback) = &turn.refused {
                messages.push(Message::User { text: feedback.clone(), media: Vec::new() });
            }
        }
        messages
    }
}
