//! Models: what a run sends, what it gets back, and which model answers to which name.
//!
//! A [`Model`] answers one request; it keeps no state and runs no tools. [`Models`] holds one per provider
//! and does once, for all of them, what every answer needs: the time limit of an attempt, retries
//! (`retry`) and the clean-up of what models put where it does not belong (`thinking`).

mod deltas;
mod demo;
mod genai;
#[cfg(test)]
mod mock;
mod provider;
mod retry;
mod splitter;
mod thinking;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::agent::{DEMO, ModelName};
use crate::event::{Failure, FailureKind};
use crate::session::{Message, Reply};
use crate::tool::ToolSpec;

pub use deltas::{Deltas, Piece};
pub use provider::{Provider, default_key_env, known_providers};

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
    /// JSON Schema of the answer; whether the model keeps to it is the caller's to check.
    pub response_schema: Option<serde_json::Value>,
}

/// Something that answers requests.
#[async_trait::async_trait]
pub trait Model: Send + Sync {
    /// One attempt. Dropping the future drops the request under way.
    async fn reply(&self, request: &Request) -> Result<Reply, ModelError>;

    /// The same, with the reply's text put into `deltas` as it comes. What was put in counts for the
    /// text; the rest (calls, tokens) is the returned reply's. A model that cannot stream puts nothing in.
    async fn stream(&self, request: &Request, deltas: &mut Deltas) -> Result<Reply, ModelError> {
        let _ = deltas;
        self.reply(request).await
    }
}

/// Why there is no reply. Every text may be shown to API callers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    #[error("No API key configured for provider {provider}: {hint}")]
    NoApiKey { provider: String, hint: String },
    /// No such provider, or none of that name is configured.
    #[error("{0}")]
    UnknownModel(String),
    /// 429. `retry_after_ms` where the provider said it.
    #[error("the model provider limits the rate of requests: {message}")]
    RateLimited { message: String, retry_after_ms: Option<u64> },
    #[error("the conversation is longer than the model's context: {0}")]
    ContextOverflow(String),
    /// The provider refused the request: asking again would not help.
    #[error("the model provider refused the request: {0}")]
    Refused(String),
    /// 5xx, or no connection: asking again may help.
    #[error("the model provider failed: {message}")]
    Unavailable { message: String, retry_after_ms: Option<u64> },
    /// An answer that is no answer. Asking again may help.
    #[error("the model provider's answer cannot be read: {0}")]
    Malformed(String),
}

impl ModelError {
    /// Changes the part of the text that is not fixed.
    #[must_use]
    fn map_message(mut self, change: impl FnOnce(&str) -> String) -> Self {
        let (Self::NoApiKey { hint: message, .. }
        | Self::UnknownModel(message)
        | Self::RateLimited { message, .. }
        | Self::ContextOverflow(message)
        | Self::Refused(message)
        | Self::Unavailable { message, .. }
        | Self::Malformed(message)) = &mut self;
        *message = change(message);
        self
    }
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        let kind = match &error {
            ModelError::NoApiKey { .. } => FailureKind::NoApiKey,
            ModelError::RateLimited { .. } => FailureKind::ModelRateLimited,
            ModelError::ContextOverflow(_) => FailureKind::ContextOverflow,
            ModelError::UnknownModel(_)
            | ModelError::Refused(_)
            | ModelError::Unavailable { .. }
            | ModelError::Malformed(_) => FailureKind::ModelError,
        };
        Self { kind, message: error.to_string() }
    }
}

/// Which model answers to which name.
#[derive(Clone)]
pub struct Models {
    entries: BTreeMap<String, Entry>,
    observer: Option<Arc<Observer>>,
}

/// Told of each question: to whom, how long the answer took with all retries, and what it was.
type Observer = dyn Fn(&ModelName, Duration, &Result<Reply, ModelError>) + Send + Sync;

#[derive(Clone)]
struct Entry {
    model: Arc<dyn Model>,
    /// Most time one attempt may take; of one that streams, most time without a sign of life.
    timeout: Duration,
    vision: Option<bool>,
    has_key: bool,
    needs_key: bool,
    /// Somebody chose this provider; the others are those that genai knows by name.
    configured: bool,
}

/// A provider as the API lists it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedProvider {
    pub provider: String,
    pub has_key: bool,
    /// False for the built-in model and for servers on this machine.
    pub needs_key: bool,
}

impl Models {
    /// The configured providers, the built-in model, and without configuration (so without a key) every
    /// provider that genai knows by name.
    pub fn new(providers: BTreeMap<String, Provider>) -> Result<Self, ModelError> {
        let clients = provider::Clients::new()?;
        let mut entries = BTreeMap::new();
        for name in known_providers() {
            let entry = Self::entry(name, &Provider::default(), &clients)?;
            let configured = false;
            entries.insert(name.to_owned(), Entry { configured, ..entry });
        }
        for (name, provider) in providers {
            entries.insert(name.clone(), Self::entry(&name, &provider, &clients)?);
        }
        let demo = Arc::new(demo::Demo);
        Ok(Self { entries, observer: None }.with(DEMO, demo))
    }

    fn entry(name: &str, provider: &Provider, clients: &provider::Clients) -> Result<Entry, ModelError> {
        let model = genai::Genai::new(name, provider, clients)?;
        Ok(Entry {
            timeout: provider.timeout(),
            vision: provider.vision,
            has_key: provider.key().is_some(),
            needs_key: model.needs_key(),
            configured: true,
            model: Arc::new(model),
        })
    }

    /// Adds a model of our own under a provider name, in place of what had that name.
    #[must_use]
    pub fn with(mut self, provider: &str, model: Arc<dyn Model>) -> Self {
        let entry = Entry {
            model,
            timeout: Provider::default().timeout(),
            vision: (provider == DEMO).then_some(false),
            has_key: false,
            needs_key: false,
            configured: true,
        };
        self.entries.insert(provider.to_owned(), entry);
        self
    }

    /// Tells of each question that was asked.
    #[must_use]
    pub fn observed_by(
        mut self,
        observer: impl Fn(&ModelName, Duration, &Result<Reply, ModelError>) + Send + Sync + 'static,
    ) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Asks, and asks again where that may help.
    pub async fn reply(&self, request: &Request) -> Result<Reply, ModelError> {
        self.observed(&request.model, self.answer(request)).await
    }

    async fn answer(&self, request: &Request) -> Result<Reply, ModelError> {
        let entry = self.find(&request.model)?;
        let reply = retry::reply(entry.model.as_ref(), request, entry.timeout).await?;
        Ok(thinking::clean(reply))
    }

    /// The same, with the reply shown as it comes. Once some of it was shown, a failure is final.
    pub async fn stream(&self, request: &Request, deltas: &mut Deltas) -> Result<Reply, ModelError> {
        self.observed(&request.model, self.tell(request, deltas)).await
    }

    async fn tell(&self, request: &Request, deltas: &mut Deltas) -> Result<Reply, ModelError> {
        let entry = self.find(&request.model)?;
        let reply = retry::stream(entry.model.as_ref(), request, deltas, entry.timeout).await?;
        let reply = thinking::clean(reply);
        Ok(deltas.finish(reply.clone()).unwrap_or(reply))
    }

    async fn observed(
        &self,
        model: &ModelName,
        answer: impl Future<Output = Result<Reply, ModelError>>,
    ) -> Result<Reply, ModelError> {
        let started = Instant::now();
        let result = answer.await;
        if let Some(observer) = &self.observer {
            observer(model, started.elapsed(), &result);
        }
        result
    }

    /// Whether the name's provider exists; the model's own name is the provider's to judge.
    pub fn check(&self, name: &ModelName) -> Result<(), ModelError> {
        self.find(name).map(|_| ())
    }

    /// Whether a model takes images: as configured, or judged by the model's name.
    pub fn reads_images(&self, name: &ModelName) -> bool {
        self.find(name)
            .ok()
            .and_then(|entry| entry.vision)
            .unwrap_or_else(|| provider::sounds_like_vision(&name.model))
    }

    /// The providers that are set up, in the order of their names.
    pub fn list(&self) -> Vec<ListedProvider> {
        let configured = self.entries.iter().filter(|(_, entry)| entry.configured);
        configured
            .map(|(name, entry)| ListedProvider {
                provider: name.clone(),
                has_key: entry.has_key,
                needs_key: entry.needs_key,
            })
            .collect()
    }

    fn find(&self, name: &ModelName) -> Result<&Entry, ModelError> {
        self.entries.get(&name.provider).ok_or_else(|| ModelError::UnknownModel(self.unknown(name)))
    }

    fn unknown(&self, name: &ModelName) -> String {
        let names = |configured: bool| {
            let entries = self.entries.iter().filter(|(_, entry)| entry.configured == configured);
            entries.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
        };
        format!(
            "Unknown model provider `{}` in `{name}`. Configured: {}. Known by name: {}. Any other \
             OpenAI-compatible server needs providers.<name>.base_url in holdfast.toml.",
            name.provider,
            names(true),
            names(false)
        )
    }
}

#[cfg(test)]
mod tests;
