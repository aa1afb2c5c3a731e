//! What a human decides about a call: what is asked, what it is bound to, what was said.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{ToolCall, ToolName, hex};
use crate::clock::Timestamp;
use crate::id::{ApprovalId, KeyId, UserId};

/// What policy says about a call before it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Approval {
    /// Run it.
    Skip,
    /// A human decides first.
    Ask,
    /// Never run it.
    Forbid,
}

/// What an approval is bound to: plugin digest, tool and arguments, as one SHA-256 in hex.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Arguments are hashed in their canonical form (RFC 8785), so that key order and spacing do not count.
    pub fn of(plugin_digest: &str, tool: &ToolName, arguments: &Value) -> Self {
        // Canonical JSON exists for every `Value`: keys are strings and numbers are finite.
        let canonical = serde_json_canonicalizer::to_vec(arguments).unwrap_or_default();
        let mut hash = Sha256::new();
        for part in [plugin_digest.as_bytes(), tool.to_string().as_bytes(), &canonical] {
            // Length first: no two different triples give the same bytes.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self(hex(&hash.finalize()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A call that waits for a human.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PendingApproval {
    pub id: ApprovalId,
    #[serde(default)]
    pub question: Question,
    /// How many people must approve; one rejection ends it.
    #[serde(default = "one")]
    pub approvers: u32,
    /// Whether the run's own user may approve.
    #[serde(default = "yes")]
    pub self_approval: bool,
    pub call: ToolCall,
    pub tool: ToolName,
    pub fingerprint: Fingerprint,
    /// Of the plugin that is to run the call; none if it was gone when somebody was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// One sentence for the human.
    pub message: String,
    pub expires_at: Timestamp,
    /// Of [`Question::Input`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inquiry: Option<Inquiry>,
}

/// What a suspended call asks. Its words are [`PendingApproval::message`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inquiry {
    /// JSON Schema of the answer.
    pub answer_schema: Value,
}

impl PendingApproval {
    /// Other arguments than the call's own; key order and spacing do not count.
    pub fn is_edited_by(&self, arguments: &Value) -> bool {
        let own = self.call.parsed_arguments().unwrap_or_default();
        Fingerprint::of("", &self.tool, &own) != Fingerprint::of("", &self.tool, arguments)
    }
}

fn one() -> u32 {
    1
}

fn yes() -> bool {
    true
}

/// What a human is asked about a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// May it run?
    #[default]
    Approval,
    /// It was under way at a crash: what became of it?
    OutcomeUnknown,
    /// It runs, and asks for an answer.
    Input,
}

impl Question {
    pub const ALL: [Self; 3] = [Self::Approval, Self::OutcomeUnknown, Self::Input];

    /// The word of the API.
    pub fn action(self) -> &'static str {
        match self {
            Self::Approval => "TOOL_APPROVAL",
            Self::OutcomeUnknown => "TOOL_OUTCOME_UNKNOWN",
            Self::Input => "TOOL_INPUT",
        }
    }

    /// The word in rows.
    pub fn word(self) -> &'static str {
        match self {
            Self::Approval => "approval",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Input => "input",
        }
    }
}

/// What was decided about a pending call. Recorded once, never changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum Decision {
    Approve {
        comment: Option<String>,
        /// Arguments that replace the model's, with the fingerprint they are bound to.
        edited: Option<EditedArguments>,
    },
    Reject {
        comment: Option<String>,
    },
    /// What a suspended call asked for.
    Answer {
        answer: Value,
        comment: Option<String>,
    },
    /// Run the call of unknown outcome again.
    Retry,
    /// The call of unknown outcome did its job, and this is its result.
    Result {
        output: String,
    },
    /// The call of unknown outcome counts as failed; the model is told.
    Fail {
        comment: Option<String>,
    },
    /// Nobody decided in time: a rejection, or a failure, by the system.
    Expire,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EditedArguments {
    pub arguments: Value,
    pub fingerprint: Fingerprint,
}

impl Decision {
    /// Two decisions that lead to the same thing; comments do not count.
    pub fn agrees_with(&self, other: &Decision) -> bool {
        match (self, other) {
            (Self::Approve { edited: a, .. }, Self::Approve { edited: b, .. }) => {
                a.as_ref().map(|e| &e.fingerprint) == b.as_ref().map(|e| &e.fingerprint)
            }
            (Self::Answer { answer: a, .. }, Self::Answer { answer: b, .. }) => a == b,
            (Self::Result { output: a }, Self::Result { output: b }) => a == b,
            (Self::Retry, Self::Retry)
            | (Self::Reject { .. }, Self::Reject { .. })
            | (Self::Fail { .. }, Self::Fail { .. })
            | (Self::Expire, Self::Expire) => true,
            (
                Self::Approve { .. }
                | Self::Reject { .. }
                | Self::Answer { .. }
                | Self::Retry
                | Self::Result { .. }
                | Self::Fail { .. }
                | Self::Expire,
                _,
            ) => false,
        }
    }

    /// Whether this can answer the question.
    pub fn answers(&self, question: Question) -> bool {
        match self {
            Self::Approve { .. } => question == Question::Approval,
            Self::Reject { .. } => question != Question::OutcomeUnknown,
            Self::Answer { .. } => question == Question::Input,
            Self::Retry | Self::Result { .. } | Self::Fail { .. } => question == Question::OutcomeUnknown,
            Self::Expire => true,
        }
    }
}

/// A decision with who took it and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decided {
    pub approval_id: ApprovalId,
    #[serde(flatten)]
    pub decision: Decision,
    pub by: UserId,
    /// The API key that the decision came with, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyId>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_fingerprint_ignores_spelling_and_sees_everything_else() {
        let tool: ToolName = "notes__delete".parse().unwrap();
        let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let base = Fingerprint::of("d1", &tool, &parse(r#"{"a":1,"b":[2,{"x":1,"y":2}]}"#));
        assert_eq!(base, Fingerprint::of("d1", &tool, &parse(r#"{ "b":[2,{"y":2,"x":1}], "a":1.0 }"#)));
        assert_ne!(base, Fingerprint::of("d2", &tool, &parse(r#"{"a":1,"b":[2,{"x":1,"y":2}]}"#)));
        assert_ne!(base, Fingerprint::of("d1", &tool, &json!({"a": 1, "b": [2, {"x": 1, "y": 3}]})));
    }
}
