//! The state of calls that wait for an answer: sealed, so that only this installation can read it, and only for
//! the very call, tool, plugin and question that it belongs to.
//!
//! The key is derived from the installation's random value. Nobody but the host ever holds the state in clear, and
//! a plugin gets back the bytes that it gave or nothing at all.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha2::Sha256;

use crate::clock::Timestamp;
use crate::id::{CallId, RunId};
use crate::tool::{SealedState, ToolName};

/// What the key is for: no other use of the installation's value derives the same one.
const PURPOSE: &[u8] = b"holdfast/suspended-state/1";

/// Long enough to be drawn at random for every state there will ever be.
const NONCE_BYTES: usize = 24;

/// What a state belongs to: where one of these is another, it does not open.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) run: &'a RunId,
    pub(super) call: &'a CallId,
    pub(super) tool: &'a ToolName,
    pub(super) digest: &'a str,
    /// A call that asks twice has two states.
    pub(super) round: u32,
    pub(super) expires_at: Timestamp,
    pub(super) prompt: &'a str,
    pub(super) answer_schema: &'a serde_json::Value,
}

impl Place<'_> {
    fn bytes(&self) -> Vec<u8> {
        // Canonical JSON exists for every `Value`: keys are strings and numbers are finite.
        let schema = serde_json_canonicalizer::to_vec(self.answer_schema).unwrap_or_default();
        let (tool, round) = (self.tool.to_string(), self.round.to_be_bytes());
        let expires_at = self.expires_at.as_millis().to_be_bytes();
        let parts = [
            self.run.as_str().as_bytes(),
            self.call.as_str().as_bytes(),
            tool.as_bytes(),
            self.digest.as_bytes(),
            &round,
            &expires_at,
            self.prompt.as_bytes(),
            &schema,
        ];
        let mut bytes = Vec::new();
        for part in parts {
            // Length first: no two different places give the same bytes.
            bytes.extend((part.len() as u64).to_be_bytes());
            bytes.extend(part);
        }
        bytes
    }
}

/// The state was not sealed here, or is not what was sealed.
#[derive(Debug, thiserror::Error)]
#[error("the sealed state does not open: it was changed, or belongs to another call, question or plugin")]
pub(super) struct Broken;

/// None: the machine has no random bytes to give.
pub(super) fn seal(installation: &[u8], place: &Place<'_>, state: &[u8]) -> Option<SealedState> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).ok()?;
    let aad = place.bytes();
    let payload = Payload { msg: state, aad: &aad };
    let sealed = cipher(installation)?.encrypt(&XNonce::from(nonce), payload).ok()?;
    Some(SealedState(STANDARD.encode([&nonce[..], &sealed].concat())))
}

pub(super) fn open(installation: &[u8], place: &Place<'_>, sealed: &SealedState) -> Result<Vec<u8>, Broken> {
    let bytes = STANDARD.decode(&sealed.0).map_err(|_| Broken)?;
    let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>().ok_or(Broken)?;
    let aad = place.bytes();
    let payload = Payload { msg: sealed, aad: &aad };
    let cipher = cipher(installation).ok_or(Broken)?;
    cipher.decrypt(&XNonce::from(*nonce), payload).map_err(|_| Broken)
}

fn cipher(installation: &[u8]) -> Option<XChaCha20Poly1305> {
    let mut key = [0; 32];
    // Fails for keys of more than 8160 bytes.
    Hkdf::<Sha256>::new(None, installation).expand(PURPOSE, &mut key).ok()?;
    Some(XChaCha20Poly1305::new(&Key::from(key)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_state_opens_where_it_was_sealed_and_nowhere_else() {
        let (run, call, tool) = (RunId::from("r"), CallId::from("c"), "p__t".parse().unwrap());
        let schema = json!({"type": "string"});
        let place = Place {
            run: &run,
            call: &call,
            tool: &tool,
            digest: "d",
            round: 1,
            expires_at: Timestamp::from_millis(5),
            prompt: "When?",
            answer_schema: &schema,
        };
        let sealed = seal(b"installation", &place, b"state").unwrap();
        assert!(!STANDARD.decode(&sealed.0).unwrap().windows(5).any(|part| part == b"state"));
        assert_eq!(open(b"installation", &place, &sealed).unwrap(), b"state");

        let (other_run, other_call) = (RunId::from("rc"), CallId::from(""));
        let (other_tool, other_schema) = ("p__u".parse().unwrap(), json!({}));
        let elsewhere = [
            Place { run: &other_run, ..place },
            Place { run: &other_run, call: &other_call, ..place },
            Place { tool: &other_tool, ..place },
            Place { digest: "e", ..place },
            Place { round: 2, ..place },
            Place { expires_at: Timestamp::from_millis(6), ..place },
            Place { prompt: "Where?", ..place },
            Place { answer_schema: &other_schema, ..place },
        ];
        for (n, other) in elsewhere.iter().enumerate() {
            assert!(open(b"installation", other, &sealed).is_err(), "{n}");
        }
        assert!(open(b"another", &place, &sealed).is_err());
    }

    #[test]
    fn no_byte_of_a_state_can_be_changed() {
        let (run, call, tool) = (RunId::from("r"), CallId::from("c"), "p__t".parse().unwrap());
        let schema = json!({});
        let place = Place {
            run: &run,
            call: &call,
            tool: &tool,
            digest: "d",
            round: 1,
            expires_at: Timestamp::from_millis(5),
            prompt: "",
            answer_schema: &schema,
        };
        let sealed = STANDARD.decode(seal(b"i", &place, b"state").unwrap().0).unwrap();
        for at in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1;
            assert!(open(b"i", &place, &SealedState(STANDARD.encode(flipped))).is_err(), "{at}");
        }
        for text in ["", "AAAA", "no base64!"] {
            assert!(open(b"i", &place, &SealedState(text.to_owned())).is_err());
        }
    }
}
