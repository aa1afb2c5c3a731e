//! Agents that admins make, change, delete and restore. Those of the configuration file are shown beside
//! them, and belong to whoever can write that file.

mod form;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use self::form::{AdminAgent, AgentRequest};
use super::App;
use super::agent_book::BookEntry;
use super::extract::{Admin, JsonBody};
use super::page::{Page, PageQuery};
use super::problem::{Kind, Problem};
use crate::audit::Actor;
use crate::id::AgentId;
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
        (status = 400, description = "Not a valid page"),
        (status = 403, description = "The caller is no admin"),
    )
)]
pub(super) async fn list(
    State(app): State<App>,
    Admin(principal): Admin,
    query: PageQuery,
) -> Result<Json<Page<AdminAgent>>, Problem> {
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
        (status = 400, description = "Not a valid agent"),
        (status = 403, description = "The caller is no admin"),
        (status = 409, description = "There is an agent of that id (`agent-exists`)"),
    )
)]
pub(super) async fn create(
    State(app): State<App>,
    Admin(principal): Admin,
    body: JsonBody<AgentRequest>,
) -> Result<Response, Problem> {
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
        (status = 403, description = "The caller is no admin"),
        (status = 404, description = "No such agent"),
    )
)]
pub(super) async fn get(
    State(app): State<App>,
    Admin(principal): Admin,
    Path(id): Path<String>,
) -> Result<Json<AdminAgent>, Problem> {
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
        (status = 400, description = "Not a valid agent"),
        (status = 403, description = "The caller is no admin"),
        (status = 404, description = "No such agent"),
        (status = 409, description = "It is one of the configuration file (`agent-read-only`), or deleted (`agent-deleted`)"),
    )
)]
pub(super) async fn update(
    State(app): State<App>,
    Admin(principal): Admin,
    Path(id): Path<String>,
    body: JsonBody<AgentRequest>,
) -> Result<Json<AdminAgent>, Problem> {
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
        (status = 403, description = "The caller is no admin"),
        (status = 404, description = "No such agent"),
        (status = 409, description = "It has runs under way (`agent-in-use`), or is one of the configuration file (`agent-read-only`)"),
    )
)]
pub(super) async fn delete(
    State(app): State<App>,
    Admin(principal): Admin,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
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
        (status = 403, description = "The caller is no admin"),
        (status = 404, description = "No such agent"),
        (status = 409, description = "It is one of the configuration file (`agent-read-only`)"),
    )
)]
pub(super) async fn restore(
    State(app): State<App>,
    Admin(principal): Admin,
    Path(id): Path<String>,
) -> Result<Json<AdminAgent>, Problem> {
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
