//! Liveness and readiness.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use crate::registry::Held;

#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    /// `UP` or `DOWN`.
    status: &'static str,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Readiness {
    /// `UP` when every part is.
    status: &'static str,
    database: &'static str,
    /// `DOWN` when a plugin of the plugin folder could not be loaded.
    plugins: &'static str,
    /// The timer that interrupts looping plugins.
    epoch_ticker: &'static str,
    /// `DOWN` while the server shuts down.
    intake: &'static str,
}

/// The process answers.
#[utoipa::path(get, operation_id = "live", path = "/api/v1/health", tag = "health", security(()), responses((status = 200, body = Health)))]
pub(super) async fn live() -> Json<Health> {
    Json(Health { status: "UP" })
}

/// The server can take runs.
#[utoipa::path(
    get,
    operation_id = "ready",
    path = "/api/v1/health/ready",
    tag = "health",
    security(()),
    responses((status = 200, body = Readiness), (status = 503, description = "A part is down", body = Readiness))
)]
pub(super) async fn ready(State(app): State<App>) -> (StatusCode, Json<Readiness>) {
    let database = match app.store.ping().await {
        Ok(()) => true,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the database does not answer");
            false
        }
    };
    let plugins = !app.registry.load().held().iter().any(|held| matches!(held.why, Held::Failed { .. }));
    let epoch_ticker = app.registry.host().ticker_alive();
    let intake = !app.runner.is_draining();
    let all = database && plugins && epoch_ticker && intake;
    let readiness = Readiness {
        status: word(all),
        database: word(database),
        plugins: word(plugins),
        epoch_ticker: word(epoch_ticker),
        intake: word(intake),
    };
    (if all { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(readiness))
}

fn word(up: bool) -> &'static str {
    if up { "UP" } else { "DOWN" }
}
