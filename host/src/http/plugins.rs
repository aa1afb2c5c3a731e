//! The plugins as everybody sees them: what serves, and what does not and why.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::extract::Caller;
use crate::metrics::Metrics;
use crate::plugin::{Capabilities, Limits, Plugin, Prepared, Signed};
use crate::registry::{Held, ToolRegistry};

/// The plugins of the plugin folder, those that do not serve included.
#[utoipa::path(
    get,
    path = "/api/plugins",
    operation_id = "listPlugins",
    tag = "catalog",
    responses(
        (status = 200, description = "The plugins, by id", body = Vec<PluginView>),
    )
)]
pub(super) async fn list(State(app): State<App>, _caller: Caller) -> Json<Vec<PluginView>> {
    Json(PluginView::all(&app.registry.load(), &app.metrics))
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct PluginView {
    id: String,
    /// What became of the file in the plugin folder: `loaded`, `waiting` (it asks for more than was granted),
    /// `failed` or `revoked`. Where it is not `loaded`, the version before it may still serve.
    state: &'static str,
    /// Why it does not serve.
    error: Option<String>,
    /// `sha256:` and the digest of the component that serves; null = none does.
    digest: Option<String>,
    version: Option<String>,
    /// The signature of the component that serves; null = it has none.
    signature: Option<SignatureView>,
    /// The capabilities it imports, beyond the inert base.
    imports: Vec<String>,
    tools: Vec<String>,
    /// What it asked for.
    #[schema(value_type = Option<Object>)]
    requested: Option<Capabilities>,
    /// `kv`, `http` or `secrets` where what it asked for is a proposal: it takes whatever is granted.
    open: Vec<&'static str>,
    /// What the operator granted of it.
    #[schema(value_type = Option<Object>)]
    grants: Option<Capabilities>,
    #[schema(value_type = Option<Object>)]
    limits: Option<Limits>,
    /// The circuit breaker: `closed` (calls run), `open` (it failed too often and is stopped for now) or `half-open`
    /// (one call tries).
    breaker: Option<&'static str>,
    /// Calls since the server started.
    calls: u64,
    /// Those of them that the plugin failed: it crashed, reached a limit, or gave up.
    failures: u64,
    /// Calls running now; at most the limit `concurrentCalls`.
    running: u64,
    /// The version that waits.
    waiting: Option<WaitingView>,
}

/// A component's minisign signature.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SignatureView {
    /// The id of the signer's key, as minisign shows it: 16 hexadecimal digits. Where it was not checked, this is
    /// what the component says and no more.
    key_id: String,
    /// True: the signature is genuine, and by one of the configuration's `plugin_signers`. False: the configuration names
    /// no signers, so nobody looked.
    checked: bool,
}

/// A version that asks for more than was granted.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct WaitingView {
    /// `sha256:` and the digest: what a decision is about.
    digest: String,
    version: Option<String>,
    /// As with a version that serves.
    signature: Option<SignatureView>,
    #[schema(value_type = Object)]
    requested: Capabilities,
    /// As with a version that serves.
    open: Vec<&'static str>,
    /// What it asks for in addition, in words.
    missing: Vec<String>,
}

impl PluginView {
    pub(super) fn all(registry: &ToolRegistry, metrics: &Metrics) -> Vec<Self> {
        let held = registry.held().iter().map(|held| held.id.as_str());
        let mut ids: Vec<&str> = registry.plugins().iter().map(|plugin| plugin.id()).chain(held).collect();
        ids.sort_unstable();
        ids.dedup();
        ids.into_iter().map(|id| Self::new(registry, metrics, id)).collect()
    }

    pub(super) fn new(registry: &ToolRegistry, metrics: &Metrics, id: &str) -> Self {
        let tally = metrics.tally(id);
        let (serving, held) = (registry.plugin(id), registry.held_of(id));
        let prepared = serving.map(|plugin| plugin.prepared());
        Self {
            id: id.to_owned(),
            state: held.map_or("loaded", Held::word),
            error: held.map(Held::in_words),
            digest: prepared.map(|it| shown(it.digest())),
            version: prepared.and_then(version),
            signature: prepared.and_then(signature),
            imports: prepared.map(Prepared::imports).unwrap_or_default(),
            tools: prepared
                .map_or(&[][..], Prepared::specs)
                .iter()
                .map(|spec| spec.name.to_string())
                .collect(),
            requested: prepared.map(|it| it.request().asked),
            open: prepared.map_or_else(Vec::new, open),
            grants: serving.map(|plugin| Plugin::grants(plugin).clone()),
            limits: prepared.map(|it| Limits::clone(it.limits())),
            breaker: serving.map(|plugin| plugin.breaker().word()),
            calls: tally.calls,
            failures: tally.failures,
            running: serving.map_or(0, |plugin| plugin.running_calls()),
            waiting: match held {
                Some(Held::Waiting { prepared, missing, .. }) => Some(WaitingView {
                    digest: shown(prepared.digest()),
                    version: version(prepared),
                    signature: signature(prepared),
                    requested: prepared.request().asked,
                    open: open(prepared),
                    missing: missing.in_words(),
                }),
                Some(Held::Failed { .. } | Held::Revoked { .. }) | None => None,
            },
        }
    }
}

fn version(prepared: &Prepared) -> Option<String> {
    prepared.manifest().map(|manifest| manifest.version.clone())
}

fn signature(prepared: &Prepared) -> Option<SignatureView> {
    prepared.signed().map(|Signed { by, checked }| SignatureView { key_id: by.to_string(), checked })
}

fn open(prepared: &Prepared) -> Vec<&'static str> {
    prepared.request().open.iter().map(|capability| capability.word()).collect()
}

pub(super) fn shown(digest: &str) -> String {
    format!("sha256:{digest}")
}
