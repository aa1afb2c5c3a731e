//! What a request to run an agent says, checked against the server, the agent and the caller.

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::App;
use super::media::MediaInput;
use super::problem::{InvalidParam, Kind, Problem};
use crate::agent::{Agent, ModelName, Options};
use crate::event::NewRun;
use crate::id::{OrgId, SessionId, UserId};
use crate::key::Principal;
use crate::schema::Schema;
use crate::session::Owner;

/// What to run.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub(super) struct RunRequest {
    /// The user's prompt; not blank.
    #[schema(example = "What is 6*7?")]
    message: String,
    /// A UUID. Reloads that session's history; an unknown one starts a session under it.
    #[serde(default, alias = "session_id")]
    session_id: Option<String>,
    /// Whom the run is for; the caller by default. Only admins may name another.
    #[serde(default)]
    user_id: Option<String>,
    /// The tenant; the caller's by default.
    #[serde(default)]
    org_id: Option<String>,
    /// Also suggest next questions.
    #[serde(default)]
    generate_followups: Option<bool>,
    /// Images and other media beside the message, for models that read them.
    #[serde(default)]
    media: Option<Vec<MediaInput>>,
    #[serde(default)]
    options: Option<RunOptions>,
    /// Ignored: the path decides.
    #[serde(default, rename = "stream")]
    _stream: Option<bool>,
}

/// Overrides for one run.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct RunOptions {
    /// `provider::model`, or `demo`.
    #[serde(default)]
    model: Option<String>,
    /// 0 to 2.
    #[serde(default)]
    temperature: Option<f64>,
    /// Most tokens in one reply; at least 1.
    #[serde(default)]
    max_tokens: Option<i64>,
    /// Replaces the agent's instructions.
    #[serde(default)]
    system_prompt: Option<String>,
    /// Above 0, at most 1.
    #[serde(default)]
    top_p: Option<f64>,
    /// Most model calls, 1 to 100.
    #[serde(default)]
    max_steps: Option<i64>,
    /// Most milliseconds at work, 1 to 86400000; waiting for a human does not count.
    #[serde(default)]
    timeout_ms: Option<i64>,
    /// JSON Schema, 64 KiB at most: the final answer is JSON that fits it, and also in
    /// `metadata.structured`. References within the schema only.
    #[serde(default, alias = "response_schema")]
    #[schema(value_type = Object)]
    response_schema: Option<Value>,
}

/// The longest message in bytes.
const MAX_MESSAGE: usize = 1 << 20;

impl RunRequest {
    /// Whose agents it can mean: whoever is bound to one organisation learns nothing of others' agents.
    pub(super) fn org(&self, principal: &Principal) -> OrgId {
        let named = self.org_id.as_deref().filter(|_| principal.super_admin);
        named.map_or_else(|| principal.owner.org.clone(), OrgId::from)
    }

    pub(super) async fn into_new_run(
        self,
        app: &App,
        principal: &Principal,
        mut agent: Agent,
    ) -> Result<NewRun, Problem> {
        let mut invalid = Vec::new();
        if self.message.trim().is_empty() {
            invalid.push(InvalidParam::new("message", "must not be blank"));
        } else if self.message.len() > MAX_MESSAGE {
            invalid.push(InvalidParam::new("message", format!("may have {MAX_MESSAGE} bytes at most")));
        }
        let session = match self.session_id.as_deref().map(uuid::Uuid::parse_str) {
            None => app.ids.next(),
            Some(Ok(uuid)) => SessionId::from(uuid),
            Some(Err(_)) => {
                invalid.push(InvalidParam::new(
                    "sessionId",
                    "must be a UUID; leave it out to start a new session",
                ));
                app.ids.next()
            }
        };
        let options = self.options.unwrap_or_default();
        let chose_model = options.model.is_some();
        options.apply(app, &mut agent, &mut invalid);
        let owner = owner(principal, self.user_id, self.org_id, &mut invalid)?;
        if let Some(message) = app.budgets.unmeasurable(&agent.model.to_string(), &agent.budget, &owner.org) {
            if !chose_model {
                return Err(Problem::new(
                    Kind::BusinessValidation,
                    format!("The run was refused: {message}."),
                ));
            }
            invalid.push(InvalidParam::new("options.model", message));
        }
        if !invalid.is_empty() {
            return Err(Problem::invalid(&invalid));
        }
        let sees = agent.vision.unwrap_or_else(|| app.models.reads_images(&agent.model));
        let media = app.media.check(self.media.unwrap_or_default(), sees).await?;
        let generate_followups = self.generate_followups.unwrap_or(false);
        Ok(NewRun {
            id: app.ids.next(),
            session,
            owner,
            agent,
            input: self.message,
            media,
            generate_followups,
            queued: false,
        })
    }
}

fn owner(
    principal: &Principal,
    user: Option<String>,
    org: Option<String>,
    invalid: &mut Vec<InvalidParam>,
) -> Result<Owner, Problem> {
    for (field, value) in [("userId", &user), ("orgId", &org)] {
        if value.as_ref().is_some_and(|value| value.trim().is_empty() || value.len() > 255) {
            invalid
                .push(InvalidParam::new(field, "must have 1 to 255 characters; leave it out for your own"));
        }
    }
    let owner = Owner {
        org: org.map_or_else(|| principal.owner.org.clone(), OrgId::from),
        user: user.map_or_else(|| principal.owner.user.clone(), UserId::from),
    };
    if !principal.sees(&owner) {
        return Err(Problem::new(
            Kind::Forbidden,
            "Your key is bound to another organisation. Leave orgId out.",
        ));
    }
    if !principal.acts_for(&owner) {
        let detail = "Running an agent for another user needs the role admin. Leave userId out.";
        return Err(Problem::new(Kind::Forbidden, detail));
    }
    Ok(owner)
}

impl RunOptions {
    fn apply(self, app: &App, agent: &mut Agent, invalid: &mut Vec<InvalidParam>) {
        if let Some(name) = self.model {
            let checked = name.parse::<ModelName>().map_err(|error| error.to_string()).and_then(|model| {
                app.models.check(&model).map(|()| model).map_err(|error| error.to_string())
            });
            match checked {
                Ok(model) => {
                    // What the operator said about the agent's own model does not hold for another.
                    agent.vision = None;
                    agent.model = model;
                }
                Err(message) => invalid.push(InvalidParam::new("options.model", message)),
            }
        }
        if let Some(prompt) = self.system_prompt {
            agent.instructions = prompt;
        }
        if let Some(schema) = self.response_schema {
            match Schema::of_answer(&schema) {
                Ok(_) => agent.options.response_schema = Some(schema),
                Err(error) => {
                    invalid.push(InvalidParam::new("options.responseSchema", error.to_string()));
                }
            }
        }
        let Options {
            temperature,
            top_p,
            max_tokens,
            max_steps,
            timeout_ms,
            approval_expiry_ms: _,
            history_tokens: _,
            max_concurrent: _,
            response_schema: _,
        } = &mut agent.options;
        let mut within = |field: &str, value: Option<i64>, most: i64| {
            let value = value?;
            if (1..=most).contains(&value) {
                return u64::try_from(value).ok();
            }
            invalid.push(InvalidParam::new(format!("options.{field}"), format!("must be from 1 to {most}")));
            None
        };
        if let Some(value) = within("maxTokens", self.max_tokens, 10_000_000) {
            *max_tokens = u32::try_from(value).ok();
        }
        if let Some(value) = within("maxSteps", self.max_steps, 100) {
            *max_steps = u32::try_from(value).unwrap_or(*max_steps);
        }
        if let Some(value) = within("timeoutMs", self.timeout_ms, 86_400_000) {
            *timeout_ms = value;
        }
        match self.temperature {
            Some(value) if !(0.0..=2.0).contains(&value) => {
                invalid.push(InvalidParam::new("options.temperature", "must be from 0 to 2"));
            }
            Some(value) => *temperature = Some(value),
            None => {}
        }
        match self.top_p {
            Some(value) if !(value > 0.0 && value <= 1.0) => {
                invalid.push(InvalidParam::new("options.topP", "must be above 0 and at most 1"));
            }
            Some(value) => *top_p = Some(value),
            None => {}
        }
    }
}
