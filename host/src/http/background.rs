//! Runs in the background: started here, read by polling.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderName, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::admission::{AdmissionParams, AdmissionQuery};
use super::extract::{Caller, IdempotencyKey, JsonBody, QueryParams};
use super::problem::Problem;
use super::run_request::RunRequest;
use super::run_response::RunDetails;
use crate::id::{AgentId, RunId};
use crate::store::Lane;

/// Most runs in one question about their status.
const MOST_IDS: usize = 100;

/// A run that was queued.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Queued {
    run_id: String,
    session_id: String,
    /// Always `QUEUED`: what the run was when it was accepted. A repeat gets the same answer.
    status: &'static str,
}

/// Queues a run and answers at once. It is stored before the answer, and starts by itself, also after a restart.
#[utoipa::path(
    post,
    path = "/api/agents/{agentId}/runs/background",
    operation_id = "runAgentInBackground",
    tag = "runs",
    params(("agentId" = String, Path), AdmissionQuery, IdempotencyKey),
    request_body = RunRequest,
    responses(
        (status = 202, description = "The run is queued", body = Queued, headers(("Location" = String, description = "Where to read the run"))),
        (status = 400, description = "Not a valid request"),
        (status = 403, description = "Another user or organisation was named"),
        (status = 404, description = "No such agent, or somebody else's session"),
        (status = 409, description = "Another run of the session is under way (session-busy) or paused (session-paused)"),
        (status = 422, description = "The Idempotency-Key belongs to another request"),
        (status = 429, description = "The queue is full, or too many requests with this key"),
        (status = 503, description = "The server is shutting down"),
    )
)]
pub(super) async fn create(
    State(app): State<App>,
    Caller(principal): Caller,
    Path(agent): Path<String>,
    params: AdmissionParams,
    body: JsonBody<RunRequest>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Queued>), Problem> {
    let location = format!("/api/agents/{agent}/runs");
    let agent = app.agent(body.value.org(&principal), &agent).await?;
    let admission = params.admission(&app, &principal, &body.bytes, Lane::Background);
    let new = body.value.into_new_run(&app, &principal, agent).await?;
    let id = app.runner.start(new, admission).await?;
    let run = app.store.load(&id).await?.ok_or_else(|| Problem::no_such("run"))?;
    let queued =
        Queued { run_id: id.to_string(), session_id: run.spec().session.to_string(), status: "QUEUED" };
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, format!("{location}/{id}"))], Json(queued)))
}

/// A run as it is now.
#[utoipa::path(
    get,
    path = "/api/agents/{agentId}/runs/{runId}/status",
    operation_id = "getRunStatus",
    tag = "runs",
    params(("agentId" = String, Path), ("runId" = String, Path)),
    responses(
        (status = 200, description = "The run", body = RunDetails),
        (status = 404, description = "No such run of this agent"),
    )
)]
pub(super) async fn status(
    State(app): State<App>,
    Caller(principal): Caller,
    Path((agent, run)): Path<(String, String)>,
) -> Result<Json<RunDetails>, Problem> {
    let run = app.details(&principal, &AgentId::from(agent), &RunId::from(run)).await?;
    run.map(Json).ok_or_else(|| Problem::no_such("run"))
}

/// Several runs as they are now. Unknown ones are left out.
#[utoipa::path(
    get,
    path = "/api/agents/{agentId}/runs/status",
    operation_id = "getRunStatuses",
    tag = "runs",
    params(("agentId" = String, Path), StatusesQuery),
    responses(
        (status = 200, description = "The runs, in the order in which they were named", body = Vec<RunDetails>),
        (status = 400, description = "No id, or too many"),
    )
)]
pub(super) async fn statuses(
    State(app): State<App>,
    Caller(principal): Caller,
    Path(agent): Path<String>,
    QueryParams(query): QueryParams<StatusesQuery>,
) -> Result<Json<Vec<RunDetails>>, Problem> {
    let agent = AgentId::from(agent);
    let mut runs = Vec::new();
    for id in query.ids()? {
        runs.extend(app.details(&principal, &agent, &id).await?);
    }
    Ok(Json(runs))
}

#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct StatusesQuery {
    /// Ids of runs, separated by commas; at most 100.
    #[serde(default)]
    #[param(required = true)]
    run_ids: String,
}

impl StatusesQuery {
    /// Each once.
    fn ids(&self) -> Result<Vec<RunId>, Problem> {
        let mut ids: Vec<RunId> = Vec::new();
        for id in self.run_ids.split(',').map(str::trim).filter(|id| !id.is_empty()) {
            let id = RunId::from(id);
            if ids.len() == MOST_IDS {
                return Err(Problem::invalid_param("runIds", format!("may name {MOST_IDS} runs at most")));
            }
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        if ids.is_empty() {
            return Err(Problem::invalid_param("runIds", "must name runs, separated by commas"));
        }
        Ok(ids)
    }
}

/// Cancels a run, like DELETE on it.
#[utoipa::path(
    post,
    path = "/api/v1/runs/{runId}/cancel",
    operation_id = "cancelRunById",
    tag = "runs",
    params(("runId" = String, Path)),
    responses(
        (status = 204, description = "Cancelled, or there was nothing to cancel"),
        (status = 403, description = "Another user's run"),
        (status = 404, description = "Another organisation's run"),
    )
)]
pub(super) async fn cancel(
    State(app): State<App>,
    Caller(principal): Caller,
    Path(run): Path<String>,
) -> Result<StatusCode, Problem> {
    app.cancel(&principal, None, &RunId::from(run)).await
}
