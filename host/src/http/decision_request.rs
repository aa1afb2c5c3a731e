//! What a request to `continue` says: a choice for all pending calls, or one for each that is named.

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::problem::Problem;
use crate::id::ApprovalId;
use crate::runner::{Choice, Targets};

/// A decision on all pending calls (`action`), or on named ones (`approvalId`, `decisions`).
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub(super) struct ContinueRequest {
    /// `APPROVE` or `REJECT` (also `APPROVED`, `REJECTED`, lower case) of a `TOOL_APPROVAL`; `APPROVE` with `answer`,
    /// or `REJECT`, of a `TOOL_INPUT`; `RETRY`, `RESULT` or `FAIL` of a `TOOL_OUTCOME_UNKNOWN`.
    #[serde(default, alias = "decision")]
    #[schema(example = "APPROVE")]
    action: Option<String>,
    /// Decide this call only.
    #[serde(default, alias = "approval_id")]
    approval_id: Option<String>,
    /// For the record; a rejection's comment is also told to the model.
    #[serde(default)]
    comment: Option<String>,
    /// Replaces the call's arguments; must fit the tool's schema.
    #[serde(default)]
    arguments: Option<Value>,
    /// With APPROVE of a `TOOL_INPUT`: what its tool asks for; must fit its `answerSchema`.
    #[serde(default, deserialize_with = "present")]
    answer: Option<Value>,
    /// With RESULT: what the call came to, for the model to read.
    #[serde(default)]
    output: Option<String>,
    /// Decide several calls, each in its own way.
    #[serde(default)]
    decisions: Option<Vec<NamedDecision>>,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct NamedDecision {
    #[serde(alias = "approval_id")]
    approval_id: String,
    #[serde(alias = "decision")]
    action: String,
    #[serde(default)]
    comment: Option<String>,
    #[serde(default)]
    arguments: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    answer: Option<Value>,
    #[serde(default)]
    output: Option<String>,
}

/// `null` is an answer, too.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// What a decision says beside its action.
#[derive(Default)]
struct Particulars {
    comment: Option<String>,
    arguments: Option<Value>,
    answer: Option<Value>,
    output: Option<String>,
}

impl ContinueRequest {
    pub(super) fn into_targets(self) -> Result<Targets, Problem> {
        if let Some(decisions) = self.decisions {
            return named(decisions, self.action.is_some() || self.approval_id.is_some());
        }
        let Some(action) = self.action else {
            return Err(Problem::invalid_param("action", "is required: write APPROVE or REJECT"));
        };
        let particulars = Particulars {
            comment: self.comment,
            arguments: self.arguments,
            answer: self.answer,
            output: self.output,
        };
        let choice = choice("", &action, particulars)?;
        Ok(match self.approval_id {
            None => Targets::AllPending(choice),
            Some(id) => Targets::Named(vec![(ApprovalId::from(id), choice)]),
        })
    }
}

fn named(decisions: Vec<NamedDecision>, also_action: bool) -> Result<Targets, Problem> {
    if also_action {
        return Err(Problem::invalid_param("decisions", "cannot be combined with action or approvalId"));
    }
    if decisions.is_empty() {
        return Err(Problem::invalid_param("decisions", "must name at least one approval"));
    }
    let mut targets: Vec<(ApprovalId, Choice)> = Vec::new();
    for (index, decision) in decisions.into_iter().enumerate() {
        let prefix = format!("decisions[{index}].");
        let id = ApprovalId::from(decision.approval_id.as_str());
        if targets.iter().any(|(earlier, _)| *earlier == id) {
            return Err(Problem::invalid_param(&format!("{prefix}approvalId"), "is named twice"));
        }
        let NamedDecision { action, comment, arguments, answer, output, approval_id: _ } = decision;
        targets.push((id, choice(&prefix, &action, Particulars { comment, arguments, answer, output })?));
    }
    Ok(Targets::Named(targets))
}

fn choice(prefix: &str, action: &str, particulars: Particulars) -> Result<Choice, Problem> {
    let invalid =
        |field: &str, message: &str| Err(Problem::invalid_param(&format!("{prefix}{field}"), message));
    let Particulars { comment, arguments, answer, output } = particulars;
    let action = action.to_ascii_uppercase();
    let approves = matches!(action.as_str(), "APPROVE" | "APPROVED");
    if arguments.is_some() && !approves {
        return invalid("arguments", "can only be given with APPROVE");
    }
    if answer.is_some() && !approves {
        return invalid("answer", "can only be given with APPROVE");
    }
    if output.is_some() && action != "RESULT" {
        return invalid("output", "can only be given with RESULT");
    }
    match (action.as_str(), output) {
        ("APPROVE" | "APPROVED", _) => Ok(Choice::Approve { comment, arguments, answer }),
        ("REJECT" | "REJECTED", _) => Ok(Choice::Reject { comment }),
        ("RETRY", _) => Ok(Choice::Retry),
        ("RESULT", Some(output)) => Ok(Choice::Result { output }),
        ("RESULT", None) => invalid("output", "is required with RESULT: what the call came to"),
        ("FAIL", _) => Ok(Choice::Fail { comment }),
        _ => {
            invalid("action", "must be APPROVE or REJECT; of a call of unknown outcome RETRY, RESULT or FAIL")
        }
    }
}
