//! What a plugin says about itself: its version, and what it would like to reach.
//!
//! An author writes `plugin.toml`; `holdfast plugin build` checks it and puts it into the component, as JSON in a
//! custom section of the component itself. So one digest covers code and request, and neither can change
//! without the other. Everything in it is guest-controlled.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use wasm_encoder::{ComponentSection as _, CustomSection};

use super::grant::{Capabilities, Capability};
use crate::tool::check_name_part;

/// The custom section's name.
pub(super) const SECTION: &str = "holdfast:manifest";

/// Largest section. Hosts and reasons are short.
pub(super) const MAX_BYTES: usize = 64 << 10;
/// Most rules of one kind: somebody has to read them.
const MAX_RULES: usize = 64;
const MAX_REASON: usize = 500;
const MAX_VERSION: usize = 64;

/// The whole of `plugin.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The plugin's id, which is also its file's name.
    pub id: String,
    /// For people; what tells two builds apart is the digest.
    pub version: String,
    #[serde(default)]
    pub requests: Capabilities,
    /// Of these, what it requests is a proposal: it takes whatever the operator grants.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub open: BTreeSet<Capability>,
    /// Settings that it reads with `config.get`: what each one means, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
}

/// Reads after "its manifest".
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("cannot be read: {0}")]
    Invalid(String),
    #[error("has {0} bytes; the most is {MAX_BYTES}")]
    TooBig(usize),
    #[error("is there twice")]
    Twice,
    #[error("is for the plugin `{manifest}`, and this is `{plugin}`")]
    OtherPlugin { manifest: String, plugin: String },
    #[error("{0}")]
    Flaw(&'static str),
}

impl Manifest {
    /// The text of a `plugin.toml`.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let manifest: Self = toml::from_str(text)
            .map_err(|error| ManifestError::Invalid(error.to_string().trim_end().to_owned()))?;
        manifest.checked()
    }

    /// The bytes of a section.
    pub(super) fn from_section(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_BYTES {
            return Err(ManifestError::TooBig(bytes.len()));
        }
        let manifest: Self = serde_json::from_slice(bytes)
            .map_err(|error| ManifestError::Invalid(crate::escape::escaped(&error.to_string(), 300)))?;
        manifest.checked()
    }

    /// The component with this manifest at its end.
    pub fn embed(&self, mut component: Vec<u8>) -> Vec<u8> {
        // Maps with text keys and numbers only: there is always JSON for it.
        let json = serde_json::to_vec(self).unwrap_or_default();
        CustomSection { name: Cow::Borrowed(SECTION), data: Cow::Owned(json) }
            .append_to_component(&mut component);
        component
    }

    pub(super) fn check_id(&self, plugin: &str) -> Result<(), ManifestError> {
        if self.id != plugin {
            return Err(ManifestError::OtherPlugin { manifest: self.id.clone(), plugin: plugin.to_owned() });
        }
        Ok(())
    }

    fn checked(self) -> Result<Self, ManifestError> {
        check_name_part(&self.id).map_err(|_| ManifestError::Flaw("has an `id` that is no legal name"))?;
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b".+-_".contains(&byte);
        if self.version.is_empty() || self.version.len() > MAX_VERSION || !self.version.bytes().all(legal) {
            return Err(ManifestError::Flaw("needs a `version` such as \"0.1.0\""));
        }
        let Capabilities { kv, http, secrets } = &self.requests;
        if http.len().max(secrets.len()).max(self.config.len()) > MAX_RULES {
            return Err(ManifestError::Flaw("has more than 64 entries of one kind"));
        }
        if self.open.iter().any(|capability| !self.requests.has(*capability)) {
            return Err(ManifestError::Flaw("has something in `open` of which it requests nothing"));
        }
        let mut reasons =
            http.iter().map(|rule| &rule.reason).chain(secrets.iter().map(super::SecretRule::reason));
        let too_long = |reason: &String| reason.len() > MAX_REASON;
        if reasons.any(too_long) || too_long(&kv.reason) || self.config.values().any(too_long) {
            return Err(ManifestError::Flaw("has a reason of more than 500 bytes"));
        }
        for name in self.config.keys() {
            check_name_part(name)
                .map_err(|_| ManifestError::Flaw("has a setting in `config` that is no legal name"))?;
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEATHER: &str = r#"
        id = "weather"
        version = "1.2.0"
        [config]
        units = "metric or imperial"
        [requests]
        kv = ["user"]
        http = [{ host = "api.weather.example", reason = "to fetch forecasts" }]
    "#;

    #[test]
    fn what_is_embedded_is_read_back() {
        let manifest = Manifest::parse(WEATHER).unwrap();
        let json = serde_json::to_vec(&manifest).unwrap();
        assert_eq!(Manifest::from_section(&json).unwrap(), manifest);
    }

    #[test]
    fn flaws_are_named() {
        let with =
            |from: &str, to: &str| Manifest::parse(&WEATHER.replace(from, to)).unwrap_err().to_string();
        assert!(with("1.2.0", "one two").contains("`version`"));
        assert!(with("\"weather\"", "\"a__b\"").contains("`id`"));
        assert!(with("units", "\"a b\"").contains("`config`"));
        assert!(with("[config]", "open = [\"secrets\"]\n[config]").contains("`open`"));
        assert!(with("[config]", "open = [\"files\"]\n[config]").contains("unknown variant `files`"));
        assert!(with("kv =", "vk =").contains("unknown field `vk`"));
        assert!(with("to fetch forecasts", &"x".repeat(501)).contains("500 bytes"));
        let many = "{ host = \"a\" },".repeat(65);
        assert!(
            with("{ host = \"api.weather.example\", reason = \"to fetch forecasts\" }", &many).contains("64")
        );
        let big = Manifest::from_section(&vec![b' '; MAX_BYTES + 1]).unwrap_err();
        assert!(big.to_string().contains("the most is"));
    }
}
