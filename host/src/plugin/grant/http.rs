//! Which requests a plugin may send: a rule for host, port, scheme and methods.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::plugin::destination::{HostPattern, Scheme};

/// Requests to one host, or to a host's subdomains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpRule {
    /// A name, an address, `*.name` for its subdomains, or `*`.
    pub host: HostPattern,
    /// In capitals. GET and HEAD where not given.
    #[serde(default = "reading")]
    pub methods: BTreeSet<Method>,
    #[serde(default)]
    pub scheme: Scheme,
    /// The scheme's own where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Addresses that are not public may be reached as well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub private: bool,
    /// Why the plugin wants it, in its author's words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// An HTTP method in capitals.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Method(String);

fn reading() -> BTreeSet<Method> {
    ["GET", "HEAD"].map(|word| Method(word.to_owned())).into()
}

impl HttpRule {
    /// What a component without a manifest asks for.
    pub(in crate::plugin) fn any() -> Self {
        Self {
            host: HostPattern::Any,
            methods: reading(),
            scheme: Scheme::Https,
            port: None,
            private: false,
            reason: String::new(),
        }
    }

    pub fn port(&self) -> u16 {
        self.port.unwrap_or_else(|| self.scheme.port())
    }

    pub(super) fn within(&self, granted: &Self) -> Option<Self> {
        let methods: BTreeSet<Method> = self.methods.intersection(&granted.methods).cloned().collect();
        if methods.is_empty() || self.scheme != granted.scheme || self.port() != granted.port() {
            return None;
        }
        let host = self.host.meet(&granted.host)?.clone();
        Some(Self { host, methods, private: self.private && granted.private, ..self.clone() })
    }

    pub(super) fn beyond(&self, granted: &[Self]) -> Option<Self> {
        let covered = |method: &Method| {
            granted.iter().any(|rule| {
                rule.host.covers(&self.host)
                    && rule.methods.contains(method)
                    && (rule.scheme, rule.port()) == (self.scheme, self.port())
                    && (rule.private || !self.private)
            })
        };
        let methods: BTreeSet<Method> =
            self.methods.iter().filter(|method| !covered(method)).cloned().collect();
        (!methods.is_empty()).then(|| Self { methods, ..self.clone() })
    }
}

impl fmt::Display for HttpRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let methods: Vec<&str> = self.methods.iter().map(Method::as_str).collect();
        write!(f, "send {} requests to {}", methods.join(", "), self.scheme.as_str())?;
        write!(f, "://{}", self.host)?;
        if let Some(port) = self.port.filter(|port| *port != self.scheme.port()) {
            write!(f, ":{port}")?;
        }
        if self.host.is_any() {
            f.write_str(" (every host)")?;
        }
        f.write_str(if self.private { ", also where that is inside your network" } else { "" })
    }
}

impl Method {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Method {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let legal =
            !text.is_empty() && text.len() <= 20 && text.bytes().all(|byte| byte.is_ascii_uppercase());
        // A tunnel and an echo of what was sent, injected secrets included.
        let reserved = ["CONNECT", "TRACE"].contains(&text.as_str());
        if legal && !reserved {
            return Ok(Self(text));
        }
        let shown = crate::escape::escaped(&text, 40);
        Err(format!(
            "`{shown}` is no method that can be granted: write it in capitals; CONNECT and TRACE cannot"
        ))
    }
}
