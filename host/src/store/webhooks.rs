//! What callers and the outbox of webhooks say to each other.

use crate::clock::Timestamp;
use crate::id::{OrgId, RunId};

/// An event that waits for one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueWebhook {
    pub event: String,
    /// JSON.
    pub body: String,
    /// Attempts that failed since it was written or redelivered.
    pub failures: u64,
}

/// What came of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookAttempt {
    pub event: String,
    pub endpoint: String,
    /// Of HTTP, where there was an answer.
    pub status: Option<u16>,
    /// None = a success.
    pub error: Option<&'static str>,
    pub duration_ms: u64,
    pub at: Timestamp,
    pub then: WebhookThen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookThen {
    Delivered,
    Retry(Timestamp),
    Dead,
}

/// An entry of the delivery log, with how its event stands now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookDelivery {
    pub event: String,
    pub kind: String,
    pub run: RunId,
    pub endpoint: String,
    /// From 1.
    pub attempt: u64,
    pub status: Option<u16>,
    pub error: Option<String>,
    pub duration_ms: u64,
    pub at: Timestamp,
    pub state: String,
    pub next_attempt_at: Option<Timestamp>,
}

/// Which deliveries are meant; none = all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebhookFilter {
    pub endpoint: Option<String>,
    pub event: Option<String>,
    pub org: Option<OrgId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookPrune {
    pub before: Timestamp,
    /// Most events of each kind.
    pub limit: u32,
    /// Endpoints whose events are never too old to be delivered.
    pub served: Vec<String>,
}
