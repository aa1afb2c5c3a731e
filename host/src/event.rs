//! What happened to a run: the append-only facts that a [`Run`](crate::run::Run) is folded from.
//!
//! Written in the past tense, one row each, in the same transaction as the run's row. The journal is the
//! state, the stream and the audit trail at once, so a fact once written is never changed; fields may be
//! added with a default, and nothing is renamed.

use serde::{Deserialize, Serialize};

use crate::agent::Agent;
use crate::clock::Timestamp;
use crate::id::{CallId, KeyId, RunId, SessionId, UserId};
use crate::session::{Media, Owner, Reply, Tokens};
use crate::tool::{Decided, PendingApproval, Suspension, ToolOutcome};

/// An event with its place in the journal.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// 1 for the first event of the run, without gaps.
    pub seq: u64,
    pub at: Timestamp,
    pub event: RunEvent,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum RunEvent {
    /// Always the first.
    Created(Box<NewRun>),
    /// A worker took the run from the queue.
    Started,
    /// Another process took the run up after the one that drove it was gone.
    Claimed {
        attempt: u32,
    },
    Replied {
        reply: Box<Reply>,
    },
    /// The model's reply broke off after some of it had been streamed. The run's end follows.
    ReplyBroken {
        partial: Box<Reply>,
    },
    CallStarted {
        call_id: CallId,
        attempt: u32,
    },
    /// The call asked for a human's answer, and its instance is gone. The pause follows once the other calls of
    /// the turn have ended.
    CallSuspended {
        call_id: CallId,
        suspension: Box<Suspension>,
    },
    /// The answer is about to be handed to the call. The same call goes on: this is no further start.
    CallResumed {
        call_id: CallId,
        attempt: u32,
    },
    CallFinished {
        call_id: CallId,
        outcome: Box<ToolOutcome>,
        duration_ms: u64,
    },
    Paused {
        approvals: Vec<PendingApproval>,
    },
    Decided(Decided),
    /// The final answer has JSON that fits the schema asked for; this is that JSON, as the model wrote it.
    AnswerAccepted {
        json: String,
    },
    /// It has not; what the model is told. After the last attempt the run's failure follows instead.
    AnswerRefused {
        feedback: String,
    },
    /// Empty where the model had none to offer or its call failed.
    FollowupsSuggested {
        questions: Vec<String>,
        tokens: Tokens,
        /// As in [`Reply`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cost_micros: Option<u64>,
    },
    Completed,
    Failed {
        failure: Failure,
    },
    Cancelled {
        by: UserId,
        /// The API key that the cancel came with, if any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<KeyId>,
    },
}

impl RunEvent {
    /// The event's name in the journal.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Created(_) => "created",
            Self::Started => "started",
            Self::Claimed { .. } => "claimed",
            Self::Replied { .. } => "replied",
            Self::ReplyBroken { .. } => "reply_broken",
            Self::CallStarted { .. } => "call_started",
            Self::CallSuspended { .. } => "call_suspended",
            Self::CallResumed { .. } => "call_resumed",
            Self::CallFinished { .. } => "call_finished",
            Self::Paused { .. } => "paused",
            Self::Decided(_) => "decided",
            Self::AnswerAccepted { .. } => "answer_accepted",
            Self::AnswerRefused { .. } => "answer_refused",
            Self::FollowupsSuggested { .. } => "followups_suggested",
            Self::Completed => "completed",
            Self::Failed { .. } => "failed",
            Self::Cancelled { .. } => "cancelled",
        }
    }
}

/// Everything a run needs to be driven, whatever happens to the configuration meanwhile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewRun {
    pub id: RunId,
    pub session: SessionId,
    pub owner: Owner,
    /// The agent with this run's overrides applied.
    pub agent: Agent,
    pub input: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub media: Vec<Media>,
    pub generate_followups: bool,
    /// It waits for a worker first.
    #[serde(default)]
    pub queued: bool,
}

/// Why a run failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub kind: FailureKind,
    /// A sentence for the caller, without internals.
    pub message: String,
}

/// The words of `metrics.errorType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    ModelError,
    ModelRateLimited,
    ContextOverflow,
    NoApiKey,
    BudgetExceeded,
    Timeout,
    Interrupted,
    Internal,
}

impl FailureKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ModelError => "model_error",
            Self::ModelRateLimited => "model_rate_limited",
            Self::ContextOverflow => "context_overflow",
            Self::NoApiKey => "no_api_key",
            Self::BudgetExceeded => "budget_exceeded",
            Self::Timeout => "timeout",
            Self::Interrupted => "interrupted",
            Self::Internal => "internal",
        }
    }
}
