//! Providers as configuration: which adapter speaks to them, where they are and what key they want.
//!
//! The environment is read by `config` alone: it resolves `api_key_env` (or [`default_key_env`]) and hands
//! the key over.

use std::time::Duration;

use ::genai::adapter::AdapterKind;
use serde::Deserialize;
use url::{Host, Url};

use super::ModelError;

/// `[providers.<name>]`, with the key in place of the variable that holds it.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Provider {
    #[serde(deserialize_with = "http_url")]
    pub base_url: Option<Url>,
    pub api_key: Option<String>,
    /// The protocol, by genai's name for it; by default the provider's own name, else `openai`.
    pub adapter: Option<String>,
    /// Whether its models read images; by default judged by the model's name.
    pub vision: Option<bool>,
    /// Most milliseconds for one attempt, or between two pieces of a streamed answer; 120 s by default.
    pub timeout_ms: Option<u64>,
}

fn http_url<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    let text = String::deserialize(deserializer)?;
    // The text itself is not repeated: it may hold a password.
    let error = || serde::de::Error::custom("base_url must be an http or https URL");
    let url: Url = text.trim().parse().map_err(|_| error())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(error());
    }
    Ok(Some(url))
}

impl std::fmt::Debug for Provider {
    /// Without the key and without the URL, which may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Provider")
            .field("adapter", &self.adapter)
            .field("vision", &self.vision)
            .field("timeout_ms", &self.timeout_ms)
            .finish_non_exhaustive()
    }
}

impl Provider {
    pub(super) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms.unwrap_or(120_000))
    }

    /// The key, if it is more than blanks.
    pub(super) fn key(&self) -> Option<&str> {
        self.api_key.as_deref().map(str::trim).filter(|key| !key.is_empty())
    }

    /// A server on this machine: it needs no key, and no proxy leads there.
    pub(super) fn on_loopback(&self) -> bool {
        match self.base_url.as_ref().and_then(Url::host) {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
    }

    pub(super) fn adapter(&self, name: &str) -> Result<AdapterKind, ModelError> {
        match &self.adapter {
            Some(adapter) => adapter_named(adapter)
                .ok_or_else(|| unknown(&format!("providers.{name}.adapter is `{adapter}`, which is not"))),
            None => match adapter_named(name) {
                Some(kind) => Ok(kind),
                None if self.base_url.is_some() => Ok(AdapterKind::OpenAI),
                None => Err(unknown(&format!("provider `{name}` has no base_url, and its name is not"))),
            },
        }
    }

    /// The base URL as genai's adapters want it: with the version in the path, and a slash at the end.
    pub(super) fn endpoint(&self, kind: AdapterKind) -> Option<String> {
        let mut url = self.base_url.clone()?;
        let path = url.path().trim_end_matches('/').to_owned();
        let path = match kind {
            // The native protocol is beside the OpenAI-compatible one.
            AdapterKind::Ollama | AdapterKind::OllamaCloud => {
                path.strip_suffix("/v1").unwrap_or(&path).to_owned()
            }
            AdapterKind::Gemini | AdapterKind::GeminiIx if path.is_empty() => "/v1beta".to_owned(),
            _ if path.is_empty() => "/v1".to_owned(),
            _ => path,
        };
        url.set_path(&format!("{path}/"));
        Some(url.to_string())
    }
}

fn unknown(what: &str) -> ModelError {
    let known: Vec<&str> = known_providers().collect();
    ModelError::UnknownModel(format!("{what} one of {}", known.join(", ")))
}

/// The environment variable that holds a provider's key when nothing else is configured.
pub fn default_key_env(provider: &str) -> Option<&'static str> {
    adapter_named(provider)?.default_key_env_name()
}

/// What the operator can do about a missing or wrong key.
pub(super) fn key_hint(provider: &str) -> String {
    let variable = default_key_env(provider).map_or_else(String::new, |name| format!("{name} or "));
    format!("set {variable}providers.{provider}.api_key_env in holdfast.toml")
}

/// The providers that genai knows by name.
pub fn known_providers() -> impl Iterator<Item = &'static str> {
    AdapterKind::all().iter().filter(|kind| usable(**kind)).map(AdapterKind::as_lower_str)
}

fn adapter_named(name: &str) -> Option<AdapterKind> {
    AdapterKind::from_lower_str(name).filter(|kind| usable(*kind))
}

/// Adapters that read more than a key from the environment by themselves are left out: a request must
/// depend on the configuration alone.
fn usable(kind: AdapterKind) -> bool {
    !matches!(
        kind,
        AdapterKind::Vertex | AdapterKind::BedrockApi | AdapterKind::Omlx | AdapterKind::Custom(_)
    )
}

/// The HTTP clients that all providers share.
pub(super) struct Clients {
    /// By the system's proxy settings.
    pub(super) proxied: reqwest::Client,
    pub(super) direct: reqwest::Client,
}

impl Clients {
    pub(super) fn new() -> Result<Self, ModelError> {
        let builder = || {
            reqwest::Client::builder()
                .connect_timeout(Duration::from_secs(10))
                .tcp_nodelay(true)
                // The key goes to the configured address and nowhere else.
                .redirect(reqwest::redirect::Policy::none())
        };
        let error = |_| ModelError::Unavailable {
            message: "no HTTP client can be set up on this machine".to_owned(),
            retry_after_ms: None,
        };
        Ok(Self {
            proxied: builder().build().map_err(error)?,
            direct: builder().no_proxy().build().map_err(error)?,
        })
    }
}

/// Families that are known to take text only; everything else gets the benefit of the doubt, since a
/// provider's refusal reads better than ours. Parts of lower-case model names.
const TEXT_ONLY: [&str; 20] = [
    "gpt-3.5",
    "gpt-oss",
    "o1-mini",
    "o1-preview",
    "o3-mini",
    "davinci",
    "babbage", // OpenAI
    "deepseek-chat",
    "deepseek-reasoner",
    "deepseek-r1",
    "deepseek-v", // DeepSeek
    "llama-3.1",
    "llama-3.3",
    "llama3.1",
    "llama3.3", // Meta
    "codestral",
    "mixtral", // Mistral
    "qwq",
    "coder",
    "embed", // Qwen, and whatever says so itself
];

pub(super) fn sounds_like_vision(model: &str) -> bool {
    let model = model.to_lowercase();
    !TEXT_ONLY.iter().any(|family| model.contains(family))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(url: &str) -> Provider {
        Provider { base_url: Some(url.parse().unwrap()), ..Provider::default() }
    }

    #[test]
    fn base_urls_get_the_version_and_the_slash_that_adapters_want() {
        for (kind, given, wanted) in [
            (AdapterKind::OpenAI, "http://h:1/v1", "http://h:1/v1/"),
            (AdapterKind::OpenAI, "http://h:1/v1/", "http://h:1/v1/"),
            (AdapterKind::OpenAI, "http://h:1", "http://h:1/v1/"),
            (AdapterKind::OpenAI, "http://h:1/api/v3?x=1", "http://h:1/api/v3/?x=1"),
            (AdapterKind::Anthropic, "http://h:1", "http://h:1/v1/"),
            (AdapterKind::Gemini, "http://h:1/", "http://h:1/v1beta/"),
            (AdapterKind::Ollama, "http://h:1/v1", "http://h:1/"),
            (AdapterKind::Ollama, "http://h:1", "http://h:1/"),
        ] {
            assert_eq!(at(given).endpoint(kind).as_deref(), Some(wanted), "{kind:?} {given}");
        }
    }

    #[test]
    fn the_adapter_follows_from_the_name_or_from_a_base_url() {
        let none = Provider::default();
        assert_eq!(none.adapter("anthropic"), Ok(AdapterKind::Anthropic));
        assert_eq!(at("http://h/v1").adapter("my-gpu-box"), Ok(AdapterKind::OpenAI));
        let error = none.adapter("my-gpu-box").unwrap_err().to_string();
        assert!(error.starts_with("provider `my-gpu-box` has no base_url") && error.contains("openai, "));
        let wrong = Provider { adapter: Some("vertex".to_owned()), ..none };
        assert!(wrong.adapter("x").unwrap_err().to_string().contains("`vertex`"));
    }

    #[test]
    fn keys_have_default_variables() {
        for (provider, variable) in [
            ("openai", Some("OPENAI_API_KEY")),
            ("anthropic", Some("ANTHROPIC_API_KEY")),
            ("gemini", Some("GEMINI_API_KEY")),
            ("ollama", None),
            ("my-gpu-box", None),
        ] {
            assert_eq!(default_key_env(provider), variable);
        }
    }

    #[test]
    fn loopback_is_recognised_in_all_its_spellings() {
        for here in ["http://127.0.0.1:1", "http://localhost", "http://[::1]:8/v1", "http://a.localhost"] {
            assert!(at(here).on_loopback(), "{here}");
        }
        for there in ["http://10.0.0.1", "https://localhost.example.com", "http://[2001:db8::1]"] {
            assert!(!at(there).on_loopback(), "{there}");
        }
    }

    #[test]
    fn vision_is_judged_by_name() {
        for (model, vision) in [
            ("gpt-4o-mini", true),
            ("claude-sonnet-4-6", true),
            ("gpt-3.5-turbo", false),
            ("Qwen2.5-Coder-0.5B", false),
            ("text-embedding-3-small", false),
        ] {
            assert_eq!(sounds_like_vision(model), vision, "{model}");
        }
    }

    #[test]
    fn a_provider_never_shows_its_key() {
        let text = r#"{"base_url": "http://u:secret-1@h/v1", "api_key": "secret-2", "timeout_ms": 5}"#;
        let provider: Provider = serde_json::from_str(text).unwrap();
        let shown = format!("{provider:?}");
        assert!(!shown.contains("secret"), "{shown}");
        for wrong in [r#"{"api_keys": "x"}"#, r#"{"base_url": "h:1"}"#, r#"{"base_url": "/v1"}"#] {
            assert!(serde_json::from_str::<Provider>(wrong).is_err(), "{wrong}");
        }
    }
}
