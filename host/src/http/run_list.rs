//! Lists of runs. A row is made from the columns of `runs`: what only a journal knows (`tools`,
//! `reasoningSteps`) is empty, and is read with the run itself.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::extract::{Caller, QueryParams};
use super::page::{Page, PageQuery};
use super::problem::{Kind, Problem};
use super::run_response::RunDetails;
use crate::id::{AgentId, SessionId, UserId};
use crate::key::{Principal, Role};
use crate::run::STATUS_WORDS;
use crate::store::{Range, RunFilter};

/// Runs, newest first.
#[utoipa::path(
    get,
    path = "/api/runs",
    operation_id = "listRuns",
    tag = "runs",
    params(RunsQuery, PageQuery),
    responses(
        (status = 200, description = "The caller's own runs; an approver's or admin's organisation's. What only a run's journal knows is empty: tools, reasoningSteps", body = Page<RunDetails>),
        (status = 400, description = "Not a valid filter or page"),
        (status = 403, description = "Another user was named"),
    )
)]
pub(super) async fn list(
    State(app): State<App>,
    Caller(principal): Caller,
    QueryParams(query): QueryParams<RunsQuery>,
    page: PageQuery,
) -> Result<Json<Page<RunDetails>>, Problem> {
    let filter = query.into_filter(&principal)?;
    let listed = app.store.runs(&filter, Range { limit: page.size, offset: page.offset() }).await?;
    let rows = listed.rows.iter().map(RunDetails::from).collect();
    Ok(Json(Page::new(rows, listed.total, page)))
}

/// Which runs; what is left out does not matter.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct RunsQuery {
    #[param(required = false)]
    agent_id: Option<String>,
    #[param(required = false)]
    session_id: Option<String>,
    /// `QUEUED`, `RUNNING`, `PAUSED`, `COMPLETED`, `FAILED` or `CANCELLED`.
    #[param(required = false)]
    status: Option<String>,
    /// Another user than oneself needs the role approver or admin.
    #[param(required = false)]
    user_id: Option<String>,
}

impl RunsQuery {
    fn into_filter(self, principal: &Principal) -> Result<RunFilter, Problem> {
        let status = given(self.status).map(|word| status_word(&word)).transpose()?;
        let own = principal.owner.user.clone();
        let user = given(self.user_id).map(UserId::from);
        let user = match user {
            None if principal.role < Role::Approver => Some(own),
            Some(user) if principal.role < Role::Approver && user != own => {
                let detail =
                    "Listing another user's runs needs the role approver or admin. Leave userId out.";
                return Err(Problem::new(Kind::Forbidden, detail));
            }
            user => user,
        };
        Ok(RunFilter {
            org: (!principal.super_admin).then(|| principal.owner.org.clone()),
            user,
            agent: given(self.agent_id).map(AgentId::from),
            session: given(self.session_id).map(SessionId::from),
            status,
        })
    }
}

/// `?x=` is as good as no `x`.
pub(super) fn given(value: Option<String>) -> Option<String> {
    value.filter(|value| !value.is_empty())
}

fn status_word(word: &str) -> Result<&'static str, Problem> {
    let found = STATUS_WORDS.into_iter().find(|known| known.eq_ignore_ascii_case(word));
    found.ok_or_else(|| {
        Problem::invalid_param("status", format!("must be one of {}", STATUS_WORDS.join(", ")))
    })
}
