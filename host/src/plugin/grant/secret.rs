//! What is done for a plugin with a secret that it never sees.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::plugin::destination::Audience;

/// What happens with one secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "use", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SecretRule {
    /// The host sends it in a header of the plugin's requests to `audience`.
    Header {
        name: SecretName,
        audience: Audience,
        /// In small letters.
        header: HeaderWord,
        /// What stands before the secret, such as `Bearer `.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        prefix: String,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// The host computes HMAC-SHA-256 with it over what the plugin hands over.
    Hmac {
        name: SecretName,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
}

/// 1 to 64 of `[a-z0-9_-]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct SecretName(String);

/// A header's name in small letters. None that the protocol itself uses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct HeaderWord(String);

/// Headers that say where a message ends or goes: whoever sets them could make two requests of one.
const FRAMING: [&str; 9] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl SecretRule {
    pub fn name(&self) -> &SecretName {
        match self {
            Self::Header { name, .. } | Self::Hmac { name, .. } => name,
        }
    }

    pub(in crate::plugin) fn reason(&self) -> &String {
        match self {
            Self::Header { reason, .. } | Self::Hmac { reason, .. } => reason,
        }
    }

    /// The same but for the reason.
    pub(super) fn same_use(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Header { name, audience, header, prefix, .. },
                Self::Header { name: name2, audience: audience2, header: header2, prefix: prefix2, .. },
            ) => (name, audience, header, prefix) == (name2, audience2, header2, prefix2),
            (Self::Hmac { name, .. }, Self::Hmac { name: other, .. }) => name == other,
            (Self::Header { .. }, Self::Hmac { .. }) | (Self::Hmac { .. }, Self::Header { .. }) => false,
        }
    }
}

impl fmt::Display for SecretRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header { name, audience, header, .. } => {
                write!(f, "have the secret `{name}` sent to {audience} in the header `{header}`")
            }
            Self::Hmac { name, .. } => write!(f, "have texts signed with the secret `{name}` (HMAC-SHA-256)"),
        }
    }
}

impl SecretName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SecretName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let legal =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
        if (1..=64).contains(&text.len()) && text.bytes().all(legal) {
            return Ok(Self(text));
        }
        Err(format!(
            "`{}` is no name of a secret: use 1 to 64 of a-z, 0-9, - and _",
            crate::escape::escaped(&text, 64)
        ))
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl HeaderWord {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for HeaderWord {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let word = text.to_ascii_lowercase();
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if (1..=64).contains(&word.len()) && word.bytes().all(legal) && !FRAMING.contains(&word.as_str()) {
            return Ok(Self(word));
        }
        Err(format!("`{}` is no header that can carry a secret", crate::escape::escaped(&text, 64)))
    }
}

impl fmt::Display for HeaderWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
