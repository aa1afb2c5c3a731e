//! Whose signatures count: `plugin_signers`.
//!
//! With nobody named no signature is asked for, and one that is there is not checked. With somebody named there is no way in
//! for a component that none of them signed, for that plugin and exactly as it is.

use std::io::Cursor;

use minisign::PublicKey;

use super::signature::{KeyId, Signature, trusted_comment};
use crate::escape::escaped;

/// How a minisign public key begins: `Ed`, the signature algorithm.
const ALGORITHM: &[u8] = b"Ed";

/// The public keys of those who may sign plugins.
#[derive(Clone, Debug, Default)]
pub struct Signers(Vec<PublicKey>);

/// The signature that a component has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Where it was not checked: what the component says.
    pub by: KeyId,
    /// It is genuine, and by one of the signers.
    pub checked: bool,
}

/// No signature that counts.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    #[error(
        "it is not signed, and `plugin_signers` in the configuration asks for a signature with one of these keys: {accepted}. Sign it with `holdfast plugin sign FILE --key KEY`"
    )]
    Missing { accepted: String },
    #[error(
        "it is signed with the key {found}, which is not in `plugin_signers`; those are {accepted}. Have it signed with one of them (`holdfast plugin sign`), or add the public key of whom you trust"
    )]
    Stranger { found: KeyId, accepted: String },
    #[error(
        "its signature with the key {key} is not of these bytes: they were changed after it was signed. Get the file again, or sign it again with `holdfast plugin sign`"
    )]
    Broken { key: KeyId },
    #[error(
        "it was signed as `{comment}`, and this is `{expected}`: give it its name back, or sign it again under this one"
    )]
    OtherPlugin { comment: String, expected: String },
}

impl Signers {
    /// minisign public keys, `RW…`.
    pub fn parse(keys: &[String]) -> Result<Self, String> {
        if keys.is_empty() {
            return Err("names nobody, so no plugin could be loaded: leave it out to load plugins without a signature".to_owned());
        }
        let parse = |text: &String| {
            let key = PublicKey::from_base64(text).ok().filter(|key| key.to_bytes().starts_with(ALGORITHM));
            key.ok_or_else(|| {
                let text = escaped(text, 80);
                format!("\"{text}\" is no minisign public key: that is the second line of a .pub file, 56 characters from RW on")
            })
        };
        Ok(Self(keys.iter().map(parse).collect::<Result<_, _>>()?))
    }

    /// `component` is the whole file that `signature` was found in. None = it is not signed.
    pub(super) fn check(
        &self,
        plugin: &str,
        component: &[u8],
        signature: Option<&Signature>,
    ) -> Result<Option<Signed>, SignerError> {
        if self.0.is_empty() {
            return Ok(signature.map(|signature| Signed { by: signature.key, checked: false }));
        }
        let signature = signature.ok_or_else(|| SignerError::Missing { accepted: self.in_words() })?;
        let (found, signed) = (signature.key, &component[..signature.signed_bytes]);
        let mut keys = self.0.iter().filter(|key| KeyId::from(*key) == found).peekable();
        if keys.peek().is_none() {
            return Err(SignerError::Stranger { found, accepted: self.in_words() });
        }
        let fits = |key: &PublicKey| {
            minisign::verify(key, &signature.parsed, Cursor::new(signed), true, false, false).is_ok()
        };
        if !keys.any(fits) {
            return Err(SignerError::Broken { key: found });
        }
        let expected = trusted_comment(plugin);
        if signature.trusted_comment != expected {
            let comment = escaped(&signature.trusted_comment, 100);
            return Err(SignerError::OtherPlugin { comment, expected });
        }
        Ok(Some(Signed { by: found, checked: true }))
    }

    fn in_words(&self) -> String {
        let ids: Vec<String> = self.0.iter().map(|key| KeyId::from(key).to_string()).collect();
        ids.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use minisign::KeyPair;

    use super::*;

    #[test]
    fn a_mistake_in_a_key_is_named() {
        let refused = |keys: &[&str]| {
            Signers::parse(&keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>()).unwrap_err()
        };
        let good = KeyPair::generate_unencrypted_keypair().unwrap().pk.to_base64();
        assert!(Signers::parse(std::slice::from_ref(&good)).is_ok());
        assert!(refused(&[]).contains("names nobody"));
        for bad in ["", "RWQ", &good.replacen("RW", "AA", 1), &format!("{good}="), &good.replace('R', "*")] {
            assert!(refused(&[&good, bad]).contains("is no minisign public key"), "{bad}");
        }
    }
}
