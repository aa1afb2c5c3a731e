//! What this server offers: tools, the plugins they come from, models.

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
use crate::plugin::{Capabilities, Limits};
use crate::registry::FailedPlugin;

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

/// The plugins of the plugin folder, those that could not be loaded included.
#[utoipa::path(
    get,
    path = "/api/plugins",
    operation_id = "listPlugins",
    tag = "catalog",
    responses(
        (status = 200, description = "The plugins, by id", body = Vec<PluginView>),
    )
)]
pub(super) async fn plugins(State(app): State<App>, _caller: Caller) -> Json<Vec<PluginView>> {
    let registry = app.registry.load();
    let tally = |id: &str| app.metrics.tally(id);
    let loaded = registry.plugins().iter().map(|plugin| PluginView {
        id: plugin.id().to_owned(),
        digest: Some(format!("sha256:{}", plugin.digest())),
        version: plugin.manifest().map(|manifest| manifest.version.clone()),
        state: "loaded",
        error: None,
        imports: plugin.imports().to_vec(),
        tools: plugin.specs().iter().map(|spec| spec.name.to_string()).collect(),
        grants: Some(plugin.grants().clone()),
        limits: Some(plugin.limits().clone()),
        calls: tally(plugin.id()).calls,
        failures: tally(plugin.id()).failures,
        running: plugin.running_calls(),
    });
    let failed = registry.failed().iter().map(|FailedPlugin { id, reason }| PluginView {
        id: id.clone(),
        digest: None,
        version: None,
        state: "failed",
        error: Some(reason.clone()),
        imports: Vec::new(),
        tools: Vec::new(),
        grants: None,
        limits: None,
        calls: tally(id).calls,
        failures: tally(id).failures,
        running: 0,
    });
    let mut views: Vec<PluginView> = loaded.chain(failed).collect();
    views.sort_by(|a, b| a.id.cmp(&b.id));
    Json(views)
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct PluginView {
    id: String,
    /// `sha256:` and the digest of the component's bytes.
    digest: Option<String>,
    /// Of its manifest.
    version: Option<String>,
    /// `loaded` or `failed`.
    state: &'static str,
    /// Why it could not be loaded.
    error: Option<String>,
    /// The capabilities it imports, beyond the inert base.
    imports: Vec<String>,
    tools: Vec<String>,
    #[schema(value_type = Option<Object>)]
    grants: Option<Capabilities>,
    #[schema(value_type = Option<Object>)]
    limits: Option<Limits>,
    /// Calls since the server started.
    calls: u64,
    /// Those of them that the plugin failed: it crashed, reached a limit, or gave up.
    failures: u64,
    /// Calls running now; at most the limit `concurrentCalls`.
    running: u64,
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
