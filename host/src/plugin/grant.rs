//! What a plugin may reach: the one vocabulary of requests (its manifest) and of grants (the operator).
//!
//! What holds is the intersection of the two. Everything here is a pure value: where requests and grants come
//! from is `manifest.rs`'s and the settings' business, and how each is enforced its interface's own.

mod http;
mod secret;

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, Serialize};

pub use self::http::{HttpRule, Method};
pub use self::secret::{HeaderWord, SecretName, SecretRule};

/// Capabilities beyond the inert base; nothing by default. In a `plugin.toml` the `[requests]`, in the
/// configuration `[plugins.<id>.grants]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Capabilities {
    /// Values that outlive a call (`holdfast:plugin/kv`).
    pub kv: KvRule,
    /// Where requests may go (`wasi:http/outgoing-handler`).
    pub http: Vec<HttpRule>,
    /// What is done with which secret; none of them is ever the plugin's to read.
    pub secrets: Vec<SecretRule>,
}

/// One kind of what is requested and granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    Kv,
    Http,
    Secrets,
}

/// Which scopes of `kv`: `true` for all, a list, or a table with a reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KvRule {
    pub scopes: BTreeSet<KvScope>,
    /// Why the plugin wants it, in its author's words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// Who shares the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KvScope {
    /// All users of an organisation.
    Plugin,
    User,
    Session,
}

impl Capabilities {
    pub fn is_empty(&self) -> bool {
        self.kv.scopes.is_empty() && self.http.is_empty() && self.secrets.is_empty()
    }

    /// What of this request holds under a grant. Reasons are the request's.
    #[must_use]
    pub fn within(&self, granted: &Self) -> Self {
        let scopes = self.kv.scopes.intersection(&granted.kv.scopes).copied().collect();
        let mut http: Vec<HttpRule> = Vec::new();
        for (asked, given) in
            self.http.iter().flat_map(|asked| granted.http.iter().map(move |given| (asked, given)))
        {
            if let Some(rule) = asked.within(given)
                && !http.contains(&rule)
            {
                http.push(rule);
            }
        }
        let secrets = self.secrets.iter().filter(|asked| granted.allows_secret(asked)).cloned().collect();
        Self { kv: KvRule { scopes, reason: self.kv.reason.clone() }, http, secrets }
    }

    /// What of this request a grant does not cover.
    #[must_use]
    pub fn beyond(&self, granted: &Self) -> Self {
        let scopes = self.kv.scopes.difference(&granted.kv.scopes).copied().collect();
        let http = self.http.iter().filter_map(|asked| asked.beyond(&granted.http)).collect();
        let secrets = self.secrets.iter().filter(|asked| !granted.allows_secret(asked)).cloned().collect();
        Self { kv: KvRule { scopes, reason: self.kv.reason.clone() }, http, secrets }
    }

    /// Both grants together.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.kv.scopes.extend(&other.kv.scopes);
        let new = other.http.iter().filter(|rule| !self.http.contains(rule)).cloned();
        self.http.extend(new.collect::<Vec<_>>());
        let new: Vec<SecretRule> =
            other.secrets.iter().filter(|rule| !self.allows_secret(rule)).cloned().collect();
        self.secrets.extend(new);
        self
    }

    fn allows_secret(&self, asked: &SecretRule) -> bool {
        self.secrets.iter().any(|given| given.same_use(asked))
    }

    /// Something of this kind is among them.
    pub fn has(&self, capability: Capability) -> bool {
        match capability {
            Capability::Kv => !self.kv.scopes.is_empty(),
            Capability::Http => !self.http.is_empty(),
            Capability::Secrets => !self.secrets.is_empty(),
        }
    }

    /// With the other's of this kind in place of its own.
    #[must_use]
    pub(super) fn with(mut self, capability: Capability, other: &Self) -> Self {
        match capability {
            Capability::Kv => self.kv.clone_from(&other.kv),
            Capability::Http => self.http.clone_from(&other.http),
            Capability::Secrets => self.secrets.clone_from(&other.secrets),
        }
        self
    }

    pub fn to_json(&self) -> serde_json::Value {
        // There is always JSON for it: texts, numbers and lists.
        serde_json::to_value(self).unwrap_or_default()
    }

    /// One line for each thing that it allows, for whoever decides; with the author's reasons.
    pub fn in_words(&self) -> Vec<String> {
        let kv = self.kv.scopes.iter().map(|scope| with_reason(scope.in_words(), &self.kv.reason));
        let http = self.http.iter().map(|rule| with_reason(&rule.to_string(), &rule.reason));
        let secrets = self.secrets.iter().map(|rule| with_reason(&rule.to_string(), rule.reason()));
        kv.chain(http).chain(secrets).collect()
    }
}

/// The reason is guest-controlled text: it must not end its own quotation and go on in the host's words.
fn with_reason(what: &str, reason: &str) -> String {
    if reason.is_empty() {
        return what.to_owned();
    }
    let reason = crate::escape::escaped(&reason.replace('"', "'"), 200);
    format!("{what}, \"{reason}\"")
}

impl Capability {
    pub const ALL: [Self; 3] = [Self::Kv, Self::Http, Self::Secrets];

    /// Its key in a manifest and in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Kv => "kv",
            Self::Http => "http",
            Self::Secrets => "secrets",
        }
    }
}

impl KvRule {
    pub fn all() -> Self {
        Self { scopes: KvScope::ALL.into(), reason: String::new() }
    }
}

impl KvScope {
    pub const ALL: [Self; 3] = [Self::Plugin, Self::User, Self::Session];

    fn in_words(self) -> &'static str {
        match self {
            Self::Plugin => "keep values that all users of an organisation share (kv, scope plugin)",
            Self::User => "keep values of each user (kv, scope user)",
            Self::Session => "keep values of each session (kv, scope session)",
        }
    }
}

impl<'de> Deserialize<'de> for KvRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "kv must be true, false or a list of \"plugin\", \"user\" and \"session\""
        )]
        enum Written {
            Switch(bool),
            Scopes(BTreeSet<KvScope>),
            Table {
                scopes: BTreeSet<KvScope>,
                #[serde(default)]
                reason: String,
            },
        }
        Ok(match Written::deserialize(deserializer)? {
            Written::Switch(true) => Self::all(),
            Written::Switch(false) => Self::default(),
            Written::Scopes(scopes) => Self { scopes, reason: String::new() },
            Written::Table { scopes, reason } => Self { scopes, reason },
        })
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn capabilities(text: &str) -> Capabilities {
        toml::from_str(text).unwrap()
    }

    const WEATHER: &str = r#"
        kv = { scopes = ["user"], reason = "to remember your town" }
        [[http]]
        host = "api.weather.example"
        methods = ["GET", "POST"]
        reason = "to fetch forecasts"
        [[http]]
        host = "*.tiles.example"
        [[secrets]]
        use = "header"
        name = "api-key"
        audience = "https://api.weather.example/v1/"
        header = "Authorization"
        prefix = "Bearer "
        [[secrets]]
        use = "hmac"
        name = "signing"
    "#;

    #[test]
    fn words_say_what_is_allowed_and_why() {
        let inside = "[[http]]\nhost = \"*\"\nscheme = \"http\"\nport = 8080\nprivate = true";
        let lines = [capabilities(WEATHER).in_words(), capabilities(inside).in_words()].concat().join("\n");
        expect![[r#"
            keep values of each user (kv, scope user), "to remember your town"
            send GET, POST requests to https://api.weather.example, "to fetch forecasts"
            send GET, HEAD requests to https://*.tiles.example
            have the secret `api-key` sent to https://api.weather.example/v1/ in the header `authorization`
            have texts signed with the secret `signing` (HMAC-SHA-256)
            send GET, HEAD requests to http://*:8080 (every host), also where that is inside your network"#]]
        .assert_eq(&lines);
    }

    #[test]
    fn a_reason_does_not_go_on_in_the_hosts_words() {
        let forged = "[[http]]\nhost = \"*\"\nreason = 'x\"; keep values of each user, \"for you\u{202e}'";
        expect![[r#"send GET, HEAD requests to https://* (every host), "x'; keep values of each user, 'for you\u{202e}""#]]
            .assert_eq(&capabilities(forged).in_words().join("; "));
    }

    #[test]
    fn what_holds_is_what_both_say() {
        let asked = capabilities(WEATHER);
        assert_eq!(asked.within(&asked), asked);
        assert!(asked.beyond(&asked).is_empty());
        assert!(asked.within(&Capabilities::default()).is_empty());
        assert_eq!(asked.beyond(&Capabilities::default()), asked);
        let given = capabilities(
            r#"
            kv = true
            http = [{ host = "*", methods = ["GET"] }, { host = "a.tiles.example", private = true }]
            secrets = [{ use = "hmac", name = "api-key" }, { use = "hmac", name = "signing" }]
            "#,
        );
        let (holds, missing) = (asked.within(&given), asked.beyond(&given));
        expect![[r#"
            keep values of each user (kv, scope user), "to remember your town"
            send GET requests to https://api.weather.example, "to fetch forecasts"
            send GET requests to https://*.tiles.example
            send GET, HEAD requests to https://a.tiles.example
            have texts signed with the secret `signing` (HMAC-SHA-256)
            ---
            send POST requests to https://api.weather.example, "to fetch forecasts"
            send HEAD requests to https://*.tiles.example
            have the secret `api-key` sent to https://api.weather.example/v1/ in the header `authorization`"#]]
        .assert_eq(&format!("{}\n---\n{}", holds.in_words().join("\n"), missing.in_words().join("\n")));
        assert!(asked.beyond(&holds.and(&missing)).is_empty());
    }

    #[test]
    fn a_mistake_is_named() {
        for (text, expected) in [
            ("kv = \"all\"", "kv must be true, false or a list"),
            ("http = [{ host = \"a b\" }]", "`a b` is no host"),
            ("http = [{ host = \"a\", methods = [\"get\"] }]", "`get` is no method that can be granted"),
            ("http = [{ host = \"a\", methods = [\"CONNECT\"] }]", "CONNECT and TRACE cannot"),
            ("http = [{ hots = \"a\" }]", "unknown field `hots`"),
            ("secrets = [{ use = \"hmac\", name = \"A\" }]", "`A` is no name of a secret"),
            (
                "secrets = [{ use = \"read\", name = \"a\" }]",
                "unknown variant `read`, expected `header` or `hmac`",
            ),
            (
                "secrets = [{ use = \"header\", name = \"a\", audience = \"https://a/\", header = \"Host\" }]",
                "`Host` is no header that can carry a secret",
            ),
            ("fs = true", "unknown field `fs`, expected one of `kv`, `http`, `secrets`"),
        ] {
            let error = toml::from_str::<Capabilities>(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
