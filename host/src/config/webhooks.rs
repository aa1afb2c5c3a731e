//! `[[webhooks]]`: the shape, and the check that makes endpoints of it.

use serde::Deserialize;
use url::Url;

use crate::id::OrgId;
use crate::outbound::{self, Reach};
use crate::webhook::{EventType, Secret, Subscription, Webhook};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WebhookTable {
    id: String,
    url: Url,
    /// The environment variable with the secret.
    secret_env: String,
    events: Option<Vec<EventType>>,
    org: Option<String>,
    #[serde(default)]
    allow_private: bool,
}

/// `variable` reads the environment.
pub(super) fn check(
    tables: Vec<WebhookTable>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Vec<Webhook>, String> {
    let mut webhooks: Vec<Webhook> = Vec::with_capacity(tables.len());
    for table in tables {
        let id = table.id.clone();
        if webhooks.iter().any(|other| other.subscription.endpoint == id) {
            return Err(format!("there is another webhook with the id `{id}`"));
        }
        let webhook =
            table.into_webhook(&variable).map_err(|message| format!("webhook `{id}`: {message}"))?;
        webhooks.push(webhook);
    }
    Ok(webhooks)
}

impl WebhookTable {
    fn into_webhook(self, variable: impl Fn(&str) -> Option<String>) -> Result<Webhook, String> {
        // It is part of what is signed, where a dot separates.
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if self.id.is_empty() || self.id.len() > 64 || !self.id.bytes().all(legal) {
            return Err("id must be 1 to 64 letters, digits, - or _".to_owned());
        }
        let reach = Reach::allowing_private(self.allow_private);
        outbound::check_url(&self.url, reach).map_err(|error| format!("url {error}"))?;
        let name = &self.secret_env;
        let secret = variable(name).ok_or_else(|| format!("the environment variable {name} is not set"))?;
        let secret = Secret::parse(&secret)
            .ok_or_else(|| format!("{name} must be whsec_ and the base64 of 24 to 64 bytes"))?;
        let subscription = Subscription {
            endpoint: self.id,
            events: self.events.unwrap_or_else(|| EventType::ALL.to_vec()),
            org: self.org.map(OrgId::from),
        };
        Ok(Webhook { subscription, url: self.url, secret, allow_private: self.allow_private })
    }
}
