//! The mission: run an agent, decide its pending calls, cancel, read.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::App;
use super::admission::{AdmissionParams, AdmissionQuery};
use super::agent_book::BookEntry;
use super::extract::{Caller, IdempotencyKey, JsonBody};
use super::media::MediaInput;
use super::problem::{InvalidParam, Kind, Problem, ProblemDocument};
use super::run_response::{RunDetails, RunResponse};
use crate::agent::{Agent, ModelName, Options};
use crate::event::NewRun;
use crate::id::{AgentId, ApprovalId, OrgId, RunId, SessionId, UserId};
use crate::key::Principal;
use crate::run::Run;
use crate::runner::{Choice, DecideRequest, Targets};
use crate::schema::Schema;
use crate::session::Owner;
use crate::store::Lane;

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
        (status = 400, description = "Not a valid request", body = ProblemDocument),
        (status = 401, description = "No valid token", body = ProblemDocument),
        (status = 403, description = "Another user or organisation was named", body = ProblemDocument),
        (status = 404, description = "No such agent, or somebody else's session", body = ProblemDocument),
        (status = 409, description = "Another run of the session is under way (session-busy) or paused (session-paused)", body = ProblemDocument),
        (status = 413, description = "The body is too large", body = ProblemDocument),
        (status = 415, description = "The body is not JSON", body = ProblemDocument),
        (status = 422, description = "The Idempotency-Key belongs to another request", body = ProblemDocument),
        (status = 429, description = "The run would have to wait, and the queue is full", body = ProblemDocument),
        (status = 503, description = "The server is shutting down", body = ProblemDocument),
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
        (status = 400, description = "A bad or missing action, or edited arguments that do not fit", body = ProblemDocument),
        (status = 401, description = "No valid token", body = ProblemDocument),
        (status = 403, description = "The caller may not decide", body = ProblemDocument),
        (status = 404, description = "No such run of this agent, or no such approval", body = ProblemDocument),
        (status = 409, description = "The run is not paused, or was decided otherwise", body = ProblemDocument),
        (status = 410, description = "The approval has expired", body = ProblemDocument),
        (status = 422, description = "The Idempotency-Key belongs to another request", body = ProblemDocument),
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
#[utoipa::path(
    delete,
    operation_id = "cancelRun",
    path = "/api/agents/{agentId}/runs/{runId}",
    tag = "runs",
    params(("agentId" = String, Path), ("runId" = String, Path)),
    responses(
        (status = 204, description = "Cancelled, or there was nothing to cancel"),
        (status = 401, description = "No valid token", body = ProblemDocument),
        (status = 403, description = "Another user's run", body = ProblemDocument),
        (status = 404, description = "Another organisation's run", body = ProblemDocument),
    )
)]
pub(super) async fn cancel(
    State(app): State<App>,
    Caller(principal): Caller,
    Path((_agent, run)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    app.cancel(&principal, &RunId::from(run)).await
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
        (status = 401, description = "No valid token", body = ProblemDocument),
        (status = 404, description = "No such run of this agent", body = ProblemDocument),
    )
)]
pub(super) async fn get(
    State(app): State<App>,
    Caller(principal): Caller,
    Path((agent, run)): Path<(String, String)>,
) -> Result<Json<RunDetails>, Problem> {
    let run = app.readable_run(&principal, &AgentId::from(agent), &RunId::from(run)).await?;
    Ok(Json(RunDetails::from(&run)))
}

impl App {
    /// The agent that the organisation's runs may use under this id.
    pub(super) async fn agent(&self, org: OrgId, id: &str) -> Result<Agent, Problem> {
        let found = self.agents.find(&org, &AgentId::from(id)).await?;
        let active = found.filter(BookEntry::is_active).ok_or_else(|| Problem::no_such("agent"))?;
        Ok(active.agent)
    }

    pub(super) async fn cancel(&self, principal: &Principal, id: &RunId) -> Result<StatusCode, Problem> {
        let Some(run) = self.store.load(id).await? else { return Ok(StatusCode::NO_CONTENT) };
        let owner = &run.spec().owner;
        if !principal.sees(owner) {
            return Err(Problem::no_such("run"));
        }
        if !principal.acts_for(owner) {
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

/// What to run.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub(super) struct RunRequest {
    /// The user's prompt; not blank.
    #[schema(example = "What is 6*7?")]
    message: String,
    /// A UUID. Reloads that session's history; an unknown one starts a session under it.
    #[serde(default, alias = "session_id")]
    session_id: Option<String>,
    /// Whom the run is for; the caller by default. Only admins may name another.
    #[serde(default)]
    user_id: Option<String>,
    /// The tenant; the caller's by default.
    #[serde(default)]
    org_id: Option<String>,
    /// Also suggest next questions.
    #[serde(default)]
    generate_followups: Option<bool>,
    /// Images and other media beside the message, for models that read them.
    #[serde(default)]
    media: Option<Vec<MediaInput>>,
    #[serde(default)]
    options: Option<RunOptions>,
    /// Ignored: the path decides.
    #[serde(default, rename = "stream")]
    _stream: Option<bool>,
}

/// Overrides for one run.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct RunOptions {
    /// `provider::model`, or `demo`.
    #[serde(default)]
    model: Option<String>,
    /// 0 to 2.
    #[serde(default)]
    temperature: Option<f64>,
    /// Most tokens in one reply; at least 1.
    #[serde(default)]
    max_tokens: Option<i64>,
    /// Replaces the agent's instructions.
    #[serde(default)]
    system_prompt: Option<String>,
    /// Above 0, at most 1.
    #[serde(default)]
    top_p: Option<f64>,
    /// Most model calls, 1 to 100.
    #[serde(default)]
    max_steps: Option<i64>,
    /// Most milliseconds at work, 1 to 86400000; waiting for a human does not count.
    #[serde(default)]
    timeout_ms: Option<i64>,
    /// JSON Schema, 64 KiB at most: the final answer is JSON that fits it, and also in
    /// `metadata.structured`. References within the schema only.
    #[serde(default, alias = "response_schema")]
    #[schema(value_type = Object)]
    response_schema: Option<Value>,
}

/// The longest message in bytes.
const MAX_MESSAGE: usize = 1 << 20;

impl RunRequest {
    /// Whose agents it can mean: whoever is bound to one organisation learns nothing of others' agents.
    pub(super) fn org(&self, principal: &Principal) -> OrgId {
        let named = self.org_id.as_deref().filter(|_| principal.super_admin);
        named.map_or_else(|| principal.owner.org.clone(), OrgId::from)
    }

    pub(super) async fn into_new_run(
        self,
        app: &App,
        principal: &Principal,
        mut agent: Agent,
    ) -> Result<NewRun, Problem> {
        let mut invalid = Vec::new();
        if self.message.trim().is_empty() {
            invalid.push(InvalidParam::new("message", "must not be blank"));
        } else if self.message.len() > MAX_MESSAGE {
            invalid.push(InvalidParam::new("message", format!("may have {MAX_MESSAGE} bytes at most")));
        }
        let session = match self.session_id.as_deref().map(uuid::Uuid::parse_str) {
            None => app.ids.next(),
            Some(Ok(uuid)) => SessionId::from(uuid),
            Some(Err(_)) => {
                invalid.push(InvalidParam::new(
                    "sessionId",
                    "must be a UUID; leave it out to start a new session",
                ));
                app.ids.next()
            }
        };
        let options = self.options.unwrap_or_default();
        let chose_model = options.model.is_some();
        options.apply(app, &mut agent, &mut invalid);
        let owner = owner(principal, self.user_id, self.org_id, &mut invalid)?;
        if let Some(message) = app.budgets.unmeasurable(&agent.model.to_string(), &agent.budget, &owner.org) {
            if !chose_model {
                return Err(Problem::new(
                    Kind::BusinessValidation,
                    format!("The run was refused: {message}."),
                ));
            }
            invalid.push(InvalidParam::new("options.model", message));
        }
        if !invalid.is_empty() {
            return Err(Problem::invalid(&invalid));
        }
        let sees = agent.vision.unwrap_or_else(|| app.models.reads_images(&agent.model));
        let media = app.media.check(self.media.unwrap_or_default(), sees).await?;
        let generate_followups = self.generate_followups.unwrap_or(false);
        Ok(NewRun {
            id: app.ids.next(),
            session,
            owner,
            agent,
            input: self.message,
            media,
            generate_followups,
            queued: false,
        })
    }
}

fn owner(
    principal: &Principal,
    user: Option<String>,
    org: Option<String>,
    invalid: &mut Vec<InvalidParam>,
) -> Result<Owner, Problem> {
    for (field, value) in [("userId", &user), ("orgId", &org)] {
        if value.as_ref().is_some_and(|value| value.trim().is_empty() || value.len() > 255) {
            invalid
                .push(InvalidParam::new(field, "must have 1 to 255 characters; leave it out for your own"));
        }
    }
    let owner = Owner {
        org: org.map_or_else(|| principal.owner.org.clone(), OrgId::from),
        user: user.map_or_else(|| principal.owner.user.clone(), UserId::from),
    };
    if !principal.sees(&owner) {
        return Err(Problem::new(
            Kind::Forbidden,
            "Your key is bound to another organisation. Leave orgId out.",
        ));
    }
    if !principal.acts_for(&owner) {
        let detail = "Running an agent for another user needs the role admin. Leave userId out.";
        return Err(Problem::new(Kind::Forbidden, detail));
    }
    Ok(owner)
}

impl RunOptions {
    fn apply(self, app: &App, agent: &mut Agent, invalid: &mut Vec<InvalidParam>) {
        if let Some(name) = self.model {
            let checked = name.parse::<ModelName>().map_err(|error| error.to_string()).and_then(|model| {
                app.models.check(&model).map(|()| model).map_err(|error| error.to_string())
            });
            match checked {
                Ok(model) => {
                    // What the operator said about the agent's own model does not hold for another.
                    agent.vision = None;
                    agent.model = model;
                }
                Err(message) => invalid.push(InvalidParam::new("options.model", message)),
            }
        }
        if let Some(prompt) = self.system_prompt {
            agent.instructions = prompt;
        }
        if let Some(schema) = self.response_schema {
            match Schema::of_answer(&schema) {
                Ok(_) => agent.options.response_schema = Some(schema),
                Err(error) => {
                    invalid.push(InvalidParam::new("options.responseSchema", error.to_string()));
                }
            }
        }
        let Options {
            temperature,
            top_p,
            max_tokens,
            max_steps,
            timeout_ms,
            approval_expiry_ms: _,
            history_tokens: _,
            max_concurrent: _,
            response_schema: _,
        } = &mut agent.options;
        let mut within = |field: &str, value: Option<i64>, most: i64| {
            let value = value?;
            if (1..=most).contains(&value) {
                return u64::try_from(value).ok();
            }
            invalid.push(InvalidParam::new(format!("options.{field}"), format!("must be from 1 to {most}")));
            None
        };
        if let Some(value) = within("maxTokens", self.max_tokens, 10_000_000) {
            *max_tokens = u32::try_from(value).ok();
        }
        if let Some(value) = within("maxSteps", self.max_steps, 100) {
            *max_steps = u32::try_from(value).unwrap_or(*max_steps);
        }
        if let Some(value) = within("timeoutMs", self.timeout_ms, 86_400_000) {
            *timeout_ms = value;
        }
        match self.temperature {
            Some(value) if !(0.0..=2.0).contains(&value) => {
                invalid.push(InvalidParam::new("options.temperature", "must be from 0 to 2"));
            }
            Some(value) => *temperature = Some(value),
            None => {}
        }
        match self.top_p {
            Some(value) if !(value > 0.0 && value <= 1.0) => {
                invalid.push(InvalidParam::new("options.topP", "must be above 0 and at most 1"));
            }
            Some(value) => *top_p = Some(value),
            None => {}
        }
    }
}

/// A decision on all pending calls (`action`), or on named ones (`approvalId`, `decisions`).
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub(super) struct ContinueRequest {
    /// `APPROVE` or `REJECT` (also `APPROVED`, `REJECTED`, lower case) of a `TOOL_APPROVAL`; `RETRY`, `RESULT` or
    /// `FAIL` of a `TOOL_OUTCOME_UNKNOWN`.
    #[serde(default, alias = "decision")]
    #[schema(example = "APPROVE")]
    action: Option<String>,
    /// Decide this call only.
    #[serde(default, alias = "approval_id")]
    approval_id: Option<String>,
    /// For the record; a rejection's comment is also told to the model.
    #[serde(default)]
    comment: Option<String>,
    /// Replaces the call's arguments; must fit the tool's schema.
    #[serde(default)]
    arguments: Option<Value>,
    /// With RESULT: what the call came to, for the model to read.
    #[serde(default)]
    output: Option<String>,
    /// Decide several calls, each in its own way.
    #[serde(default)]
    decisions: Option<Vec<NamedDecision>>,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct NamedDecision {
    #[serde(alias = "approval_id")]
    approval_id: String,
    #[serde(alias = "decision")]
    action: String,
    #[serde(default)]
    comment: Option<String>,
    #[serde(default)]
    arguments: Option<Value>,
    #[serde(default)]
    output: Option<String>,
}

/// What a decision says beside its action.
#[derive(Default)]
struct Particulars {
    comment: Option<String>,
    arguments: Option<Value>,
    output: Option<String>,
}

impl ContinueRequest {
    pub(super) fn into_targets(self) -> Result<Targets, Problem> {
        if let Some(decisions) = self.decisions {
            return named(decisions, self.action.is_some() || self.approval_id.is_some());
        }
        let Some(action) = self.action else {
            return Err(Problem::invalid_param("action", "is required: write APPROVE or REJECT"));
        };
        let particulars =
            Particulars { comment: self.comment, arguments: self.arguments, output: self.output };
        let choice = choice("", &action, particulars)?;
        Ok(match self.approval_id {
            None => Targets::AllPending(choice),
            Some(id) => Targets::Named(vec![(ApprovalId::from(id), choice)]),
        })
    }
}

fn named(decisions: Vec<NamedDecision>, also_action: bool) -> Result<Targets, Problem> {
    if also_action {
        return Err(Problem::invalid_param("decisions", "cannot be combined with action or approvalId"));
    }
    if decisions.is_empty() {
        return Err(Problem::invalid_param("decisions", "must name at least one approval"));
    }
    let mut targets: Vec<(ApprovalId, Choice)> = Vec::new();
    for (index, decision) in decisions.into_iter().enumerate() {
        let prefix = format!("decisions[{index}].");
        let id = ApprovalId::from(decision.approval_id.as_str());
        if targets.iter().any(|(earlier, _)| *earlier == id) {
            return Err(Problem::invalid_param(&format!("{prefix}approvalId"), "is named twice"));
        }
        let NamedDecision { action, comment, arguments, output, approval_id: _ } = decision;
        targets.push((id, choice(&prefix, &action, Particulars { comment, arguments, output })?));
    }
    Ok(Targets::Named(targets))
}

fn choice(prefix: &str, action: &str, particulars: Particulars) -> Result<Choice, Problem> {
    let invalid =
        |field: &str, message: &str| Err(Problem::invalid_param(&format!("{prefix}{field}"), message));
    let Particulars { comment, arguments, output } = particulars;
    let action = action.to_ascii_uppercase();
    if arguments.is_some() && !matches!(action.as_str(), "APPROVE" | "APPROVED") {
        return invalid("arguments", "can only be given with APPROVE");
    }
    if output.is_some() && action != "RESULT" {
        return invalid("output", "can only be given with RESULT");
    }
    match (action.as_str(), output) {
        ("APPROVE" | "APPROVED", _) => Ok(Choice::Approve { comment, arguments }),
        ("REJECT" | "REJECTED", _) => Ok(Choice::Reject { comment }),
        ("RETRY", _) => Ok(Choice::Retry),
        ("RESULT", Some(output)) => Ok(Choice::Result { output }),
        ("RESULT", None) => invalid("output", "is required with RESULT: what the call came to"),
        ("FAIL", _) => Ok(Choice::Fail { comment }),
        _ => {
            invalid("action", "must be APPROVE or REJECT; of a call of unknown outcome RETRY, RESULT or FAIL")
        }
    }
}
