//! The state machine of a run: folded from its events, it says what to do next.
//!
//! Pure: no IO, no clock, no async. The `runner` asks [`Run::step`], does what it says, and tells the run
//! what came of it through the methods below; each checks that the transition is legal and records an
//! event. The store writes what is [unsaved](Run::unsaved). Loading a run is replaying its events.

use crate::clock::Timestamp;
use crate::event::{Failure, FailureKind, NewRun, Recorded, RunEvent};
use crate::id::{ApprovalId, CallId, UserId};
use crate::session::{Message, PastTurn, Reply, Tokens};
use crate::tool::{Decided, Decision, Fingerprint, OutcomeKind, PendingApproval, ToolCall, ToolOutcome};

/// One run of an agent.
#[derive(Clone, Debug)]
pub struct Run {
    new: NewRun,
    version: u64,
    attempt: u32,
    status: RunStatus,
    turns: Vec<Turn>,
    decided: Vec<Decided>,
    /// How many decisions belong to earlier pauses.
    decided_before: usize,
    followups: Vec<String>,
    model_calls: u32,
    tokens: Tokens,
    times: Times,
    unsaved: Vec<Recorded>,
}

/// Where a run stands. What belongs to a status lives in its variant.
#[derive(Clone, Debug, PartialEq)]
pub enum RunStatus {
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

impl RunStatus {
    /// The word of the API.
    pub fn word(&self) -> &'static str {
        match self {
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
            Self::Running | Self::Paused { .. } => false,
        }
    }
}

/// One reply of the model and what became of the calls in it.
#[derive(Clone, Debug)]
pub struct Turn {
    pub reply: Reply,
    pub calls: Vec<CallRecord>,
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
    Pending,
    Approved {
        fingerprint: Fingerprint,
    },
    Started {
        attempt: u32,
        approved: Option<Fingerprint>,
    },
    /// It was under way when its process ended.
    InDoubt {
        attempt: u32,
        approved: Option<Fingerprint>,
    },
    Finished {
        outcome: Box<ToolOutcome>,
        duration_ms: u64,
    },
}

impl CallRecord {
    fn is_under_way(&self) -> bool {
        matches!(self.state, CallState::Started { .. })
    }
}

/// When things happened.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub created: Timestamp,
    pub updated: Timestamp,
    pub completed: Option<Timestamp>,
    /// Milliseconds at work; waiting for humans and being down do not count.
    pub active_ms: u64,
}

/// What to do next.
#[derive(Clone, Debug)]
pub enum Step {
    CallModel,
    /// Some of the calls of this turn, in the model's order.
    CallTools(Vec<DueCall>),
    SuggestFollowups,
    /// Humans have to decide first, or calls are under way.
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
    /// It started and never reported; none = it had needed no approval.
    InDoubt {
        attempt: u32,
        approved: Option<Fingerprint>,
    },
}

/// A transition that the run's state does not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTransition {
    #[error("the run is {status}")]
    WrongStatus { status: &'static str },
    #[error("the run has no pending approval {0}")]
    NotPending(ApprovalId),
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
        run.unsaved.push(Recorded {
            seq: 1,
            at,
            event: RunEvent::Created(Box::new(new)),
        });
        run
    }

    /// The run that these events made.
    pub fn replay(events: impl IntoIterator<Item = Recorded>) -> Result<Self, DamagedJournal> {
        let mut events = events.into_iter();
        let Some(Recorded {
            seq: 1,
            at,
            event: RunEvent::Created(new),
        }) = events.next()
        else {
            return Err(DamagedJournal(
                "it does not start with the run's creation".to_owned(),
            ));
        };
        let mut run = Self::blank(*new, at);
        for Recorded { seq, at, event } in events {
            if seq != run.version + 1 {
                return Err(DamagedJournal(format!("event {} is missing", run.version + 1)));
            }
            run.apply(at, &event);
        }
        Ok(run)
    }

    fn blank(new: NewRun, at: Timestamp) -> Self {
        Self {
            new,
            version: 1,
            attempt: 1,
            status: RunStatus::Running,
            turns: Vec::new(),
            decided: Vec::new(),
            decided_before: 0,
            followups: Vec::new(),
            model_calls: 0,
            tokens: Tokens::default(),
            times: Times {
                created: at,
                updated: at,
                completed: None,
                active_ms: 0,
            },
            unsaved: Vec::new(),
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

    pub fn followups(&self) -> &[String] {
        &self.followups
    }

    pub fn model_calls(&self) -> u32 {
        self.model_calls
    }

    pub fn tokens(&self) -> Tokens {
        self.tokens
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
            RunStatus::Running
            | RunStatus::Completed { .. }
            | RunStatus::Failed { .. }
            | RunStatus::Cancelled { .. } => &[],
        }
    }

    /// The recorded decision on an approval of this run.
    pub fn decision_on(&self, approval: &ApprovalId) -> Option<&Decision> {
        self.decided
            .iter()
            .find(|decided| decided.approval_id == *approval)
            .map(|decided| &decided.decision)
    }

    /// The decisions on the latest pause: what a run at work is carrying out.
    pub fn latest_decisions(&self) -> &[Decided] {
        self.decided.get(self.decided_before..).unwrap_or_default()
    }

    /// The conversation to send: earlier turns of the session, then this run's.
    pub fn messages(&self, history: &[PastTurn]) -> Vec<Message> {
        let mut messages = Vec::new();
        for past in history {
            messages.push(Message::User {
                text: past.input.clone(),
                media: Vec::new(),
            });
            let reply = Reply {
                content: past.output.clone(),
                ..Reply::default()
            };
            messages.push(Message::Assistant(Box::new(reply)));
        }
        messages.push(Message::User {
            text: self.new.input.clone(),
            media: self.new.media.clone(),
        });
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
        }
        messages
    }

    // What to do next.

    pub fn step(&self) -> Step {
        match &self.status {
            RunStatus::Paused { .. } => Step::Wait,
            RunStatus::Completed { .. } | RunStatus::Failed { .. } | RunStatus::Cancelled { .. } => {
                Step::Done
            }
            RunStatus::Running => match self.turns.last() {
                None => Step::CallModel,
                Some(turn) if turn.calls.is_empty() => Step::SuggestFollowups,
                Some(turn) if turn.calls.iter().any(CallRecord::is_under_way) => Step::Wait,
                Some(turn) => {
                    let due: Vec<DueCall> = turn.calls.iter().filter_map(due).collect();
                    if due.is_empty() {
                        Step::CallModel
                    } else {
                        Step::CallTools(due)
                    }
                }
            },
        }
    }

    // What came of it.

    /// The model answered. Without calls in it that is the end, but for follow-up questions.
    pub fn replied(&mut self, reply: Reply, at: Timestamp) -> Result<(), InvalidTransition> {
        self.check_running()?;
        let last = reply.tool_calls.is_empty();
        self.record(
            at,
            RunEvent::Replied {
                reply: Box::new(reply),
            },
        );
        if last && !self.new.generate_followups {
            self.record(at, RunEvent::Completed);
        }
        Ok(())
    }

    pub fn suggested(
        &mut self,
        questions: Vec<String>,
        tokens: Tokens,
        at: Timestamp,
    ) -> Result<(), InvalidTransition> {
        self.check_running()?;
        self.record(at, RunEvent::FollowupsSuggested { questions, tokens });
        self.record(at, RunEvent::Completed);
        Ok(())
    }

    /// The call is about to run. Returns its attempt, from 1.
    pub fn started(&mut self, call: &CallId, at: Timestamp) -> Result<u32, InvalidTransition> {
        self.check_running()?;
        let attempt = match self.call_state(call) {
            Some(CallState::Requested | CallState::Approved { .. }) => 1,
            Some(CallState::InDoubt { attempt, .. }) => attempt + 1,
            Some(CallState::Pending | CallState::Started { .. } | CallState::Finished { .. }) | None => {
                return Err(InvalidTransition::WrongCall(call.clone()));
            }
        };
        self.record(
            at,
            RunEvent::CallStarted {
                call_id: call.clone(),
                attempt,
            },
        );
        Ok(attempt)
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
            Some(CallState::Pending | CallState::Finished { .. }) | None => {
                return Err(InvalidTransition::WrongCall(call.clone()));
            }
            Some(
                CallState::Requested
                | CallState::Approved { .. }
                | CallState::Started { .. }
                | CallState::InDoubt { .. },
            ) => {}
        }
        let outcome = Box::new(outcome);
        self.record(
            at,
            RunEvent::CallFinished {
                call_id: call.clone(),
                outcome,
                duration_ms,
            },
        );
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
            if !matches!(self.call_state(&approval.call.id), Some(CallState::Requested)) {
                return Err(InvalidTransition::WrongCall(approval.call.id.clone()));
            }
        }
        self.record(at, RunEvent::Paused { approvals });
        Ok(())
    }

    /// All decisions take effect, or none. The run goes on when none is pending any more.
    pub fn decide(&mut self, decisions: Vec<Decided>, at: Timestamp) -> Result<(), InvalidTransition> {
        let RunStatus::Paused { pending } = &self.status else {
            return Err(InvalidTransition::WrongStatus {
                status: self.status.word(),
            });
        };
        for decided in &decisions {
            if !pending.iter().any(|approval| approval.id == decided.approval_id) {
                return Err(InvalidTransition::NotPending(decided.approval_id.clone()));
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
    pub fn cancel(&mut self, by: UserId, at: Timestamp) -> Result<(), InvalidTransition> {
        if self.status.is_terminal() {
            return Err(InvalidTransition::WrongStatus {
                status: self.status.word(),
            });
        }
        self.record(at, RunEvent::Cancelled { by });
        Ok(())
    }

    /// A process takes up a run whose former one is gone: calls under way are in doubt from here on.
    pub fn claim(&mut self, at: Timestamp) -> Result<(), InvalidTransition> {
        self.check_running()?;
        let attempt = self.attempt + 1;
        self.record(at, RunEvent::Claimed { attempt });
        Ok(())
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

    fn check_running(&self) -> Result<(), InvalidTransition> {
        match self.status {
            RunStatus::Running => Ok(()),
            RunStatus::Paused { .. }
            | RunStatus::Completed { .. }
            | RunStatus::Failed { .. }
            | RunStatus::Cancelled { .. } => Err(InvalidTransition::WrongStatus {
                status: self.status.word(),
            }),
        }
    }

    fn call_state(&self, id: &CallId) -> Option<&CallState> {
        self.turns
            .last()?
            .calls
            .iter()
            .find(|record| record.call.id == *id)
            .map(|record| &record.state)
    }

    fn record(&mut self, at: Timestamp, event: RunEvent) {
        self.apply(at, &event);
        self.unsaved.push(Recorded {
            seq: self.version,
            at,
            event,
        });
    }

    /// The fold. Total: what an event says has happened, whatever state it finds.
    fn apply(&mut self, at: Timestamp, event: &RunEvent) {
        let down = matches!(event, RunEvent::Claimed { .. });
        if self.status == RunStatus::Running && !down {
            self.times.active_ms += at.millis_since(self.times.updated);
        }
        self.times.updated = at;
        self.version += 1;
        match event {
            RunEvent::Created(_) => {}
            RunEvent::Claimed { attempt } => {
                self.attempt = *attempt;
                self.change_calls(|record| {
                    if let CallState::Started { attempt, approved } = &record.state {
                        record.state = CallState::InDoubt {
                            attempt: *attempt,
                            approved: approved.clone(),
                        };
                    }
                });
            }
            RunEvent::Replied { reply } => {
                self.model_calls += 1;
                self.tokens.add(reply.tokens);
                let requested = |call: &ToolCall| CallRecord {
                    call: call.clone(),
                    state: CallState::Requested,
                };
                let calls = reply.tool_calls.iter().map(requested).collect();
                self.turns.push(Turn {
                    reply: Reply::clone(reply),
                    calls,
                });
            }
            RunEvent::CallStarted { call_id, attempt } => self.change_call(call_id, |record| {
                let approved = match &record.state {
                    CallState::Approved { fingerprint } => Some(fingerprint.clone()),
                    CallState::InDoubt { approved, .. } => approved.clone(),
                    CallState::Requested
                    | CallState::Pending
                    | CallState::Started { .. }
                    | CallState::Finished { .. } => None,
                };
                record.state = CallState::Started {
                    attempt: *attempt,
                    approved,
                };
            }),
            RunEvent::CallFinished {
                call_id,
                outcome,
                duration_ms,
            } => self.change_call(call_id, |record| {
                record.state = CallState::Finished {
                    outcome: outcome.clone(),
                    duration_ms: *duration_ms,
                };
            }),
            RunEvent::Paused { approvals } => {
                for approval in approvals {
                    self.change_call(&approval.call.id, |record| record.state = CallState::Pending);
                }
                self.decided_before = self.decided.len();
                self.status = RunStatus::Paused {
                    pending: approvals.clone(),
                };
            }
            RunEvent::Decided(decided) => self.apply_decision(decided),
            RunEvent::FollowupsSuggested { questions, tokens } => {
                self.model_calls += 1;
                self.tokens.add(*tokens);
                self.followups.clone_from(questions);
            }
            RunEvent::Completed => {
                let output = self
                    .turns
                    .last()
                    .map(|turn| turn.reply.content.clone())
                    .unwrap_or_default();
                self.end(RunStatus::Completed { output }, at);
            }
            RunEvent::Failed { failure } => self.end(
                RunStatus::Failed {
                    failure: failure.clone(),
                },
                at,
            ),
            RunEvent::Cancelled { by } => self.end(RunStatus::Cancelled { by: by.clone() }, at),
        }
    }

    fn apply_decision(&mut self, decided: &Decided) {
        let RunStatus::Paused { pending } = &mut self.status else {
            return;
        };
        let Some(index) = pending
            .iter()
            .position(|approval| approval.id == decided.approval_id)
        else {
            return;
        };
        let approval = pending.remove(index);
        if pending.is_empty() {
            self.status = RunStatus::Running;
        }
        self.decided.push(decided.clone());
        self.change_call(&approval.call.id, |record| match &decided.decision {
            Decision::Approve { edited: None, .. } => {
                record.state = CallState::Approved {
                    fingerprint: approval.fingerprint.clone(),
                };
            }
            Decision::Approve {
                edited: Some(edited), ..
            } => {
                record.call.arguments = edited.arguments.to_string();
                record.state = CallState::Approved {
                    fingerprint: edited.fingerprint.clone(),
                };
            }
            Decision::Reject { comment } => {
                record.state = rejected(comment.as_deref(), "A human rejected this call")
            }
            Decision::Expire => record.state = rejected(None, "Nobody approved this call in time"),
        });
    }

    fn end(&mut self, status: RunStatus, at: Timestamp) {
        self.status = status;
        self.times.completed = Some(at);
        self.change_calls(|record| {
            if let CallState::Started { .. } = record.state {
                let text = "The run ended before this call reported.";
                let outcome = Box::new(ToolOutcome::of(OutcomeKind::Cancelled, text));
                record.state = CallState::Finished {
                    outcome,
                    duration_ms: 0,
                };
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

fn due(record: &CallRecord) -> Option<DueCall> {
    let standing = match &record.state {
        CallState::Requested => Standing::Requested,
        CallState::Approved { fingerprint } => Standing::Approved(fingerprint.clone()),
        CallState::InDoubt { attempt, approved } => Standing::InDoubt {
            attempt: *attempt,
            approved: approved.clone(),
        },
        CallState::Pending | CallState::Started { .. } | CallState::Finished { .. } => return None,
    };
    Some(DueCall {
        call: record.call.clone(),
        standing,
    })
}

fn rejected(comment: Option<&str>, what: &str) -> CallState {
    let text = match comment.map(str::trim).filter(|comment| !comment.is_empty()) {
        Some(comment) => format!("{what}. It did not run. Their comment: {comment}"),
        None => format!("{what}. It did not run."),
    };
    CallState::Finished {
        outcome: Box::new(ToolOutcome::of(OutcomeKind::Rejected, text)),
        duration_ms: 0,
    }
}

/// The failure of a run that used up one of its limits.
pub fn budget_exceeded(limit: &str, value: impl std::fmt::Display) -> Failure {
    Failure {
        kind: FailureKind::BudgetExceeded,
        message: format!("The run reached its limit {limit} = {value} before it was done."),
    }
}
