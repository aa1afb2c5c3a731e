//! The log of webhook deliveries, to be read.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::extract::Caller;
use super::page::{Page, PageQuery};
use super::problem::Problem;
use crate::store::Range;
use crate::webhook::Delivery;

/// What webhooks were told or are still to be told, newest first; kept for seven days.
#[utoipa::path(
    get,
    path = "/api/admin/webhook-deliveries",
    operation_id = "adminListWebhookDeliveries",
    tag = "admin",
    params(PageQuery),
    responses(
        (status = 200, description = "Deliveries of the caller's organisation; of every one for the bootstrap token", body = Page<DeliveryView>),
        (status = 400, description = "Not a valid page"),
        (status = 403, description = "The caller is no admin"),
    )
)]
pub(super) async fn deliveries(
    State(app): State<App>,
    Caller(principal): Caller,
    page: PageQuery,
) -> Result<Json<Page<DeliveryView>>, Problem> {
    principal.check_admin()?;
    let org = (!principal.super_admin).then_some(principal.owner.org);
    let listed =
        app.store.deliveries(org.as_ref(), Range { limit: page.size, offset: page.offset() }).await?;
    let rows = listed.rows.into_iter().map(DeliveryView::from).collect();
    Ok(Json(Page::new(rows, listed.total, page)))
}

/// One event for one endpoint.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeliveryView {
    /// The endpoint's id in the configuration.
    endpoint: String,
    /// The header `webhook-id`: the same in every attempt.
    event_id: String,
    #[serde(rename = "type")]
    event: String,
    /// `PENDING`, `DELIVERED`, or `DEAD`: given up.
    status: String,
    attempts: u64,
    /// The HTTP status of the last answer; null where there was none.
    last_status: Option<u64>,
    created_at: String,
    last_attempt_at: Option<String>,
    /// Null unless it is pending.
    next_attempt_at: Option<String>,
}

impl From<Delivery> for DeliveryView {
    fn from(row: Delivery) -> Self {
        let pending = row.status == "PENDING";
        Self {
            endpoint: row.endpoint,
            event_id: row.id,
            event: row.event,
            status: row.status,
            attempts: row.attempts,
            last_status: row.last_status,
            created_at: row.created_at.to_string(),
            last_attempt_at: row.last_attempt_at.map(|at| at.to_string()),
            next_attempt_at: pending.then(|| row.next_attempt_at.to_string()),
        }
    }
}
