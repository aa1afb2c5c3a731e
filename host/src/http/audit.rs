//! The audit log, to be read. Nothing writes to it over HTTP.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::extract::{Admin, QueryParams};
use super::page::{Page, PageQuery};
use super::problem::Problem;
use super::run_list::given;
use crate::audit::{Action, AuditEntry, ObjectType};
use crate::id::UserId;
use crate::store::{AuditFilter, AuditRow, Range};

/// Who did what to which object, newest first.
#[utoipa::path(
    get,
    path = "/api/admin/audit-logs",
    operation_id = "adminListAuditLogs",
    tag = "admin",
    params(AuditQuery, PageQuery),
    responses(
        (status = 200, description = "Rows of the caller's organisation; of every one for the bootstrap token", body = Page<AuditView>),
        (status = 400, description = "Not a valid filter or page"),
        (status = 403, description = "The caller is no admin"),
    )
)]
pub(super) async fn list(
    State(app): State<App>,
    Admin(principal): Admin,
    QueryParams(query): QueryParams<AuditQuery>,
    page: PageQuery,
) -> Result<Json<Page<AuditView>>, Problem> {
    let invalid = |field: &'static str| {
        move |error: crate::audit::UnknownWord| Problem::invalid_param(field, error.to_string())
    };
    let action = given(query.action).map(|word| word.parse::<Action>()).transpose();
    let object = given(query.object_type).map(|word| word.parse::<ObjectType>()).transpose();
    let filter = AuditFilter {
        org: (!principal.super_admin).then_some(principal.owner.org),
        action: action.map_err(invalid("action"))?,
        object: object.map_err(invalid("objectType"))?,
        object_id: given(query.object_id),
        user: given(query.user_id).map(UserId::from),
    };
    let listed = app.store.audit_log(&filter, Range { limit: page.size, offset: page.offset() }).await?;
    let rows = listed.rows.into_iter().map(AuditView::from).collect();
    Ok(Json(Page::new(rows, listed.total, page)))
}

/// Which rows; what is left out does not matter.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct AuditQuery {
    /// Such as `agent.updated` or `approval.decided`.
    #[param(required = false)]
    action: Option<String>,
    /// `agent`, `run`, `approval`, `key`, `webhook` or `plugin`.
    #[param(required = false)]
    object_type: Option<String>,
    #[param(required = false)]
    object_id: Option<String>,
    /// Who did it.
    #[param(required = false)]
    user_id: Option<String>,
}

/// One row of the audit log.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct AuditView {
    id: String,
    created_at: String,
    /// Whose object it is.
    org_id: String,
    /// Who did it; `system` for what the server did by itself.
    user_id: String,
    /// The id of the API key that it was done with; null for the bootstrap token, the command line and the
    /// server itself.
    key_id: Option<String>,
    action: &'static str,
    object_type: &'static str,
    object_id: String,
    #[schema(value_type = Object)]
    details: Value,
}

impl From<AuditRow> for AuditView {
    fn from(row: AuditRow) -> Self {
        let AuditEntry { at, org, by, action, object, object_id, details } = row.entry;
        Self {
            id: row.id.to_string(),
            created_at: at.to_string(),
            org_id: org.to_string(),
            user_id: by.user.to_string(),
            key_id: by.key.map(|key| key.to_string()),
            action: action.as_str(),
            object_type: object.as_str(),
            object_id,
            details,
        }
    }
}
