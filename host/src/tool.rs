//! Tools as everybody but the sandbox sees them: names, specifications, calls, outcomes, approvals.
//!
//! Pure values. How a tool runs is `plugin`'s business, when it may run is `agent`'s policy and `run`'s
//! state machine.

mod approval;
mod name;
mod suspension;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::approval::{
    Approval, Decided, Decision, EditedArguments, Fingerprint, Inquiry, PendingApproval, Question,
};
pub use self::name::{MAX_TOOL_NAME, ToolName, ToolNameError, check_name_part};
pub use self::suspension::{Answered, Returned, SealedState, Suspension};
use crate::id::CallId;

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
    /// A human (or the approval's expiry) said no. Nothing ran; of a call that had asked for an answer, nothing more.
    Rejected,
    /// The run was cancelled while the call was under way.
    Cancelled,
    /// The server stopped while it ran, and nobody knows whether it took effect.
    Interrupted,
    /// The plugin is gone or has changed since the call was approved, or since it asked for an answer. Nothing ran;
    /// of a call that had asked, nothing more.
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
    /// Of all plugins together.
    TotalMemory,
    Tables,
    Instances,
    WallTime,
    Cpu,
    Stack,
    Output,
    HostCalls,
    /// Bytes handed over in host calls.
    HostCallBytes,
    /// What a call that asks a human wants to have kept until the answer.
    State,
    HttpRequests,
    /// Bytes sent.
    HttpRequestBytes,
    /// Bytes received.
    HttpResponseBytes,
    /// Bytes or number of one message's headers.
    HttpHeaders,
    /// Time in which nothing was sent or received.
    HttpIdle,
}

impl Limit {
    /// The limit as one word, as in the journal.
    pub fn word(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::TotalMemory => "total-memory",
            Self::Tables => "tables",
            Self::Instances => "instances",
            Self::WallTime => "wall-time",
            Self::Cpu => "cpu",
            Self::Stack => "stack",
            Self::Output => "output",
            Self::HostCalls => "host-calls",
            Self::HostCallBytes => "host-call-bytes",
            Self::State => "state",
            Self::HttpRequests => "http-requests",
            Self::HttpRequestBytes => "http-request-bytes",
            Self::HttpResponseBytes => "http-response-bytes",
            Self::HttpHeaders => "http-headers",
            Self::HttpIdle => "http-idle",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::TotalMemory => "memory of all tools together",
            Self::Tables => "tables",
            Self::Instances => "instances",
            Self::WallTime => "wall time",
            Self::Cpu => "CPU time",
            Self::Stack => "stack",
            Self::Output => "output size",
            Self::HostCalls => "number of host calls",
            Self::HostCallBytes => "bytes handed to host calls",
            Self::State => "size of the state kept for an answer",
            Self::HttpRequests => "number of HTTP requests",
            Self::HttpRequestBytes => "bytes sent over HTTP",
            Self::HttpResponseBytes => "bytes received over HTTP",
            Self::HttpHeaders => "size of HTTP headers",
            Self::HttpIdle => "time of waiting for an HTTP server",
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
    /// Host calls that were refused, by capability.
    pub denials: BTreeMap<String, u64>,
    /// The first limit that it ran into, even if it coped.
    pub limit: Option<Limit>,
    /// HTTP requests that were sent, or begun to be: their effects may have happened.
    pub http_requests: u64,
    /// Bytes of them, headers included.
    pub http_sent_bytes: u64,
    /// Bytes of the responses, headers included.
    pub http_received_bytes: u64,
}

impl Usage {
    /// Of a call that asked and went on: this and what it had used by then.
    #[must_use]
    pub fn after(self, earlier: &Self) -> Self {
        let mut denials = earlier.denials.clone();
        for (capability, count) in self.denials {
            *denials.entry(capability).or_default() += count;
        }
        Self {
            memory_bytes: self.memory_bytes.max(earlier.memory_bytes),
            cpu_ms: self.cpu_ms + earlier.cpu_ms,
            host_calls: self.host_calls + earlier.host_calls,
            output_bytes: self.output_bytes + earlier.output_bytes,
            log_lines: self.log_lines + earlier.log_lines,
            log_lines_dropped: self.log_lines_dropped + earlier.log_lines_dropped,
            denials,
            limit: earlier.limit.or(self.limit),
            http_requests: self.http_requests + earlier.http_requests,
            http_sent_bytes: self.http_sent_bytes + earlier.http_sent_bytes,
            http_received_bytes: self.http_received_bytes + earlier.http_received_bytes,
        }
    }
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

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
