//! Models: what a run sends, what it gets back, and which model answers to which name.
//!
//! A [`Model`] answers one request; it keeps no state and runs no tools. Retries, the time limits of one
//! call and the clean-up that every provider's reply needs are here, once, for all of them.

mod demo;
mod genai;

use crate::agent::ModelName;
use crate::session::{Message, Reply};
use crate::tool::ToolSpec;

/// One question to a model.
#[derive(Clone, Debug)]
pub struct Request {
    pub model: ModelName,
    /// The agent's instructions.
    pub system: String,
    pub messages: Vec<Message>,
    pub tools: Vec<ToolSpec>,
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub max_tokens: Option<u32>,
}

/// Something that answers requests.
#[async_trait::async_trait]
pub trait Model: Send + Sync {
    /// One attempt. Dropping the future drops the request under way.
    async fn reply(&self, request: &Request) -> Result<Reply, ModelError>;
}

/// Why there is no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    #[error("No API key configured for provider {provider}: {hint}")]
    NoApiKey { provider: String, hint: String },
    /// No such provider, or none of that name is configured.
    #[error("{0}")]
    UnknownModel(String),
    /// 429. `retry_after` in milliseconds, where the provider said it.
    #[error("the model provider limits the rate of requests")]
    RateLimited { retry_after_ms: Option<u64> },
    #[error("the conversation is longer than the model's context: {0}")]
    ContextOverflow(String),
    /// The provider refused the request: asking again would not help.
    #[error("the model provider refused the request: {0}")]
    Refused(String),
    /// 5xx, or no connection: asking again may help.
    #[error("the model provider failed: {message}")]
    Unavailable {
        message: String,
        retry_after_ms: Option<u64>,
    },
    /// An answer that is no answer. Asking again may help.
    #[error("the model provider's answer cannot be read: {0}")]
    Malformed(String),
}
