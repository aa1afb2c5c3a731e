//! A component's signature: a `.minisig` file's text in a custom section of its own, over every byte before it.
//!
//! So one file stays the whole plugin, whichever way it comes. There is one encoding of each signature and one
//! place for it: with the section cut off, exactly the signed bytes are left, and no byte of the file can change
//! without being noticed. Whose signatures count is `signers.rs`'s business. Everything in it is guest-controlled.

use std::borrow::Cow;
use std::fmt;
use std::io::Cursor;

use minisign::{PublicKey, SecretKey, SignatureBox};
use wasm_encoder::{ComponentSection as _, CustomSection};
use wasmparser::CustomSectionReader;

use super::inspect::inspect;
use super::load::LoadError;
use crate::escape::escaped;

/// The custom section's name.
pub(super) const SECTION: &str = "holdfast:signature";

/// Largest section. A signature has about 300 bytes.
const MAX_BYTES: usize = 1 << 10;
/// What a `.minisig` file holds unsigned. Always this: with another one the file would be another one, too.
const UNTRUSTED_COMMENT: &str = "signature of a Holdfast plugin";
/// Base64 of algorithm, key id and signature, and of the signature over that and the trusted comment.
const SIGNATURE_CHARACTERS: usize = 100;
const GLOBAL_CHARACTERS: usize = 88;

/// What minisign shows of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyId(u64);

impl KeyId {
    /// Eight bytes.
    fn new(bytes: &[u8]) -> Self {
        Self(bytes.iter().rev().fold(0, |id, byte| (id << 8) | u64::from(*byte)))
    }
}

impl From<&PublicKey> for KeyId {
    fn from(key: &PublicKey) -> Self {
        Self::new(key.keynum())
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", self.0)
    }
}

/// Reads after "its signature".
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    #[error("has {0} bytes; the most is {MAX_BYTES}")]
    TooBig(usize),
    #[error("is not text")]
    NotText,
    #[error("is there twice")]
    Twice,
    #[error(
        "is not at the very end of the component, where `holdfast plugin sign` puts it: sign the component when nothing is added to it any more"
    )]
    Misplaced,
    #[error("cannot be read: {0}")]
    Invalid(String),
}

/// Well-formed, and not checked.
pub(super) struct Signature {
    pub(super) parsed: SignatureBox,
    pub(super) key: KeyId,
    pub(super) trusted_comment: String,
    /// The component without the section.
    pub(super) signed_bytes: usize,
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signature").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Signature {
    /// `component` is the whole file.
    pub(super) fn from_section(
        component: &[u8],
        section: &CustomSectionReader<'_>,
    ) -> Result<Self, SignatureError> {
        let data = section.data();
        if data.len() > MAX_BYTES {
            return Err(SignatureError::TooBig(data.len()));
        }
        let text = std::str::from_utf8(data).map_err(|_| SignatureError::NotText)?;
        let encoded = encoded(text);
        // A length written with more bytes than it needs ends in a zero, the shortest way does not: where the file
        // ends with the encoding, the section begins there.
        if section.range().end != component.len() || !component.ends_with(&encoded) {
            return Err(SignatureError::Misplaced);
        }
        let parsed = parse(text)?;
        let trusted_comment = parsed.trusted_comment().map_err(|error| invalid(&error))?;
        let key = KeyId::new(parsed.keynum());
        Ok(Self { parsed, key, trusted_comment, signed_bytes: component.len() - encoded.len() })
    }
}

/// What the signature of a plugin says besides its bytes, so that a component without a manifest cannot be
/// renamed into another plugin.
pub(super) fn trusted_comment(plugin: &str) -> String {
    format!("plugin:{plugin}")
}

/// The component of that plugin with a signature at its end, in the place of the one that it had.
pub fn sign(component: &[u8], plugin: &str, key: &SecretKey) -> Result<Vec<u8>, LoadError> {
    let before = inspect(component)?.signature;
    let signed = before.map_or(component, |before| &component[..before.signed_bytes]);
    let comment = trusted_comment(plugin);
    let signature = minisign::sign(None, key, Cursor::new(signed), Some(&comment), Some(UNTRUSTED_COMMENT))
        .map_err(|error| invalid(&error))?;
    Ok([signed, &encoded(&signature.to_string())].concat())
}

/// The section, its header included.
fn encoded(text: &str) -> Vec<u8> {
    let mut section = Vec::new();
    CustomSection { name: Cow::Borrowed(SECTION), data: Cow::Borrowed(text.as_bytes()) }
        .append_to_component(&mut section);
    section
}

/// There is one text for each signature.
fn parse(text: &str) -> Result<SignatureBox, SignatureError> {
    let form =
        || SignatureError::Invalid("it is not in the form that `holdfast plugin sign` writes".to_owned());
    let lines: Vec<&str> = text.lines().collect();
    let [_, signature, _, global] = lines[..] else { return Err(form()) };
    // The library looks at 64 bytes of the global signature, and at no more or fewer.
    let whole = signature.len() == SIGNATURE_CHARACTERS
        && global.len() == GLOBAL_CHARACTERS
        && global.ends_with("==");
    if !whole {
        return Err(form());
    }
    let parsed = SignatureBox::from_string(text).map_err(|error| invalid(&error))?;
    let comment = parsed.untrusted_comment().map_err(|error| invalid(&error))?;
    if comment != UNTRUSTED_COMMENT || parsed.to_string() != text {
        return Err(form());
    }
    Ok(parsed)
}

fn invalid(error: &minisign::PError) -> SignatureError {
    SignatureError::Invalid(escaped(&error.to_string(), 200))
}
