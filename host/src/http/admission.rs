//! How a caller wants a run to be let in: `onBusy` and `onPaused` of every call that starts one.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::extract::{IdempotencyKey, QueryParams};
use super::problem::Problem;
use crate::audit::Actor;
use crate::key::Principal;
use crate::runner::{Admission, OnBusy, OnPaused};
use crate::store::Lane;

/// What a request says about it beside its body.
pub(super) struct AdmissionParams {
    query: AdmissionQuery,
    key: IdempotencyKey,
}

impl FromRequestParts<App> for AdmissionParams {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let QueryParams(query) = QueryParams::from_request_parts(parts, app).await?;
        Ok(Self { query, key: IdempotencyKey::from_request_parts(parts, app).await? })
    }
}

impl AdmissionParams {
    /// `body` is what the request's idempotency key stands for.
    pub(super) fn admission(self, app: &App, caller: &Principal, body: &[u8], lane: Lane) -> Admission {
        let AdmissionQuery { on_busy, on_paused } = self.query;
        Admission {
            claim: self.key.claim(app, caller, body),
            lane,
            on_busy: match on_busy {
                OnBusyWord::Enqueue => OnBusy::Enqueue,
                OnBusyWord::Reject => OnBusy::Reject,
            },
            on_paused: match on_paused {
                OnPausedWord::Reject => OnPaused::Reject,
                OnPausedWord::Supersede => OnPaused::Supersede,
            },
            by: Actor::from(caller),
        }
    }
}

#[derive(Default, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", default)]
#[into_params(parameter_in = Query)]
pub(super) struct AdmissionQuery {
    /// When another run of the session is under way: `enqueue`, the default, waits for its turn; `reject` is a 409.
    #[param(required = false, inline)]
    on_busy: OnBusyWord,
    /// When another run of the session is paused: `reject`, the default, is a 409; `supersede` cancels that run first.
    #[param(required = false, inline)]
    on_paused: OnPausedWord,
}

#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum OnBusyWord {
    #[default]
    Enqueue,
    Reject,
}

#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum OnPausedWord {
    #[default]
    Reject,
    Supersede,
}
