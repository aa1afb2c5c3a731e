//! Tools as everybody but the sandbox sees them: names, specifications, calls, outcomes, approvals.
//!
//! Pure values. How a tool runs is `plugin`'s business, when it may run is `agent`'s policy and `run`'s
//! state machine.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::clock::Timestamp;
use crate::id::{ApprovalId, CallId, KeyId, UserId};

/// `plugin__tool`: the name a model sees, legal for every provider (`[a-zA-Z0-9_-]{1,64}`).
///
/// Neither part contains `__` or starts or ends with `_`, so the name splits in one way only.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ToolName {
    plugin: String,
    tool: String,
}

/// The longest name that OpenAI and Anthropic accept for a function.
pub const MAX_TOOL_NAME: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum ToolNameError {
    #[error(
        "`{0}` is not a legal name: use lower-case letters, digits, `-` and `_`, without `__` and not starting or \
         ending with `_`"
    )]
    Part(String),
    #[error("`{0}` is longer than {MAX_TOOL_NAME} characters, the most that model providers accept")]
    TooLong(String),
    #[error("`{0}` is not of the form plugin__tool")]
    Form(String),
}

impl ToolName {
    pub fn new(plugin: &str, tool: &str) -> Result<Self, ToolNameError> {
        check_name_part(plugin)?;
        check_name_part(tool)?;
        let name = Self { plugin: plugin.to_owned(), tool: tool.to_owned() };
        if plugin.len() + tool.len() + 2 > MAX_TOOL_NAME {
            return Err(ToolNameError::TooLong(name.to_string()));
        }
        Ok(name)
    }

    pub fn plugin(&self) -> &str {
        &self.plugin
    }

    pub fn tool(&self) -> &str {
        &self.tool
    }
}

/// Checks a plugin's or a tool's own name.
pub fn check_name_part(part: &str) -> Result<(), ToolNameError> {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    if part.is_empty()
        || !part.bytes().all(legal)
        || part.contains("__")
        || part.starts_with('_')
        || part.ends_with('_')
    {
        return Err(ToolNameError::Part(part.to_owned()));
    }
    Ok(())
}

impl fmt::Display for ToolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}__{}", self.plugin, self.tool)
    }
}

impl FromStr for ToolName {
    type Err = ToolNameError;

    fn from_str(name: &str) -> Result<Self, ToolNameError> {
        let (plugin, tool) = name.split_once("__").ok_or_else(|| ToolNameError::Form(name.to_owned()))?;
        Self::new(plugin, tool)
    }
}

impl TryFrom<String> for ToolName {
    type Error = ToolNameError;

    fn try_from(name: String) -> Result<Self, ToolNameError> {
        name.parse()
    }
}

impl From<ToolName> for String {
    fn from(name: ToolName) -> Self {
        name.to_string()
    }
}

/// A tool as its plugin describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolSpec {
    pub name: ToolName,
    pub description: String,
    /// JSON Schema of the arguments.
    pub input_schema: Value,
    /// JSON Schema of [`ToolOutcome::structured`].
    pub output_schema: Option<Value>,
    pub annotations: Annotations,
}

/// Hints about a tool, with the meanings of the Model Context Protocol's tool annotations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the shape that MCP and the WIT give it")]
pub struct Annotations {
    pub title: Option<String>,
    pub read_only: bool,
    pub destructive: bool,
    pub idempotent: bool,
    pub open_world: bool,
    pub requires_approval: bool,
}

impl Annotations {
    /// A call whose outcome is unknown may simply run again.
    pub fn repeatable(&self) -> bool {
        self.read_only || self.idempotent
    }
}

/// What the model asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    pub id: CallId,
    /// As the model wrote it: it may name no tool at all.
    pub name: String,
    /// JSON text as the model wrote it: it may be cut off or no JSON at all.
    pub arguments: String,
}

impl ToolCall {
    /// The arguments as a JSON object. Models that call a tool without parameters send `""`, `null` or `{}`.
    pub fn parsed_arguments(&self) -> Result<Value, String> {
        let text = self.arguments.trim();
        if text.is_empty() || text == "null" {
            return Ok(Value::Object(serde_json::Map::new()));
        }
        match serde_json::from_str(text) {
            Ok(value @ Value::Object(_)) => Ok(value),
            Ok(_) => Err("the arguments must be a JSON object".to_owned()),
            Err(error) => Err(format!("the arguments are not valid JSON: {error}")),
        }
    }
}

/// How a call ended: one vocabulary in the journal, the API and the metrics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum OutcomeKind {
    /// The tool did its job.
    Ok,
    /// The tool ran, and the model should read what went wrong.
    ToolError,
    /// The tool could not do its job, and says why with a code of its own.
    GuestFailure { code: String },
    /// The arguments do not fit the tool's schema, or there is no such tool. Nothing ran.
    InvalidArgs,
    /// The tool's answer is not what the interface promises.
    InvalidOutput,
    /// The tool crashed.
    Trap { trap: String },
    /// The call ran into one of the plugin's limits.
    Limit { limit: Limit },
    /// Policy or a missing grant forbids it.
    Denied { capability: String },
    /// A human (or the approval's expiry) said no. Nothing ran.
    Rejected,
    /// The run was cancelled while the call was under way.
    Cancelled,
    /// The server stopped while it ran, and nobody knows whether it took effect.
    Interrupted,
    /// The plugin is gone or has changed since the call was approved. Nothing ran.
    Unavailable,
    /// The host's own fault.
    HostFault,
}

impl OutcomeKind {
    /// The kind as one word, for the API and for metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ToolError => "tool-error",
            Self::GuestFailure { .. } => "guest-failure",
            Self::InvalidArgs => "invalid-args",
            Self::InvalidOutput => "invalid-output",
            Self::Trap { .. } => "trap",
            Self::Limit { .. } => "limit",
            Self::Denied { .. } => "denied",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
            Self::Unavailable => "unavailable",
            Self::HostFault => "host-fault",
        }
    }
}

/// The limits of one call; `plugin.rs` has their defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    Memory,
    Tables,
    Instances,
    WallTime,
    Cpu,
    Stack,
    Output,
    HostCalls,
    /// Bytes handed over in host calls.
    HostCallBytes,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Tables => "tables",
            Self::Instances => "instances",
            Self::WallTime => "wall time",
            Self::Cpu => "CPU time",
            Self::Stack => "stack",
            Self::Output => "output size",
            Self::HostCalls => "number of host calls",
            Self::HostCallBytes => "bytes handed to host calls",
        })
    }
}

/// What a call used, measured by the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Usage {
    /// Most bytes of linear memory held at once.
    pub memory_bytes: u64,
    /// Milliseconds of CPU, to the tick of the epoch timer (10 ms).
    pub cpu_ms: u64,
    pub host_calls: u64,
    pub output_bytes: u64,
    pub log_lines: u64,
    /// Log lines dropped because the call's share was used up.
    pub log_lines_dropped: u64,
}

/// The result of a call, as the journal keeps it and the model reads it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolOutcome {
    #[serde(flatten)]
    pub kind: OutcomeKind,
    /// What the model reads. Never holds host detail.
    pub text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub structured: Option<Value>,
    #[serde(default)]
    pub usage: Usage,
}

impl ToolOutcome {
    /// An outcome that the host made, without anything having run.
    pub fn of(kind: OutcomeKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), structured: None, usage: Usage::default() }
    }

    pub fn is_error(&self) -> bool {
        self.kind != OutcomeKind::Ok
    }
}

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

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
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
    /// One sentence for the human.
    pub message: String,
    pub expires_at: Timestamp,
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
}

impl Question {
    /// The word in rows.
    pub fn word(self) -> &'static str {
        match self {
            Self::Approval => "approval",
            Self::OutcomeUnknown => "outcome_unknown",
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
            (Self::Result { output: a }, Self::Result { output: b }) => a == b,
            (Self::Retry, Self::Retry)
            | (Self::Reject { .. }, Self::Reject { .. })
            | (Self::Fail { .. }, Self::Fail { .. })
            | (Self::Expire, Self::Expire) => true,
            (
                Self::Approve { .. }
                | Self::Reject { .. }
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
            Self::Approve { .. } | Self::Reject { .. } => question == Question::Approval,
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
    fn names_split_in_one_way_only() {
        let name: ToolName = "clock__days-between".parse().unwrap();
        assert_eq!((name.plugin(), name.tool()), ("clock", "days-between"));
        for bad in ["clock", "a__b__c", "a_", "__b", "a___b", "A__b", "a__b ", "a.b__c", "a__"] {
            assert!(bad.parse::<ToolName>().is_err(), "{bad} must not be a name");
        }
        assert!(ToolName::new("p", &"t".repeat(61)).is_ok());
        assert!(ToolName::new("p", &"t".repeat(62)).is_err());
    }

    #[test]
    fn the_fingerprint_ignores_spelling_and_sees_everything_else() {
        let tool: ToolName = "notes__delete".parse().unwrap();
        let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let base = Fingerprint::of("d1", &tool, &parse(r#"{"a":1,"b":[2,{"x":1,"y":2}]}"#));
        assert_eq!(base, Fingerprint::of("d1", &tool, &parse(r#"{ "b":[2,{"y":2,"x":1}], "a":1.0 }"#)));
        assert_ne!(base, Fingerprint::of("d2", &tool, &parse(r#"{"a":1,"b":[2,{"x":1,"y":2}]}"#)));
        assert_ne!(base, Fingerprint::of("d1", &tool, &json!({"a": 1, "b": [2, {"x": 1, "y": 3}]})));
    }

    #[test]
    fn arguments_of_a_call_without_parameters_may_be_missing() {
        let call = |text: &str| {
            ToolCall { id: "c".into(), name: "x".into(), arguments: text.into() }.parsed_arguments()
        };
        assert_eq!(call(" "), Ok(json!({})));
        assert_eq!(call("null"), Ok(json!({})));
        assert!(call("{").is_err());
        assert!(call("[1]").is_err());
    }
}
