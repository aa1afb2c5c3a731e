//! What this server offers: tools and models.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::App;
use super::agent_book::BookEntry;
use super::extract::Caller;
use super::problem::Problem;
use crate::agent::{DEMO, ModelName};

/// Every tool of every loaded plugin.
#[utoipa::path(
    get,
    path = "/api/tools",
    operation_id = "listTools",
    tag = "catalog",
    responses(
        (status = 200, description = "The tools, by name", body = Vec<ToolView>),
    )
)]
pub(super) async fn tools(State(app): State<App>, _caller: Caller) -> Json<Vec<ToolView>> {
    let registry = app.registry.load();
    let view = |spec: &crate::tool::ToolSpec| ToolView {
        id: spec.name.to_string(),
        label: spec.annotations.title.clone().unwrap_or_else(|| spec.name.tool().to_owned()),
        desc: spec.description.clone(),
        category: spec.name.plugin().to_owned(),
        plugin: spec.name.plugin().to_owned(),
        requires_approval: spec.annotations.requires_approval,
        input_schema: spec.input_schema.clone(),
    };
    Json(registry.specs().map(view).collect())
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ToolView {
    /// The name that the model sees, `plugin__tool`.
    id: String,
    label: String,
    desc: String,
    category: String,
    plugin: String,
    /// The plugin itself asks for a human before each call. An agent's policy can add to this.
    requires_approval: bool,
    /// JSON Schema of the arguments.
    #[schema(value_type = Object)]
    input_schema: Value,
}

/// The models that agents use, and the providers that are configured.
#[utoipa::path(
    get,
    path = "/api/models",
    operation_id = "listModels",
    tag = "catalog",
    responses(
        (status = 200, description = "The models, by id", body = Vec<ModelView>),
    )
)]
pub(super) async fn models(
    State(app): State<App>,
    Caller(principal): Caller,
) -> Result<Json<Vec<ModelView>>, Problem> {
    let agents = app.agents.all(&principal.owner.org).await?;
    let active = agents.into_iter().filter(BookEntry::is_active);
    let ready: BTreeMap<String, bool> = app
        .models
        .list()
        .into_iter()
        .map(|listed| (listed.provider, listed.has_key || !listed.needs_key))
        .collect();
    let demo = ModelName { provider: DEMO.to_owned(), model: String::new() };
    let mut views: BTreeMap<String, ModelView> = BTreeMap::new();
    let named = active.map(|entry| (entry.agent.model, entry.agent.vision));
    for (name, vision) in named.chain([(demo, None)]) {
        let view = ModelView {
            id: name.to_string(),
            vision: vision.unwrap_or_else(|| app.models.reads_images(&name)),
            ready: ready.get(&name.provider).copied().unwrap_or(false),
            provider: name.provider,
            model: name.model,
        };
        views.insert(view.id.clone(), view);
    }
    Ok(Json(views.into_values().collect()))
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ModelView {
    /// What to write as an agent's or a run's model: `provider::model`, or `demo`.
    id: String,
    provider: String,
    model: String,
    /// It reads images.
    vision: bool,
    /// Its provider has a key, or needs none.
    ready: bool,
}
