//! The configuration file's shape.
//!
//! Unknown fields are errors: a misspelt limit must not be a limit that is not there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use serde::Deserialize;
use url::Url;

use super::webhooks::WebhookTable;
use crate::agent::{Agent, ApprovalRule, ModelName, Options, Policy, ToolPattern};
use crate::http::{HttpLimits, MediaLimits};
use crate::id::AgentId;
use crate::plugin::PluginSettings;
use crate::schema::Schema;

/// A checked configuration file.
pub(super) struct File {
    pub(super) listen: Option<SocketAddr>,
    pub(super) database: Option<String>,
    pub(super) plugin_dir: Option<PathBuf>,
    pub(super) compile_cache: Option<PathBuf>,
    pub(super) shutdown_grace_ms: u64,
    pub(super) http: HttpLimits,
    pub(super) providers: BTreeMap<String, ProviderTable>,
    pub(super) agents: Vec<Agent>,
    pub(super) plugins: BTreeMap<String, PluginSettings>,
    pub(super) webhooks: Vec<WebhookTable>,
    pub(super) approval_expiring_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileTable {
    listen: Option<SocketAddr>,
    database: Option<String>,
    plugin_dir: Option<PathBuf>,
    compile_cache: Option<PathBuf>,
    #[serde(default = "default_grace")]
    shutdown_grace_ms: u64,
    #[serde(default)]
    http: HttpTable,
    #[serde(default)]
    providers: BTreeMap<String, ProviderTable>,
    #[serde(default)]
    agents: Vec<toml::Spanned<AgentTable>>,
    #[serde(default)]
    plugins: BTreeMap<String, PluginSettings>,
    #[serde(default)]
    webhooks: Vec<WebhookTable>,
    approval_expiring_ms: Option<u64>,
}

fn default_grace() -> u64 {
    20_000
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpTable {
    max_body_bytes: Option<usize>,
    max_media_bytes: Option<usize>,
    #[serde(default)]
    allow_private_media: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProviderTable {
    pub(super) base_url: Option<Url>,
    pub(super) api_key_env: Option<String>,
    pub(super) adapter: Option<String>,
    pub(super) vision: Option<bool>,
    pub(super) timeout_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AgentTable {
    id: String,
    name: Option<String>,
    #[serde(default)]
    description: String,
    model: ModelName,
    #[serde(default)]
    instructions: String,
    #[serde(default)]
    tools: Vec<ToolPattern>,
    #[serde(default)]
    approval: BTreeMap<String, Policy>,
    vision: Option<bool>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    max_tokens: Option<u32>,
    max_steps: Option<u32>,
    timeout_ms: Option<u64>,
    approval_expiry_ms: Option<u64>,
    response_schema: Option<serde_json::Value>,
}

impl File {
    /// The error has the line, the column and the text there.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let table: FileTable =
            toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        let mut agents: Vec<Agent> = Vec::new();
        for spanned in table.agents {
            let line = text.get(..spanned.span().start).unwrap_or_default().lines().count().max(1);
            let agent =
                checked_agent(spanned.into_inner()).map_err(|message| format!("line {line}: {message}"))?;
            if agents.iter().any(|other| other.id == agent.id) {
                return Err(format!("line {line}: there is another agent with the id `{}`", agent.id));
            }
            agents.push(agent);
        }
        for id in table.plugins.keys() {
            crate::tool::check_name_part(id).map_err(|error| format!("[plugins.{id}]: {error}"))?;
        }
        let default = HttpLimits::default();
        let media = MediaLimits {
            max_bytes: table.http.max_media_bytes.unwrap_or(default.media.max_bytes),
            allow_private: table.http.allow_private_media,
        };
        Ok(Self {
            listen: table.listen,
            database: table.database,
            plugin_dir: table.plugin_dir,
            compile_cache: table.compile_cache,
            shutdown_grace_ms: table.shutdown_grace_ms,
            http: HttpLimits { body_bytes: table.http.max_body_bytes.unwrap_or(default.body_bytes), media },
            providers: table.providers,
            agents,
            plugins: table.plugins,
            webhooks: table.webhooks,
            approval_expiring_ms: table.approval_expiring_ms,
        })
    }
}

impl AgentTable {
    fn into_agent(self) -> Result<Agent, String> {
        let id_is_legal = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if self.id.is_empty() || self.id.len() > 128 || !self.id.bytes().all(id_is_legal) {
            return Err("an agent's id has 1 to 128 letters, digits, `-`, `_` and `.`".to_owned());
        }
        let approval = self
            .approval
            .into_iter()
            .map(|(tools, policy)| Ok(ApprovalRule { tools: tools.parse()?, policy }))
            .collect::<Result<Vec<_>, crate::agent::ToolPatternError>>()
            .map_err(|error| format!("approval of agent `{}`: {error}", self.id))?;
        let default = Options::default();
        let options = Options {
            temperature: within(&self.id, "temperature", self.temperature, 0.0..=2.0)?,
            top_p: within(&self.id, "top_p", self.top_p, f64::MIN_POSITIVE..=1.0)?,
            max_tokens: within(&self.id, "max_tokens", self.max_tokens, 1..=10_000_000)?,
            max_steps: within(&self.id, "max_steps", self.max_steps, 1..=100)?.unwrap_or(default.max_steps),
            timeout_ms: within(&self.id, "timeout_ms", self.timeout_ms, 1..=86_400_000)?
                .unwrap_or(default.timeout_ms),
            approval_expiry_ms: within(
                &self.id,
                "approval_expiry_ms",
                self.approval_expiry_ms,
                1..=31_536_000_000,
            )?
            .unwrap_or(default.approval_expiry_ms),
            response_schema: None,
        };
        Ok(Agent {
            name: self.name.unwrap_or_else(|| self.id.clone()),
            id: AgentId::from(self.id),
            description: self.description,
            model: self.model,
            instructions: self.instructions,
            tools: self.tools,
            approval,
            vision: self.vision,
            options,
        })
    }
}

fn checked_agent(mut table: AgentTable) -> Result<Agent, String> {
    let schema = table.response_schema.take();
    let mut agent = table.into_agent()?;
    agent.options.response_schema =
        schema.map(|given| response_schema(agent.id.as_str(), given)).transpose()?;
    Ok(agent)
}

/// An inline table, or the schema's JSON text.
fn response_schema(agent: &str, given: serde_json::Value) -> Result<serde_json::Value, String> {
    let refused = |error: String| format!("response_schema of agent `{agent}` {error}");
    let schema = match given {
        serde_json::Value::String(text) => {
            serde_json::from_str(&text).map_err(|error| refused(format!("is not JSON: {error}")))?
        }
        table => table,
    };
    Schema::of_answer(&schema).map_err(|error| refused(error.to_string()))?;
    Ok(schema)
}

fn within<T: PartialOrd + std::fmt::Display>(
    agent: &str,
    field: &str,
    value: Option<T>,
    allowed: RangeInclusive<T>,
) -> Result<Option<T>, String> {
    match value {
        Some(value) if !allowed.contains(&value) => {
            let (least, most) = (allowed.start(), allowed.end());
            Err(format!("{field} of agent `{agent}` must be from {least} to {most}, not {value}"))
        }
        value => Ok(value),
    }
}
