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
    /// `DOWN` while a plugin's compilation does not end.
    compiler: &'static str,
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
    let compiler = app.registry.host().compiler_alive();
    let intake = !app.runner.is_draining();
    let all = database && plugins && epoch_ticker && compiler && intake;
    let readiness = Readiness {
        status: word(all),
        database: word(database),
        plugins: word(plugins),
        epoch_ticker: word(epoch_ticker),
        compiler: word(compiler),
        intake: word(intake),
    };
    (if all { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(readiness))
}

fn word(up: bool) -> &'static str {
    if up { "UP" } else { "DOWN" }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::config::{Config, ServerArgs};
    use crate::server::Server;

    async fn app(folder: &Path) -> App {
        let text = "database = \"sqlite://holdfast.db\"\n";
        let mut config =
            Config::from_text(text, &folder.join("holdfast.toml"), &ServerArgs::default()).unwrap();
        config.admin_token = Some("token".to_owned());
        std::fs::create_dir_all(&config.plugin_dir).unwrap();
        Server::open(&config).await.unwrap().app()
    }

    async fn readiness(app: &App) -> (StatusCode, serde_json::Value) {
        let (status, Json(body)) = ready(State(app.clone())).await;
        (status, serde_json::to_value(body).unwrap())
    }

    #[tokio::test]
    async fn a_stuck_compilation_turns_readiness_red_until_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let app = app(folder.path()).await;
        let (status, body) = readiness(&app).await;
        assert_eq!(status, StatusCode::OK, "{body}");

        let stuck = app.registry.host().stuck_compilation();
        let (status, body) = readiness(&app).await;
        assert_eq!((status, &body["compiler"]), (StatusCode::SERVICE_UNAVAILABLE, &"DOWN".into()), "{body}");
        assert!(app.metrics.text(None).unwrap().contains("holdfast_up{part=\"compiler\"} 0"));

        drop(stuck);
        assert_eq!(readiness(&app).await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn a_ticker_that_stopped_turns_readiness_red() {
        let folder = tempfile::tempdir().unwrap();
        let app = app(folder.path()).await;
        assert_eq!(readiness(&app).await.1["epochTicker"], "UP");
        app.registry.host().stop_ticker();
        let started = Instant::now();
        while app.registry.host().ticker_alive() {
            assert!(started.elapsed() < Duration::from_secs(10), "nobody noticed");
            tokio::task::yield_now().await;
        }
        let (status, body) = readiness(&app).await;
        assert_eq!(
            (status, &body["epochTicker"]),
            (StatusCode::SERVICE_UNAVAILABLE, &"DOWN".into()),
            "{body}"
        );
        assert_eq!(body["status"], "DOWN");
        let text = app.metrics.text(None).unwrap();
        assert!(text.contains("holdfast_up{part=\"epoch_ticker\"} 0"), "{text}");
    }
}
