//! Sessions: list, read with messages and runs, delete.
//!
//! A `user` sees its own, others their organisation's; all other sessions look absent.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::extract::{Caller, QueryParams};
use super::page::{Page, PageQuery};
use super::problem::{Kind, Problem};
use super::run_response::RunDetails;
use crate::id::{AgentId, OrgId, SessionId, UserId};
use crate::key::{Principal, Role};
use crate::session::Session;
use crate::store::{Deletion, Exchange, SessionFilter};

/// Sessions, the last used first.
#[utoipa::path(
    get,
    path = "/api/sessions",
    operation_id = "listSessions",
    tag = "sessions",
    params(ListQuery, PageQuery),
    responses(
        (status = 200, description = "A page of sessions", body = Page<SessionView>),
        (status = 400, description = "Not a valid page"),
        (status = 403, description = "Another organisation was named"),
    )
)]
pub(super) async fn list(
    State(app): State<App>,
    Caller(principal): Caller,
    QueryParams(query): QueryParams<ListQuery>,
    page: PageQuery,
) -> Result<Json<Page<SessionView>>, Problem> {
    let Some(filter) = query.into_filter(&principal)? else {
        return Ok(Json(Page::new(Vec::new(), 0, page)));
    };
    let (sessions, total) = app.store.sessions(&filter, page.offset(), page.size).await?;
    Ok(Json(Page::new(sessions.into_iter().map(SessionView::from).collect(), total, page)))
}

/// A session with its messages.
#[utoipa::path(
    get,
    path = "/api/sessions/{sessionId}",
    operation_id = "getSession",
    tag = "sessions",
    params(("sessionId" = String, Path)),
    responses(
        (status = 200, description = "The session", body = SessionWithMessages),
        (status = 404, description = "No such session"),
    )
)]
pub(super) async fn get(
    State(app): State<App>,
    Caller(principal): Caller,
    Path(id): Path<String>,
) -> Result<Json<SessionWithMessages>, Problem> {
    let session = app.readable_session(&principal, id).await?;
    let exchanges = app.store.exchanges(&session.id).await?;
    let messages = exchanges.into_iter().flat_map(MessageView::of).collect();
    Ok(Json(SessionWithMessages { session: session.into(), messages }))
}

/// A session's runs, oldest first. Their `tools` and `reasoningSteps` are empty here: read the run.
#[utoipa::path(
    get,
    path = "/api/sessions/{sessionId}/runs",
    operation_id = "listSessionRuns",
    tag = "sessions",
    params(("sessionId" = String, Path)),
    responses(
        (status = 200, description = "The runs", body = Vec<RunDetails>),
        (status = 404, description = "No such session"),
    )
)]
pub(super) async fn runs(
    State(app): State<App>,
    Caller(principal): Caller,
    Path(id): Path<String>,
) -> Result<Json<Vec<RunDetails>>, Problem> {
    let session = app.readable_session(&principal, id).await?;
    let runs = app.store.session_runs(&session.id).await?;
    Ok(Json(runs.iter().map(RunDetails::from).collect()))
}

/// Deletes a session with its messages, its runs, and what plugins stored in it.
#[utoipa::path(
    delete,
    path = "/api/sessions/{sessionId}",
    operation_id = "deleteSession",
    tag = "sessions",
    params(("sessionId" = String, Path)),
    responses(
        (status = 204, description = "Deleted"),
        (status = 403, description = "Another user's session"),
        (status = 404, description = "No such session"),
        (status = 409, description = "A run of it is queued or at work (session-busy)"),
    )
)]
pub(super) async fn delete(
    State(app): State<App>,
    Caller(principal): Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let session = app.readable_session(&principal, id).await?;
    if !principal.acts_for(&session.owner) {
        return Err(Problem::new(Kind::Forbidden, "Deleting another user's session needs the role admin."));
    }
    match app.store.delete_session(&session.id).await? {
        Deletion::Deleted => Ok(StatusCode::NO_CONTENT),
        Deletion::NoSuchSession => Err(Problem::no_such("session")),
        Deletion::Busy(run) => {
            let detail = format!("Run {run} of this session is under way. Wait for it, or cancel it first.");
            Err(Problem::session_busy(&run, detail))
        }
    }
}

impl App {
    async fn readable_session(&self, principal: &Principal, id: String) -> Result<Session, Problem> {
        let session = self.store.session(&SessionId::from(id)).await?;
        session
            .filter(|session| principal.decides_for(&session.owner))
            .ok_or_else(|| Problem::no_such("session"))
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
#[expect(clippy::struct_field_names, reason = "the API's names")]
pub(super) struct ListQuery {
    /// Sessions with this agent only.
    agent_id: Option<String>,
    /// This user's sessions only. A `user` sees none but its own.
    user_id: Option<String>,
    /// The tenant; the caller's by default.
    org_id: Option<String>,
}

impl ListQuery {
    /// None: what was asked for is not the caller's to see.
    fn into_filter(self, principal: &Principal) -> Result<Option<SessionFilter>, Problem> {
        let org = self.org_id.map_or_else(|| principal.owner.org.clone(), OrgId::from);
        if !principal.super_admin && org != principal.owner.org {
            let detail = "Your key is bound to another organisation. Leave orgId out.";
            return Err(Problem::new(Kind::Forbidden, detail));
        }
        let own = &principal.owner.user;
        let user = match self.user_id.map(UserId::from) {
            user if principal.role >= Role::Approver => user,
            Some(user) if user != *own => return Ok(None),
            Some(_) | None => Some(own.clone()),
        };
        Ok(Some(SessionFilter { org, user, agent: self.agent_id.map(AgentId::from) }))
    }
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SessionView {
    id: String,
    session_id: String,
    agent_id: String,
    user_id: String,
    /// The beginning of the first message.
    title: String,
    created_at: String,
    /// When the latest run was started.
    updated_at: String,
}

#[derive(Serialize, ToSchema)]
pub(super) struct SessionWithMessages {
    #[serde(flatten)]
    session: SessionView,
    /// Every message that was sent, oldest first, each followed by its answer where its run COMPLETED. Only
    /// answered ones are part of what the model is sent later.
    messages: Vec<MessageView>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct MessageView {
    /// `user` or `assistant`.
    role: &'static str,
    content: String,
}

impl From<Session> for SessionView {
    fn from(session: Session) -> Self {
        Self {
            id: session.id.to_string(),
            session_id: session.id.to_string(),
            agent_id: session.agent.to_string(),
            user_id: session.owner.user.to_string(),
            title: session.title,
            created_at: session.created_at.to_string(),
            updated_at: session.updated_at.to_string(),
        }
    }
}

impl MessageView {
    fn of(exchange: Exchange) -> impl Iterator<Item = Self> {
        let answer = exchange.output.map(|content| Self { role: "assistant", content });
        std::iter::once(Self { role: "user", content: exchange.input }).chain(answer)
    }
}
