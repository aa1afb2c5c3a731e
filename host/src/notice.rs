//! What a webhook says: which events of runs and approvals are told to the outside, and in which words.
//!
//! Pure. The store asks [`notices`] what a run's new events have to tell, and writes it in their transaction;
//! `webhook` delivers it. What people and models said stays inside unless a subscription asks for content.

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value, json};

use crate::clock::Timestamp;
use crate::event::{Recorded, RunEvent};
use crate::id::{ApprovalId, OrgId, RunId};
use crate::run::{Run, RunStatus};
use crate::tool::{Decided, Decision, PendingApproval};

/// The `type` of a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeKind {
    RunPaused,
    RunCompleted,
    RunFailed,
    RunCancelled,
    ApprovalExpiring,
    ApprovalExpired,
}

impl NoticeKind {
    pub const ALL: [Self; 6] = [
        Self::RunPaused,
        Self::RunCompleted,
        Self::RunFailed,
        Self::RunCancelled,
        Self::ApprovalExpiring,
        Self::ApprovalExpired,
    ];

    pub fn word(self) -> &'static str {
        match self {
            Self::RunPaused => "run.paused",
            Self::RunCompleted => "run.completed",
            Self::RunFailed => "run.failed",
            Self::RunCancelled => "run.cancelled",
            Self::ApprovalExpiring => "approval.expiring",
            Self::ApprovalExpired => "approval.expired",
        }
    }
}

impl fmt::Display for NoticeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for NoticeKind {
    type Err = UnknownKind;

    fn from_str(word: &str) -> Result<Self, UnknownKind> {
        Self::ALL.into_iter().find(|kind| kind.word() == word).ok_or_else(|| UnknownKind(word.to_owned()))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no event: write * or some of {words}", words = NoticeKind::ALL.map(NoticeKind::word).join(", "))]
pub struct UnknownKind(String);

/// What one endpoint wants to hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    pub endpoint: String,
    pub events: Vec<NoticeKind>,
    /// Only this tenant's; none = everybody's.
    pub org: Option<OrgId>,
    pub content: Content,
}

/// Whether what people and models said is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    LeftOut,
    Included,
}

impl Subscription {
    pub fn wants(&self, kind: NoticeKind, org: &OrgId) -> bool {
        self.events.contains(&kind) && self.org.as_ref().is_none_or(|only| only == org)
    }
}

/// One thing to tell about a run.
#[derive(Clone, Copy, Debug)]
pub struct Notice<'a> {
    pub kind: NoticeKind,
    run: &'a Run,
    recorded: &'a Recorded,
}

/// What the run's unsaved events have to tell.
pub fn notices(run: &Run) -> impl Iterator<Item = Notice<'_>> {
    run.unsaved().iter().filter_map(move |recorded| {
        let kind = kind(&recorded.event)?;
        Some(Notice { kind, run, recorded })
    })
}

fn kind(event: &RunEvent) -> Option<NoticeKind> {
    match event {
        RunEvent::Paused { .. } => Some(NoticeKind::RunPaused),
        RunEvent::Completed => Some(NoticeKind::RunCompleted),
        RunEvent::Failed { .. } => Some(NoticeKind::RunFailed),
        RunEvent::Cancelled { .. } => Some(NoticeKind::RunCancelled),
        RunEvent::Decided(Decided { decision: Decision::Expire, .. }) => Some(NoticeKind::ApprovalExpired),
        RunEvent::Created(_)
        | RunEvent::Started
        | RunEvent::Claimed { .. }
        | RunEvent::Replied { .. }
        | RunEvent::ReplyBroken { .. }
        | RunEvent::CallStarted { .. }
        | RunEvent::CallSuspended { .. }
        | RunEvent::CallResumed { .. }
        | RunEvent::CallFinished { .. }
        | RunEvent::Decided(_)
        | RunEvent::AnswerAccepted { .. }
        | RunEvent::AnswerRefused { .. }
        | RunEvent::FollowupsSuggested { .. } => None,
    }
}

impl Notice<'_> {
    /// The same however often it is told.
    pub fn id(&self) -> String {
        format!("evt_{}_{}", self.run.spec().id, self.recorded.seq)
    }

    pub fn at(&self) -> Timestamp {
        self.recorded.at
    }

    /// The JSON text to be sent.
    pub fn body(&self, content: Content) -> String {
        let spec = self.run.spec();
        let mut data = json!({
            "runId": spec.id,
            "sessionId": spec.session,
            "agentId": spec.agent.id,
            "userId": spec.owner.user,
            "orgId": spec.owner.org,
            "status": self.run.status().word(),
        });
        if let Some(data) = data.as_object_mut() {
            data.extend(self.particulars(content));
        }
        envelope(self.kind, self.at(), &data)
    }

    /// What each kind of event has to tell beside the run's whereabouts.
    fn particulars(&self, content: Content) -> Map<String, Value> {
        let mut data = Map::new();
        let mut say = |name: &str, value: Value| data.insert(name.to_owned(), value);
        match &self.recorded.event {
            RunEvent::Paused { approvals } => {
                let actions: Vec<Value> =
                    approvals.iter().map(|approval| action(self.run, approval, content)).collect();
                say("requiredAction", actions.first().cloned().unwrap_or_default());
                say("requiredActions", Value::Array(actions));
            }
            RunEvent::Failed { failure } => {
                say("errorType", json!(failure.kind.as_str()));
                // It may quote what a model said.
                if content == Content::Included {
                    say("errorMessage", json!(failure.message));
                }
            }
            RunEvent::Cancelled { by, .. } => {
                say("cancelledBy", json!(by));
            }
            RunEvent::Decided(decided) => {
                say("approvalId", json!(decided.approval_id));
                if let Some(asked) = self.run.asked_for(&decided.approval_id) {
                    say("toolCallId", json!(asked.call.id));
                    say("toolName", json!(asked.tool.to_string()));
                    say("expiresAt", json!(asked.expires_at.to_string()));
                }
            }
            RunEvent::Completed if content == Content::Included => {
                say("input", json!(self.run.spec().input));
                say("content", json!(answer(self.run)));
            }
            RunEvent::Completed
            | RunEvent::Created(_)
            | RunEvent::Started
            | RunEvent::Claimed { .. }
            | RunEvent::Replied { .. }
            | RunEvent::ReplyBroken { .. }
            | RunEvent::CallStarted { .. }
            | RunEvent::CallSuspended { .. }
            | RunEvent::CallResumed { .. }
            | RunEvent::CallFinished { .. }
            | RunEvent::AnswerAccepted { .. }
            | RunEvent::AnswerRefused { .. }
            | RunEvent::FollowupsSuggested { .. } => {}
        }
        data
    }
}

fn answer(run: &Run) -> &str {
    match run.status() {
        RunStatus::Completed { output } => output,
        RunStatus::Queued
        | RunStatus::Running
        | RunStatus::Paused { .. }
        | RunStatus::Failed { .. }
        | RunStatus::Cancelled { .. } => "",
    }
}

fn action(run: &Run, approval: &PendingApproval, content: Content) -> Value {
    let mut action = json!({
        "type": approval.question.action(),
        "approvalId": approval.id,
        "toolCallId": approval.call.id,
        "toolName": approval.tool.to_string(),
        "expiresAt": approval.expires_at.to_string(),
        "runId": run.spec().id,
        "sessionId": run.spec().session,
    });
    if content == Content::Included {
        action["args"] = json!(approval.call.arguments);
        action["message"] = json!(approval.message);
        if let Some(inquiry) = &approval.inquiry {
            action["answerSchema"] = inquiry.answer_schema.clone();
        }
    }
    action
}

/// A pending approval whose time is nearly up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpiringApproval {
    pub id: ApprovalId,
    pub run: RunId,
    pub session: String,
    pub agent: String,
    pub user: String,
    pub org: OrgId,
    pub call: String,
    pub tool: String,
    pub expires_at: Timestamp,
    /// The run's.
    pub status: String,
}

impl ExpiringApproval {
    pub fn notice_id(&self) -> String {
        format!("evt_{}_expiring", self.id)
    }

    pub fn body(&self, at: Timestamp) -> String {
        let data = json!({
            "runId": self.run,
            "sessionId": self.session,
            "agentId": self.agent,
            "userId": self.user,
            "orgId": self.org,
            "status": self.status,
            "approvalId": self.id,
            "toolCallId": self.call,
            "toolName": self.tool,
            "expiresAt": self.expires_at.to_string(),
        });
        envelope(NoticeKind::ApprovalExpiring, at, &data)
    }
}

fn envelope(kind: NoticeKind, at: Timestamp, data: &Value) -> String {
    json!({"type": kind.word(), "timestamp": at.to_string(), "data": data}).to_string()
}
