//! Where webhooks go, and the secret that signs them.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use url::Url;

use crate::id::OrgId;
use crate::notice::{Content, NoticeKind, Subscription};
use crate::outbound::{self, Reach};

/// One configured receiver.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub id: String,
    pub url: Url,
    pub secret: Secret,
    pub events: Vec<NoticeKind>,
    /// Only this tenant's events; none = everybody's.
    pub org: Option<OrgId>,
    /// Also plain http and addresses that are not public.
    pub allow_private: bool,
    /// Also what people and models said.
    pub include_content: bool,
}

/// Why an endpoint cannot be used; reads after its field's name.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    #[error("id must have 1 to 64 letters, digits, `-` and `_`")]
    Id,
    #[error("url {0}{hint}", hint = if *.0 == PRIVATE { " (allow_private = true permits it)" } else { "" })]
    Url(&'static str),
    #[error(
        "the secret must be `whsec_` and 24 to 64 bytes in base64: `echo whsec_$(openssl rand -base64 32)`"
    )]
    Secret,
}

/// Fewest and most bytes of a secret, of the specification.
const FEWEST: usize = 24;
const MOST: usize = 64;

const PRIVATE: &str = "must not point to a private address";

impl Endpoint {
    /// Whether webhooks can be sent there at all.
    pub fn check(&self) -> Result<(), EndpointError> {
        let id_is_legal = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
        if self.id.is_empty() || self.id.len() > 64 || !self.id.bytes().all(id_is_legal) {
            return Err(EndpointError::Id);
        }
        outbound::check_url(&self.url, self.reach()).map_err(EndpointError::Url)
    }

    pub fn subscription(&self) -> Subscription {
        Subscription {
            endpoint: self.id.clone(),
            events: self.events.clone(),
            org: self.org.clone(),
            content: if self.include_content { Content::Included } else { Content::LeftOut },
        }
    }

    pub(super) fn reach(&self) -> Reach {
        Reach::allowing_private(self.allow_private)
    }
}

/// The key that an endpoint shares with this server.
#[derive(Clone)]
pub struct Secret(Hmac<Sha256>);

impl Secret {
    /// `whsec_` and base64.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let encoded = text.trim().strip_prefix("whsec_").ok_or(EndpointError::Secret)?;
        let key = STANDARD.decode(encoded).map_err(|_| EndpointError::Secret)?;
        if !(FEWEST..=MOST).contains(&key.len()) {
            return Err(EndpointError::Secret);
        }
        Hmac::new_from_slice(&key).map(Self).map_err(|_| EndpointError::Secret)
    }

    /// The header `webhook-signature`.
    pub(super) fn sign(&self, id: &str, timestamp: i64, body: &str) -> String {
        let mut mac = self.0.clone();
        mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the reference libraries check themselves with, in github.com/standard-webhooks/standard-webhooks:
    /// `test_sign_function` of `libraries/python/tests/test_webhooks.py`, `test_sign` of
    /// `libraries/rust/src/lib.rs`.
    #[test]
    fn signatures_are_those_of_the_reference_libraries() {
        let vectors = [
            (
                "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                r#"{"test": 2432232314}"#,
                "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            ),
            (
                "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
                "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
                1_649_367_553,
                r#"{"email":"test@example.com","username":"test_user"}"#,
                "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
            ),
        ];
        for (secret, id, timestamp, body, signature) in vectors {
            assert_eq!(Secret::parse(secret).unwrap().sign(id, timestamp, body), signature);
        }
    }

    #[test]
    fn weak_and_misspelt_secrets_are_refused_and_none_is_shown() {
        for bad in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_c2hvcnQ=", "whsec_!!!"] {
            let error = Secret::parse(bad).unwrap_err().to_string();
            assert!(error.contains("openssl"), "{error}");
        }
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }
}
