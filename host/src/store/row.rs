//! Rows: what a run's new events change in the tables, and what the tables say in the domain's words.
//!
//! Built by the caller before a write is queued, so that the writer only runs statements.

use super::StoreError;
use super::audit;
use super::dialect::{Columns, Dialect};
use super::outbox::OutboxRow;
use super::usage::UsageChange;
use crate::audit::AuditEntry;
use crate::clock::Timestamp;
use crate::event::{Recorded, RunEvent};
use crate::id::{AgentId, ApprovalId, KeyId, OrgId, RunId, SessionId, UserId};
use crate::key::ApiKey;
use crate::notice::Subscription;
use crate::run::{Run, RunStatus};
use crate::session::{Owner, Session, Tokens};
use crate::tool::{Decided, Decision, PendingApproval};

/// Most characters of a session's title.
const TITLE: usize = 80;

/// The unsaved part of a run.
pub(super) struct RunChange {
    /// The version of the row that the events follow; 0 = none yet.
    pub(super) follows: u64,
    pub(super) row: RunRow,
    pub(super) events: Vec<EventRow>,
    pub(super) approvals: Vec<ApprovalChange>,
    pub(super) audit: Vec<AuditEntry>,
    pub(super) usage: Vec<UsageChange>,
    pub(super) outbox: Vec<OutboxRow>,
}

/// The columns of `runs` that change.
pub(super) struct RunRow {
    pub(super) id: RunId,
    pub(super) version: u64,
    pub(super) status: &'static str,
    pub(super) attempt: u32,
    pub(super) output: String,
    pub(super) error_type: Option<&'static str>,
    pub(super) error_message: Option<String>,
    pub(super) model_calls: u32,
    pub(super) tool_calls: usize,
    pub(super) failed_calls: usize,
    pub(super) cost_micros: Option<u64>,
    pub(super) tokens: Tokens,
    pub(super) active_ms: u64,
    pub(super) started_at: Option<Timestamp>,
    pub(super) completed_at: Option<Timestamp>,
    pub(super) updated_at: Timestamp,
}

/// The columns of `runs` and `sessions` that do not.
pub(super) struct OriginRow {
    pub(super) session: SessionId,
    pub(super) owner: Owner,
    pub(super) agent: AgentId,
    pub(super) agent_version: u32,
    pub(super) model: String,
    pub(super) max_concurrent: Option<u32>,
    pub(super) input: String,
    pub(super) title: String,
    pub(super) created_at: Timestamp,
}

pub(super) struct EventRow {
    pub(super) seq: u64,
    pub(super) kind: &'static str,
    pub(super) at: Timestamp,
    /// JSON.
    pub(super) body: String,
}

pub(super) enum ApprovalChange {
    Opened(Box<PendingApproval>, Timestamp),
    Resolved(Resolution),
    /// Everything that is still pending is void.
    Closed {
        by: Option<UserId>,
        at: Timestamp,
    },
}

pub(super) struct Resolution {
    pub(super) id: ApprovalId,
    pub(super) status: &'static str,
    pub(super) by: UserId,
    pub(super) at: Timestamp,
    pub(super) comment: Option<String>,
    /// JSON.
    pub(super) edited_arguments: Option<String>,
}

impl RunChange {
    pub(super) fn of(run: &Run, subscriptions: &[Subscription]) -> Result<Self, StoreError> {
        let unsaved = run.unsaved();
        let events = unsaved.iter().map(EventRow::of).collect::<Result<_, _>>()?;
        Ok(Self {
            follows: run.version() - unsaved.len() as u64,
            row: RunRow::of(run),
            events,
            approvals: unsaved.iter().flat_map(|recorded| ApprovalChange::of(recorded, run)).collect(),
            audit: unsaved.iter().filter_map(|recorded| audit::of_event(recorded, run)).collect(),
            usage: unsaved.iter().filter_map(|recorded| UsageChange::of(recorded, run)).collect(),
            outbox: OutboxRow::of(run, subscriptions),
        })
    }
}

impl RunRow {
    fn of(run: &Run) -> Self {
        let (output, failure) = match run.status() {
            RunStatus::Completed { output } => (output.clone(), None),
            RunStatus::Failed { failure } => (String::new(), Some(failure)),
            RunStatus::Queued
            | RunStatus::Running
            | RunStatus::Paused { .. }
            | RunStatus::Cancelled { .. } => (String::new(), None),
        };
        let times = run.times();
        Self {
            id: run.spec().id.clone(),
            version: run.version(),
            status: run.status().word(),
            attempt: run.attempt(),
            output,
            error_type: failure.map(|failure| failure.kind.as_str()),
            error_message: failure.map(|failure| failure.message.clone()),
            model_calls: run.model_calls(),
            tool_calls: run.calls().filter(|record| record.is_decided()).count(),
            failed_calls: run.calls().filter(|record| record.has_failed()).count(),
            cost_micros: run.cost_micros(),
            tokens: run.tokens(),
            active_ms: times.active_ms,
            started_at: times.started,
            completed_at: times.completed,
            updated_at: times.updated,
        }
    }
}

impl OriginRow {
    pub(super) fn of(run: &Run) -> Self {
        let new = run.spec();
        Self {
            session: new.session.clone(),
            owner: new.owner.clone(),
            agent: new.agent.id.clone(),
            agent_version: new.agent.version,
            model: new.agent.model.to_string(),
            max_concurrent: new.agent.options.max_concurrent,
            input: new.input.clone(),
            title: new.input.trim().chars().take(TITLE).collect(),
            created_at: run.times().created,
        }
    }
}

impl EventRow {
    fn of(recorded: &Recorded) -> Result<Self, StoreError> {
        Ok(Self {
            seq: recorded.seq,
            kind: recorded.event.kind(),
            at: recorded.at,
            body: serde_json::to_string(&recorded.event).map_err(StoreError::database)?,
        })
    }
}

impl ApprovalChange {
    fn of(recorded: &Recorded, run: &Run) -> Vec<Self> {
        let at = recorded.at;
        match &recorded.event {
            RunEvent::Paused { approvals } => {
                let opened = |approval: &PendingApproval| Self::Opened(Box::new(approval.clone()), at);
                approvals.iter().map(opened).collect()
            }
            // One vote of several: the row stays as it is until the last one settles it.
            RunEvent::Decided(decided) if run.pending().iter().any(|a| a.id == decided.approval_id) => {
                Vec::new()
            }
            RunEvent::Decided(decided) => vec![Self::Resolved(Resolution::of(decided, at))],
            RunEvent::Failed { .. } => vec![Self::Closed { by: None, at }],
            RunEvent::Cancelled { by, key: _ } => vec![Self::Closed { by: Some(by.clone()), at }],
            RunEvent::Created(_)
            | RunEvent::Started
            | RunEvent::ReplyBroken { .. }
            | RunEvent::Claimed { .. }
            | RunEvent::Replied { .. }
            | RunEvent::CallStarted { .. }
            | RunEvent::CallSuspended { .. }
            | RunEvent::CallResumed { .. }
            | RunEvent::CallFinished { .. }
            | RunEvent::AnswerAccepted { .. }
            | RunEvent::AnswerRefused { .. }
            | RunEvent::FollowupsSuggested { .. }
            | RunEvent::Completed => Vec::new(),
        }
    }
}

impl Resolution {
    fn of(decided: &Decided, at: Timestamp) -> Self {
        let (status, comment, edited) = match &decided.decision {
            Decision::Approve { comment, edited } => ("APPROVED", comment.clone(), edited.as_ref()),
            Decision::Answer { comment, .. } => ("APPROVED", comment.clone(), None),
            Decision::Retry | Decision::Result { .. } => ("APPROVED", None, None),
            Decision::Reject { comment } | Decision::Fail { comment } => ("REJECTED", comment.clone(), None),
            Decision::Expire => ("EXPIRED", None, None),
        };
        Self {
            id: decided.approval_id.clone(),
            status,
            by: decided.by.clone(),
            at,
            comment,
            edited_arguments: edited.map(|edited| edited.arguments.to_string()),
        }
    }
}

/// Columns: seq, kind, at, body.
pub(super) fn event<D: Dialect>(row: &Columns<D>) -> Result<Recorded, StoreError> {
    let seq = row.count(0)?;
    let event: RunEvent = serde_json::from_str(&row.text(3)?)
        .map_err(|error| StoreError::Damaged(format!("event {seq}: {error}")))?;
    if row.text(1)? != event.kind() {
        return Err(StoreError::Damaged(format!("event {seq} is not of its kind")));
    }
    Ok(Recorded { seq, at: row.time(2)?, event })
}

/// Columns: id, org, user, agent, title, created, updated.
pub(super) fn session<D: Dialect>(row: &Columns<D>) -> Result<Session, StoreError> {
    Ok(Session {
        id: SessionId::from(row.text(0)?),
        owner: Owner { org: OrgId::from(row.text(1)?), user: UserId::from(row.text(2)?) },
        agent: AgentId::from(row.text(3)?),
        title: row.text(4)?,
        created_at: row.time(5)?,
        updated_at: row.time(6)?,
    })
}

/// Columns: id, org, user, role, label, created, revoked.
pub(super) fn api_key<D: Dialect>(row: &Columns<D>) -> Result<ApiKey, StoreError> {
    let role = row.text(3)?.parse();
    Ok(ApiKey {
        id: KeyId::from(row.text(0)?),
        role: role.map_err(|error| StoreError::Damaged(format!("API key: {error}")))?,
        owner: Owner { org: OrgId::from(row.text(1)?), user: UserId::from(row.text(2)?) },
        label: row.text(4)?,
        created_at: row.time(5)?,
        revoked_at: row.opt_int(6)?.map(Timestamp::from_millis),
    })
}
