//! Agents that admins make, change, delete and restore. Those of the configuration file are shown beside
//! them, and belong to whoever can write that file.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::App;
use super::agent_book::{BookEntry, Origin};
use super::extract::{Caller, JsonBody};
use super::page::{Page, PageQuery};
use super::problem::{InvalidParam, Kind, Problem, ProblemDocument};
use crate::agent::{Agent, AgentParts, BudgetParts, Flaw, ModelName, Policy, ToolPattern};
use crate::audit::Actor;
use crate::budget::units;
use crate::id::{AgentId, OrgId};
use crate::key::Principal;
use crate::store::{AgentChange, AgentWrite, AgentWritten, StoredAgent};

/// The agents, deleted ones included.
#[utoipa::path(
    get,
    path = "/api/admin/agents",
    operation_id = "adminListAgents",
    tag = "admin",
    params(PageQuery),
    responses(
        (status = 200, description = "The agents of the configuration file and of the caller's organisation, by id", body = Page<AdminAgent>),
        (status = 400, description = "Not a valid page", body = ProblemDocument),
        (status = 401, description = "No valid token", body = ProblemDocument),
        (status = 403, description = "The caller is no admin", body = ProblemDocument),
        (status = 429, description = "Too many requests with this key", body = ProblemDocument),
    )
)]
pub(super) async fn list(
    State(app): State<App>,
    Caller(principal): Caller,
    query: PageQuery,
) -> Result<Json<Page<AdminAgent>>, Problem> {
    principal.check_admin()?;
    let all = app.agents.all(&principal.owner.org).await?;
    let total = all.len() as u64;
    let offset = usize::try_from(query.offset()).unwrap_or(usize::MAX);
    let shown = all.into_iter().skip(offset).take(query.size as usize).map(AdminAgent::from);
    Ok(Json(Page::new(shown.collect(), total, query)))
}

/// Makes an agent of the caller's organisation.
#[utoipa::path(
    post,
    path = "/api/admin/agents",
    operation_id = "adminCreateAgent",
    tag = "admin",
    request_body = AgentRequest,
    responses(
        (status = 201, description = "The agent; Location says where it is", body = AdminAgent),
        (status = 400, description = "Not a valid agent", body = ProblemDocument),
        (status = 401, description = "No valid token", body = ProblemDocument),
        (status = 403, description = "The caller is no admin", body = ProblemDocument),
        (status = 409, description = "There is an agent of that id (`agent-exists`)", body = ProblemDocument),
        (status = 413, description = "The body is too large", body = ProblemDocument),
        (status = 415, description = "The body is not JSON", body = ProblemDocument),
        (status = 429, description = "Too many requests with this key", body = ProblemDocument),
    )
)]
pub(super) async fn create(
    State(app): State<App>,
    Caller(principal): Caller,
    body: JsonBody<AgentRequest>,
) -> Result<Response, Problem> {
    principal.check_admin()?;
    let agent = body.value.check(&app, &principal.owner.org, None)?;
    let id = agent.id.clone();
    if app.agents.is_configured(&id) {
        return Err(exists(&id));
    }
    let stored = app.change_agent(&principal, id, AgentChange::Create(Box::new(agent))).await?;
    let view = AdminAgent::from(BookEntry::from(stored));
    // An agent's id has no character that a path or a header would have to escape.
    let location = HeaderValue::from_str(&format!("/api/admin/agents/{}", view.id));
    let mut response = (StatusCode::CREATED, Json(view)).into_response();
    if let Ok(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// One agent, also a deleted one.
#[utoipa::path(
    get,
    path = "/api/admin/agents/{agentId}",
    operation_id = "adminGetAgent",
    tag = "admin",
    params(("agentId" = String, Path)),
    responses(
        (status = 200, description = "The agent", body = AdminAgent),
        (status = 401, description = "No valid token", body = ProblemDocument),
        (status = 403, description = "The caller is no admin", body = ProblemDocument),
        (status = 404, description = "No such agent", body = ProblemDocument),
        (status = 429, description = "Too many requests with this key", body = ProblemDocument),
    )
)]
pub(super) async fn get(
    State(app): State<App>,
    Caller(principal): Caller,
    Path(id): Path<String>,
) -> Result<Json<AdminAgent>, Problem> {
    principal.check_admin()?;
    let found = app.agents.find(&principal.owner.org, &AgentId::from(id)).await?;
    Ok(Json(AdminAgent::from(found.ok_or_else(|| Problem::no_such("agent"))?)))
}

/// Replaces an agent: its next version. Runs go on with the version they started with.
#[utoipa::path(
    put,
    path = "/api/admin/agents/{agentId}",
    operation_id = "adminUpdateAgent",
    tag = "admin",
    params(("agentId" = String, Path)),
    request_body = AgentRequest,
    responses(
        (status = 200, description = "The agent", body = AdminAgent),
        (status = 400, description = "Not a valid agent", body = ProblemDocument),
        (status = 401, description = "No valid token", body = ProblemDocument),
        (status = 403, description = "The caller is no admin", body = ProblemDocument),
        (status = 404, description = "No such agent", body = ProblemDocument),
        (status = 409, description = "It is one of the configuration file (`agent-read-only`), or deleted (`agent-deleted`)", body = ProblemDocument),
        (status = 413, description = "The body is too large", body = ProblemDocument),
        (status = 415, description = "The body is not JSON", body = ProblemDocument),
        (status = 429, description = "Too many requests with this key", body = ProblemDocument),
    )
)]
pub(super) async fn update(
    State(app): State<App>,
    Caller(principal): Caller,
    Path(id): Path<String>,
    body: JsonBody<AgentRequest>,
) -> Result<Json<AdminAgent>, Problem> {
    principal.check_admin()?;
    let id = app.writable_agent(id)?;
    let agent = body.value.check(&app, &principal.owner.org, Some(&id))?;
    let stored = app.change_agent(&principal, id, AgentChange::Update(Box::new(agent))).await?;
    Ok(Json(AdminAgent::from(BookEntry::from(stored))))
}

/// Deletes an agent: it takes no runs any more, and can be restored.
#[utoipa::path(
    delete,
    path = "/api/admin/agents/{agentId}",
    operation_id = "adminDeleteAgent",
    tag = "admin",
    params(("agentId" = String, Path)),
    responses(
        (status = 204, description = "Deleted, perhaps before"),
        (status = 401, description = "No valid token", body = ProblemDocument),
        (status = 403, description = "The caller is no admin", body = ProblemDocument),
        (status = 404, description = "No such agent", body = ProblemDocument),
        (status = 409, description = "It has runs under way (`agent-in-use`), or is one of the configuration file (`agent-read-only`)", body = ProblemDocument),
        (status = 429, description = "Too many requests with this key", body = ProblemDocument),
    )
)]
pub(super) async fn delete(
    State(app): State<App>,
    Caller(principal): Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    principal.check_admin()?;
    let id = app.writable_agent(id)?;
    app.change_agent(&principal, id, AgentChange::Delete).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes back a deletion.
#[utoipa::path(
    post,
    path = "/api/admin/agents/{agentId}/restore",
    operation_id = "adminRestoreAgent",
    tag = "admin",
    params(("agentId" = String, Path)),
    responses(
        (status = 200, description = "The agent, as it was", body = AdminAgent),
        (status = 401, description = "No valid token", body = ProblemDocument),
        (status = 403, description = "The caller is no admin", body = ProblemDocument),
        (status = 404, description = "No such agent", body = ProblemDocument),
        (status = 409, description = "It is one of the configuration file (`agent-read-only`)", body = ProblemDocument),
        (status = 429, description = "Too many requests with this key", body = ProblemDocument),
    )
)]
pub(super) async fn restore(
    State(app): State<App>,
    Caller(principal): Caller,
    Path(id): Path<String>,
) -> Result<Json<AdminAgent>, Problem> {
    principal.check_admin()?;
    let id = app.writable_agent(id)?;
    let stored = app.change_agent(&principal, id, AgentChange::Restore).await?;
    Ok(Json(AdminAgent::from(BookEntry::from(stored))))
}

impl App {
    fn writable_agent(&self, id: String) -> Result<AgentId, Problem> {
        let id = AgentId::from(id);
        if self.agents.is_configured(&id) {
            let detail = "This agent is declared in the configuration file: change it there and start the server again.";
            return Err(Problem::new(Kind::AgentReadOnly, detail));
        }
        Ok(id)
    }

    async fn change_agent(
        &self,
        principal: &Principal,
        id: AgentId,
        change: AgentChange,
    ) -> Result<StoredAgent, Problem> {
        let write = AgentWrite {
            org: principal.owner.org.clone(),
            id: id.clone(),
            change,
            by: Actor::from(principal),
            at: self.clock.now(),
        };
        match self.store.write_agent(write).await? {
            AgentWritten::Done(stored) => Ok(*stored),
            AgentWritten::Missing => Err(Problem::no_such("agent")),
            AgentWritten::Exists => Err(exists(&id)),
            AgentWritten::Deleted => {
                let detail =
                    format!("The agent was deleted. POST /api/admin/agents/{id}/restore brings it back.");
                Err(Problem::new(Kind::AgentDeleted, detail))
            }
            AgentWritten::InUse => {
                let detail =
                    "Runs of this agent are queued, running or paused: let them end, or cancel them first.";
                Err(Problem::new(Kind::AgentInUse, detail))
            }
        }
    }
}

fn exists(id: &AgentId) -> Problem {
    let detail = format!(
        "There is an agent `{id}` already, perhaps a deleted one: change or restore it, or choose another agentId."
    );
    Problem::new(Kind::AgentExists, detail)
}

/// An agent as an admin writes it. What is left out gets its default, also in an update.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub(super) struct AgentRequest {
    /// 1 to 128 letters, digits, `-`, `_` and `.`. An update may leave it out.
    #[serde(default, alias = "agent_id")]
    #[schema(example = "helper")]
    agent_id: Option<String>,
    /// The agentId by default.
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    instructions: Option<String>,
    /// `provider::model`, or `demo`.
    #[schema(example = "demo")]
    model: String,
    /// `plugin.tool`, `plugin.*` or `*`; none by default.
    #[serde(default)]
    tools: Option<Vec<String>>,
    /// 0 to 2.
    #[serde(default)]
    temperature: Option<f64>,
    /// Most tokens in one reply.
    #[serde(default, alias = "max_tokens")]
    max_tokens: Option<u32>,
    /// Most model calls in a run, 1 to 100.
    #[serde(default, alias = "max_steps")]
    max_steps: Option<u32>,
    /// By tools: `allow`, `ask` or `deny`.
    #[serde(default)]
    approval: Option<BTreeMap<String, String>>,
    /// What each run may use.
    #[serde(default)]
    budget: Option<AgentBudget>,
}

/// What a run may use; null = as much as it likes.
#[derive(Clone, Copy, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", expecting = "an object")]
#[expect(clippy::struct_field_names, reason = "the API's names")]
struct AgentBudget {
    #[serde(default)]
    max_tool_calls: Option<u32>,
    #[serde(default)]
    max_input_tokens: Option<u64>,
    #[serde(default)]
    max_output_tokens: Option<u64>,
    /// In the currency of the configuration file's prices.
    #[serde(default)]
    max_cost: Option<f64>,
}

impl AgentRequest {
    /// Everything that is wrong is told at once.
    fn check(self, app: &App, org: &OrgId, id: Option<&AgentId>) -> Result<Agent, Problem> {
        let mut invalid = Vec::new();
        let model = self.model.parse::<ModelName>().map_err(|error| error.to_string());
        let model = model
            .and_then(|model| app.models.check(&model).map(|()| model).map_err(|error| error.to_string()));
        let model = model.unwrap_or_else(|message| {
            invalid.push(InvalidParam::new("model", message));
            ModelName { provider: String::new(), model: String::new() }
        });
        let id_text = written_id(self.agent_id, id, &mut invalid);
        let parts = AgentParts {
            id: id_text,
            name: self.name,
            description: self.description.unwrap_or_default(),
            model,
            instructions: self.instructions.unwrap_or_default(),
            tools: patterns(self.tools.unwrap_or_default(), &mut invalid),
            approval: policies(self.approval.unwrap_or_default(), &mut invalid),
            vision: None,
            temperature: self.temperature,
            top_p: None,
            max_tokens: self.max_tokens,
            max_steps: self.max_steps,
            timeout_ms: None,
            approval_expiry_ms: None,
            budget: self.budget.map(BudgetParts::from),
        };
        match parts.check() {
            Ok(agent) if invalid.is_empty() => {
                match app.budgets.unmeasurable(&agent.model, &agent.budget, org) {
                    None => Ok(agent),
                    Some(message) => Err(Problem::invalid_param("model", message)),
                }
            }
            Ok(_) => Err(Problem::invalid(&invalid)),
            Err(flaws) => {
                invalid.extend(flaws.into_iter().map(InvalidParam::from));
                Err(Problem::invalid(&invalid))
            }
        }
    }
}

fn written_id(written: Option<String>, path: Option<&AgentId>, invalid: &mut Vec<InvalidParam>) -> String {
    match (written, path) {
        (Some(written), Some(path)) if written != path.as_str() => {
            invalid.push(InvalidParam::new("agentId", "must be the one in the path, or left out"));
            written
        }
        (Some(written), _) => written,
        (None, Some(path)) => path.to_string(),
        (None, None) => {
            invalid.push(InvalidParam::new("agentId", "is required"));
            // Legal, so that it is not also called illegal.
            "missing".to_owned()
        }
    }
}

fn patterns(written: Vec<String>, invalid: &mut Vec<InvalidParam>) -> Vec<ToolPattern> {
    let mut patterns = Vec::new();
    for (index, text) in written.into_iter().enumerate() {
        match text.parse() {
            Ok(pattern) => patterns.push(pattern),
            Err(error) => {
                let error: crate::agent::ToolPatternError = error;
                invalid.push(InvalidParam::new(format!("tools[{index}]"), error.to_string()));
            }
        }
    }
    patterns
}

fn policies(written: BTreeMap<String, String>, invalid: &mut Vec<InvalidParam>) -> BTreeMap<String, Policy> {
    let mut policies = BTreeMap::new();
    for (tools, word) in written {
        match word.as_str() {
            "allow" => drop(policies.insert(tools, Policy::Allow)),
            "ask" => drop(policies.insert(tools, Policy::Ask)),
            "deny" => drop(policies.insert(tools, Policy::Deny)),
            _ => invalid
                .push(InvalidParam::new(format!("approval.{tools}"), "must be one of allow, ask, deny")),
        }
    }
    policies
}

impl From<AgentBudget> for BudgetParts {
    fn from(budget: AgentBudget) -> Self {
        Self {
            max_tool_calls: budget.max_tool_calls,
            max_input_tokens: budget.max_input_tokens,
            max_output_tokens: budget.max_output_tokens,
            max_cost: budget.max_cost,
        }
    }
}

/// In the API's spelling.
impl From<Flaw> for InvalidParam {
    fn from(flaw: Flaw) -> Self {
        let field = match flaw.field {
            "id" => "agentId",
            "top_p" => "topP",
            "max_tokens" => "maxTokens",
            "max_steps" => "maxSteps",
            "timeout_ms" => "timeoutMs",
            "approval_expiry_ms" => "approvalExpiryMs",
            field => field,
        };
        Self::new(field, flaw.message)
    }
}

/// An agent as an admin sees it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct AdminAgent {
    id: String,
    agent_id: String,
    name: String,
    description: String,
    instructions: String,
    model: String,
    tools: Vec<String>,
    temperature: Option<f64>,
    max_tokens: Option<u32>,
    max_steps: u32,
    #[schema(value_type = BTreeMap<String, String>)]
    approval: BTreeMap<String, Policy>,
    budget: AgentBudget,
    /// From 1, one more with each change; 0 = of the configuration file.
    version: u32,
    /// False once it was deleted.
    active: bool,
    /// It is declared in the configuration file.
    read_only: bool,
    /// Null for one of the configuration file.
    created_at: Option<String>,
    updated_at: Option<String>,
}

impl From<BookEntry> for AdminAgent {
    fn from(entry: BookEntry) -> Self {
        let active = entry.is_active();
        let BookEntry { agent, origin } = entry;
        let (read_only, created_at, updated_at) = match origin {
            Origin::File => (true, None, None),
            Origin::Store { created_at, updated_at, .. } => (false, Some(created_at), Some(updated_at)),
        };
        let budget = agent.budget;
        Self {
            id: agent.id.to_string(),
            agent_id: agent.id.to_string(),
            name: agent.name,
            description: agent.description,
            instructions: agent.instructions,
            model: agent.model.to_string(),
            tools: agent.tools.iter().map(ToString::to_string).collect(),
            temperature: agent.options.temperature,
            max_tokens: agent.options.max_tokens,
            max_steps: agent.options.max_steps,
            approval: agent.approval.iter().map(|rule| (rule.tools.to_string(), rule.policy)).collect(),
            budget: AgentBudget {
                max_tool_calls: budget.max_tool_calls,
                max_input_tokens: budget.max_input_tokens,
                max_output_tokens: budget.max_output_tokens,
                max_cost: budget.max_cost_micros.map(units),
            },
            version: agent.version,
            active,
            read_only,
            created_at: created_at.map(|at| at.to_string()),
            updated_at: updated_at.map(|at| at.to_string()),
        }
    }
}
