//! From how a call ended to what the model reads: one short sentence without host detail, or the guest's
//! own words. The reason behind it is kept beside it for the operator (`report.rs`).

use std::fmt::Write as _;

use serde_json::Value;
use wasmtime::component::ResourceTableError;
use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::bindings::holdfast::plugin::types::{Failure, Output, Part};
use super::call::{MAX_PARTS, Stopped};
use super::limits::Limits;
use super::meter::{LimitReached, Meter};
use crate::escape::escaped;
use crate::schema::Schema;
use crate::tool::{Limit, OutcomeKind, ToolOutcome, Usage};

/// Longest failure message, code and media type that are passed on.
const MAX_MESSAGE: usize = 4 << 10;
const MAX_CODE: usize = 64;
const MAX_MIME: usize = 100;
/// Longest reason in the operator's log: guests put names into traces.
const MAX_REASON: usize = 1 << 10;

/// A call that ended. `reason` is for the operator only.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) kind: OutcomeKind,
    text: String,
    structured: Option<Value>,
    pub(super) reason: Option<String>,
}

impl Ended {
    pub(super) fn of(kind: OutcomeKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), structured: None, reason: None }
    }

    pub(super) fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    pub(super) fn limit(limit: Limit) -> Self {
        let text = format!("The tool was stopped because it reached a limit: {limit}.");
        Self::of(OutcomeKind::Limit { limit }, text)
    }

    pub(super) fn cancelled() -> Self {
        Self::of(OutcomeKind::Cancelled, "The run was cancelled before the tool was done.")
    }

    /// Before or in the middle of a call.
    pub(super) fn revoked(reason: &str) -> Self {
        let kind = OutcomeKind::Denied { capability: "revoked".to_owned() };
        let text = "The operator has stopped this tool for good. If the call was under way, whether it took effect is \
                    not known. Go on without the tool.";
        Self::of(kind, text).because(reason)
    }

    pub(super) fn stopped_for_now() -> Self {
        let text = "The tool failed too often and is stopped for now: the call did not run. Try again later, or go on \
                    without it.";
        Self::of(OutcomeKind::Unavailable, text).because("the circuit breaker is open")
    }

    pub(super) fn host_fault(reason: impl Into<String>) -> Self {
        Self::of(OutcomeKind::HostFault, "The host could not run the tool.").because(reason)
    }

    pub(super) fn invalid(reason: impl Into<String>) -> Self {
        let text = "The tool gave an answer that is not valid, and it was dropped.";
        Self::of(OutcomeKind::InvalidOutput, text).because(reason)
    }

    fn trap(trap: &str, reason: String) -> Self {
        let trap = trap.to_owned();
        Self::of(OutcomeKind::Trap { trap }, "The tool crashed.").because(reason)
    }

    /// What the guest itself says. A call that was denied something or ran into a limit, and did not cope, is
    /// that, whatever it calls it itself.
    pub(super) fn answered(
        answer: Result<Output, Failure>,
        schema: Option<&Schema>,
        limits: &Limits,
        meter: &Meter,
    ) -> Self {
        let ended = match answer {
            Ok(output) => done(output, schema, limits, meter),
            Err(failure) => failed(failure),
        };
        if !matches!(ended.kind, OutcomeKind::ToolError | OutcomeKind::GuestFailure { .. }) {
            return ended;
        }
        if let Some(capability) = meter.denied_capability() {
            let capability = capability.to_owned();
            let text = format!("The tool may not do this ({capability}). It says: {}", ended.text);
            return Self { kind: OutcomeKind::Denied { capability }, text, ..ended };
        }
        if let Some(limit) = meter.hit() {
            let text = format!("The tool reached a limit: {limit}. It says: {}", ended.text);
            return Self { kind: OutcomeKind::Limit { limit }, text, ..ended };
        }
        ended
    }

    /// What happened to a guest that gave no answer.
    pub(super) fn stopped(stopped: &Stopped, meter: &Meter) -> Self {
        match stopped {
            Stopped::Cancelled => Self::cancelled(),
            Stopped::WallTime => Self::limit(Limit::WallTime),
            Stopped::Start(error) => crashed(error, meter).unwrap_or_else(|| Self::host_fault(reason(error))),
            // No trap and no guest on the stack: the answer itself could not be read.
            Stopped::Call(error) => crashed(error, meter).unwrap_or_else(|| Self::invalid(reason(error))),
        }
    }

    pub(super) fn into_outcome(self, mut usage: Usage) -> ToolOutcome {
        if let OutcomeKind::Limit { limit } = self.kind {
            usage.limit.get_or_insert(limit);
        }
        ToolOutcome { kind: self.kind, text: self.text, structured: self.structured, usage }
    }
}

/// Traps and limits; none if the guest was not running when the error came up.
fn crashed(error: &wasmtime::Error, meter: &Meter) -> Option<Ended> {
    if let Some(LimitReached(limit)) = error.downcast_ref() {
        return Some(Ended::limit(*limit));
    }
    let trap = error.downcast_ref::<Trap>();
    if trap == Some(&Trap::StackOverflow) {
        return Some(Ended::limit(Limit::Stack));
    }
    // A refused allocation comes first, and then whatever the guest makes of it: mostly `unreachable`.
    if let Some(limit) = meter.hit() {
        return Some(Ended::limit(limit).because(reason(error)));
    }
    if let Some(capability) = meter.denied_capability() {
        let capability = capability.to_owned();
        let text = format!("The tool may not do this ({capability}), and crashed.");
        return Some(Ended::of(OutcomeKind::Denied { capability }, text).because(reason(error)));
    }
    let in_guest = error.downcast_ref::<WasmBacktrace>().is_some();
    if let Some(limit) = wasmtimes_limit(error, in_guest) {
        return Some(Ended::limit(limit));
    }
    if let Some(trap) = trap {
        return Some(Ended::trap(trap_name(*trap), reason(error)));
    }
    if error.is::<I32Exit>() {
        return Some(Ended::trap("exit", reason(error)));
    }
    // A host function refused what it was handed: bytes that are no UTF-8, a handle it never gave out.
    in_guest.then(|| Ended::trap("host-call", reason(error)))
}

/// Limits that wasmtime checks for us. It keeps the types of two of the errors to itself.
fn wasmtimes_limit(error: &wasmtime::Error, in_guest: bool) -> Option<Limit> {
    let text = error.root_cause().to_string();
    if text.contains("fuel allocated for hostcalls") {
        return Some(if in_guest { Limit::HostCallBytes } else { Limit::Output });
    }
    let full = matches!(error.downcast_ref(), Some(ResourceTableError::Full));
    (full || text.contains("store handle limit exceeded")).then_some(Limit::Instances)
}

fn trap_name(trap: Trap) -> &'static str {
    match trap {
        Trap::UnreachableCodeReached => "unreachable",
        Trap::MemoryOutOfBounds => "memory-out-of-bounds",
        Trap::TableOutOfBounds => "table-out-of-bounds",
        Trap::IndirectCallToNull => "indirect-call-to-null",
        Trap::BadSignature => "bad-signature",
        Trap::IntegerOverflow => "integer-overflow",
        Trap::IntegerDivisionByZero => "integer-division-by-zero",
        Trap::BadConversionToInteger => "bad-conversion-to-integer",
        Trap::CannotEnterComponent => "cannot-enter-component",
        Trap::CannotLeaveComponent => "cannot-leave-component",
        Trap::InvalidDiscriminant => "invalid-discriminant",
        Trap::InvalidChar => "invalid-char",
        Trap::StringOutOfBounds => "string-out-of-bounds",
        Trap::ListOutOfBounds => "list-out-of-bounds",
        Trap::UnalignedPointer => "unaligned-pointer",
        // The enum grows with wasmtime; the operator's log has the full text.
        _ => "other",
    }
}

/// The cause, then the rest of the chain: a guest's stack, which may be cut.
fn reason(error: &wasmtime::Error) -> String {
    let cause = error.root_cause().to_string();
    let rest: Vec<String> = error.chain().map(ToString::to_string).filter(|text| *text != cause).collect();
    if rest.is_empty() {
        return escaped(&cause, MAX_REASON);
    }
    escaped(&format!("{cause} ({})", rest.join(": ")), MAX_REASON)
}

fn done(output: Output, schema: Option<&Schema>, limits: &Limits, meter: &Meter) -> Ended {
    let bytes = size(&output);
    meter.output(bytes);
    if bytes > limits.output_bytes || output.parts.len() > MAX_PARTS {
        return Ended::limit(meter.reached(Limit::Output).0);
    }
    let structured = match output.structured.as_deref().map(serde_json::from_str::<Value>) {
        None => None,
        Some(Ok(value)) => Some(value),
        Some(Err(error)) => return Ended::invalid(format!("`structured` is not JSON: {error}")),
    };
    if let (Some(schema), Some(value), false) = (schema, &structured, output.is_error) {
        let problems = schema.problems(value, 1);
        if let Some(problem) = problems.first() {
            return Ended::invalid(format!("`structured` does not fit the output schema: {problem}"));
        }
    }
    let text = match text(output.parts) {
        Ok(text) if !text.is_empty() => text,
        Ok(_) => output.structured.unwrap_or_else(|| "(no output)".to_owned()),
        Err(error) => return Ended::invalid(format!("a `data` part is not JSON: {error}")),
    };
    let kind = if output.is_error { OutcomeKind::ToolError } else { OutcomeKind::Ok };
    Ended { structured, ..Ended::of(kind, text) }
}

fn size(output: &Output) -> u64 {
    let part = |part: &Part| match part {
        Part::Text(text) | Part::Data(text) => text.len(),
        Part::Media(blob) => blob.data.len() + blob.mime.len() + blob.name.as_ref().map_or(0, String::len),
    };
    let parts: usize = output.parts.iter().map(part).sum();
    (parts + output.structured.as_ref().map_or(0, String::len)) as u64
}

/// The parts as the model reads them, one below the other.
fn text(parts: Vec<Part>) -> Result<String, serde_json::Error> {
    let mut lines = Vec::with_capacity(parts.len());
    for part in parts {
        lines.push(match part {
            Part::Text(text) => text,
            Part::Data(json) => {
                // Parsed as a value and not skipped over, so that its depth is bounded like all JSON here.
                serde_json::from_str::<Value>(&json)?;
                json
            }
            Part::Media(blob) => format!("[{}, {} bytes]", escaped(&blob.mime, MAX_MIME), blob.data.len()),
        });
    }
    Ok(lines.join("\n"))
}

fn failed(failure: Failure) -> Ended {
    let mut text = failure.message;
    text.truncate(text.floor_char_boundary(MAX_MESSAGE));
    if text.trim().is_empty() {
        "The tool failed and did not say why.".clone_into(&mut text);
    }
    if let Some(wait) = failure.retry_after_ms {
        // Writing to a `String` cannot fail.
        let _ = write!(text, " (It may work again after {wait} ms.)");
    }
    let code = code(&failure.code);
    Ended::of(OutcomeKind::GuestFailure { code }, text)
}

/// A guest's word as a label: kebab-case, at most 64 characters.
fn code(word: &str) -> String {
    let mut code = String::new();
    for byte in word.bytes() {
        if code.len() == MAX_CODE {
            break;
        }
        match byte.to_ascii_lowercase() {
            byte @ (b'a'..=b'z' | b'0'..=b'9') => code.push(char::from(byte)),
            _ if code.is_empty() || code.ends_with('-') => {}
            _ => code.push('-'),
        }
    }
    let code = code.trim_end_matches('-');
    if code.is_empty() { "unspecified".to_owned() } else { code.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::code;

    #[test]
    fn codes_become_kebab_case() {
        assert_eq!(code("Not Found!\n"), "not-found");
        assert_eq!(code("--\u{1b}[31m"), "31m");
        assert_eq!(code("…"), "unspecified");
        assert_eq!(code(&"x".repeat(1000)).len(), 64);
    }
}
