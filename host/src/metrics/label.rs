//! Values of labels: words from closed lists, and names that somebody in charge chose.
//!
//! The encoder writes them as they are, so what is let in here has no character that would need an escape.

use crate::model::ModelError;
use crate::tool::OutcomeKind;

/// Stands for every name that has no series of its own.
pub(super) const OTHER: &str = "other";

/// Most model names with series of their own.
pub(super) const MAX_MODELS: usize = 100;

/// Whatever a denial can be about; a new one belongs here, or it is counted as [`OTHER`].
const CAPABILITIES: [&str; 7] =
    ["policy", "kv", "http", "secrets", "suspended-state", "revoked", "signature"];

/// A name of a sane length without quotes, backslashes or line feeds.
pub(super) fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/@+".contains(&byte);
    (1..=100).contains(&name.len()) && name.bytes().all(plain)
}

/// Which limit, trap or capability it was. A guest's own code is its own to choose, and stays out.
pub(super) fn detail(kind: &OutcomeKind) -> String {
    match kind {
        OutcomeKind::Limit { limit } => limit.word().to_owned(),
        OutcomeKind::Trap { trap } if is_plain(trap) => trap.clone(),
        OutcomeKind::Denied { capability: word } => capability(word),
        OutcomeKind::Trap { .. } => OTHER.to_owned(),
        OutcomeKind::Ok
        | OutcomeKind::ToolError
        | OutcomeKind::GuestFailure { .. }
        | OutcomeKind::InvalidArgs
        | OutcomeKind::InvalidOutput
        | OutcomeKind::Rejected
        | OutcomeKind::Cancelled
        | OutcomeKind::Interrupted
        | OutcomeKind::Unavailable
        | OutcomeKind::HostFault => String::new(),
    }
}

/// What a denial was about.
pub(super) fn capability(word: &str) -> String {
    let known = CAPABILITIES.into_iter().find(|known| *known == word);
    known.unwrap_or(OTHER).to_owned()
}

pub(super) fn model_outcome(error: Option<&ModelError>) -> &'static str {
    match error {
        None => "ok",
        Some(ModelError::NoApiKey { .. }) => "no-api-key",
        Some(ModelError::UnknownModel(_)) => "unknown-model",
        Some(ModelError::RateLimited { .. }) => "rate-limited",
        Some(ModelError::ContextOverflow(_)) => "context-overflow",
        Some(ModelError::Refused(_)) => "refused",
        Some(ModelError::Unavailable { .. }) => "unavailable",
        Some(ModelError::Malformed(_)) => "malformed",
    }
}

/// A client may send any word as its method.
pub(super) fn method(word: &str) -> &'static str {
    let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    known.into_iter().find(|known| *known == word).unwrap_or(OTHER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_denial_of_the_host_has_its_word_and_no_other_gets_one() {
        let denied = |capability: &str| detail(&OutcomeKind::Denied { capability: capability.to_owned() });
        for capability in ["http", "kv", "policy", "revoked", "secrets", "signature", "suspended-state"] {
            assert_eq!(denied(capability), capability);
        }
        assert_eq!(denied("what-a-guest-says"), OTHER);
    }
}
