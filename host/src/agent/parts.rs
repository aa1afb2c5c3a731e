//! An agent's parts, checked into an [`Agent`] by one set of rules, whoever wrote them: the configuration
//! file or an admin over HTTP.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;

use serde::Deserialize;

use super::{Agent, ApprovalRule, ApprovalTerms, ModelName, Options, ToolPattern};
use crate::budget::{Budget, micros};
use crate::id::AgentId;

/// Most characters of a name.
const NAME: usize = 255;

/// Most bytes of a description, and of the instructions.
const TEXT: usize = 1 << 20;

/// A year.
const MAX_EXPIRY_MS: u64 = 31_536_000_000;

/// What somebody wrote about an agent. What is left out gets its default.
#[derive(Clone, Debug)]
pub struct AgentParts {
    pub id: String,
    pub name: Option<String>,
    pub description: String,
    pub model: ModelName,
    pub instructions: String,
    pub tools: Vec<ToolPattern>,
    /// By the tools that are meant.
    pub approval: BTreeMap<String, ApprovalTerms>,
    pub self_approval: Option<bool>,
    pub vision: Option<bool>,
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub max_tokens: Option<u32>,
    pub max_steps: Option<u32>,
    pub timeout_ms: Option<u64>,
    pub approval_expiry_ms: Option<u64>,
    pub history_tokens: Option<u32>,
    pub max_concurrent: Option<u32>,
    pub budget: Option<BudgetParts>,
}

/// What somebody wrote about an agent's budget.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetParts {
    pub max_tool_calls: Option<u32>,
    pub max_input_tokens: Option<u64>,
    pub max_output_tokens: Option<u64>,
    /// In units of the price table's currency.
    pub max_cost: Option<f64>,
}

/// A part that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// Its name in the configuration file, such as `max_steps`.
    pub field: &'static str,
    /// Follows the field's name: `must be …`.
    pub message: String,
}

impl AgentParts {
    /// The agent, or everything that is wrong with it.
    pub fn check(self) -> Result<Agent, Vec<Flaw>> {
        let mut flaws = Flaws(Vec::new());
        if !is_id(&self.id) {
            flaws.add("id", "must have 1 to 128 letters, digits, `-`, `_` and `.`");
        }
        let name = self.name.unwrap_or_else(|| self.id.clone());
        if name.trim().is_empty() || name.chars().count() > NAME {
            flaws.add("name", format!("must have 1 to {NAME} characters"));
        }
        for (field, text) in [("description", &self.description), ("instructions", &self.instructions)] {
            if text.len() > TEXT {
                flaws.add(field, format!("may have {TEXT} bytes at most"));
            }
        }
        let mut approval = Vec::new();
        for (tools, terms) in self.approval {
            flaws.terms(&terms);
            match tools.parse() {
                Ok(tools) => approval.push(ApprovalRule { tools, terms }),
                Err(error) => flaws.add("approval", format!("must be by tools: {error}")),
            }
        }
        let default = Options::default();
        let options = Options {
            temperature: flaws.within("temperature", self.temperature, 0.0..=2.0),
            top_p: flaws.top_p(self.top_p),
            max_tokens: flaws.within("max_tokens", self.max_tokens, 1..=10_000_000),
            max_steps: flaws.within("max_steps", self.max_steps, 1..=100).unwrap_or(default.max_steps),
            timeout_ms: flaws
                .within("timeout_ms", self.timeout_ms, 1..=86_400_000)
                .unwrap_or(default.timeout_ms),
            approval_expiry_ms: flaws
                .within("approval_expiry_ms", self.approval_expiry_ms, 1..=MAX_EXPIRY_MS)
                .unwrap_or(default.approval_expiry_ms),
            history_tokens: flaws
                .within("history_tokens", self.history_tokens, 0..=10_000_000)
                .unwrap_or(default.history_tokens),
            max_concurrent: flaws.within("max_concurrent", self.max_concurrent, 1..=10_000),
            // Checked where it is read: it is no number.
            response_schema: None,
        };
        let budget = self.budget.map_or_else(Budget::default, |parts| flaws.budget(parts));
        flaws.none_or(Agent {
            id: AgentId::from(self.id),
            name,
            description: self.description,
            model: self.model,
            instructions: self.instructions,
            tools: self.tools,
            approval,
            vision: self.vision,
            self_approval: self.self_approval.unwrap_or(true),
            options,
            budget,
            version: 0,
        })
    }
}

fn is_id(text: &str) -> bool {
    let is_legal = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    !text.is_empty() && text.len() <= 128 && text.bytes().all(is_legal)
}

struct Flaws(Vec<Flaw>);

impl Flaws {
    fn add(&mut self, field: &'static str, message: impl Into<String>) {
        self.0.push(Flaw { field, message: message.into() });
    }

    fn terms(&mut self, terms: &ApprovalTerms) {
        if !(1..=100).contains(&terms.approvers) {
            self.add("approval", format!("must have approvers from 1 to 100, not {}", terms.approvers));
        }
        if terms.expiry_ms.is_some_and(|ms| !(1..=MAX_EXPIRY_MS).contains(&ms)) {
            self.add("approval", format!("must have an expiry_ms from 1 to {MAX_EXPIRY_MS}"));
        }
    }

    fn within<T: PartialOrd + Display>(
        &mut self,
        field: &'static str,
        value: Option<T>,
        allowed: RangeInclusive<T>,
    ) -> Option<T> {
        if let Some(value) = &value
            && !allowed.contains(value)
        {
            let (least, most) = (allowed.start(), allowed.end());
            self.add(field, format!("must be from {least} to {most}, not {value}"));
        }
        value
    }

    fn top_p(&mut self, value: Option<f64>) -> Option<f64> {
        if let Some(value) = value.filter(|value| !(*value > 0.0 && *value <= 1.0)) {
            self.add("top_p", format!("must be above 0 and at most 1, not {value}"));
        }
        value
    }

    fn budget(&mut self, parts: BudgetParts) -> Budget {
        let max_cost_micros = parts.max_cost.map(micros).transpose().unwrap_or_else(|message| {
            self.add("budget", format!("is not valid: max_cost {message}"));
            None
        });
        Budget {
            max_tool_calls: parts.max_tool_calls,
            max_input_tokens: parts.max_input_tokens,
            max_output_tokens: parts.max_output_tokens,
            max_cost_micros,
        }
    }

    fn none_or(self, agent: Agent) -> Result<Agent, Vec<Flaw>> {
        if self.0.is_empty() { Ok(agent) } else { Err(self.0) }
    }
}
