//! The HTTP API: state, routes, and the layers around them.
//!
//! Handlers parse into domain types, call the runner or the store, and map what comes back. Every route is
//! in [`router`], once, and the OpenAPI document is made from the same list.

mod admin_agents;
mod admin_plugins;
mod admission;
mod agent_book;
mod agents;
mod approvals;
mod audit;
mod background;
mod catalog;
mod decision_request;
mod document;
mod extract;
mod health;
mod measured;
mod media;
mod page;
mod plugins;
mod problem;
mod rate_limit;
mod run_list;
mod run_request;
mod run_response;
mod runs;
mod sessions;
mod stream;
mod webhooks;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware;
use axum::routing::get;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{MakeRequestId, PropagateRequestIdLayer, RequestId, SetRequestIdLayer};
use tower_http::trace::TraceLayer;
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

pub(crate) use self::agent_book::AgentBook;
use self::document::ApiDoc;
pub use self::document::openapi;
pub(crate) use self::media::MediaChecker;
pub use self::media::MediaLimits;
use self::problem::{Kind, Problem, REQUEST_ID};
pub use self::rate_limit::RateLimit;
pub(crate) use self::rate_limit::RateLimiter;
use crate::budget::Budgets;
use crate::clock::Clock;
use crate::id::Ids;
use crate::metrics::Metrics;
use crate::model::Models;
use crate::registry::Shelf;
use crate::runner::Runner;
use crate::store::Store;

/// What handlers share. Cheap to clone.
#[derive(Clone)]
pub struct App {
    pub(crate) runner: Runner,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) registry: Shelf,
    pub(crate) metrics: Metrics,
    pub(crate) agents: AgentBook,
    pub(crate) budgets: Arc<Budgets>,
    pub(crate) rate: RateLimiter,
    pub(crate) models: Arc<Models>,
    pub(crate) media: MediaChecker,
    pub(crate) clock: Clock,
    pub(crate) ids: Ids,
    /// The SHA-256 of the bootstrap token.
    pub(crate) admin_token_hash: Option<String>,
    pub(crate) limits: HttpLimits,
}

/// What requests may cost.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// Most bytes of a request body.
    pub body_bytes: usize,
    pub media: MediaLimits,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self { body_bytes: 20 << 20, media: MediaLimits { max_bytes: 10 << 20, allow_private: false } }
    }
}

/// Every route of the API.
fn api() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(ApiDoc::openapi())
        .routes(routes!(runs::create))
        .routes(routes!(runs::get, runs::cancel))
        .routes(routes!(runs::resume))
        .routes(routes!(stream::run))
        .routes(routes!(stream::resume))
        .routes(routes!(stream::events))
        .routes(routes!(background::create))
        .routes(routes!(background::status))
        .routes(routes!(background::statuses))
        .routes(routes!(background::cancel))
        .routes(routes!(sessions::list))
        .routes(routes!(sessions::get, sessions::delete))
        .routes(routes!(sessions::runs))
        .routes(routes!(approvals::pending))
        .routes(routes!(approvals::bulk_resolve))
        .routes(routes!(approvals::get))
        .routes(routes!(approvals::resolve))
        .routes(routes!(run_list::list))
        .routes(routes!(admin_agents::list, admin_agents::create))
        .routes(routes!(admin_agents::get, admin_agents::update, admin_agents::delete))
        .routes(routes!(admin_agents::restore))
        .routes(routes!(admin_plugins::get, admin_plugins::install, admin_plugins::remove))
        .routes(routes!(admin_plugins::grant))
        .routes(routes!(admin_plugins::withdraw))
        .routes(routes!(admin_plugins::revoke))
        .routes(routes!(audit::list))
        .routes(routes!(webhooks::deliveries))
        .routes(routes!(webhooks::redeliver))
        .routes(routes!(agents::list))
        .routes(routes!(agents::get))
        .routes(routes!(catalog::tools))
        .routes(routes!(plugins::list))
        .routes(routes!(catalog::models))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(measured::metrics))
}

pub fn router(app: App) -> Router {
    let document = openapi();
    let body_bytes = app.limits.body_bytes;
    let alias = document.clone();
    let metrics = app.metrics.clone();
    api()
        .split_for_parts()
        .0
        .route("/v3/api-docs", get(async move || axum::Json(alias)))
        .with_state(app)
        .merge(
            SwaggerUi::new("/docs")
                .url("/openapi.json", document)
                // By default the pages ask swagger.io's validator about the document's address.
                .config(utoipa_swagger_ui::Config::default().validator_url("none")),
        )
        .fallback(async |request: Request| {
            Problem::new(Kind::NotFound, format!("There is nothing at {}. /docs lists what is.", request.uri().path()))
        })
        .method_not_allowed_fallback(async |request: Request| {
            let detail = format!("This path does not take {}. The header Allow says what it takes.", request.method());
            Problem::new(Kind::MethodNotAllowed, detail)
        })
        .layer(DefaultBodyLimit::max(body_bytes))
        .layer(CatchPanicLayer::custom(|_| {
            // The panic hook has logged what and where.
            axum::response::IntoResponse::into_response(Problem::internal(&PanicInHandler))
        }))
        .layer(middleware::from_fn(problem::finish))
        .layer(middleware::from_fn_with_state(metrics, measured::count))
        .layer(TraceLayer::new_for_http().make_span_with(|request: &Request| {
            let id = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
            tracing::info_span!("request", http.method = %request.method(), http.path = request.uri().path(), request.id = id)
        }))
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        .layer(SetRequestIdLayer::new(REQUEST_ID, NewRequestId))
}

#[derive(Debug, thiserror::Error)]
#[error("a handler panicked")]
struct PanicInHandler;

#[derive(Clone)]
struct NewRequestId;

impl MakeRequestId for NewRequestId {
    fn make_request_id<B>(&mut self, _request: &axum::http::Request<B>) -> Option<RequestId> {
        let id: crate::id::RunId = Ids::random(Clock::System).next();
        axum::http::HeaderValue::from_str(id.as_str()).ok().map(RequestId::new)
    }
}
