//! The configuration file's shape.
//!
//! Unknown fields are errors: a misspelt limit must not be a limit that is not there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;
use url::Url;

use super::limits::{self, BudgetsTable, PriceTable, RateLimitTable};
use super::plugins::PluginTable;
use super::webhooks::{WebhookTable, WebhooksTable};
use crate::agent::{Agent, AgentParts, ApprovalTerms, BudgetParts, ModelName, ToolPattern};
use crate::budget::Budgets;
use crate::http::{HttpLimits, MediaLimits, RateLimit};
use crate::plugin::{DEFAULT_TOTAL_MEMORY, Signers, most_of_one_call};
use crate::runner::QueueSettings;
use crate::schema::Schema;

/// A checked configuration file.
pub(super) struct File {
    pub(super) listen: Option<SocketAddr>,
    pub(super) database: Option<String>,
    pub(super) plugin_dir: Option<PathBuf>,
    pub(super) signers: Signers,
    pub(super) compile_cache: Option<PathBuf>,
    pub(super) plugin_memory_bytes: u64,
    pub(super) shutdown_grace_ms: u64,
    pub(super) http: HttpLimits,
    pub(super) background: QueueSettings,
    pub(super) providers: BTreeMap<String, ProviderTable>,
    pub(super) agents: Vec<Agent>,
    pub(super) plugins: BTreeMap<String, PluginTable>,
    pub(super) egress_authorities: Option<PathBuf>,
    pub(super) rate_limit: Option<RateLimit>,
    pub(super) budgets: Budgets,
    pub(super) webhooks: WebhooksTable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileTable {
    listen: Option<SocketAddr>,
    database: Option<String>,
    plugin_dir: Option<PathBuf>,
    /// minisign public keys.
    plugin_signers: Option<Vec<String>>,
    compile_cache: Option<PathBuf>,
    #[serde(default = "default_memory")]
    plugin_memory_bytes: u64,
    #[serde(default = "default_grace")]
    shutdown_grace_ms: u64,
    #[serde(default)]
    http: HttpTable,
    #[serde(default)]
    background: BackgroundTable,
    #[serde(default)]
    providers: BTreeMap<String, ProviderTable>,
    #[serde(default)]
    agents: Vec<toml::Spanned<AgentTable>>,
    #[serde(default)]
    plugins: BTreeMap<String, PluginTable>,
    #[serde(default)]
    egress: EgressTable,
    /// By the model's name.
    #[serde(default)]
    prices: BTreeMap<String, PriceTable>,
    #[serde(default)]
    budgets: BudgetsTable,
    rate_limit: Option<RateLimitTable>,
    #[serde(default)]
    webhooks: Vec<WebhookTable>,
    #[serde(default = "default_warning")]
    approval_warning_ms: u64,
}

fn default_warning() -> u64 {
    3_600_000
}

fn default_memory() -> u64 {
    DEFAULT_TOTAL_MEMORY
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

/// How plugins reach the network.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct EgressTable {
    /// Certificates of authorities to trust besides the system's (PEM).
    ca_file: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct BackgroundTable {
    workers: Option<u32>,
    per_agent: Option<u32>,
    per_model: Option<u32>,
    max_queued: Option<u32>,
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
    approval: BTreeMap<String, ApprovalTerms>,
    self_approval: Option<bool>,
    vision: Option<bool>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    max_tokens: Option<u32>,
    max_steps: Option<u32>,
    timeout_ms: Option<u64>,
    approval_expiry_ms: Option<u64>,
    budget: Option<BudgetParts>,
    history_tokens: Option<u32>,
    max_concurrent: Option<u32>,
    response_schema: Option<serde_json::Value>,
}

impl File {
    /// The error has the line, the column and the text there.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let table: FileTable =
            toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        let mut agents: Vec<Agent> = Vec::new();
        for spanned in table.agents {
            let line = text.get(..spanned.span().start).unwrap_or_default().matches('\n').count() + 1;
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
        let most = most_of_one_call(table.plugin_memory_bytes);
        if let Some((id, plugin)) = table.plugins.iter().find(|(_, it)| it.limits.memory_bytes > most) {
            return Err(format!(
                "[plugins.{id}.limits] memory_bytes is {}, and with plugin_memory_bytes = {} one call gets {most} at \
                 most: raise plugin_memory_bytes",
                plugin.limits.memory_bytes, table.plugin_memory_bytes
            ));
        }
        if !(1_000..=86_400_000).contains(&table.approval_warning_ms) {
            let found = table.approval_warning_ms;
            return Err(format!("approval_warning_ms must be from 1000 to 86400000, not {found}"));
        }
        let signers = table.plugin_signers.as_deref().map(Signers::parse).transpose();
        let signers = signers.map_err(|error| format!("plugin_signers {error}"))?.unwrap_or_default();
        let default = HttpLimits::default();
        let media = MediaLimits {
            max_bytes: table.http.max_media_bytes.unwrap_or(default.media.max_bytes),
            allow_private: table.http.allow_private_media,
        };
        Ok(Self {
            listen: table.listen,
            database: table.database,
            plugin_dir: table.plugin_dir,
            signers,
            compile_cache: table.compile_cache,
            plugin_memory_bytes: table.plugin_memory_bytes,
            shutdown_grace_ms: table.shutdown_grace_ms,
            http: HttpLimits { body_bytes: table.http.max_body_bytes.unwrap_or(default.body_bytes), media },
            background: table.background.into_settings()?,
            providers: table.providers,
            agents,
            plugins: table.plugins,
            egress_authorities: table.egress.ca_file,
            rate_limit: table.rate_limit.map(RateLimit::from),
            budgets: limits::budgets(table.prices, table.budgets)?,
            webhooks: WebhooksTable {
                endpoints: table.webhooks,
                approval_warning_ms: table.approval_warning_ms,
            },
        })
    }
}

impl BackgroundTable {
    fn into_settings(self) -> Result<QueueSettings, String> {
        let default = QueueSettings::default();
        let setting = |name, value: Option<u32>, default, most| match value {
            Some(value) if !(1..=most).contains(&value) => {
                Err(format!("[background] {name} must be from 1 to {most}, not {value}"))
            }
            value => Ok(value.unwrap_or(default)),
        };
        Ok(QueueSettings {
            workers: setting("workers", self.workers, default.workers, 10_000)?,
            per_agent: setting("per_agent", self.per_agent, default.per_agent, 10_000)?,
            per_model: setting("per_model", self.per_model, default.per_model, 10_000)?,
            max_queued: setting("max_queued", self.max_queued, default.max_queued, 1_000_000)?,
        })
    }
}

impl AgentTable {
    fn into_agent(self) -> Result<Agent, String> {
        let id = self.id.clone();
        let parts = AgentParts {
            id: self.id,
            name: self.name,
            description: self.description,
            model: self.model,
            instructions: self.instructions,
            tools: self.tools,
            approval: self.approval,
            self_approval: self.self_approval,
            vision: self.vision,
            temperature: self.temperature,
            top_p: self.top_p,
            max_tokens: self.max_tokens,
            max_steps: self.max_steps,
            timeout_ms: self.timeout_ms,
            approval_expiry_ms: self.approval_expiry_ms,
            history_tokens: self.history_tokens,
            max_concurrent: self.max_concurrent,
            budget: self.budget,
        };
        parts.check().map_err(|flaws| {
            let flaws =
                flaws.into_iter().map(|flaw| format!("{} of agent `{id}` {}", flaw.field, flaw.message));
            flaws.collect::<Vec<_>>().join("; ")
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

#[cfg(test)]
mod tests {
    use super::File;

    fn error(text: &str) -> String {
        File::parse(text).err().expect("it is not valid")
    }

    #[test]
    fn a_mistake_is_reported_with_its_line_and_what_is_allowed() {
        let agent = "listen = \"127.0.0.1:1\"\n\n[[agents]]\nid = \"a\"\nmodel = \"demo\"\n";
        assert!(File::parse(agent).is_ok());
        let table = [
            ("max_steps = 1000", "line 3: max_steps of agent `a` must be from 1 to 100, not 1000"),
            ("top_p = 0.0", "line 3: top_p of agent `a` must be above 0 and at most 1"),
            ("tolls = []", "line 6, column 1"),
            ("tolls = []", "unknown field `tolls`, expected one of `id`, `name`"),
            ("tools = [\"x\"]", "`x` names no tools: write plugin.tool, plugin.* or *"),
            ("approval = { \"a.b\" = \"maybe\" }", "expected one of `allow`, `ask`, `deny`"),
            (
                "approval = { \"ab\" = \"ask\" }",
                "approval of agent `a` must be by tools: `ab` names no tools",
            ),
            ("[[agents]]\nid = \"a\"\nmodel = \"demo\"", "line 6: there is another agent with the id `a`"),
            ("[[agents]]\nid = \"b\"\nmodel = \"gpt\"", "write provider::model"),
            ("[plugins.A__b]", "[plugins.A__b]: `A__b` is not a legal name"),
            ("[plugins.a.limits]\nmemory_bytes = 2000000000", "raise plugin_memory_bytes"),
            ("[plugins.a.limits]\nmemory = 1", "unknown field `memory`, expected one of `memory_bytes`"),
        ];
        for (line, expected) in table {
            let found = error(&format!("{agent}{line}\n"));
            assert!(found.contains(expected), "{line}: {found}");
        }
    }
}
