//! The state machine of a run: folded from its events, it says what to do next.
//!
//! Pure: no IO, no clock, no async. The `runner` asks [`Run::step`] (`run/next.rs`), does what it says, and
//! tells the run what came of it through the methods of `run/transitions.rs`; each checks that the transition
//! is legal and records an event, which `run/fold.rs` applies. The store writes what is
//! [unsaved](Run::unsaved). Loading a run is replaying its events.

mod conversation;
mod fold;
mod next;
#[cfg(test)]
mod tests;
mod transitions;

pub use self::conversation::{CallRecord, CallState, Refusal, Start, Turn};
pub use self::next::{DueCall, Standing, Step};
use crate::budget::{Reached, Spent};
use crate::clock::Timestamp;
use crate::event::{Failure, FailureKind, NewRun, Recorded, RunEvent};
use crate::id::{ApprovalId, CallId, UserId};
use crate::session::Tokens;
use crate::tool::{Decided, Decision, PendingApproval};

/// How often a model may repair an answer that does not fit the schema asked for.
pub const REPAIRS: usize = 2;

/// How a message that refuses an answer begins.
pub const REFUSAL: &str = "Your answer was not accepted";

/// One run of an agent.
#[derive(Clone, Debug)]
pub struct Run {
    new: NewRun,
    version: u64,
    attempt: u32,
    status: RunStatus,
    turns: Vec<Turn>,
    /// Every approval ever asked for.
    asked: Vec<PendingApproval>,
    /// In the order taken; where several people must approve, each vote.
    decided: Vec<Decided>,
    /// How many decisions belong to earlier pauses.
    decided_before: usize,
    /// The JSON of the final answer, where a schema was asked for.
    answer: Option<String>,
    followups: Vec<String>,
    model_calls: u32,
    /// Replies whose cost is not known.
    unpriced: u32,
    spent: Spent,
    times: Times,
    unsaved: Vec<Recorded>,
}

/// Where a run stands. What belongs to a status lives in its variant.
#[derive(Clone, Debug, PartialEq)]
pub enum RunStatus {
    /// Waits for a worker.
    Queued,
    Running,
    /// Waits for humans; costs no memory and no task.
    Paused {
        pending: Vec<PendingApproval>,
    },
    Completed {
        output: String,
    },
    Failed {
        failure: Failure,
    },
    Cancelled {
        by: UserId,
    },
}

/// Every word that [`RunStatus::word`] says.
pub const STATUS_WORDS: [&str; 6] = ["QUEUED", "RUNNING", "PAUSED", "COMPLETED", "FAILED", "CANCELLED"];

impl RunStatus {
    /// The word of the API.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Queued => "QUEUED",
            Self::Running => "RUNNING",
            Self::Paused { .. } => "PAUSED",
            Self::Completed { .. } => "COMPLETED",
            Self::Failed { .. } => "FAILED",
            Self::Cancelled { .. } => "CANCELLED",
        }
    }

    pub fn is_terminal(&self) -> bool {
        match self {
            Self::Completed { .. } | Self::Failed { .. } | Self::Cancelled { .. } => true,
            Self::Queued | Self::Running | Self::Paused { .. } => false,
        }
    }
}

/// When things happened.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub created: Timestamp,
    /// When it left the queue, or began.
    pub started: Option<Timestamp>,
    pub updated: Timestamp,
    pub completed: Option<Timestamp>,
    /// Milliseconds at work; waiting for humans and being down do not count.
    pub active_ms: u64,
}

/// A transition that the run's state does not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTransition {
    #[error("the run is {status}")]
    WrongStatus { status: &'static str },
    #[error("the run has no pending approval {0}")]
    NotPending(ApprovalId),
    #[error("approval {0} asks something else")]
    WrongAnswer(ApprovalId),
    #[error("the run has no answer to check")]
    NoAnswer,
    #[error("call {0} is not in a state for this")]
    WrongCall(CallId),
}

/// A journal that no run can have written.
#[derive(Debug, thiserror::Error)]
#[error("the run's journal is damaged: {0}")]
pub struct DamagedJournal(String);

impl Run {
    /// A run that is not yet stored.
    pub fn new(new: NewRun, at: Timestamp) -> Self {
        let mut run = Self::blank(new.clone(), at);
        run.unsaved.push(Recorded { seq: 1, at, event: RunEvent::Created(Box::new(new)) });
        run
    }

    /// The run that these events made.
    pub fn replay(events: impl IntoIterator<Item = Recorded>) -> Result<Self, DamagedJournal> {
        let mut events = events.into_iter();
        let Some(Recorded { seq: 1, at, event: RunEvent::Created(new) }) = events.next() else {
            return Err(DamagedJournal("it does not start with the run's creation".to_owned()));
        };
        let mut run = Self::blank(*new, at);
        for recorded in events {
            run.follow(&recorded)?;
        }
        Ok(run)
    }

    /// Takes in the next event of a journal that is read bit by bit.
    pub fn follow(&mut self, Recorded { seq, at, event }: &Recorded) -> Result<(), DamagedJournal> {
        if *seq != self.version + 1 {
            return Err(DamagedJournal(format!("event {} is missing", self.version + 1)));
        }
        self.apply(*at, event);
        Ok(())
    }

    fn blank(new: NewRun, at: Timestamp) -> Self {
        let started = (!new.queued).then_some(at);
        Self {
            version: 1,
            attempt: 1,
            status: if new.queued { RunStatus::Queued } else { RunStatus::Running },
            turns: Vec::new(),
            asked: Vec::new(),
            decided: Vec::new(),
            decided_before: 0,
            answer: None,
            followups: Vec::new(),
            model_calls: 0,
            unpriced: 0,
            spent: Spent::default(),
            times: Times { created: at, started, updated: at, completed: None, active_ms: 0 },
            unsaved: Vec::new(),
            new,
        }
    }

    // What it is.

    pub fn spec(&self) -> &NewRun {
        &self.new
    }

    pub fn status(&self) -> &RunStatus {
        &self.status
    }

    /// The number of events, unsaved ones included.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How many processes have taken the run up, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    pub fn turns(&self) -> &[Turn] {
        &self.turns
    }

    /// The value of a structured answer.
    pub fn structured(&self) -> Option<serde_json::Value> {
        self.answer.as_deref().and_then(|json| serde_json::from_str(json).ok())
    }

    pub fn followups(&self) -> &[String] {
        &self.followups
    }

    pub fn model_calls(&self) -> u32 {
        self.model_calls
    }

    pub fn tokens(&self) -> Tokens {
        self.spent.tokens
    }

    /// What it has used, as far as it is known.
    pub fn spent(&self) -> &Spent {
        &self.spent
    }

    /// In micros; none = not known, which it is as soon as one reply's is not.
    pub fn cost_micros(&self) -> Option<u64> {
        (self.model_calls > 0 && self.unpriced == 0).then_some(self.spent.cost_micros)
    }

    pub fn times(&self) -> Times {
        self.times
    }

    pub fn calls(&self) -> impl Iterator<Item = &CallRecord> {
        self.turns.iter().flat_map(|turn| &turn.calls)
    }

    pub fn pending(&self) -> &[PendingApproval] {
        match &self.status {
            RunStatus::Paused { pending } => pending,
            RunStatus::Queued
            | RunStatus::Running
            | RunStatus::Completed { .. }
            | RunStatus::Failed { .. }
            | RunStatus::Cancelled { .. } => &[],
        }
    }

    /// An approval that the run asked for at some time, decided or not.
    pub fn asked_for(&self, approval: &ApprovalId) -> Option<&PendingApproval> {
        self.asked.iter().find(|asked| asked.id == *approval)
    }

    /// The version of its plugin that a call is bound to, because it asked or somebody was asked about it; none = it
    /// may be any.
    pub fn bound_digest<'a>(&'a self, due: &'a DueCall) -> Option<&'a str> {
        let asked = match &due.standing {
            Standing::Requested => return None,
            Standing::Suspended(suspension) => return Some(&suspension.digest),
            Standing::Answered(answered) => return Some(&answered.suspension.digest),
            Standing::Approved(_) => true,
            Standing::InDoubt(start) | Standing::Again(start) => {
                if let Some(answered) = &start.resumed {
                    return Some(&answered.suspension.digest);
                }
                // The model may use one id for several calls: what was asked about an earlier one is not about this.
                start.approved.is_some() || matches!(due.standing, Standing::Again(_))
            }
        };
        let latest = || self.asked.iter().rev().find(|approval| approval.call.id == due.call.id);
        if asked { latest().and_then(|approval| approval.digest.as_deref()) } else { None }
    }

    /// The recorded decision on an approval of this run: the vote that settled it.
    pub fn decision_on(&self, approval: &ApprovalId) -> Option<&Decision> {
        if self.pending().iter().any(|pending| pending.id == *approval) {
            return None;
        }
        self.votes_on(approval).last().map(|decided| &decided.decision)
    }

    /// What each person said about an approval, in order.
    pub fn votes_on(&self, approval: &ApprovalId) -> impl DoubleEndedIterator<Item = &Decided> {
        self.decided.iter().filter(move |decided| decided.approval_id == *approval)
    }

    /// The decisions on the latest pause: what a run at work is carrying out.
    pub fn latest_decisions(&self) -> &[Decided] {
        self.decided.get(self.decided_before..).unwrap_or_default()
    }

    // Saving.

    /// Events that the store has not written yet, oldest first.
    pub fn unsaved(&self) -> &[Recorded] {
        &self.unsaved
    }

    /// The store wrote everything.
    pub fn saved(&mut self) {
        self.unsaved.clear();
    }
}

impl From<Reached> for Failure {
    fn from(reached: Reached) -> Self {
        budget_exceeded(reached.limit, reached.value)
    }
}

/// The failure of a run that used up one of its limits.
pub fn budget_exceeded(limit: &str, value: impl std::fmt::Display) -> Failure {
    Failure {
        kind: FailureKind::BudgetExceeded,
        message: format!("The run reached its limit {limit} = {value} before it was done."),
    }
}
