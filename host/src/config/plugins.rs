//! `[plugins.<id>]`: the shape, and where the values of secrets come from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::plugin::{Capabilities, Limits, PluginSettings, SecretName, SecretValue};
use crate::tool::check_name_part;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PluginTable {
    grants: Capabilities,
    pub(super) limits: Limits,
    config: BTreeMap<String, Setting>,
    secrets: BTreeMap<SecretName, SecretSource>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a setting must be a text, a number, true or false")]
enum Setting {
    Text(String),
    Switch(bool),
    Whole(i64),
    Number(f64),
}

/// Secrets stand in the environment or in files, never in the configuration itself.
#[derive(Deserialize)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "a secret is { env = \"NAME\" } or { file = \"path\" }, and not its value"
)]
enum SecretSource {
    Env { env: String },
    File { file: PathBuf },
}

/// `variable` reads the environment; paths are relative to `folder`.
pub(super) fn check(
    tables: BTreeMap<String, PluginTable>,
    folder: &Path,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, PluginSettings>, String> {
    tables
        .into_iter()
        .map(|(id, table)| {
            let settings =
                table.into_settings(folder, &variable).map_err(|error| format!("[plugins.{id}] {error}"))?;
            Ok((id, settings))
        })
        .collect()
}

impl PluginTable {
    fn into_settings(
        self,
        folder: &Path,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<PluginSettings, String> {
        let mut config = BTreeMap::new();
        for (name, setting) in self.config {
            check_name_part(&name).map_err(|error| format!("config: {error}"))?;
            config.insert(name, setting.into_text());
        }
        let mut secrets = BTreeMap::new();
        for (name, source) in self.secrets {
            let value =
                source.value(folder, &variable).map_err(|error| format!("the secret `{name}`: {error}"))?;
            secrets.insert(name, value);
        }
        Ok(PluginSettings { grants: self.grants, limits: self.limits, config, secrets })
    }
}

impl Setting {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Switch(on) => on.to_string(),
            Self::Whole(number) => number.to_string(),
            Self::Number(number) => number.to_string(),
        }
    }
}

impl SecretSource {
    /// The error never holds the value.
    fn value(self, folder: &Path, variable: impl Fn(&str) -> Option<String>) -> Result<SecretValue, String> {
        let (from, text) = match self {
            Self::Env { env: name } => {
                let text =
                    variable(&name).ok_or_else(|| format!("the environment variable {name} is not set"))?;
                (format!("the value of {name}"), text)
            }
            Self::File { file } => {
                let path = folder.join(file);
                let shown = path.display().to_string();
                let text = std::fs::read_to_string(&path)
                    .map_err(|error| format!("{shown} cannot be read: {}", error.kind()))?;
                (format!("the text in {shown}"), text)
            }
        };
        SecretValue::new(text.trim()).map_err(|error| format!("{from} {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Result<PluginSettings, String> {
        let table = toml::from_str(text).map_err(|error| error.to_string())?;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), "from-a-file\n").unwrap();
        let variable = |name: &str| match name {
            "KEY" => Some("from-the-environment".to_owned()),
            "SHORT" => Some("hunter2".to_owned()),
            _ => None,
        };
        let tables = BTreeMap::from([("weather".to_owned(), table)]);
        check(tables, folder.path(), variable).map(|mut settings| settings.remove("weather").unwrap())
    }

    #[test]
    fn values_come_from_where_they_are() {
        let found = settings(
            "config = { units = \"metric\", days = 3, exact = true }\nsecrets = { a = { env = \"KEY\" }, b = { file = \"key\" } }",
        )
        .unwrap();
        let config: Vec<&str> = found.config.values().map(String::as_str).collect();
        assert_eq!(config, ["3", "true", "metric"]);
        let secret = |name: &str| found.secrets[&SecretName::try_from(name.to_owned()).unwrap()].clone();
        assert_eq!(secret("a"), SecretValue::new("from-the-environment").unwrap());
        assert_eq!(secret("b"), SecretValue::new("from-a-file").unwrap());
        assert!(!format!("{found:?}").contains("from-"), "settings are logged, and secrets are not");
    }

    #[test]
    fn a_mistake_is_named_and_no_value_is() {
        for (text, expected) in [
            (
                "secrets = { a = { env = \"MISSING\" } }",
                "[plugins.weather] the secret `a`: the environment variable MISSING is not set",
            ),
            ("secrets = { a = { env = \"SHORT\" } }", "the value of SHORT must have 8 to 4096 bytes"),
            ("secrets = { a = { file = \"none\" } }", "cannot be read: entity not found"),
            (
                "secrets = { a = \"the-value-itself\" }",
                "a secret is { env = \"NAME\" } or { file = \"path\" }",
            ),
            ("secrets = { A = { env = \"KEY\" } }", "`A` is no name of a secret"),
            ("config = { a = [] }", "a setting must be a text, a number, true or false"),
            ("config = { a__b = 1 }", "config: "),
            ("grant = {}", "unknown field `grant`, expected one of `grants`"),
        ] {
            let error = settings(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
