//! The mission: run an agent, decide its pending calls, cancel, read.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;

use super::App;
use super::admission::{AdmissionParams, AdmissionQuery};
use super::agent_book::BookEntry;
use super::decision_request::ContinueRequest;
use super::extract::{Caller, IdempotencyKey, JsonBody};
use super::problem::{Kind, Problem};
use super::run_request::RunRequest;
use super::run_response::{RunDetails, RunResponse};
use crate::agent::Agent;
use crate::id::{AgentId, OrgId, RunId};
use crate::key::Principal;
use crate::run::Run;
use crate::runner::DecideRequest;
use crate::session::Owner;
use crate::store::{Lane, StoreError};

/// Starts a run and waits until it is COMPLETED, FAILED, PAUSED or CANCELLED.
///
/// Behind another run of its session it waits for its turn; if that run pauses, the answer is QUEUED, and the run
/// starts by itself after the decision.
#[utoipa::path(
    post,
    path = "/api/agents/{agentId}/runs",
    operation_id = "runAgent",
    tag = "runs",
    params(("agentId" = String, Path), AdmissionQuery, IdempotencyKey),
    request_body = RunRequest,
    responses(
        (status = 200, description = "The run as it ended or paused; a failed run is also a 200", body = RunResponse),
        (status = 400, description = "Not a valid request"),
        (status = 403, description = "Another user or organisation was named"),
        (status = 404, description = "No such agent, or somebody else's session"),
        (status = 409, description = "Another run of the session is under way (session-busy) or paused (session-paused)"),
        (status = 422, description = "The Idempotency-Key belongs to another request"),
        (status = 429, description = "The run would have to wait and the queue is full, or too many requests with this key"),
        (status = 503, description = "The server is shutting down"),
    )
)]
pub(super) async fn create(
    State(app): State<App>,
    Caller(principal): Caller,
    Path(agent): Path<String>,
    params: AdmissionParams,
    body: JsonBody<RunRequest>,
) -> Result<Json<RunResponse>, Problem> {
    let agent = app.agent(body.value.org(&principal), &agent).await?;
    let admission = params.admission(&app, &principal, &body.bytes, Lane::Direct);
    let new = body.value.into_new_run(&app, &principal, agent).await?;
    let id = app.runner.start(new, admission).await?;
    let run = app.runner.settled(&id).await?.ok_or_else(|| Problem::no_such("run"))?;
    Ok(Json(RunResponse::from(&run)))
}

/// Decides pending calls and waits for what follows.
#[utoipa::path(
    post,
    path = "/api/agents/{agentId}/runs/{runId}/continue",
    operation_id = "continueRun",
    tag = "runs",
    params(("agentId" = String, Path), ("runId" = String, Path), IdempotencyKey),
    request_body = ContinueRequest,
    responses(
        (status = 200, description = "The run once the decision's work is done; may be PAUSED again", body = RunResponse),
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
    key: IdempotencyKey,
    body: JsonBody<ContinueRequest>,
) -> Result<Json<RunResponse>, Problem> {
    let run = app.run_to_decide(&principal, &AgentId::from(agent), &RunId::from(run)).await?;
    let claim = key.claim(&app, &principal, &body.bytes);
    let Principal { owner, key, .. } = principal;
    let request = DecideRequest { targets: body.value.into_targets()?, by: owner.user, key, claim };
    let run = app.runner.decide(&run.spec().id, request).await?;
    Ok(Json(RunResponse::from(&run)))
}

/// Cancels a run in whatever state it is. What has ended stays as it ended.
///
/// An id that nobody knows is fine: there is nothing to cancel. One of another agent's run is not.
#[utoipa::path(
    delete,
    operation_id = "cancelRun",
    path = "/api/agents/{agentId}/runs/{runId}",
    tag = "runs",
    params(("agentId" = String, Path), ("runId" = String, Path)),
    responses(
        (status = 204, description = "Cancelled, or there was nothing to cancel"),
        (status = 403, description = "Another user's run"),
        (status = 404, description = "Another organisation's run, or another agent's"),
    )
)]
pub(super) async fn cancel(
    State(app): State<App>,
    Caller(principal): Caller,
    Path((agent, run)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    app.cancel(&principal, Some(&AgentId::from(agent)), &RunId::from(run)).await
}

/// A run as it is now.
#[utoipa::path(
    get,
    operation_id = "getRun",
    path = "/api/agents/{agentId}/runs/{runId}",
    tag = "runs",
    params(("agentId" = String, Path), ("runId" = String, Path)),
    responses(
        (status = 200, description = "The run", body = RunDetails),
        (status = 404, description = "No such run of this agent"),
    )
)]
pub(super) async fn get(
    State(app): State<App>,
    Caller(principal): Caller,
    Path((agent, run)): Path<(String, String)>,
) -> Result<Json<RunDetails>, Problem> {
    let run = app.details(&principal, &AgentId::from(agent), &RunId::from(run)).await?;
    run.map(Json).ok_or_else(|| Problem::no_such("run"))
}

impl App {
    /// The agent that the organisation's runs may use under this id.
    pub(super) async fn agent(&self, org: OrgId, id: &str) -> Result<Agent, Problem> {
        let found = self.agents.find(&org, &AgentId::from(id)).await?;
        let active = found.filter(BookEntry::is_active).ok_or_else(|| Problem::no_such("agent"))?;
        Ok(active.agent)
    }

    /// Reads the row alone: a run whose journal is damaged can be cancelled, too.
    pub(super) async fn cancel(
        &self,
        principal: &Principal,
        agent: Option<&AgentId>,
        id: &RunId,
    ) -> Result<StatusCode, Problem> {
        let Some(run) = self.store.summary(id).await? else { return Ok(StatusCode::NO_CONTENT) };
        if !principal.sees(&run.owner) || agent.is_some_and(|agent| *agent != run.agent) {
            return Err(Problem::no_such("run"));
        }
        if !principal.acts_for(&run.owner) {
            return Err(Problem::new(Kind::Forbidden, "Cancelling another user's run needs the role admin."));
        }
        self.runner.cancel(id, principal).await?;
        Ok(StatusCode::NO_CONTENT)
    }

    /// The run, unless it is another agent's or organisation's.
    pub(super) async fn visible_run(
        &self,
        principal: &Principal,
        agent: &AgentId,
        id: &RunId,
    ) -> Result<Run, Problem> {
        let run = self.store.load(id).await?;
        run.filter(|run| run.spec().agent.id == *agent && principal.sees(&run.spec().owner))
            .ok_or_else(|| Problem::no_such("run"))
    }

    /// What the caller may read of the run. Of one that was written off that is its row.
    pub(super) async fn details(
        &self,
        principal: &Principal,
        agent: &AgentId,
        id: &RunId,
    ) -> Result<Option<RunDetails>, Problem> {
        let readable = |of: &AgentId, owner: &Owner| of == agent && principal.decides_for(owner);
        let damage = match self.store.load(id).await {
            Err(error @ StoreError::Damaged(_)) => error,
            loaded => {
                let run = loaded?.filter(|run| readable(&run.spec().agent.id, &run.spec().owner));
                return Ok(run.as_ref().map(RunDetails::from));
            }
        };
        let row = self.store.summary(id).await?.filter(|row| readable(&row.agent, &row.owner));
        match row {
            Some(row) if row.completed_at.is_none() => Err(damage.into()),
            row => Ok(row.as_ref().map(RunDetails::from)),
        }
    }

    /// The run, unless the caller may not read it: other users' runs look absent to a `user`.
    pub(super) async fn readable_run(
        &self,
        principal: &Principal,
        agent: &AgentId,
        id: &RunId,
    ) -> Result<Run, Problem> {
        let run = self.visible_run(principal, agent, id).await?;
        if principal.decides_for(&run.spec().owner) { Ok(run) } else { Err(Problem::no_such("run")) }
    }

    pub(super) async fn run_to_decide(
        &self,
        principal: &Principal,
        agent: &AgentId,
        id: &RunId,
    ) -> Result<Run, Problem> {
        let run = self.visible_run(principal, agent, id).await?;
        if !principal.decides_for(&run.spec().owner) {
            let detail = "Deciding another user's calls needs the role approver or admin.";
            return Err(Problem::new(Kind::Forbidden, detail));
        }
        Ok(run)
    }
}
