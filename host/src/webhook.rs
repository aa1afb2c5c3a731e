//! Webhooks: tells endpoints what became of runs, at least once, after the Standard Webhooks specification.
//!
//! What is to be told is written in the transaction of the event it tells of (`webhook/payload.rs`,
//! `store/outbox.rs`), so that neither a crash nor a receiver that is down loses anything. The dispatcher
//! (`webhook/dispatch.rs`) signs it (`webhook/sign.rs`) and posts it until it is received or given up.

mod dispatch;
mod payload;
mod sign;

use serde::Deserialize;
use url::Url;

pub(crate) use self::dispatch::Dispatcher;
pub(crate) use self::payload::{Expiring, of_event};
pub use self::sign::Secret;
use crate::clock::Timestamp;
use crate::id::OrgId;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum EventType {
    #[serde(rename = "run.paused")]
    RunPaused,
    #[serde(rename = "run.completed")]
    RunCompleted,
    #[serde(rename = "run.failed")]
    RunFailed,
    #[serde(rename = "run.cancelled")]
    RunCancelled,
    #[serde(rename = "approval.expiring")]
    ApprovalExpiring,
    #[serde(rename = "approval.expired")]
    ApprovalExpired,
}

impl EventType {
    pub(crate) const ALL: [Self; 6] = [
        Self::RunPaused,
        Self::RunCompleted,
        Self::RunFailed,
        Self::RunCancelled,
        Self::ApprovalExpiring,
        Self::ApprovalExpired,
    ];

    pub fn as_str(self) -> &'static str {
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

/// Which events an endpoint is told.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// The endpoint's id in the configuration.
    pub endpoint: String,
    pub events: Vec<EventType>,
    /// None = every organisation's.
    pub org: Option<OrgId>,
}

impl Subscription {
    fn wants(&self, event: EventType, org: &OrgId) -> bool {
        self.events.contains(&event) && self.org.as_ref().is_none_or(|own| own == org)
    }
}

#[derive(Clone, Debug)]
pub struct Webhook {
    pub subscription: Subscription,
    pub url: Url,
    pub secret: Secret,
    /// Also plain http and addresses that are not public.
    pub allow_private: bool,
}

/// One event for one endpoint.
#[derive(Clone, Debug)]
pub(crate) struct NewDelivery {
    pub(crate) id: String,
    pub(crate) endpoint: String,
    pub(crate) org: OrgId,
    pub(crate) event: EventType,
    /// JSON, as it is signed.
    pub(crate) body: String,
    pub(crate) at: Timestamp,
}

/// A delivery as its row says.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub id: String,
    pub endpoint: String,
    pub event: String,
    pub body: String,
    pub status: String,
    pub attempts: u64,
    pub last_status: Option<u64>,
    pub created_at: Timestamp,
    pub last_attempt_at: Option<Timestamp>,
    pub next_attempt_at: Timestamp,
}

/// What one attempt came to.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    pub at: Timestamp,
    pub delivered: bool,
    /// None = there was no answer.
    pub status: Option<u16>,
    /// When to try again; none = never.
    pub next: Option<Timestamp>,
}
