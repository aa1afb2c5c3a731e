//! `[[webhooks]]` of the configuration file.

use std::time::Duration;

use serde::Deserialize;
use url::Url;

use crate::id::OrgId;
use crate::notice::NoticeKind;
use crate::webhook::{Endpoint, Secret, Webhooks};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WebhookTable {
    id: String,
    url: Url,
    /// The environment variable with the secret.
    secret_env: String,
    #[serde(default = "every_event")]
    events: Vec<String>,
    org: Option<String>,
    #[serde(default)]
    allow_private: bool,
    #[serde(default)]
    include_content: bool,
}

fn every_event() -> Vec<String> {
    vec!["*".to_owned()]
}

/// Everything that the file says about webhooks, without the secrets.
pub(super) struct WebhooksTable {
    pub(super) endpoints: Vec<WebhookTable>,
    pub(super) approval_warning_ms: u64,
}

impl WebhooksTable {
    /// `variable` reads the environment.
    pub(super) fn check(self, variable: impl Fn(&str) -> Option<String>) -> Result<Webhooks, String> {
        let mut endpoints: Vec<Endpoint> = Vec::with_capacity(self.endpoints.len());
        for table in self.endpoints {
            let id = table.id.clone();
            if endpoints.iter().any(|other| other.id == id) {
                return Err(format!("there is another webhook with the id `{id}`"));
            }
            endpoints.push(table.checked(&variable).map_err(|error| format!("webhook `{id}`: {error}"))?);
        }
        Ok(Webhooks { endpoints, approval_warning: Duration::from_millis(self.approval_warning_ms) })
    }
}

impl WebhookTable {
    fn checked(self, variable: &impl Fn(&str) -> Option<String>) -> Result<Endpoint, String> {
        let text = variable(&self.secret_env).ok_or_else(|| {
            format!("the environment variable {} that secret_env names is not set", self.secret_env)
        })?;
        let endpoint = Endpoint {
            id: self.id,
            url: self.url,
            secret: Secret::parse(&text).map_err(|error| format!("{}: {error}", self.secret_env))?,
            events: events(&self.events)?,
            org: self.org.map(OrgId::from),
            allow_private: self.allow_private,
            include_content: self.include_content,
        };
        endpoint.check().map_err(|error| error.to_string())?;
        Ok(endpoint)
    }
}

fn events(words: &[String]) -> Result<Vec<NoticeKind>, String> {
    if words.is_empty() {
        return Err("events is empty: leave it out for all of them".to_owned());
    }
    if words.iter().any(|word| word == "*") {
        return Ok(NoticeKind::ALL.to_vec());
    }
    words.iter().map(|word| word.parse().map_err(|error| format!("events: {error}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(table: &str) -> Result<Webhooks, String> {
        let table: WebhookTable = toml::from_str(table).map_err(|error| error.to_string())?;
        let variable = |name: &str| match name {
            "HOOK" => Some("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned()),
            "WEAK" => Some("whsec_eA==".to_owned()),
            _ => None,
        };
        WebhooksTable { endpoints: vec![table], approval_warning_ms: 1 }.check(variable)
    }

    fn error(table: &str) -> String {
        parsed(table).unwrap_err()
    }

    #[test]
    fn a_webhook_hears_everything_unless_it_says_what() {
        let all = parsed("id = \"a\"\nurl = \"https://example.com/hook\"\nsecret_env = \"HOOK\"").unwrap();
        assert_eq!(all.endpoints[0].events, NoticeKind::ALL);
        assert!(!all.endpoints[0].allow_private && !all.endpoints[0].include_content);
        let some =
            "id = \"a\"\nurl = \"https://example.com\"\nsecret_env = \"HOOK\"\nevents = [\"run.paused\"]";
        assert_eq!(parsed(some).unwrap().endpoints[0].events, [NoticeKind::RunPaused]);
    }

    #[test]
    fn mistakes_say_what_to_write() {
        let with = |url: &str, rest: &str| error(&format!("id = \"a\"\nurl = \"{url}\"\n{rest}"));
        let public = "https://example.com";
        assert_eq!(
            with(public, "secret_env = \"NONE\""),
            "webhook `a`: the environment variable NONE that secret_env names is not set"
        );
        assert!(with(public, "secret_env = \"WEAK\"").contains("WEAK: the secret must be `whsec_`"));
        let hook = "secret_env = \"HOOK\"";
        assert!(with("http://example.com", hook).contains("url must be an https URL"));
        assert!(with("https://u:p@example.com", hook).contains("without a user name"));
        for inside in
            ["https://127.0.0.1:9", "https://[::1]/", "https://localhost/x", "https://169.254.169.254"]
        {
            let error = with(inside, hook);
            assert!(error.contains("private address (allow_private = true permits it)"), "{error}");
            assert!(parsed(&format!("id = \"a\"\nurl = \"{inside}\"\n{hook}\nallow_private = true")).is_ok());
        }
        let unknown = with(public, &format!("{hook}\nevents = [\"run.started\"]"));
        assert!(unknown.contains("`run.started` is no event: write * or some of run.paused"), "{unknown}");
        assert!(with("not a url", hook).contains("url"));
        assert!(with(public, "secret = \"whsec_x\"").contains("unknown field"));
    }
}
