//! Failed calls: what kind of failure, and what to say about it.
//!
//! genai's own error texts hold whole requests and URLs and are never shown; only what the provider said is.

use ::genai::{Error, webc};
use reqwest::header::HeaderMap;
use serde_json::Value;

use super::reply;
use crate::model::ModelError;
use crate::model::provider::key_hint;
use crate::session::Reply;

/// A reply all the same where only one of its calls could not be read.
pub(super) fn read(error: Error, provider: &str) -> Result<Reply, ModelError> {
    Err(match error {
        Error::WebModelCall { webc_error, .. } | Error::WebAdapterCall { webc_error, .. } => {
            from_web(webc_error, provider)
        }
        Error::HttpError { status, body, headers, .. } => {
            from_status(status.as_u16(), &headers, &body, provider)
        }
        Error::ChatResponseGeneration { response_body, .. } => return from_body(&response_body),
        Error::ChatResponse { body, .. } => {
            in_body(&body).unwrap_or_else(|| ModelError::Malformed("it holds no answer".to_owned()))
        }
        Error::WebStream { error, .. } => from_stream(error, provider),
        Error::StreamParse { .. } => ModelError::Malformed("it is not JSON".to_owned()),
        // The rest is about requests that were never sent.
        _ => ModelError::Refused("this conversation cannot be put into the provider's format".to_owned()),
    })
}

/// What an answer with status 200 holds that genai makes no reply of.
fn from_body(body: &Value) -> Result<Reply, ModelError> {
    if let Some(error) = in_body(body) {
        return Err(error);
    }
    if body.pointer("/promptFeedback/blockReason").is_some() {
        return Err(ModelError::Refused("its content filter stopped the request".to_owned()));
    }
    reply::salvage(body).ok_or_else(|| ModelError::Malformed("it is not in the provider's format".to_owned()))
}

fn from_web(error: webc::Error, provider: &str) -> ModelError {
    match error {
        webc::Error::ResponseFailedStatus { status, body, headers } => {
            from_status(status.as_u16(), &headers, &body, provider)
        }
        webc::Error::ResponseFailedNotJson { .. }
        | webc::Error::ResponseFailedInvalidJson { .. }
        | webc::Error::JsonValueExt(_) => ModelError::Malformed("it is not JSON".to_owned()),
        webc::Error::Reqwest(error) => {
            ModelError::Unavailable { message: connection(&error).to_owned(), retry_after_ms: None }
        }
    }
}

fn from_stream(error: Box<dyn std::error::Error + Send + Sync>, provider: &str) -> ModelError {
    let error = match error.downcast::<Error>() {
        Ok(error) => {
            return match *error {
                Error::HttpError { status, body, headers, .. } => {
                    from_status(status.as_u16(), &headers, &body, provider)
                }
                _ => ModelError::Malformed("it is not in the provider's format".to_owned()),
            };
        }
        Err(error) => error,
    };
    let message = error.downcast_ref::<reqwest::Error>().map_or("the connection broke off", connection);
    ModelError::Unavailable { message: message.to_owned(), retry_after_ms: None }
}

/// Without the URL, which reqwest's own text names.
fn connection(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "it did not answer in time"
    } else if error.is_connect() {
        "no connection can be made to it"
    } else {
        "the connection broke off"
    }
}

fn from_status(status: u16, headers: &HeaderMap, body: &str, provider: &str) -> ModelError {
    let value: Value = serde_json::from_str(body).unwrap_or(Value::Null);
    let said = said(&value).unwrap_or_else(|| plain(body));
    let message = if said.is_empty() { format!("HTTP {status}") } else { format!("HTTP {status}: {said}") };
    let error = classify(status, message, body, retry_after(headers));
    match status {
        401 | 403 => error.map_message(|text| format!("{text} (is the key right? {})", key_hint(provider))),
        300..=399 => {
            error.map_message(|text| format!("{text} (redirects are not followed: correct base_url)"))
        }
        _ => error,
    }
}

fn classify(status: u16, message: String, body: &str, retry_after_ms: Option<u64>) -> ModelError {
    match status {
        429 if body.contains("insufficient_quota") => ModelError::Refused(message),
        // llama.cpp says 500 to an image for a text model, and would say it again.
        500 if body.contains("is not supported") => ModelError::Refused(message),
        429 => ModelError::RateLimited { message, retry_after_ms },
        401 | 403 => ModelError::Refused(message),
        408 | 500.. => ModelError::Unavailable { message, retry_after_ms },
        _ if overflows(body) => ModelError::ContextOverflow(message),
        _ => ModelError::Refused(message),
    }
}

/// How providers say that the conversation is too long.
fn overflows(body: &str) -> bool {
    const MARKS: [&str; 6] = [
        "context_length_exceeded",
        "exceed_context_size_error",
        "maximum context length",
        "prompt is too long",
        "input token count",
        "context window",
    ];
    let body = body.to_lowercase();
    MARKS.iter().any(|mark| body.contains(mark))
}

/// An error with status 200, as gateways and streams that broke off send it.
pub(super) fn in_body(body: &Value) -> Option<ModelError> {
    let error = body.get("error").filter(|error| !error.is_null())?;
    let message = said(body).unwrap_or_else(|| "it sent an error without a message".to_owned());
    let text = error.to_string();
    let code = error.get("code").or_else(|| error.get("status"));
    let number = code.and_then(|code| code.as_u64().or_else(|| code.as_str()?.parse().ok()));
    let status = match number.and_then(|number| u16::try_from(number).ok()) {
        Some(status @ 400..=599) => status,
        _ if overflows(&text) => 400,
        _ if text.contains("rate_limit") => 429,
        _ if text.contains("invalid_request") || text.contains("authentication") => 400,
        _ => 500,
    };
    Some(classify(status, message, &text, None))
}

/// The message in one of the shapes that providers use.
fn said(body: &Value) -> Option<String> {
    let body = body.get(0).unwrap_or(body);
    let error = body.get("error").unwrap_or(body);
    let message = error
        .as_str()
        .or_else(|| error.get("message")?.as_str())
        .or_else(|| body.get("message")?.as_str())
        .or_else(|| body.get("detail")?.as_str())?;
    Some(message.to_owned())
}

/// Text that is no page of HTML.
fn plain(body: &str) -> String {
    if body.trim_start().starts_with(['<', '{', '[']) { String::new() } else { body.to_owned() }
}

/// `retry-after-ms`, or `retry-after` in seconds or as a date, which is read against the answer's own date:
/// the two clocks need not agree.
fn retry_after(headers: &HeaderMap) -> Option<u64> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    if let Some(ms) = text("retry-after-ms").and_then(millis) {
        return Some(ms);
    }
    let value = text("retry-after")?;
    if let Some(ms) = millis(value).map(|seconds| seconds.saturating_mul(1000)) {
        return match value.split_once('.') {
            // Fractions of a second are rounded up.
            Some(_) => Some(ms.saturating_add(1000)),
            None => Some(ms),
        };
    }
    let until = jiff::fmt::rfc2822::parse(value).ok()?.timestamp().as_millisecond();
    let now = jiff::fmt::rfc2822::parse(text("date")?).ok()?.timestamp().as_millisecond();
    Some(u64::try_from(until.saturating_sub(now)).unwrap_or(0))
}

/// The whole part of a number.
fn millis(text: &str) -> Option<u64> {
    text.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), reqwest::header::HeaderValue::from_static(value)));
        pairs.collect()
    }

    #[test]
    fn retry_after_comes_in_four_forms() {
        let date = ("date", "Wed, 21 Oct 2026 07:28:00 GMT");
        for (given, expected) in [
            (headers(&[("retry-after", "7")]), Some(7000)),
            (headers(&[("retry-after", "0.4")]), Some(1000)),
            (headers(&[("retry-after-ms", "250"), ("retry-after", "7")]), Some(250)),
            (headers(&[("retry-after", "Wed, 21 Oct 2026 07:28:30 GMT"), date]), Some(30_000)),
            (headers(&[("retry-after", "Wed, 21 Oct 2026 07:27:30 GMT"), date]), Some(0)),
            (headers(&[("retry-after", "Wed, 21 Oct 2026 07:28:30 GMT")]), None),
            (headers(&[("retry-after", "soon")]), None),
            (headers(&[]), None),
        ] {
            assert_eq!(retry_after(&given), expected, "{given:?}");
        }
    }

    fn name(error: &ModelError) -> &'static str {
        match error {
            ModelError::NoApiKey { .. } => "key",
            ModelError::UnknownModel(_) => "unknown",
            ModelError::RateLimited { .. } => "limited",
            ModelError::ContextOverflow(_) => "overflow",
            ModelError::Refused(_) => "refused",
            ModelError::Unavailable { .. } => "unavailable",
            ModelError::Malformed(_) => "malformed",
        }
    }

    #[test]
    fn every_status_has_its_kind() {
        for (status, body, kind, text) in [
            (
                500,
                r#"{"error":{"code":500,"message":"image input is not supported"}}"#,
                "refused",
                "image input",
            ),
            (400, r#"{"error":{"message":"bad tools"}}"#, "refused", "HTTP 400: bad tools"),
            (
                400,
                r#"{"error":{"code":400,"type":"exceed_context_size_error","message":"too big","n_ctx":8}}"#,
                "overflow",
                "too big",
            ),
            (
                400,
                r#"{"error":{"message":"This model's maximum context length is 8192 tokens"}}"#,
                "overflow",
                "8192",
            ),
            (
                400,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 9 > 8"}}"#,
                "overflow",
                "9 > 8",
            ),
            (400, r#"[{"error":{"message":"The input token count (9) exceeds"}}]"#, "overflow", "(9)"),
            (
                401,
                r#"{"error":{"message":"bad key","type":"authentication_error"}}"#,
                "refused",
                "set OPENAI_API_KEY or",
            ),
            (404, r#"{"error":"model \"x\" not found"}"#, "refused", "not found"),
            (307, "", "refused", "redirects are not followed"),
            (422, r#"{"detail":"no"}"#, "refused", "HTTP 422: no"),
            (429, "", "limited", "HTTP 429"),
            (429, r#"{"error":{"code":"insufficient_quota","message":"pay"}}"#, "refused", "pay"),
            (
                500,
                r#"{"error":{"code":500,"message":"Failed to parse tools"}}"#,
                "unavailable",
                "parse tools",
            ),
            (502, "<html>secret stack</html>", "unavailable", "HTTP 502"),
            (503, "Loading model", "unavailable", "Loading model"),
            (
                529,
                r#"{"error":{"type":"overloaded_error","message":"Overloaded"}}"#,
                "unavailable",
                "Overloaded",
            ),
        ] {
            let error = from_status(status, &HeaderMap::new(), body, "openai");
            assert_eq!(name(&error), kind, "{status} {body}");
            assert!(error.to_string().contains(text), "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn errors_with_status_200_are_told_apart_too() {
        for (body, kind) in [
            (r#"{"error":{"code":502,"message":"upstream"}}"#, "unavailable"),
            (r#"{"error":{"code":"429","message":"slow"}}"#, "limited"),
            (r#"{"error":{"type":"rate_limit_error","message":"slow"}}"#, "limited"),
            (r#"{"error":{"type":"exceed_context_size_error","message":"big"}}"#, "overflow"),
            (r#"{"error":{"type":"invalid_request_error","message":"no"}}"#, "refused"),
            (r#"{"error":"broken"}"#, "unavailable"),
        ] {
            let error = in_body(&serde_json::from_str(body).unwrap()).unwrap();
            assert_eq!(name(&error), kind, "{body}");
        }
        assert_eq!(in_body(&serde_json::json!({"error": null})), None);
    }
}
