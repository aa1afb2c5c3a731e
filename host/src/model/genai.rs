//! Model providers through the genai crate, which knows their wire formats.
//!
//! What is ours: the key is always given explicitly (genai never looks into the environment), the address
//! is the configured one, and whatever comes back is either a [`Reply`] or a [`ModelError`] whose text can
//! be shown to anybody. One attempt each: retries are `model::retry`'s.

mod failure;
mod mask;
mod reply;
mod request;
mod schema;
mod stream;
#[cfg(test)]
mod tests;

use ::genai::adapter::AdapterKind;
use ::genai::chat::{ChatOptions, ReasoningEffort};
use ::genai::resolver::{AuthData, Endpoint};
use ::genai::{Client, ModelIden, ServiceTarget};

use super::provider::{Clients, Provider, key_hint};
use super::{Deltas, Model, ModelError, Request};
use crate::session::Reply;

/// One provider.
pub(super) struct Genai {
    client: Client,
    kind: AdapterKind,
    provider: String,
    key: Option<String>,
    needs_key: bool,
    /// A server of the operator's own, whose model names mean nothing to genai.
    own_server: bool,
}

impl Genai {
    pub(super) fn new(name: &str, provider: &Provider, clients: &Clients) -> Result<Self, ModelError> {
        let kind = provider.adapter(name)?;
        let key = provider.key().map(str::to_owned);
        let local = provider.on_loopback();
        let web = if local { &clients.direct } else { &clients.proxied };
        // Adapters insist on a key; a server that wants none ignores this one.
        let auth = AuthData::from_single(key.clone().unwrap_or_else(|| "none".to_owned()));
        let endpoint = provider.endpoint(kind).map(Endpoint::from_owned);
        let client = Client::builder()
            .with_reqwest(web.clone())
            .with_auth_resolver_fn(move |_: ModelIden| Ok(Some(auth)))
            .with_service_target_resolver_fn(move |mut target: ServiceTarget| {
                if let Some(endpoint) = endpoint {
                    target.endpoint = endpoint;
                }
                Ok(target)
            })
            .build()
            .map_err(|_| ModelError::UnknownModel(format!("provider `{name}` cannot be set up")))?;
        Ok(Self {
            client,
            kind,
            provider: name.to_owned(),
            own_server: kind == AdapterKind::OpenAI && provider.base_url.is_some(),
            needs_key: !local && kind.default_key_env_name().is_some(),
            key,
        })
    }

    /// Whether a schema can be passed on. A server of the operator's own may turn it into a grammar in which
    /// no tool can be called, and other protocols refuse a schema beside tools.
    fn enforces_schemas(&self, request: &Request) -> bool {
        self.kind == AdapterKind::OpenAI && (!self.own_server || request.tools.is_empty())
    }

    pub(super) fn needs_key(&self) -> bool {
        self.needs_key
    }
}

#[async_trait::async_trait]
impl Model for Genai {
    async fn reply(&self, request: &Request) -> Result<Reply, ModelError> {
        let options = self.options(request)?;
        let answer = self.client.exec_chat(self.model(request), request::chat(request), Some(&options)).await;
        let reply = match answer {
            Ok(response) => reply::read(&response, self.kind),
            Err(error) => failure::read(error, &self.provider),
        };
        reply.map_err(|error| self.masked(error))
    }

    async fn stream(&self, request: &Request, deltas: &mut Deltas) -> Result<Reply, ModelError> {
        let (tap, options) = stream::tapped(self.options(request)?);
        let (model, chat) = (self.model(request), request::chat(request));
        let reply = match self.client.exec_chat_stream(model, chat, Some(&options)).await {
            Ok(answer) => stream::read(answer.stream, &tap, deltas, self.kind).await,
            Err(error) => Err(error),
        };
        match reply {
            Ok(Some(reply)) => reply.map_err(|error| self.masked(error)),
            // It answered, and did not stream: then it cannot, and is asked for the whole.
            Ok(None) => self.reply(request).await,
            Err(error) => failure::read(error, &self.provider).map_err(|error| self.masked(error)),
        }
    }
}

impl Genai {
    fn model(&self, request: &Request) -> ModelIden {
        ModelIden::new(self.kind, request.model.model.as_str())
    }

    /// Fails where a key is needed and missing.
    fn options(&self, request: &Request) -> Result<ChatOptions, ModelError> {
        if self.needs_key && self.key.is_none() {
            return Err(ModelError::NoApiKey {
                provider: self.provider.clone(),
                hint: key_hint(&self.provider),
            });
        }
        let mut options = request::options(request);
        if self.enforces_schemas(request) {
            options.response_format = request.response_schema.as_ref().and_then(schema::enforceable);
        }
        if self.own_server {
            // genai reads `-max` or `-low` at the end of a name as an effort and sends the rest. An effort
            // that is given stops that, and a budget is one that this protocol has no word for.
            options.reasoning_effort = Some(ReasoningEffort::Budget(0));
        }
        Ok(options)
    }

    fn masked(&self, error: ModelError) -> ModelError {
        error.map_message(|text| mask::mask(text, self.key.as_deref()))
    }
}
