//! Runs as streams of server-sent events.
//!
//! Each frame is `id: <cursor>` and `data: {"event", "data", "timestamp"}`. The frames are made from the
//! journal alone (`frame`), so whoever reconnects with the last `id` gets exactly what is missing.

mod cursor;
mod follow;
mod frame;

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use serde::Deserialize;
use tokio::sync::oneshot;
use utoipa::{IntoParams, ToSchema};

use self::cursor::Cursor;
use self::follow::{Follower, From};
use self::frame::{Frame, Line};
use super::App;
use super::admission::{AdmissionParams, AdmissionQuery};
use super::decision_request::ContinueRequest;
use super::extract::{Caller, IdempotencyKey, JsonBody, QueryParams};
use super::problem::Problem;
use super::run_request::RunRequest;
use crate::audit::Actor;
use crate::id::{AgentId, RunId};
use crate::run::{Run, RunStatus};
use crate::runner::DecideRequest;
use crate::store::Lane;

/// Clients and proxies are promised a sign of life every 15 s.
const PING_EVERY: Duration = Duration::from_secs(10);

#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct StreamParams {
    /// What becomes of the run when the client leaves before the stream's end: it goes on (`continue`, the
    /// default), or is cancelled (`cancel`).
    #[param(inline)]
    on_disconnect: Option<OnDisconnect>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "lowercase")]
enum OnDisconnect {
    Continue,
    Cancel,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsParams {
    /// The `id` of the last frame that you have; the stream goes on behind it. The header `Last-Event-ID`, which
    /// browsers send when they reconnect, says the same and wins.
    #[param(example = "5.7")]
    after: Option<String>,
}

/// Starts a run and streams it until it pauses or ends.
///
/// Frames, in this order: `START` `{runId, sessionId}`; `REASONING_DELTA` and `CONTENT_DELTA` as the model
/// writes them; `TOOL_START` `{id, name, toolName, arguments, input}`, `TOOL_END` `{id, name, result, output,
/// durationMs}` or `TOOL_ERROR` `{id, name, error}`; `CONTENT_DONE` behind the final answer;
/// `FOLLOWUP_SUGGESTION` (a JSON array) when asked for; `METRICS`; `STOP` with the whole `RunResponse`. A run
/// that fails ends with `ERROR`, `CONTENT_DONE`, `STOP`; a cancelled one with `CANCELLED` in place of `STOP`;
/// a paused one with `PAUSED` (the required action), behind which `…/continue/stream` or `…/events` go on.
/// `CONTENT_DISCARDED` says that the server stopped while the model was answering: drop the text since the
/// last frame of another kind, the answer comes anew.
#[utoipa::path(
    post,
    path = "/api/agents/{agentId}/runs/stream",
    operation_id = "streamRun",
    tag = "runs",
    params(("agentId" = String, Path), StreamParams, AdmissionQuery, IdempotencyKey),
    request_body = RunRequest,
    responses(
        (status = 200, description = "The frames", body = Line, content_type = "text/event-stream"),
        (status = 400, description = "Not a valid request"),
        (status = 403, description = "Another user or organisation was named"),
        (status = 404, description = "No such agent, or somebody else's session"),
        (status = 409, description = "Another run of the session is under way (session-busy) or paused (session-paused)"),
        (status = 422, description = "The Idempotency-Key belongs to another request"),
        (status = 429, description = "The run would have to wait and the queue is full, or too many requests with this key"),
        (status = 503, description = "The server is shutting down"),
    )
)]
pub(super) async fn run(
    State(app): State<App>,
    Caller(principal): Caller,
    Path(agent): Path<String>,
    QueryParams(params): QueryParams<StreamParams>,
    admission: AdmissionParams,
    body: JsonBody<RunRequest>,
) -> Result<Response, Problem> {
    let agent = app.agent(body.value.org(&principal), &agent).await?;
    let admission = admission.admission(&app, &principal, &body.bytes, Lane::Direct);
    let new = body.value.into_new_run(&app, &principal, agent).await?;
    let mut seat = app.runner.follow(&new.id, true);
    let mine = new.id.clone();
    let id = app.runner.start(new, admission).await?;
    if id != mine {
        // The key's original run, whose model is asked as it was.
        seat = app.runner.follow(&id, false);
    }
    let from = From::After(Cursor::default());
    let follower = Follower::new(&app.runner, &app.store, id.clone(), seat, from).until_rest();
    Ok(respond(params.watch(&app, follower, id, Actor::from(&principal))))
}

/// Decides pending calls and streams what follows, until the run pauses or ends.
///
/// The frames are those of `…/runs/stream`, from the decision on.
#[utoipa::path(
    post,
    path = "/api/agents/{agentId}/runs/{runId}/continue/stream",
    operation_id = "streamContinue",
    tag = "runs",
    params(("agentId" = String, Path), ("runId" = String, Path), StreamParams, IdempotencyKey),
    request_body = ContinueRequest,
    responses(
        (status = 200, description = "The frames", body = Line, content_type = "text/event-stream"),
        (status = 400, description = "A bad or missing action, or edited arguments or an answer that do not fit"),
        (status = 403, description = "The caller may not decide"),
        (status = 404, description = "No such run of this agent, or no such approval"),
        (status = 409, description = "The run is not paused, or was decided otherwise"),
        (status = 410, description = "The approval has expired"),
        (status = 422, description = "The Idempotency-Key belongs to another request"),
        (status = 503, description = "The server is shutting down"),
    )
)]
pub(super) async fn resume(
    State(app): State<App>,
    Caller(principal): Caller,
    Path((agent, run)): Path<(String, String)>,
    QueryParams(params): QueryParams<StreamParams>,
    key: IdempotencyKey,
    body: JsonBody<ContinueRequest>,
) -> Result<Response, Problem> {
    let id = RunId::from(run);
    app.run_to_decide(&principal, &AgentId::from(agent), &id).await?;
    let claim = key.claim(&app, &principal, &body.bytes);
    let targets = body.value.into_targets()?;
    let seat = app.runner.follow(&id, true);
    let by = Actor::from(&principal);
    let request = DecideRequest { targets, by: by.user.clone(), key: by.key.clone(), claim };
    let from = From::Decision(app.runner.decide_at_once(&id, request).await?);
    let follower = Follower::new(&app.runner, &app.store, id.clone(), seat, from).until_rest();
    Ok(respond(params.watch(&app, follower, id, by)))
}

/// Replays a run's frames and follows it to its end, across pauses and restarts.
///
/// Any run: however it was started, and whether it is under way or has long ended. The same place in the same
/// run always gives the same bytes.
#[utoipa::path(
    get,
    path = "/api/agents/{agentId}/runs/{runId}/events",
    operation_id = "runEvents",
    tag = "runs",
    params(
        ("agentId" = String, Path),
        ("runId" = String, Path),
        EventsParams,
        ("Last-Event-ID" = Option<String>, Header, description = "As `after`"),
    ),
    responses(
        (status = 200, description = "The frames", body = Line, content_type = "text/event-stream"),
        (status = 400, description = "`after` or `Last-Event-ID` is no place in this run"),
        (status = 404, description = "No such run of this agent"),
    )
)]
pub(super) async fn events(
    State(app): State<App>,
    Caller(principal): Caller,
    Path((agent, run)): Path<(String, String)>,
    QueryParams(params): QueryParams<EventsParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = RunId::from(run);
    let seat = app.runner.follow(&id, false);
    let run = app.readable_run(&principal, &AgentId::from(agent), &id).await?;
    let cursor = place(&headers, params.after.as_deref(), &run)?;
    let follower = Follower::new(&app.runner, &app.store, id, seat, From::After(cursor));
    Ok(respond(follower))
}

impl StreamParams {
    /// Cancels the run when the client leaves, if it asks for that.
    fn watch(&self, app: &App, follower: Follower, run: RunId, by: Actor) -> Follower {
        if self.on_disconnect != Some(OnDisconnect::Cancel) {
            return follower;
        }
        let (complete, completed) = oneshot::channel();
        let runner = app.runner.clone();
        tokio::spawn(async move {
            if completed.await.is_err()
                && let Err(error) = runner.cancel(&run, by).await
            {
                let error: &dyn std::error::Error = &error;
                tracing::error!(error, run.id = %run, "a run whose client left could not be cancelled");
            }
        });
        follower.completing(complete)
    }
}

/// Where the client wants to go on.
fn place(headers: &HeaderMap, after: Option<&str>, run: &Run) -> Result<Cursor, Problem> {
    let (field, text) = match (headers.get("last-event-id"), after) {
        (Some(id), _) => ("Last-Event-ID", id.to_str().unwrap_or("?")),
        (None, Some(after)) => ("after", after),
        (None, None) => return Ok(Cursor::default()),
    };
    let cursor: Cursor =
        text.parse().map_err(|error: cursor::NotACursor| Problem::invalid_param(field, error.to_string()))?;
    let under_way = *run.status() == RunStatus::Running;
    if cursor.seq > run.version() || (cursor.seq == run.version() && cursor.frames > 0 && !under_way) {
        return Err(Problem::invalid_param(field, "lies behind the end of this run's stream"));
    }
    Ok(cursor)
}

fn respond(follower: Follower) -> Response {
    let frames = stream::unfold(follower, |mut follower| async {
        let frame = follower.next().await?;
        Some((Ok::<_, Infallible>(sse(&frame)), follower))
    });
    let ping = KeepAlive::new().interval(PING_EVERY).text("ping");
    let mut response = Sse::new(frames).keep_alive(ping).into_response();
    // nginx would collect frames otherwise.
    let buffering = HeaderName::from_static("x-accel-buffering");
    response.headers_mut().insert(buffering, HeaderValue::from_static("no"));
    response
}

fn sse(frame: &Frame) -> Event {
    // JSON text has no line ends, which the format does not allow.
    let line = serde_json::to_string(&frame.line()).unwrap_or_default();
    Event::default().id(frame.id.to_string()).data(line)
}
