//! A call that waits for a human's answer: what it asked, what it is bound to, what was answered.
//!
//! Unlike an approval this is the tool's own question, asked while it runs. The host keeps the tool's state
//! for it, sealed (`plugin/seal.rs`), and hands it back with the answer.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ToolOutcome, Usage};
use crate::clock::Timestamp;

/// What a tool said instead of a result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Suspension {
    /// For the human. Guest-controlled, and made harmless to show.
    pub prompt: String,
    /// JSON Schema of the answer.
    pub answer_schema: Value,
    /// SHA-256 of the plugin that asked: only that one can make sense of its state.
    pub digest: String,
    /// How many questions the call has asked, this one included.
    pub round: u32,
    /// Readable for the host alone, and only where it belongs.
    pub state: SealedState,
    /// Until when an answer counts.
    pub expires_at: Timestamp,
    /// Milliseconds that the call was at work so far; waiting for answers does not count.
    pub worked_ms: u64,
    /// What it used so far.
    #[serde(default)]
    pub usage: Usage,
}

/// A tool's state, encrypted, as base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SealedState(pub String);

/// What a human answered to a tool's question: what a resumed call is given.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    pub suspension: Suspension,
    pub answer: Value,
    pub at: Timestamp,
}

/// How a tool came back.
#[derive(Clone, Debug, PartialEq)]
pub enum Returned {
    Outcome(ToolOutcome),
    Suspension(Suspension),
}
