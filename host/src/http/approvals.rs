//! The second door to a pause: approvals by themselves, whatever run they belong to.
//!
//! A decision taken here goes through the same compare-and-set as `continue`; the answer comes at once, and
//! the run goes on in the background. What takes more than a yes or no is answered through `continue` alone: what
//! became of a call at a crash (`TOOL_OUTCOME_UNKNOWN`), and what a tool asks (`TOOL_INPUT`), which can be rejected
//! here all the same.

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::App;
use super::extract::{Caller, JsonBody};
use super::page::{Page, PageQuery};
use super::problem::Problem;
use crate::id::ApprovalId;
use crate::key::{Principal, Role};
use crate::runner::{Choice, DecideError, DecideRequest, Targets};
use crate::store::{ApprovalFilter, ApprovalRow, Range};

/// Most approvals that one request resolves.
const MAX_BULK: usize = 100;

/// What waits for a human, oldest first.
///
/// A `TOOL_INPUT` can be rejected here; its answer goes to its run's `continue`. Calls of unknown outcome (`TOOL_OUTCOME_UNKNOWN`) wait for another answer, which their run's `continue` takes:
/// they can be read by id, and are not listed here.
#[utoipa::path(
    get,
    path = "/api/v1/approvals/pending",
    operation_id = "listPendingApprovals",
    tag = "approvals",
    params(PageQuery),
    responses(
        (status = 200, description = "Of the caller's own runs; an approver's or admin's whole organisation's", body = Page<ApprovalView>),
        (status = 400, description = "Not a valid page"),
    )
)]
pub(super) async fn pending(
    State(app): State<App>,
    Caller(principal): Caller,
    page: PageQuery,
) -> Result<Json<Page<ApprovalView>>, Problem> {
    let filter = ApprovalFilter {
        org: (!principal.super_admin).then(|| principal.owner.org.clone()),
        user: (principal.role < Role::Approver).then(|| principal.owner.user.clone()),
    };
    let range = Range { limit: page.size, offset: page.offset() };
    let listed = app.store.pending_approvals(&filter, range).await?;
    let rows = listed.rows.into_iter().map(ApprovalView::from).collect();
    Ok(Json(Page::new(rows, listed.total, page)))
}

/// One approval.
#[utoipa::path(
    get,
    path = "/api/v1/approvals/{approvalId}",
    operation_id = "getApproval",
    tag = "approvals",
    params(("approvalId" = String, Path)),
    responses(
        (status = 200, description = "The approval", body = ApprovalView),
        (status = 404, description = "No such approval"),
    )
)]
pub(super) async fn get(
    State(app): State<App>,
    Caller(principal): Caller,
    Path(id): Path<String>,
) -> Result<Json<ApprovalView>, Problem> {
    Ok(Json(app.approval(&principal, &ApprovalId::from(id)).await?.into()))
}

/// Decides one call; the run goes on in the background.
#[utoipa::path(
    post,
    path = "/api/v1/approvals/{approvalId}/resolve",
    operation_id = "resolveApproval",
    tag = "approvals",
    params(("approvalId" = String, Path)),
    request_body = ResolveRequest,
    responses(
        (status = 200, description = "The approval as it is now; PENDING while others have to approve, too", body = ApprovalView),
        (status = 400, description = "A bad or missing decision"),
        (status = 403, description = "The caller may not decide this call"),
        (status = 404, description = "No such approval"),
        (status = 409, description = "It was decided otherwise, or its run has ended"),
        (status = 410, description = "The approval has expired"),
        (status = 503, description = "The server is shutting down"),
    )
)]
pub(super) async fn resolve(
    State(app): State<App>,
    Caller(principal): Caller,
    Path(id): Path<String>,
    body: JsonBody<ResolveRequest>,
) -> Result<Json<ApprovalView>, Problem> {
    let ResolveRequest { decision, comment } = body.value;
    let choice = choice(&decision, comment)?;
    Ok(Json(app.resolve(&principal, &ApprovalId::from(id), choice).await?.into()))
}

/// Decides several calls in the same way, each by itself.
#[utoipa::path(
    post,
    path = "/api/v1/approvals/bulk-resolve",
    operation_id = "resolveApprovals",
    tag = "approvals",
    request_body = BulkRequest,
    responses(
        (status = 200, description = "What came of each", body = BulkResponse),
        (status = 400, description = "A bad or missing decision, or too many ids"),
    )
)]
pub(super) async fn bulk_resolve(
    State(app): State<App>,
    Caller(principal): Caller,
    body: JsonBody<BulkRequest>,
) -> Result<Json<BulkResponse>, Problem> {
    let BulkRequest { ids, decision, comment } = body.value;
    if ids.is_empty() || ids.len() > MAX_BULK {
        return Err(Problem::invalid_param("ids", format!("must name 1 to {MAX_BULK} approvals")));
    }
    let choice = choice(&decision, comment)?;
    let mut results = Vec::with_capacity(ids.len());
    for id in ids {
        let result = app.resolve(&principal, &ApprovalId::from(id.as_str()), choice.clone()).await;
        results.push(match result {
            Ok(row) => BulkResult { id, success: true, status: Some(row.status), error: None },
            Err(problem) => BulkResult { id, success: false, status: None, error: Some(problem.document()) },
        });
    }
    let resolved = results.iter().filter(|result| result.success).count();
    Ok(Json(BulkResponse { resolved, failed: results.len() - resolved, results }))
}

impl App {
    /// The approval, unless it is another organisation's, or another user's and the caller may not decide it.
    async fn approval(&self, principal: &Principal, id: &ApprovalId) -> Result<ApprovalRow, Problem> {
        let row = self.store.approval(id).await?;
        row.filter(|row| principal.decides_for(&row.owner)).ok_or_else(|| Problem::no_such("approval"))
    }

    async fn resolve(
        &self,
        principal: &Principal,
        id: &ApprovalId,
        choice: Choice,
    ) -> Result<ApprovalRow, Problem> {
        let row = self.approval(principal, id).await?;
        let request = DecideRequest {
            targets: Targets::Named(vec![(id.clone(), choice)]),
            by: principal.owner.user.clone(),
            key: principal.key.clone(),
            claim: None,
        };
        self.runner.decide_at_once(&row.run, request).await.map_err(refused)?;
        self.approval(principal, id).await
    }
}

/// The same as `continue` says, in this door's words.
fn refused(error: DecideError) -> Problem {
    match error {
        DecideError::AnswerNeeded => Problem::invalid_param(
            "decision",
            "cannot be APPROVED alone: the tool asks for an answer, which its run's continue takes, as APPROVE with answer",
        ),
        DecideError::WrongAnswer(_) => Problem::invalid_param(
            "decision",
            "cannot answer this: what became of a call at a crash is told to its run's continue, as RETRY, RESULT or FAIL",
        ),
        error => error.into(),
    }
}

fn choice(decision: &str, comment: Option<String>) -> Result<Choice, Problem> {
    match decision.to_ascii_uppercase().as_str() {
        "APPROVED" | "APPROVE" => Ok(Choice::Approve { comment, arguments: None, answer: None }),
        "REJECTED" | "REJECT" => Ok(Choice::Reject { comment }),
        _ => Err(Problem::invalid_param("decision", "must be APPROVED or REJECTED")),
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(expecting = "an object")]
pub(super) struct ResolveRequest {
    /// `APPROVED` or `REJECTED`.
    #[schema(example = "APPROVED")]
    decision: String,
    /// For the record; a rejection's comment is also told to the model.
    #[serde(default)]
    comment: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(expecting = "an object")]
pub(super) struct BulkRequest {
    /// 1 to 100 approvals.
    ids: Vec<String>,
    /// `APPROVED` or `REJECTED`.
    decision: String,
    #[serde(default)]
    comment: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct BulkResponse {
    resolved: usize,
    failed: usize,
    /// In the order of the ids.
    results: Vec<BulkResult>,
}

#[derive(Serialize, ToSchema)]
struct BulkResult {
    id: String,
    success: bool,
    /// The approval's status afterwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    /// The problem that the same decision would have met by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    error: Option<Value>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ApprovalView {
    id: String,
    run_id: String,
    agent_id: String,
    /// `TOOL_APPROVAL`, `TOOL_INPUT` or `TOOL_OUTCOME_UNKNOWN`.
    r#type: &'static str,
    tool_name: String,
    /// JSON text, as the model wrote it.
    tool_arguments: String,
    /// `PENDING`, `APPROVED`, `REJECTED`, `EXPIRED` or `CANCELLED`.
    status: String,
    /// Whose run it is.
    requested_by: String,
    resolved_by: Option<String>,
    comment: Option<String>,
    /// A sentence for the human; what the tool asks, of `TOOL_INPUT`.
    contextual_message: String,
    /// JSON Schema of what the run's `continue` takes as `answer`, of `TOOL_INPUT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    answer_schema: Option<Value>,
    created_at: String,
    resolved_at: Option<String>,
    expires_at: String,
}

impl From<ApprovalRow> for ApprovalView {
    fn from(row: ApprovalRow) -> Self {
        Self {
            id: row.id.to_string(),
            run_id: row.run.to_string(),
            agent_id: row.agent.to_string(),
            r#type: row.question.action(),
            tool_name: row.tool,
            tool_arguments: row.arguments,
            status: row.status,
            requested_by: row.owner.user.to_string(),
            resolved_by: row.resolved_by.map(|user| user.to_string()),
            comment: row.comment,
            contextual_message: row.message,
            answer_schema: row.answer_schema,
            created_at: row.created_at.to_string(),
            resolved_at: row.resolved_at.map(|at| at.to_string()),
            expires_at: row.expires_at.to_string(),
        }
    }
}
