//! What an operator set for one plugin: settings, which it reads, and secrets, which it never does.
//!
//! A secret leaves this module in two ways: into a header that the host writes (`egress`), and into an HMAC
//! (`secrets.rs`). It prints as dots and is never serialised.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::grant::SecretName;
use super::leak::Forms;

/// Shorter ones could not be told from chance in what a server sends.
pub(super) const MIN_SECRET: usize = 8;
const MAX_SECRET: usize = 4 << 10;

/// The value of one secret.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(Arc<str>);

impl SecretValue {
    /// The error reads after the value's name.
    pub fn new(text: &str) -> Result<Self, String> {
        if !(MIN_SECRET..=MAX_SECRET).contains(&text.len()) {
            return Err(format!(
                "must have {MIN_SECRET} to {MAX_SECRET} bytes: a shorter one cannot be guarded"
            ));
        }
        if text.contains('\0') {
            return Err("must not hold zero bytes".to_owned());
        }
        Ok(Self(text.into()))
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

/// Everything that was set, as one plugin's calls use it.
#[derive(Debug, Default)]
pub(super) struct Values {
    pub(super) config: BTreeMap<String, String>,
    pub(super) secrets: BTreeMap<SecretName, SecretValue>,
    /// None where there is nothing to look for.
    pub(super) forms: Option<Forms>,
}

impl Values {
    pub(super) fn new(config: BTreeMap<String, String>, secrets: BTreeMap<SecretName, SecretValue>) -> Self {
        Self { forms: Forms::of(&secrets), config, secrets }
    }
}
