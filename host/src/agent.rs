//! Agents: instructions, the choice of model, the tools granted, and the policy on approvals.
//!
//! Pure values, made by `config` and snapshotted into each run's first event, so that a run keeps the
//! agent it started with whatever happens to the configuration.

mod parts;
mod policy;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::parts::{AgentParts, BudgetParts, Flaw};
use crate::budget::Budget;
use crate::id::AgentId;
use crate::tool::ToolName;
pub use policy::{ApprovalRule, ApprovalTerms, Policy};

/// One agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    pub id: AgentId,
    pub name: String,
    pub description: String,
    pub model: ModelName,
    pub instructions: String,
    /// The tools it may use; none by default.
    pub tools: Vec<ToolPattern>,
    pub approval: Vec<ApprovalRule>,
    /// Whether the model reads images; unknown = judged by the model's name.
    pub vision: Option<bool>,
    pub options: Options,
    /// Whether a run's own user may approve its calls.
    #[serde(default = "policy::yes")]
    pub self_approval: bool,
    #[serde(default)]
    pub budget: Budget,
    /// From 1; 0 = of the configuration file.
    #[serde(default)]
    pub version: u32,
}

/// What steers a run. Limits are always set; sampling options only where somebody chose them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Options {
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    /// Most tokens in one reply.
    pub max_tokens: Option<u32>,
    /// Most model calls in a run.
    pub max_steps: u32,
    /// Most milliseconds a run may be at work; waiting for a human does not count.
    pub timeout_ms: u64,
    /// How long a human has to decide, in milliseconds.
    pub approval_expiry_ms: u64,
    /// About how many tokens of earlier turns a model is sent.
    #[serde(default = "default_history_tokens")]
    pub history_tokens: u32,
    /// Most background runs of this agent at once; none = what the server allows every agent.
    #[serde(default)]
    pub max_concurrent: Option<u32>,
    /// JSON Schema of the final answer, checked; none = the answer is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_schema: Option<Value>,
}

fn default_history_tokens() -> u32 {
    16_000
}

impl Default for Options {
    fn default() -> Self {
        Self {
            temperature: None,
            top_p: None,
            max_tokens: None,
            max_steps: 20,
            timeout_ms: 600_000,
            approval_expiry_ms: 24 * 3_600_000,
            history_tokens: default_history_tokens(),
            max_concurrent: None,
            response_schema: None,
        }
    }
}

/// `provider::model`, or `demo` for the built-in model.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelName {
    pub provider: String,
    /// Empty for `demo`.
    pub model: String,
}

/// The provider name of the built-in model.
pub const DEMO: &str = "demo";

#[derive(Debug, thiserror::Error)]
#[error("`{0}` does not name a model: write provider::model, such as openai::gpt-4o-mini, or demo")]
pub struct ModelNameError(String);

impl FromStr for ModelName {
    type Err = ModelNameError;

    fn from_str(text: &str) -> Result<Self, ModelNameError> {
        if text == DEMO {
            return Ok(Self { provider: DEMO.to_owned(), model: String::new() });
        }
        match text.split_once("::") {
            Some((provider, model)) if !provider.trim().is_empty() && !model.trim().is_empty() => {
                Ok(Self { provider: provider.trim().to_owned(), model: model.trim().to_owned() })
            }
            Some(_) | None => Err(ModelNameError(text.to_owned())),
        }
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.model.is_empty() {
            f.write_str(&self.provider)
        } else {
            write!(f, "{}::{}", self.provider, self.model)
        }
    }
}

impl TryFrom<String> for ModelName {
    type Error = ModelNameError;

    fn try_from(text: String) -> Result<Self, ModelNameError> {
        text.parse()
    }
}

impl From<ModelName> for String {
    fn from(name: ModelName) -> Self {
        name.to_string()
    }
}

/// Which tools are meant: `*`, `plugin.*` or `plugin.tool`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ToolPattern {
    All,
    Plugin(String),
    Tool(ToolName),
}

#[derive(Debug, thiserror::Error)]
#[error("`{0}` names no tools: write plugin.tool, plugin.* or *")]
pub struct ToolPatternError(String);

impl ToolPattern {
    pub fn matches(&self, tool: &ToolName) -> bool {
        match self {
            Self::All => true,
            Self::Plugin(plugin) => tool.plugin() == plugin,
            Self::Tool(name) => tool == name,
        }
    }

    /// A more specific pattern wins over a wider one.
    fn rank(&self) -> u8 {
        match self {
            Self::All => 0,
            Self::Plugin(_) => 1,
            Self::Tool(_) => 2,
        }
    }
}

impl FromStr for ToolPattern {
    type Err = ToolPatternError;

    /// Also takes the name a model sees, `plugin__tool`.
    fn from_str(text: &str) -> Result<Self, ToolPatternError> {
        let error = || ToolPatternError(text.to_owned());
        if text == "*" {
            return Ok(Self::All);
        }
        match text.split_once('.') {
            Some((plugin, "*")) => crate::tool::check_name_part(plugin)
                .map(|()| Self::Plugin(plugin.to_owned()))
                .map_err(|_| error()),
            Some((plugin, tool)) => ToolName::new(plugin, tool).map(Self::Tool).map_err(|_| error()),
            None => text.parse().map(Self::Tool).map_err(|_| error()),
        }
    }
}

impl fmt::Display for ToolPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Plugin(plugin) => write!(f, "{plugin}.*"),
            Self::Tool(name) => write!(f, "{}.{}", name.plugin(), name.tool()),
        }
    }
}

impl TryFrom<String> for ToolPattern {
    type Error = ToolPatternError;

    fn try_from(text: String) -> Result<Self, ToolPatternError> {
        text.parse()
    }
}

impl From<ToolPattern> for String {
    fn from(pattern: ToolPattern) -> Self {
        pattern.to_string()
    }
}
