//! Lists of runs. A row is made from the columns of `runs`: what only a journal knows (`tools`,
//! `reasoningSteps`, what a paused run asks for) is left out, and is read with the run itself.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::extract::{Caller, QueryParams};
use super::page::{Page, PageQuery};
use super::problem::{Kind, Problem, ProblemDocument};
use super::run_response::{CANCELLED, Metadata, Metrics, TokenUsage};
use crate::id::{AgentId, SessionId, UserId};
use crate::key::{Principal, Role};
use crate::run::STATUS_WORDS;
use crate::store::{Range, RunFilter, RunSummary};

/// Runs, newest first.
#[utoipa::path(
    get,
    path = "/api/runs",
    operation_id = "listRuns",
    tag = "runs",
    params(RunsQuery, PageQuery),
    responses(
        (status = 200, description = "The caller's own runs; an approver's or admin's organisation's. Without the fields that only a run's journal knows: tools, reasoningSteps, requiredAction", body = Page<RunRow>),
        (status = 400, description = "Not a valid filter or page", body = ProblemDocument),
        (status = 401, description = "No valid token", body = ProblemDocument),
        (status = 403, description = "Another user was named", body = ProblemDocument),
        (status = 429, description = "Too many requests with this key", body = ProblemDocument),
    )
)]
pub(super) async fn list(
    State(app): State<App>,
    Caller(principal): Caller,
    QueryParams(query): QueryParams<RunsQuery>,
    page: PageQuery,
) -> Result<Json<Page<RunRow>>, Problem> {
    let filter = query.into_filter(&principal)?;
    let listed = app.store.runs(&filter, Range { limit: page.size, offset: page.offset() }).await?;
    let rows = listed.rows.into_iter().map(RunRow::from).collect();
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

/// A run in a list.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RunRow {
    id: String,
    run_id: String,
    session_id: String,
    agent_id: String,
    user_id: String,
    org_id: String,
    status: String,
    input: String,
    /// The final answer in Markdown; empty unless COMPLETED.
    content: String,
    output: String,
    metadata: Metadata,
    metrics: Metrics,
    created_at: String,
    started_at: Option<String>,
    completed_at: Option<String>,
    updated_at: String,
}

impl From<RunSummary> for RunRow {
    fn from(run: RunSummary) -> Self {
        let failed = usize::from(run.error_type.is_some());
        let mut metadata = Metadata::of(run.model.clone(), run.agent_version);
        metadata.usage = TokenUsage::new(run.tokens, run.cost_micros);
        metadata.message = match run.status.as_str() {
            "CANCELLED" => Some(CANCELLED.to_owned()),
            _ => run.error_message.clone(),
        };
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        Self {
            id: run.id.to_string(),
            run_id: run.id.to_string(),
            session_id: run.session.to_string(),
            agent_id: run.agent.to_string(),
            user_id: run.owner.user.to_string(),
            org_id: run.owner.org.to_string(),
            input: run.input,
            content: run.output.clone(),
            output: run.output,
            metadata,
            metrics: Metrics {
                input_tokens: run.tokens.input,
                output_tokens: run.tokens.output,
                reasoning_tokens: run.tokens.reasoning,
                llm_call_count: u32::try_from(run.model_calls).unwrap_or(u32::MAX),
                tool_call_count: count(run.tool_calls),
                error_count: count(run.failed_calls) + failed,
                duration_ms: run.active_ms,
                model: run.model,
                error_type: run.error_type,
                error_message: run.error_message,
            },
            status: run.status,
            created_at: run.created_at.to_string(),
            started_at: run.started_at.map(|at| at.to_string()),
            completed_at: run.completed_at.map(|at| at.to_string()),
            updated_at: run.updated_at.to_string(),
        }
    }
}
