//! An agent as an admin writes it, and as an admin sees it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::agent::{Agent, AgentParts, ApprovalTerms, BudgetParts, Flaw, ModelName, Policy, ToolPattern};
use crate::budget::units;
use crate::http::App;
use crate::http::agent_book::{BookEntry, Origin};
use crate::http::problem::{InvalidParam, Problem};
use crate::id::{AgentId, OrgId};

/// An agent as an admin writes it. What is left out gets its default, also in an update.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub(in crate::http) struct AgentRequest {
    /// 1 to 128 letters, digits, `-`, `_` and `.`. An update may leave it out.
    #[serde(default, alias = "agent_id")]
    #[schema(example = "helper")]
    agent_id: Option<String>,
    /// The agentId by default.
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    instructions: Option<String>,
    /// `provider::model`, or `demo`.
    #[schema(example = "demo")]
    model: String,
    /// `plugin.tool`, `plugin.*` or `*`; none by default.
    #[serde(default)]
    tools: Option<Vec<String>>,
    /// 0 to 2.
    #[serde(default)]
    temperature: Option<f64>,
    /// Most tokens in one reply.
    #[serde(default, alias = "max_tokens")]
    max_tokens: Option<u32>,
    /// Most model calls in a run, 1 to 100.
    #[serde(default, alias = "max_steps")]
    max_steps: Option<u32>,
    /// By tools: `allow`, `ask` or `deny`.
    #[serde(default)]
    approval: Option<BTreeMap<String, String>>,
    /// What each run may use.
    #[serde(default)]
    budget: Option<AgentBudget>,
}

/// What a run may use; null = as much as it likes.
#[derive(Clone, Copy, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", expecting = "an object")]
#[expect(clippy::struct_field_names, reason = "the API's names")]
struct AgentBudget {
    #[serde(default)]
    max_tool_calls: Option<u32>,
    #[serde(default)]
    max_input_tokens: Option<u64>,
    #[serde(default)]
    max_output_tokens: Option<u64>,
    /// In the currency of the configuration file's prices.
    #[serde(default)]
    max_cost: Option<f64>,
}

impl AgentRequest {
    /// Everything that is wrong is told at once.
    pub(super) fn check(self, app: &App, org: &OrgId, id: Option<&AgentId>) -> Result<Agent, Problem> {
        let mut invalid = Vec::new();
        let model = self.model.parse::<ModelName>().map_err(|error| error.to_string());
        let model = model
            .and_then(|model| app.models.check(&model).map(|()| model).map_err(|error| error.to_string()));
        let model = model.unwrap_or_else(|message| {
            invalid.push(InvalidParam::new("model", message));
            ModelName { provider: String::new(), model: String::new() }
        });
        let id_text = written_id(self.agent_id, id, &mut invalid);
        let parts = AgentParts {
            id: id_text,
            name: self.name,
            description: self.description.unwrap_or_default(),
            model,
            instructions: self.instructions.unwrap_or_default(),
            tools: patterns(self.tools.unwrap_or_default(), &mut invalid),
            approval: policies(self.approval.unwrap_or_default(), &mut invalid),
            self_approval: None,
            history_tokens: None,
            max_concurrent: None,
            vision: None,
            temperature: self.temperature,
            top_p: None,
            max_tokens: self.max_tokens,
            max_steps: self.max_steps,
            timeout_ms: None,
            approval_expiry_ms: None,
            budget: self.budget.map(BudgetParts::from),
        };
        match parts.check() {
            Ok(agent) if invalid.is_empty() => {
                match app.budgets.unmeasurable(&agent.model.to_string(), &agent.budget, org) {
                    None => Ok(agent),
                    Some(message) => Err(Problem::invalid_param("model", message)),
                }
            }
            Ok(_) => Err(Problem::invalid(&invalid)),
            Err(flaws) => {
                invalid.extend(flaws.into_iter().map(InvalidParam::from));
                Err(Problem::invalid(&invalid))
            }
        }
    }
}

fn written_id(written: Option<String>, path: Option<&AgentId>, invalid: &mut Vec<InvalidParam>) -> String {
    match (written, path) {
        (Some(written), Some(path)) if written != path.as_str() => {
            invalid.push(InvalidParam::new("agentId", "must be the one in the path, or left out"));
            written
        }
        (Some(written), _) => written,
        (None, Some(path)) => path.to_string(),
        (None, None) => {
            invalid.push(InvalidParam::new("agentId", "is required"));
            // Legal, so that it is not also called illegal.
            "missing".to_owned()
        }
    }
}

fn patterns(written: Vec<String>, invalid: &mut Vec<InvalidParam>) -> Vec<ToolPattern> {
    let mut patterns = Vec::new();
    for (index, text) in written.into_iter().enumerate() {
        match text.parse::<ToolPattern>() {
            Ok(pattern) => patterns.push(pattern),
            Err(error) => invalid.push(InvalidParam::new(format!("tools[{index}]"), error.to_string())),
        }
    }
    patterns
}

fn policies(
    written: BTreeMap<String, String>,
    invalid: &mut Vec<InvalidParam>,
) -> BTreeMap<String, ApprovalTerms> {
    let mut policies = BTreeMap::new();
    for (tools, word) in written {
        match word.as_str() {
            "allow" => drop(policies.insert(tools, Policy::Allow.into())),
            "ask" => drop(policies.insert(tools, Policy::Ask.into())),
            "deny" => drop(policies.insert(tools, Policy::Deny.into())),
            _ => invalid
                .push(InvalidParam::new(format!("approval.{tools}"), "must be one of allow, ask, deny")),
        }
    }
    policies
}

impl From<AgentBudget> for BudgetParts {
    fn from(budget: AgentBudget) -> Self {
        Self {
            max_tool_calls: budget.max_tool_calls,
            max_input_tokens: budget.max_input_tokens,
            max_output_tokens: budget.max_output_tokens,
            max_cost: budget.max_cost,
        }
    }
}

/// In the API's spelling.
impl From<Flaw> for InvalidParam {
    fn from(flaw: Flaw) -> Self {
        let field = match flaw.field {
            "id" => "agentId",
            "top_p" => "topP",
            "max_tokens" => "maxTokens",
            "max_steps" => "maxSteps",
            "timeout_ms" => "timeoutMs",
            "approval_expiry_ms" => "approvalExpiryMs",
            field => field,
        };
        Self::new(field, flaw.message)
    }
}

/// An agent as an admin sees it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct AdminAgent {
    pub(super) id: String,
    agent_id: String,
    name: String,
    description: String,
    instructions: String,
    model: String,
    tools: Vec<String>,
    temperature: Option<f64>,
    max_tokens: Option<u32>,
    max_steps: u32,
    #[schema(value_type = BTreeMap<String, String>)]
    approval: BTreeMap<String, Policy>,
    budget: AgentBudget,
    /// From 1, one more with each change; 0 = of the configuration file.
    version: u32,
    /// False once it was deleted.
    active: bool,
    /// It is declared in the configuration file.
    read_only: bool,
    /// Null for one of the configuration file.
    created_at: Option<String>,
    updated_at: Option<String>,
}

impl From<BookEntry> for AdminAgent {
    fn from(entry: BookEntry) -> Self {
        let active = entry.is_active();
        let BookEntry { agent, origin } = entry;
        let (read_only, created_at, updated_at) = match origin {
            Origin::File => (true, None, None),
            Origin::Store { created_at, updated_at, .. } => (false, Some(created_at), Some(updated_at)),
        };
        let budget = agent.budget;
        Self {
            id: agent.id.to_string(),
            agent_id: agent.id.to_string(),
            name: agent.name,
            description: agent.description,
            instructions: agent.instructions,
            model: agent.model.to_string(),
            tools: agent.tools.iter().map(ToString::to_string).collect(),
            temperature: agent.options.temperature,
            max_tokens: agent.options.max_tokens,
            max_steps: agent.options.max_steps,
            approval: agent.approval.iter().map(|rule| (rule.tools.to_string(), rule.terms.policy)).collect(),
            budget: AgentBudget {
                max_tool_calls: budget.max_tool_calls,
                max_input_tokens: budget.max_input_tokens,
                max_output_tokens: budget.max_output_tokens,
                max_cost: budget.max_cost_micros.map(units),
            },
            version: agent.version,
            active,
            read_only,
            created_at: created_at.map(|at| at.to_string()),
            updated_at: updated_at.map(|at| at.to_string()),
        }
    }
}
