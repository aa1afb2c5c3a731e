//! A part of what is asked for, named in few words: `kv`, `kv:user`, `http:api.example`, `secrets:key`.

use super::destination::HostPattern;
use super::grant::{Capabilities, HttpRule, KvRule, KvScope};
use crate::escape::escaped;

/// Words that name nothing that is asked for.
#[derive(Debug, thiserror::Error)]
#[error("`{word}` names nothing that it asks for: choose from {}", if known.is_empty() { "nothing".to_owned() } else { known.join(", ") })]
pub struct UnknownChoice {
    word: String,
    known: Vec<String>,
}

impl Capabilities {
    /// What of this the words name.
    pub fn only(&self, words: &[String]) -> Result<Self, UnknownChoice> {
        let mut chosen = Self::default();
        for word in words {
            let (kind, name) =
                word.split_once(':').map_or((word.as_str(), None), |(kind, name)| (kind, Some(name)));
            let named = |own: &str| name.is_none_or(|name| name == own);
            let part = Self {
                kv: KvRule {
                    scopes: self
                        .kv
                        .scopes
                        .iter()
                        .filter(|it| kind == "kv" && named(it.word()))
                        .copied()
                        .collect(),
                    reason: self.kv.reason.clone(),
                },
                http: if kind == "http" { self.http_to(name) } else { Vec::new() },
                secrets: self
                    .secrets
                    .iter()
                    .filter(|it| kind == "secrets" && named(it.name().as_str()))
                    .cloned()
                    .collect(),
            };
            if part.is_empty() {
                return Err(UnknownChoice { word: escaped(word, 80), known: self.choices() });
            }
            chosen = chosen.and(&part);
            chosen.kv.reason.clone_from(&self.kv.reason);
        }
        Ok(chosen)
    }

    /// The rules for a host, or else what wider ones say about it.
    fn http_to(&self, name: Option<&str>) -> Vec<HttpRule> {
        let Some(name) = name else { return self.http.clone() };
        let Ok(host) = HostPattern::try_from(name.to_owned()) else { return Vec::new() };
        let exact: Vec<HttpRule> = self.http.iter().filter(|rule| rule.host == host).cloned().collect();
        if !exact.is_empty() {
            return exact;
        }
        let wider = self.http.iter().filter(|rule| rule.host.covers(&host));
        wider.map(|rule| HttpRule { host: host.clone(), ..rule.clone() }).collect()
    }

    fn choices(&self) -> Vec<String> {
        let kv = self.kv.scopes.iter().map(|scope| format!("kv:{}", scope.word()));
        let http = self.http.iter().map(|rule| format!("http:{}", rule.host));
        let secrets = self.secrets.iter().map(|rule| format!("secrets:{}", rule.name()));
        let mut choices: Vec<String> = kv.chain(http).chain(secrets).collect();
        choices.dedup();
        choices
    }
}

impl KvScope {
    pub fn word(self) -> &'static str {
        match self {
            Self::Plugin => "plugin",
            Self::User => "user",
            Self::Session => "session",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_choose_and_strangers_are_named() {
        let asked: Capabilities = toml::from_str(
            "kv = [\"user\", \"session\"]\nhttp = [{ host = \"a.example\" }, { host = \"b.example\" }, { host = \"*.tiles.example\" }]\n\
             secrets = [{ use = \"hmac\", name = \"signing\" }]",
        )
        .unwrap();
        let only = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            asked.only(&words).map(|chosen| chosen.choices().join(" ")).map_err(|error| error.to_string())
        };
        assert_eq!(only(&["kv:user", "http:b.example"]).unwrap(), "kv:user http:b.example");
        assert_eq!(only(&["kv", "secrets:signing"]).unwrap(), "kv:user kv:session secrets:signing");
        assert_eq!(only(&["http"]).unwrap(), "http:a.example http:b.example http:*.tiles.example");
        assert_eq!(only(&["http:x.tiles.example"]).unwrap(), "http:x.tiles.example", "one of a wider rule's");
        assert_eq!(only(&["http:*.tiles.example"]).unwrap(), "http:*.tiles.example");
        assert_eq!(only(&[]).unwrap(), "");
        for stranger in
            ["kv:plugin", "http:c.example", "secrets", "files", "http:", "http:*", "http:tiles.example"]
        {
            let told = only(&["kv", stranger]);
            if stranger == "secrets" {
                assert!(told.is_ok(), "all secrets");
                continue;
            }
            let told = told.unwrap_err();
            assert!(told.contains(stranger) && told.contains("http:a.example"), "{told}");
        }
    }
}
