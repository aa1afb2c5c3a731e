//! Who has to say yes before a tool runs: rules by tool, and what an agent makes of them.

use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::{Agent, ToolPattern};
use crate::tool::{Approval, ToolName, ToolSpec};

/// What an operator says about calls of some tools.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalRule {
    pub tools: ToolPattern,
    #[serde(flatten)]
    pub terms: ApprovalTerms,
}

/// A policy, and of `ask`, who is asked and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ApprovalTerms {
    pub policy: Policy,
    /// How many people must approve; one rejection ends it.
    pub approvers: u32,
    /// How long they have; none = as the agent says.
    pub expiry_ms: Option<u64>,
    /// Whether the run's own user may approve.
    pub self_approval: bool,
}

/// The words of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    Allow,
    Ask,
    Deny,
}

impl From<Policy> for Approval {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Allow => Self::Skip,
            Policy::Ask => Self::Ask,
            Policy::Deny => Self::Forbid,
        }
    }
}

impl From<Policy> for ApprovalTerms {
    fn from(policy: Policy) -> Self {
        Self { policy, approvers: 1, expiry_ms: None, self_approval: true }
    }
}

/// A word, or a table with the word in it.
impl<'de> Deserialize<'de> for ApprovalTerms {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WordOrTable)
    }
}

struct WordOrTable;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    policy: Policy,
    #[serde(default = "one")]
    approvers: u32,
    #[serde(default)]
    expiry_ms: Option<u64>,
    #[serde(default = "yes")]
    self_approval: bool,
}

fn one() -> u32 {
    1
}

pub(super) fn yes() -> bool {
    true
}

impl<'de> Visitor<'de> for WordOrTable {
    type Value = ApprovalTerms;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("allow, ask or deny, or a table with policy, approvers, expiry_ms, self_approval")
    }

    fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<ApprovalTerms, E> {
        Policy::deserialize(StrDeserializer::new(word)).map(ApprovalTerms::from)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ApprovalTerms, A::Error> {
        let Table { policy, approvers, expiry_ms, self_approval } =
            Table::deserialize(MapAccessDeserializer::new(map))?;
        Ok(ApprovalTerms { policy, approvers, expiry_ms, self_approval })
    }
}

impl Agent {
    pub fn may_use(&self, tool: &ToolName) -> bool {
        self.tools.iter().any(|pattern| pattern.matches(tool))
    }

    /// The most specific rule wins; a plugin's own `requires-approval` can be tightened, never loosened.
    pub fn approval(&self, spec: &ToolSpec) -> Approval {
        if !self.may_use(&spec.name) {
            return Approval::Forbid;
        }
        let plugin = if spec.annotations.requires_approval { Approval::Ask } else { Approval::Skip };
        self.rule_for(&spec.name).map_or(plugin, |terms| plugin.max(terms.policy.into()))
    }

    /// Who is asked about a call of the tool, and for how long.
    pub fn approval_terms(&self, tool: &ToolName) -> ApprovalTerms {
        let terms = self.rule_for(tool).cloned().unwrap_or(Policy::Ask.into());
        ApprovalTerms {
            expiry_ms: Some(terms.expiry_ms.unwrap_or(self.options.approval_expiry_ms)),
            self_approval: terms.self_approval && self.self_approval,
            ..terms
        }
    }

    /// An operator wrote `allow` for a tool that asks by itself: the rule has no effect.
    pub fn allows_in_vain(&self, spec: &ToolSpec) -> bool {
        let allows = self.rule_for(&spec.name).is_some_and(|terms| terms.policy == Policy::Allow);
        spec.annotations.requires_approval && self.may_use(&spec.name) && allows
    }

    fn rule_for(&self, tool: &ToolName) -> Option<&ApprovalTerms> {
        self.approval
            .iter()
            .filter(|rule| rule.tools.matches(tool))
            .max_by_key(|rule| rule.tools.rank())
            .map(|rule| &rule.terms)
    }
}
