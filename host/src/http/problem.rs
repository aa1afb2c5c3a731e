//! Errors as callers see them: RFC 9457 problem documents with stable types.
//!
//! A handler returns a [`Problem`]; the middleware [`finish`] writes it out, since only it knows the
//! request's path and id. Details that are the operator's business are logged here, once, and never sent.

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::id::RunId;
use crate::runner::{DecideError, StartError};
use crate::store::StoreError;
use crate::tool::Question;

/// When to try again after the queue was full.
const QUEUE_RETRY_AFTER_S: u64 = 5;

/// An error response.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    kind: Kind,
    detail: String,
    extra: Map<String, Value>,
    retry_after_s: Option<u64>,
}

/// The stable types, as `urn:problem-type:<kebab>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    BusinessValidation,
    InvalidRequest,
    MalformedBody,
    Unauthorized,
    Forbidden,
    ResourceNotFound,
    NotFound,
    MethodNotAllowed,
    RunNotPaused,
    ApprovalExpired,
    IdempotencyKeyReuse,
    SessionBusy,
    SessionPaused,
    RateLimitExceeded,
    PayloadTooLarge,
    AgentExists,
    AgentInUse,
    AgentDeleted,
    AgentReadOnly,
    PluginChanged,
    PluginRevoked,
    PluginRefused,
    UnsupportedMediaType,
    ServiceUnavailable,
    Internal,
}

impl Kind {
    fn parts(self) -> (&'static str, StatusCode, &'static str) {
        match self {
            Self::BusinessValidation => {
                ("business-validation-error", StatusCode::BAD_REQUEST, "The request cannot be carried out")
            }
            Self::InvalidRequest => ("invalid-request", StatusCode::BAD_REQUEST, "The request is not valid"),
            Self::MalformedBody => {
                ("malformed-request-body", StatusCode::BAD_REQUEST, "The request body cannot be read")
            }
            Self::Unauthorized => ("unauthorized", StatusCode::UNAUTHORIZED, "Authentication is required"),
            Self::Forbidden => ("forbidden", StatusCode::FORBIDDEN, "This is not allowed"),
            Self::ResourceNotFound => {
                ("resource-not-found", StatusCode::NOT_FOUND, "There is no such object")
            }
            Self::NotFound => ("not-found", StatusCode::NOT_FOUND, "There is nothing at this path"),
            Self::MethodNotAllowed => {
                ("method-not-allowed", StatusCode::METHOD_NOT_ALLOWED, "This path does not take this method")
            }
            Self::RunNotPaused => {
                ("run-not-paused", StatusCode::CONFLICT, "The run does not wait for this decision")
            }
            Self::ApprovalExpired => ("approval-expired", StatusCode::GONE, "The approval has expired"),
            Self::IdempotencyKeyReuse => (
                "idempotency-key-reuse",
                StatusCode::UNPROCESSABLE_ENTITY,
                "The idempotency key belongs to another request",
            ),
            Self::SessionBusy => {
                ("session-busy", StatusCode::CONFLICT, "Another run of the session is under way")
            }
            Self::SessionPaused => {
                ("session-paused", StatusCode::CONFLICT, "A run of the session waits for a decision")
            }
            Self::RateLimitExceeded => {
                ("rate-limit-exceeded", StatusCode::TOO_MANY_REQUESTS, "Too many requests")
            }
            Self::PayloadTooLarge => {
                ("payload-too-large", StatusCode::PAYLOAD_TOO_LARGE, "The request body is too large")
            }
            Self::UnsupportedMediaType => (
                "unsupported-media-type",
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "The request body is of the wrong media type",
            ),
            Self::AgentExists => ("agent-exists", StatusCode::CONFLICT, "There is an agent of this id"),
            Self::AgentInUse => ("agent-in-use", StatusCode::CONFLICT, "The agent has runs under way"),
            Self::AgentDeleted => ("agent-deleted", StatusCode::CONFLICT, "The agent was deleted"),
            Self::AgentReadOnly => {
                ("agent-read-only", StatusCode::CONFLICT, "The agent cannot be changed over HTTP")
            }
            Self::PluginChanged => {
                ("plugin-changed", StatusCode::CONFLICT, "Another version of the plugin is installed")
            }
            Self::PluginRevoked => ("plugin-revoked", StatusCode::CONFLICT, "This version was revoked"),
            Self::PluginRefused => (
                "plugin-refused",
                StatusCode::UNPROCESSABLE_ENTITY,
                "The component is not a plugin of this host",
            ),
            Self::ServiceUnavailable => {
                ("service-unavailable", StatusCode::SERVICE_UNAVAILABLE, "The server takes no new work now")
            }
            Self::Internal => (
                "internal-server-error",
                StatusCode::INTERNAL_SERVER_ERROR,
                "Something went wrong in the server",
            ),
        }
    }
}

/// One field that is not as it should be.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct InvalidParam {
    /// Where, such as `options.temperature` or `media[0].data`.
    pub(crate) field: String,
    /// What is wrong and what to write instead.
    pub(crate) message: String,
}

impl InvalidParam {
    pub(crate) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// The document that every error response carries (RFC 9457).
#[derive(ToSchema)]
#[schema(as = Problem)]
#[expect(dead_code, reason = "describes the document for OpenAPI; it is written from `Problem`")]
pub(crate) struct ProblemDocument {
    /// `urn:problem-type:` and a stable word.
    #[schema(example = "urn:problem-type:invalid-request")]
    r#type: String,
    title: String,
    /// The HTTP status.
    status: u16,
    /// What is wrong with this request, and what to do.
    detail: String,
    /// The request's path.
    instance: String,
    /// The same as in the response header `x-request-id` and in the server's log.
    #[schema(required = true)]
    request_id: Option<String>,
    invalid_params: Option<Vec<InvalidParam>>,
    /// The run's status, of `run-not-paused`.
    current_status: Option<String>,
    /// Which run is in the way, of `session-busy` and `session-paused`.
    run_id: Option<String>,
}

impl Problem {
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), extra: Map::new(), retry_after_s: None }
    }

    pub(crate) fn invalid(params: &[InvalidParam]) -> Self {
        let detail =
            params.iter().map(|p| format!("{}: {}", p.field, p.message)).collect::<Vec<_>>().join("; ");
        Self::new(Kind::InvalidRequest, detail).with("invalidParams", json!(params))
    }

    pub(crate) fn invalid_param(field: &str, message: impl Into<String>) -> Self {
        Self::invalid(&[InvalidParam::new(field, message)])
    }

    pub(crate) fn no_such(what: &str) -> Self {
        Self::new(Kind::ResourceNotFound, format!("There is no such {what}."))
    }

    pub(crate) fn draining() -> Self {
        let mut problem =
            Self::new(Kind::ServiceUnavailable, "The server is shutting down. Try again in a moment.");
        problem.retry_after_s = Some(5);
        problem
    }

    /// One key's share is used up; there is more after this many seconds.
    pub(crate) fn too_many_requests(seconds: u64) -> Self {
        let detail = format!("This key has made too many requests. Try again in {seconds} s.");
        Self::rate_limited(detail, seconds)
    }

    /// The caller may try again after so many seconds.
    pub(crate) fn rate_limited(detail: impl Into<String>, retry_after_s: u64) -> Self {
        let mut problem = Self::new(Kind::RateLimitExceeded, detail);
        problem.retry_after_s = Some(retry_after_s);
        problem
    }

    /// `run` is in the way.
    pub(crate) fn session_busy(run: &RunId, detail: impl Into<String>) -> Self {
        Self::new(Kind::SessionBusy, detail).with("runId", json!(run))
    }

    /// The cause goes to the log; the caller learns nothing but the request's id.
    pub(crate) fn internal(cause: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = cause, "a request failed");
        Self::new(
            Kind::Internal,
            "Something went wrong in the server. Its log has the reason, under this requestId.",
        )
    }

    /// What it says, without what only the request knows.
    pub(crate) fn document(&self) -> Value {
        let (kind, status, title) = self.kind.parts();
        let mut document = json!({
            "type": format!("urn:problem-type:{kind}"),
            "title": title,
            "status": status.as_u16(),
            "detail": self.detail,
        });
        if let Some(fields) = document.as_object_mut() {
            fields.extend(self.extra.clone());
        }
        document
    }

    fn with(mut self, field: &str, value: Value) -> Self {
        self.extra.insert(field.to_owned(), value);
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.kind.parts().1.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Request ids are made or taken over by a layer further out.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Writes out the problem that a handler returned.
pub(crate) async fn finish(request: Request, next: Next) -> Response {
    let instance = request.uri().path().to_owned();
    let id = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()).map(str::to_owned);
    let mut response = next.run(request).await;
    let problem = response.extensions_mut().remove::<Problem>();
    let Some(problem) = problem.or_else(|| of_the_framework(&response)) else { return response };
    let status = problem.kind.parts().1;
    let mut document = problem.document();
    document["instance"] = json!(instance);
    document["requestId"] = json!(id);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.remove(header::CONTENT_LENGTH);
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(seconds) = problem.retry_after_s {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    *response.body_mut() = document.to_string().into();
    response
}

/// What axum itself refuses, it refuses in plain text.
fn of_the_framework(response: &Response) -> Option<Problem> {
    let is_text = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"text/"));
    let detail = "The path cannot be read: percent-encode it as UTF-8.";
    (is_text && response.status() == StatusCode::BAD_REQUEST)
        .then(|| Problem::new(Kind::InvalidRequest, detail))
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::internal(&error)
    }
}

impl From<StartError> for Problem {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Draining => Self::draining(),
            StartError::ForeignSession => Self::no_such("session"),
            StartError::SessionBusy(run) => {
                let detail = format!(
                    "Run {run} of this session is under way. Wait for it, or leave onBusy=reject out."
                );
                Self::session_busy(&run, detail)
            }
            StartError::SessionPaused(run) => {
                let detail = format!(
                    "Run {run} of this session waits for a decision. Decide or cancel it first, or cancel it with \
                     onPaused=supersede."
                );
                Self::new(Kind::SessionPaused, detail).with("runId", json!(run))
            }
            StartError::QueueFull => {
                let detail = "The queue is full. Try again when some of its runs have started.";
                Self::rate_limited(detail, QUEUE_RETRY_AFTER_S)
            }
            StartError::AgentDeleted => Self::no_such("agent"),
            StartError::KeyReused => Self::key_reused(),
            StartError::Store(error) => error.into(),
        }
    }
}

impl From<DecideError> for Problem {
    fn from(error: DecideError) -> Self {
        match error {
            DecideError::Draining => Self::draining(),
            DecideError::NoSuchRun => Self::no_such("run"),
            DecideError::NoSuchApproval(_) => Self::new(
                Kind::ResourceNotFound,
                "The run has no such approval. Its pending ones are in metadata.requiredActions.",
            ),
            DecideError::WrongAnswer(Question::Approval) => {
                Self::invalid_param("action", "must be APPROVE or REJECT: the call has not run yet")
            }
            DecideError::WrongAnswer(Question::OutcomeUnknown) => Self::invalid_param(
                "action",
                "must be RETRY, RESULT (with output) or FAIL: the call was under way when the server stopped",
            ),
            DecideError::SelfApproval => {
                Self::new(Kind::Forbidden, "Somebody else has to let this call run: it is your own run's.")
            }
            DecideError::VotedOtherwise => {
                let detail = "You have voted otherwise on this call, and a vote stays as it is.";
                Self::new(Kind::RunNotPaused, detail).with("currentStatus", json!("PAUSED"))
            }
            DecideError::NotPaused { current } => {
                let detail =
                    format!("The run is {current}: there is nothing to decide, or it was decided otherwise.");
                Self::new(Kind::RunNotPaused, detail).with("currentStatus", json!(current))
            }
            DecideError::Expired(id) => {
                let detail = format!(
                    "Nobody decided approval {id} in time. It counts as rejected, and the run goes on."
                );
                Self::new(Kind::ApprovalExpired, detail)
            }
            DecideError::WrongAnswer(Question::Input) => Self::invalid_param(
                "action",
                "must be APPROVE (with answer) or REJECT: the tool runs, and asks for an answer",
            ),
            DecideError::BadArguments(problem) => Self::invalid_param("arguments", problem),
            DecideError::AnswerNeeded => Self::invalid_param(
                "answer",
                "is required: the tool asks for one that fits the answerSchema of its TOOL_INPUT, or for REJECT",
            ),
            DecideError::BadAnswer(problem) => Self::invalid_param("answer", problem),
            DecideError::Ambiguous(field) => Self::invalid_param(
                field,
                "several calls are pending: name the one that it is for with approvalId, or use decisions",
            ),
            DecideError::KeyReused => Self::key_reused(),
            DecideError::Store(error) => error.into(),
        }
    }
}

impl Problem {
    fn key_reused() -> Self {
        Self::new(
            Kind::IdempotencyKeyReuse,
            "This Idempotency-Key was used for a request with another body. Use a new key for a new request.",
        )
    }
}
