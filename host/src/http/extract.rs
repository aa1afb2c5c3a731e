//! What handlers take from a request: the caller, and a JSON body whose mistakes are named by field.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::App;
use super::problem::{Kind, Problem};
use crate::key::{Principal, Role, Token};
use crate::store::KeyClaim;
use crate::tool::hex;

/// Who is calling.
pub(crate) struct Caller(pub(crate) Principal);

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let header = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = header.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
        let Some(token) = token.filter(|token| !token.is_empty()) else {
            return Err(Problem::new(
                Kind::Unauthorized,
                "Send `Authorization: Bearer <token>`. `holdfast key create` makes a token.",
            ));
        };
        // Comparing hashes tells nothing about how much of a guess was right.
        let hash = Token::hash(token);
        if app.admin_token_hash.as_deref() == Some(hash.as_str()) {
            app.rate.take(None).map_err(Problem::too_many_requests)?;
            return Ok(Self(Principal::bootstrap()));
        }
        let Some(key) = app.store.key(&hash).await? else {
            return Err(Problem::new(Kind::Unauthorized, "The token is unknown or was revoked."));
        };
        app.rate.take(Some(&key.id)).map_err(Problem::too_many_requests)?;
        Ok(Self(key.into()))
    }
}

/// Who is calling, where that is an admin. Stands before the body: nobody else learns what is wrong with theirs.
pub(crate) struct Admin(pub(crate) Principal);

impl FromRequestParts<App> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Caller(principal) = Caller::from_request_parts(parts, app).await?;
        if principal.role >= Role::Admin {
            return Ok(Self(principal));
        }
        Err(Problem::new(Kind::Forbidden, "This needs a key with the role admin."))
    }
}

/// A JSON object, and the bytes it came from.
pub(crate) struct JsonBody<T> {
    pub(crate) value: T,
    pub(crate) bytes: Bytes,
}

impl<T: DeserializeOwned> FromRequest<App> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        if !is_json(&request) {
            return Err(Problem::new(
                Kind::UnsupportedMediaType,
                "Send JSON with `Content-Type: application/json`.",
            ));
        }
        let bytes = Bytes::from_request(request, app).await.map_err(|rejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                let limit = app.limits.body_bytes;
                Problem::new(Kind::PayloadTooLarge, format!("The body may have {limit} bytes at most."))
            } else {
                Problem::new(Kind::MalformedBody, "The body ended early. Send it again.")
            }
        })?;
        let value = parse(&bytes)?;
        Ok(Self { value, bytes })
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // First as any JSON: the words for syntax errors are about the text, not about our types.
    let json: serde_json::Value = serde_json::from_slice(bytes).map_err(|error| {
        Problem::new(Kind::MalformedBody, format!("The body is not valid JSON: {error}."))
    })?;
    if !json.is_object() {
        return Err(Problem::new(Kind::MalformedBody, "The body must be a JSON object."));
    }
    serde_path_to_error::deserialize(json).map_err(|error| {
        // serde names numbers by Rust's types.
        let message = error.inner().to_string().replace("expected f64", "expected a number");
        let message = message.replace("expected i64", "expected an integer");
        // A missing field is reported at its parent; its name is in the message.
        let missing = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
        let parent = error.path().to_string();
        let (field, message) = match (missing, parent.as_str()) {
            (Some(name), ".") => (name.to_owned(), "is required".to_owned()),
            (Some(name), parent) => (format!("{parent}.{name}"), "is required".to_owned()),
            (None, _) => (parent, message),
        };
        Problem::invalid_param(&field, message)
    })
}

fn is_json(request: &Request) -> bool {
    let value = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence =
        value.and_then(|value| value.split(';').next()).map(|value| value.trim().to_ascii_lowercase());
    essence.is_some_and(|essence| {
        essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
    })
}

/// The request's `Idempotency-Key`, if any.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
pub(crate) struct IdempotencyKey {
    /// 1 to 255 visible characters, one per request that you mean: a repeat with the same body answers
    /// with the original run.
    #[param(rename = "Idempotency-Key", required = false)]
    key: Option<String>,
    /// Method and path: the same key on another call is another request.
    #[param(ignore)]
    call: String,
}

impl FromRequestParts<App> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Problem> {
        let call = format!("{} {}", parts.method, parts.uri.path());
        let Some(value) = parts.headers.get("idempotency-key") else { return Ok(Self { key: None, call }) };
        let key = value.to_str().unwrap_or_default().trim();
        if key.is_empty() || key.len() > 255 {
            return Err(Problem::invalid_param(
                "Idempotency-Key",
                "must have 1 to 255 visible ASCII characters",
            ));
        }
        Ok(Self { key: Some(key.to_owned()), call })
    }
}

impl IdempotencyKey {
    pub(crate) fn claim(self, app: &App, principal: &Principal, body: &[u8]) -> Option<KeyClaim> {
        let key = self.key?;
        let mut hash = Sha256::new();
        hash.update(self.call.as_bytes());
        hash.update([0]);
        hash.update(body);
        Some(KeyClaim {
            org: principal.owner.org.clone(),
            user: principal.owner.user.clone(),
            key,
            request: hex(&hash.finalize()),
            decides: Vec::new(),
            at: app.clock.now(),
        })
    }
}

/// Parameters from the query string.
pub(crate) struct QueryParams<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<App> for QueryParams<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Problem> {
        match axum::extract::Query::<T>::try_from_uri(&parts.uri) {
            Ok(query) => Ok(Self(query.0)),
            Err(rejection) => {
                let text = rejection.body_text();
                let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
                let (field, message) = text.split_once(": ").unwrap_or(("query", text));
                Err(Problem::invalid_param(field, message))
            }
        }
    }
}
