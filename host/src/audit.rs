//! The audit log's vocabulary: who did what to which object.
//!
//! Rows are written in the transaction of the change they tell of (`store/audit.rs`), and never changed. For
//! runs they are made from the journal's events; nobody has to remember to write one.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use crate::clock::Timestamp;
use crate::id::{KeyId, OrgId, UserId};

/// Who does something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    pub user: UserId,
    /// None for the bootstrap token, the command line and the system itself.
    pub key: Option<KeyId>,
}

impl Actor {
    /// Whoever runs `holdfast` on the server's machine.
    pub fn command_line() -> Self {
        Self::from(UserId::from("command-line"))
    }

    /// The server itself.
    pub fn system() -> Self {
        Self::from(UserId::from("system"))
    }
}

impl From<UserId> for Actor {
    fn from(user: UserId) -> Self {
        Self { user, key: None }
    }
}

impl From<&UserId> for Actor {
    fn from(user: &UserId) -> Self {
        Self::from(user.clone())
    }
}

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditEntry {
    pub at: Timestamp,
    /// Whose object it is; the actor may be of another organisation.
    pub org: OrgId,
    pub by: Actor,
    pub action: Action,
    pub object: ObjectType,
    pub object_id: String,
    /// What else there is to know; never a secret.
    pub details: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    AgentCreated,
    AgentUpdated,
    AgentDeleted,
    AgentRestored,
    RunCancelled,
    ApprovalDecided,
    KeyCreated,
    KeyRevoked,
    WebhookRedelivered,
    PluginInstalled,
    PluginRemoved,
    PluginGranted,
    PluginGrantWithdrawn,
    PluginRevoked,
}

impl Action {
    const ALL: [Self; 14] = [
        Self::AgentCreated,
        Self::AgentUpdated,
        Self::AgentDeleted,
        Self::AgentRestored,
        Self::RunCancelled,
        Self::ApprovalDecided,
        Self::KeyCreated,
        Self::KeyRevoked,
        Self::WebhookRedelivered,
        Self::PluginInstalled,
        Self::PluginRemoved,
        Self::PluginGranted,
        Self::PluginGrantWithdrawn,
        Self::PluginRevoked,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::AgentCreated => "agent.created",
            Self::AgentUpdated => "agent.updated",
            Self::AgentDeleted => "agent.deleted",
            Self::AgentRestored => "agent.restored",
            Self::RunCancelled => "run.cancelled",
            Self::ApprovalDecided => "approval.decided",
            Self::KeyCreated => "key.created",
            Self::KeyRevoked => "key.revoked",
            Self::WebhookRedelivered => "webhook.redelivered",
            Self::PluginInstalled => "plugin.installed",
            Self::PluginRemoved => "plugin.removed",
            Self::PluginGranted => "plugin.granted",
            Self::PluginGrantWithdrawn => "plugin.grant-withdrawn",
            Self::PluginRevoked => "plugin.revoked",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectType {
    Agent,
    Run,
    Approval,
    Key,
    Webhook,
    Plugin,
}

impl ObjectType {
    const ALL: [Self; 6] = [Self::Agent, Self::Run, Self::Approval, Self::Key, Self::Webhook, Self::Plugin];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Run => "run",
            Self::Approval => "approval",
            Self::Key => "key",
            Self::Webhook => "webhook",
            Self::Plugin => "plugin",
        }
    }
}

/// A word that is none of the allowed ones.
#[derive(Debug, thiserror::Error)]
pub struct UnknownWord {
    allowed: Vec<&'static str>,
}

impl fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "must be one of {}", self.allowed.join(", "))
    }
}

impl FromStr for Action {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        let found = Self::ALL.into_iter().find(|action| action.as_str() == word);
        found.ok_or_else(|| UnknownWord { allowed: Self::ALL.map(Self::as_str).to_vec() })
    }
}

impl FromStr for ObjectType {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        let found = Self::ALL.into_iter().find(|object| object.as_str() == word);
        found.ok_or_else(|| UnknownWord { allowed: Self::ALL.map(Self::as_str).to_vec() })
    }
}
