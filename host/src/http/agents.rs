//! The agents that a caller can run: those of the configuration file, and those of their organisation.

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::agent_book::BookEntry;
use super::extract::{Caller, QueryParams};
use super::problem::Problem;
use crate::id::AgentId;
use crate::key::{Principal, Role};

/// All agents.
#[utoipa::path(
    get,
    path = "/api/agents",
    operation_id = "listAgents",
    tag = "agents",
    params(ListQuery),
    responses(
        (status = 200, description = "The agents, by id", body = Vec<AgentView>),
    )
)]
pub(super) async fn list(
    State(app): State<App>,
    Caller(principal): Caller,
    QueryParams(query): QueryParams<ListQuery>,
) -> Result<Json<Vec<AgentView>>, Problem> {
    let all = app.agents.all(&principal.owner.org).await?;
    let shown = all.into_iter().filter(|entry| query.include_inactive || entry.is_active());
    Ok(Json(shown.map(|entry| AgentView::of(entry, &principal)).collect()))
}

/// One agent.
#[utoipa::path(
    get,
    path = "/api/agents/{agentId}",
    operation_id = "getAgent",
    tag = "agents",
    params(("agentId" = String, Path)),
    responses(
        (status = 200, description = "The agent", body = AgentView),
        (status = 404, description = "No such agent"),
    )
)]
pub(super) async fn get(
    State(app): State<App>,
    Caller(principal): Caller,
    Path(id): Path<String>,
) -> Result<Json<AgentView>, Problem> {
    let found = app.agents.find(&principal.owner.org, &AgentId::from(id)).await?;
    let active = found.filter(BookEntry::is_active).ok_or_else(|| Problem::no_such("agent"))?;
    Ok(Json(AgentView::of(active, &principal)))
}

#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Also deleted agents, which take no runs. Agents of the configuration file are always active.
    #[serde(default)]
    #[param(required = false)]
    include_inactive: bool,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct AgentView {
    id: String,
    agent_id: String,
    name: String,
    description: String,
    /// `provider::model`, or `demo`.
    model: String,
    /// The tools it may use, as the configuration names them: `plugin.tool`, `plugin.*` or `*`.
    tools: Vec<String>,
    active: bool,
    is_team: bool,
    #[serde(rename = "is_team")]
    is_team_alias: bool,
    /// For admins only.
    #[serde(skip_serializing_if = "Option::is_none")]
    instructions: Option<String>,
}

impl AgentView {
    fn of(entry: BookEntry, principal: &Principal) -> Self {
        let active = entry.is_active();
        let agent = entry.agent;
        Self {
            id: agent.id.to_string(),
            agent_id: agent.id.to_string(),
            name: agent.name,
            description: agent.description,
            model: agent.model.to_string(),
            tools: agent.tools.iter().map(ToString::to_string).collect(),
            active,
            is_team: false,
            is_team_alias: false,
            instructions: (principal.role >= Role::Admin).then_some(agent.instructions),
        }
    }
}
