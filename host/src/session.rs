//! The conversation: sessions, the messages a model is sent, and what it replies.
//!
//! Pure values, independent of any provider's wire format.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::id::{AgentId, CallId, OrgId, SessionId, UserId};
use crate::tool::ToolCall;

/// Whom a run, a session or a stored value belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Owner {
    pub org: OrgId,
    pub user: UserId,
}

/// The runs of one user with one agent that share a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub id: SessionId,
    pub owner: Owner,
    pub agent: AgentId,
    /// The beginning of its first message.
    pub title: String,
    pub created_at: Timestamp,
    /// When its latest run was started.
    pub updated_at: Timestamp,
}

/// An earlier run of the session: what was asked and what was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastTurn {
    pub input: String,
    pub output: String,
}

/// Something beside text in a user's message, already checked and fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Media {
    /// Media type, such as `image/png`.
    pub mime: String,
    /// The bytes in standard base64.
    pub base64: String,
}

/// One entry of what the model is sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    User {
        text: String,
        media: Vec<Media>,
    },
    Assistant(Box<Reply>),
    Tool {
        call: CallId,
        name: String,
        text: String,
        /// The call ended otherwise than well; `text` says how.
        failed: bool,
    },
}

/// What a model answered to one request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// Never holds reasoning: `<think>` blocks are moved to `reasoning`.
    pub content: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    #[serde(default)]
    pub tokens: Tokens,
    /// The model as the provider names it, where it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The provider stopped at its length limit: the text, or the last call's arguments, may be cut.
    #[serde(default)]
    pub cut_off: bool,
    /// Opaque values that the provider wants back with this reply (thought signatures).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<String>,
    /// How it was streamed, so that it can be streamed again in the same pieces; empty where it came as a
    /// whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chunks: Vec<Chunk>,
    /// What it cost by the prices of the moment it was recorded; none = not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_micros: Option<u64>,
}

/// One piece of a streamed reply: the next `bytes` of its content or of its reasoning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    pub of: ChunkOf,
    pub bytes: usize,
    pub at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChunkOf {
    Content,
    Reasoning,
}

/// Token counts as the provider reports them; none = not reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tokens {
    pub input: Option<u64>,
    pub output: Option<u64>,
    pub reasoning: Option<u64>,
}

impl Tokens {
    /// Adds what is known: unknown + 3 = 3.
    pub fn add(&mut self, other: Tokens) {
        let sum = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (Some(a), Some(b)) => Some(a.saturating_add(b)),
            (known, None) | (None, known) => known,
        };
        self.input = sum(self.input, other.input);
        self.output = sum(self.output, other.output);
        self.reasoning = sum(self.reasoning, other.reasoning);
    }
}
