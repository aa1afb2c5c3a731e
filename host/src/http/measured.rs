//! What the operator's monitoring reads, and the counting of requests.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::App;
use super::problem::Problem;
use crate::metrics::Metrics;

/// What the encoder writes; Prometheus and its relatives ask for it by this name.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Numbers for monitoring, in the text format of Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "metrics",
    tag = "health",
    security(()),
    responses((status = 200, description = "The numbers", body = String, content_type = "application/openmetrics-text"))
)]
pub(super) async fn metrics(State(app): State<App>) -> Result<Response, Problem> {
    let standing = match app.store.standing().await {
        Ok(standing) => Some(standing),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the database does not answer");
            None
        }
    };
    let text = app.metrics.text(standing.as_ref()).map_err(|error| Problem::internal(&error))?;
    Ok(([(CONTENT_TYPE, OPEN_METRICS)], text).into_response())
}

/// Counts a request when the head of its answer is known.
pub(super) async fn count(
    State(metrics): State<Metrics>,
    route: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let response = next.run(request).await;
    let route = route.as_ref().map(MatchedPath::as_str);
    metrics.answered(method.as_str(), route, response.status().as_u16(), started.elapsed());
    response
}
