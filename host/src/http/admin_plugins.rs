//! What operators do with plugins: install, grant, withdraw, revoke, remove.
//!
//! Plugins serve every organisation, so it takes the bootstrap token or an admin of the organisation `default`,
//! which is the installation's own. Nothing that an agent, a tool or a run can reach leads here.

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::App;
use super::extract::{Admin, JsonBody};
use super::plugins::{PluginView, shown};
use super::problem::{Kind, Problem};
use crate::audit::Actor;
use crate::plugin::{Capabilities, LoadError, Request};
use crate::registry::{ChangeError, Difference, Held, Operator, Words};

const MAX_REASON: usize = 500;

/// One plugin: what serves, what waits, what was decided about which version.
#[utoipa::path(
    get,
    path = "/api/admin/plugins/{pluginId}",
    operation_id = "adminGetPlugin",
    tag = "admin",
    params(("pluginId" = String, Path)),
    responses(
        (status = 200, description = "The plugin", body = AdminPlugin),
        (status = 403, description = "The caller is no admin of this installation"),
        (status = 404, description = "No such plugin"),
    )
)]
pub(super) async fn get(
    State(app): State<App>,
    _: ByOperator,
    Path(id): Path<String>,
) -> Result<Json<AdminPlugin>, Problem> {
    Ok(Json(app.admin_plugin(&id).await?))
}

/// Installs a component, or puts it in the place of the plugin's present one. It is checked and compiled first: the
/// body of a 422 says why it was refused, and then nothing has changed.
#[utoipa::path(
    put,
    path = "/api/admin/plugins/{pluginId}",
    operation_id = "adminInstallPlugin",
    tag = "admin",
    params(("pluginId" = String, Path, description = "The `id` of its manifest")),
    request_body(content = Vec<u8>, content_type = "application/wasm", description = "The component"),
    responses(
        (status = 200, description = "Replaced; `state` says whether it serves or waits for a grant", body = AdminPlugin),
        (status = 201, description = "Installed; `state` says whether it serves or waits for a grant", body = AdminPlugin),
        (status = 403, description = "The caller is no admin of this installation"),
        (status = 409, description = "This version was revoked (`plugin-revoked`)"),
        (status = 413, description = "The component is larger than the plugin's `component_bytes`"),
        (status = 415, description = "The body is not application/wasm"),
        (status = 422, description = "It does not load (`plugin-refused`)"),
    )
)]
pub(super) async fn install(
    State(app): State<App>,
    ByOperator(by): ByOperator,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    if headers.get(header::CONTENT_TYPE).is_none_or(|value| value != "application/wasm") {
        let detail = "Send the component's bytes with `Content-Type: application/wasm`.";
        return Err(Problem::new(Kind::UnsupportedMediaType, detail));
    }
    let bytes = component(&id, app.registry.limits(&id).component_bytes, body).await?;
    let is_new = app.registry.install(&id, bytes, &by).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(app.admin_plugin(&id).await?)).into_response())
}

/// Removes a plugin. Runs that are paused on it still finish with the version that paused them.
#[utoipa::path(
    delete,
    path = "/api/admin/plugins/{pluginId}",
    operation_id = "adminRemovePlugin",
    tag = "admin",
    params(("pluginId" = String, Path)),
    responses(
        (status = 204, description = "Removed"),
        (status = 403, description = "The caller is no admin of this installation"),
        (status = 404, description = "No such plugin"),
    )
)]
pub(super) async fn remove(
    State(app): State<App>,
    ByOperator(by): ByOperator,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    app.registry.remove(&id, &by).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Grants the installed version what it asks for, or a part of it.
#[utoipa::path(
    post,
    path = "/api/admin/plugins/{pluginId}/grants",
    operation_id = "adminGrantPlugin",
    tag = "admin",
    params(("pluginId" = String, Path)),
    request_body = GrantRequest,
    responses(
        (status = 200, description = "The plugin", body = AdminPlugin),
        (status = 400, description = "Not a valid decision"),
        (status = 403, description = "The caller is no admin of this installation"),
        (status = 404, description = "No such plugin"),
        (status = 409, description = "Another version is installed by now (`plugin-changed`), or this one was revoked (`plugin-revoked`)"),
    )
)]
pub(super) async fn grant(
    State(app): State<App>,
    ByOperator(by): ByOperator,
    Path(id): Path<String>,
    body: JsonBody<GrantRequest>,
) -> Result<Json<AdminPlugin>, Problem> {
    let digest = digest(&body.value.digest)?;
    app.registry.grant(&id, &digest, body.value.only.as_deref(), &by).await?;
    Ok(Json(app.admin_plugin(&id).await?))
}

/// Takes back what was granted to a version. What the configuration grants it stays.
#[utoipa::path(
    delete,
    path = "/api/admin/plugins/{pluginId}/grants/{digest}",
    operation_id = "adminWithdrawGrant",
    tag = "admin",
    params(("pluginId" = String, Path), ("digest" = String, Path)),
    responses(
        (status = 204, description = "Taken back"),
        (status = 400, description = "Not a digest"),
        (status = 403, description = "The caller is no admin of this installation"),
        (status = 404, description = "Nothing was granted to this version"),
    )
)]
pub(super) async fn withdraw(
    State(app): State<App>,
    ByOperator(by): ByOperator,
    Path((id, version)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    if app.registry.withdraw(&id, &digest(&version)?, &by).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(Problem::no_such("grant"))
}

/// Stops a version for good: its calls end now, calls that are paused on it are refused, and it never runs again.
#[utoipa::path(
    post,
    path = "/api/admin/plugins/{pluginId}/revoke",
    operation_id = "adminRevokePlugin",
    tag = "admin",
    params(("pluginId" = String, Path)),
    request_body = RevokeRequest,
    responses(
        (status = 204, description = "Revoked, perhaps before"),
        (status = 400, description = "No digest, or no reason"),
        (status = 403, description = "The caller is no admin of this installation"),
    )
)]
pub(super) async fn revoke(
    State(app): State<App>,
    ByOperator(by): ByOperator,
    Path(id): Path<String>,
    body: JsonBody<RevokeRequest>,
) -> Result<StatusCode, Problem> {
    let digest = digest(&body.value.digest)?;
    let reason = body.value.reason.trim();
    if reason.is_empty() || reason.len() > MAX_REASON {
        return Err(Problem::invalid_param("reason", format!("must have 1 to {MAX_REASON} bytes")));
    }
    app.registry.revoke(&id, &digest, reason.to_owned(), &by).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What to grant to which version.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct GrantRequest {
    /// Of the version that the decision is about, as GET shows it.
    digest: String,
    /// Only these of what it asks for: `kv`, `kv:SCOPE`, `http:HOST`, `secrets:NAME`. Default: everything.
    only: Option<Vec<String>>,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RevokeRequest {
    digest: String,
    /// For the log, and for whoever asks later.
    reason: String,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct AdminPlugin {
    #[serde(flatten)]
    plugin: PluginView,
    /// Of the installed version, in words: what it may do already …
    already: Vec<String>,
    /// … what it asks for in addition …
    added: Vec<String>,
    /// … and what the version before might do, and this one does not ask for.
    dropped: Vec<String>,
    /// What was decided about which version.
    versions: Vec<VersionView>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct VersionView {
    digest: String,
    /// The component is in the database: it serves, or unfinished runs need it.
    kept: bool,
    #[schema(value_type = Option<Object>)]
    granted: Option<Capabilities>,
    granted_by: Option<String>,
    granted_at: Option<String>,
    /// Why it was revoked.
    revoked: Option<String>,
}

impl App {
    async fn admin_plugin(&self, id: &str) -> Result<AdminPlugin, Problem> {
        let (registry, words) = (self.registry.load_full(), self.registry.words().await?);
        let versions = versions(&words, id);
        if versions.is_empty() && registry.plugin(id).is_none() && registry.held_of(id).is_none() {
            return Err(Problem::no_such("plugin"));
        }
        let installed: Option<(&str, Request)> = match (registry.held_of(id), registry.plugin(id)) {
            (Some(Held::Waiting { prepared, .. }), _) => Some((prepared.digest(), prepared.request())),
            (_, Some(plugin)) => Some((plugin.digest(), plugin.prepared().request())),
            (_, None) => None,
        };
        let difference = installed.map(|(digest, request)| words.difference(id, digest, &request));
        let Difference { already, added, dropped } = difference.unwrap_or_default();
        Ok(AdminPlugin {
            plugin: PluginView::new(&registry, &self.metrics, id),
            already,
            added,
            dropped,
            versions,
        })
    }
}

fn versions(words: &Words, id: &str) -> Vec<VersionView> {
    let mut digests: Vec<&str> =
        words.versions().filter(|(plugin, _)| *plugin == id).map(|(_, digest)| digest).collect();
    digests.sort_unstable();
    digests.dedup();
    let view = |digest: &str| {
        let decision = words.decision(id, digest);
        VersionView {
            digest: shown(digest),
            kept: words.kept().iter().any(|kept| kept.plugin == id && kept.digest == digest),
            granted: decision.map(|decision| decision.granted.clone()),
            granted_by: decision.map(|decision| decision.stored.by.user.to_string()),
            granted_at: decision.map(|decision| decision.stored.at.to_string()),
            revoked: words.revocation(digest).map(|revocation| revocation.reason.clone()),
        }
    };
    digests.into_iter().map(view).collect()
}

/// Never reads more than the limit and one chunk.
async fn component(id: &str, limit: u64, body: Body) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let early = |_| Problem::new(Kind::MalformedBody, "The body ended early. Send it again.");
        bytes.extend_from_slice(&chunk.map_err(early)?);
        if bytes.len() as u64 > limit {
            let detail = format!(
                "The component may have {limit} bytes at most: raise `component_bytes` in [plugins.{id}.limits]."
            );
            return Err(Problem::new(Kind::PayloadTooLarge, detail));
        }
    }
    Ok(bytes)
}

/// Whoever may decide about plugins.
pub(super) struct ByOperator(Operator);

impl FromRequestParts<App> for ByOperator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Admin(principal) = Admin::from_request_parts(parts, app).await?;
        if principal.super_admin || principal.owner.org.as_str() == "default" {
            return Ok(Self(Operator { org: principal.owner.org.clone(), actor: Actor::from(&principal) }));
        }
        let detail = "Plugins serve every organisation: this needs the bootstrap token, or a key with the role admin of \
                      the organisation `default`.";
        Err(Problem::new(Kind::Forbidden, detail))
    }
}

/// With or without `sha256:`.
fn digest(text: &str) -> Result<String, Problem> {
    let digest = text.strip_prefix("sha256:").unwrap_or(text);
    let legal = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if digest.len() == 64 && digest.bytes().all(legal) {
        return Ok(digest.to_owned());
    }
    Err(Problem::invalid_param("digest", "must be sha256: and 64 hexadecimal digits"))
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::NoSuchPlugin => Self::no_such("plugin"),
            ChangeError::OtherVersion(digest) => {
                let detail = format!(
                    "The installed version is {} by now: look at what it asks for, and decide about that one.",
                    shown(&digest)
                );
                Self::new(Kind::PluginChanged, detail)
            }
            ChangeError::Revoked(reason) => {
                let detail =
                    format!("This version was revoked, and a revoked one never runs again: {reason}");
                Self::new(Kind::PluginRevoked, detail)
            }
            ChangeError::Choice(error) => Self::invalid_param("only", error.to_string()),
            ChangeError::Load(LoadError::ShuttingDown) => {
                Self::new(Kind::ServiceUnavailable, "The server is shutting down.")
            }
            ChangeError::Load(error) => {
                Self::new(Kind::PluginRefused, format!("The component was not installed: {error}."))
            }
            ChangeError::Folder(error) => Self::internal(&error),
            ChangeError::Shelf(error) => Self::internal(&error),
        }
    }
}
