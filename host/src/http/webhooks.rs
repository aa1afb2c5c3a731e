//! What became of webhooks, for admins: the delivery log, and delivering an event again.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::extract::{Admin, QueryParams};
use super::page::{Page, PageQuery};
use super::problem::Problem;
use super::run_list::given;
use crate::audit::Actor;
use crate::store::{Range, Redelivery, WebhookDelivery, WebhookFilter};

/// Attempts to deliver webhooks, newest first; kept for seven days after an event was delivered or given up.
#[utoipa::path(
    get,
    path = "/api/admin/webhook-deliveries",
    operation_id = "adminListWebhookDeliveries",
    tag = "admin",
    params(DeliveryQuery, PageQuery),
    responses(
        (status = 200, description = "Attempts for the caller's organisation; for every one with the bootstrap token", body = Page<DeliveryView>),
        (status = 400, description = "Not a valid page"),
        (status = 403, description = "The caller is no admin"),
    )
)]
pub(super) async fn deliveries(
    State(app): State<App>,
    Admin(principal): Admin,
    QueryParams(query): QueryParams<DeliveryQuery>,
    page: PageQuery,
) -> Result<Json<Page<DeliveryView>>, Problem> {
    let filter = WebhookFilter {
        endpoint: given(query.endpoint),
        event: given(query.event_id),
        org: (!principal.super_admin).then_some(principal.owner.org),
    };
    let range = Range { limit: page.size, offset: page.offset() };
    let listed = app.store.webhook_deliveries(&filter, range).await?;
    let rows = listed.rows.into_iter().map(DeliveryView::from).collect();
    Ok(Json(Page::new(rows, listed.total, page)))
}

/// Delivers an event again, under the same id and with all its retries.
#[utoipa::path(
    post,
    path = "/api/admin/webhook-deliveries/{eventId}/redeliver",
    operation_id = "adminRedeliverWebhook",
    tag = "admin",
    params(("eventId" = String, Path, description = "The webhook-id"), RedeliverQuery),
    responses(
        (status = 202, description = "The event is due again", body = RedeliveryView),
        (status = 403, description = "The caller is no admin"),
        (status = 404, description = "No such event, or it was forgotten"),
    )
)]
pub(super) async fn redeliver(
    State(app): State<App>,
    Admin(principal): Admin,
    Path(event): Path<String>,
    QueryParams(query): QueryParams<RedeliverQuery>,
) -> Result<(StatusCode, Json<RedeliveryView>), Problem> {
    let redelivery = Redelivery {
        event: event.clone(),
        endpoint: given(query.endpoint),
        by: Actor::from(&principal),
        org: (!principal.super_admin).then_some(principal.owner.org),
        at: app.clock.now(),
    };
    let endpoints = app.store.redeliver_webhook(redelivery).await?;
    if endpoints.is_empty() {
        return Err(Problem::no_such("webhook event"));
    }
    Ok((StatusCode::ACCEPTED, Json(RedeliveryView { event_id: event, endpoints })))
}

/// Which attempts; what is left out does not matter.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct DeliveryQuery {
    /// The id of a configured webhook.
    #[param(required = false)]
    endpoint: Option<String>,
    /// The `webhook-id`.
    #[param(required = false)]
    event_id: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct RedeliverQuery {
    /// Only this one; by default every endpoint that the event was for.
    #[param(required = false)]
    endpoint: Option<String>,
}

/// One attempt.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeliveryView {
    /// The `webhook-id`: the same for every attempt.
    event_id: String,
    #[serde(rename = "type")]
    #[schema(example = "run.paused")]
    kind: String,
    run_id: String,
    endpoint: String,
    /// From 1.
    attempt: u64,
    /// The HTTP status; null where there was no answer.
    status_code: Option<u64>,
    /// `status`, `redirect`, `gone`, `timeout`, `connection`, `private-address` or `request`; null = delivered.
    error: Option<String>,
    duration_ms: u64,
    at: String,
    /// How the event stands now: `PENDING`, `DELIVERED`, or `DEAD`: given up.
    state: String,
    /// Null unless it is pending.
    next_attempt_at: Option<String>,
}

impl From<WebhookDelivery> for DeliveryView {
    fn from(delivery: WebhookDelivery) -> Self {
        Self {
            event_id: delivery.event,
            kind: delivery.kind,
            run_id: delivery.run.to_string(),
            endpoint: delivery.endpoint,
            attempt: delivery.attempt,
            status_code: delivery.status,
            error: delivery.error,
            duration_ms: delivery.duration_ms,
            at: delivery.at.to_string(),
            state: delivery.state,
            next_attempt_at: delivery.next_attempt_at.map(|at| at.to_string()),
        }
    }
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RedeliveryView {
    event_id: String,
    /// Where it is sent again.
    endpoints: Vec<String>,
}
