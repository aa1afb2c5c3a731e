//! Providers' streamed answers as replies.
//!
//! genai reads the stream; the tap reads along for what genai leaves out (the model's name) or gives only
//! with a last line that some servers do not send (why the model stopped, and the token counts).

use std::sync::{Arc, Mutex, PoisonError};

use ::genai::Error;
use ::genai::adapter::AdapterKind;
use ::genai::chat::{
    ChatOptions, ChatStream, ChatStreamEvent, ContentPart, MessageContent, StopReason, StreamEnd,
    ToolCall as Call,
};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::reply::{model_name, opaque_parts, tokens};
use crate::model::{Deltas, ModelError};
use crate::session::{Reply, Tokens};
use crate::tool::ToolCall;

/// What the lines of a stream said.
#[derive(Default)]
struct Said {
    lines: usize,
    model: Option<String>,
    finish_reason: Option<String>,
    tokens: Tokens,
}

#[derive(Clone, Default)]
pub(super) struct Tap(Arc<Mutex<Said>>);

pub(super) fn tapped(options: ChatOptions) -> (Tap, ChatOptions) {
    let tap = Tap::default();
    let lines = tap.clone();
    let options = options
        .with_capture_content(true)
        .with_capture_reasoning_content(true)
        .with_capture_tool_calls(true)
        .with_capture_usage(true)
        .with_raw_frame_fn(move |_, line| lines.hear(line.data));
    (tap, options)
}

impl Tap {
    fn hear(&self, line: &str) {
        if line.is_empty() {
            // A comment, to keep the connection open.
            return;
        }
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.lines += 1;
        let Ok(line) = serde_json::from_str::<Value>(line) else { return };
        if said.model.is_none() {
            // Anthropic's is in the message that it starts.
            said.model = model_name(line.get("message").unwrap_or(&line));
        }
        if let Some(reason) = line.pointer("/choices/0/finish_reason").and_then(Value::as_str) {
            said.finish_reason = Some(reason.to_owned());
        }
        if let Some(usage) = line.get("usage").filter(|usage| usage.is_object()) {
            let count = |path: &str| usage.pointer(path).and_then(Value::as_u64);
            said.tokens = Tokens {
                input: count("/prompt_tokens"),
                output: count("/completion_tokens"),
                reasoning: count("/completion_tokens_details/reasoning_tokens"),
            };
        }
    }

    fn take(&self) -> Said {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// None = the answer was no stream. Its text is in `deltas`; the reply has the rest.
pub(super) async fn read(
    mut stream: ChatStream,
    tap: &Tap,
    deltas: &mut Deltas,
    kind: AdapterKind,
) -> Result<Option<Result<Reply, ModelError>>, Error> {
    let mut calls: Vec<Call> = Vec::new();
    let mut end = None;
    while let Some(event) = stream.next().await {
        match event.map_err(with_error_around)? {
            ChatStreamEvent::Start => {}
            ChatStreamEvent::Chunk(chunk) => deltas.content(&chunk.content),
            ChatStreamEvent::ReasoningChunk(chunk) => deltas.reasoning(&chunk.content),
            ChatStreamEvent::ToolCallChunk(chunk) => {
                deltas.alive();
                // Each chunk has its call as far as it has come.
                match calls.iter_mut().find(|call| call.call_id == chunk.tool_call.call_id) {
                    Some(call) => *call = chunk.tool_call,
                    None => calls.push(chunk.tool_call),
                }
            }
            ChatStreamEvent::ThoughtSignatureChunk(_) | ChatStreamEvent::Heartbeat => deltas.alive(),
            ChatStreamEvent::End(last) => end = Some(last),
        }
    }
    let said = tap.take();
    Ok(match end {
        None if said.lines == 0 => None,
        None if said.finish_reason.is_none() => Some(Err(broken_off())),
        None => Some(finished(unended(calls, &said), said, kind)),
        Some(end) => Some(finished(end, said, kind)),
    })
}

/// genai gives the error without what was around it.
fn with_error_around(error: Error) -> Error {
    match error {
        Error::ChatResponse { model_iden, body } if body.get("error").is_none() => {
            Error::ChatResponse { model_iden, body: json!({"error": body}) }
        }
        error => error,
    }
}

fn broken_off() -> ModelError {
    ModelError::Unavailable { message: "its answer broke off".to_owned(), retry_after_ms: None }
}

/// What genai would have said of a stream without its last line.
fn unended(calls: Vec<Call>, said: &Said) -> StreamEnd {
    StreamEnd {
        captured_stop_reason: said.finish_reason.clone().map(StopReason::from),
        captured_content: (!calls.is_empty()).then(|| MessageContent::from_tool_calls(calls)),
        ..StreamEnd::default()
    }
}

fn finished(end: StreamEnd, said: Said, kind: AdapterKind) -> Result<Reply, ModelError> {
    let reasoning = end.captured_reasoning_content;
    let parts = end.captured_content.map(MessageContent::into_parts).unwrap_or_default();
    let stop = end.captured_stop_reason;
    if parts.is_empty() && reasoning.is_none() {
        match &stop {
            None => return Err(ModelError::Malformed("it holds no answer".to_owned())),
            Some(StopReason::ContentFilter(_)) => {
                return Err(ModelError::Refused("its content filter stopped the answer".to_owned()));
            }
            Some(_) => {}
        }
    }
    let parts = without_repeats(parts);
    let counted = end.captured_usage.as_ref().map(tokens).filter(|tokens| tokens.input.is_some());
    Ok(Reply {
        tool_calls: parts.iter().filter_map(call).collect(),
        signatures: opaque_parts(&parts, reasoning.as_deref(), kind),
        tokens: counted.unwrap_or(said.tokens),
        model: said.model,
        cut_off: stop.as_ref().is_some_and(StopReason::is_max_tokens),
        ..Reply::default()
    })
}

/// Where a server counts its calls from 1, genai fills the gap with a copy of the next.
fn without_repeats(parts: Vec<ContentPart>) -> Vec<ContentPart> {
    let mut kept: Vec<ContentPart> = Vec::with_capacity(parts.len());
    for part in parts {
        let id = part.as_tool_call().map(|call| call.call_id.clone());
        let same = |other: &ContentPart| other.as_tool_call().map(|call| &call.call_id) == id.as_ref();
        if id.is_some() {
            kept.retain(|other| !same(other));
        }
        kept.push(part);
    }
    kept
}

fn call(part: &ContentPart) -> Option<ToolCall> {
    let call = part.as_tool_call()?;
    let arguments = match &call.fn_arguments {
        // Not JSON, such as cut off in the middle: the run answers the call.
        Value::String(text) => text.clone(),
        arguments => arguments.to_string(),
    };
    Some(ToolCall { id: call.call_id.as_str().into(), name: call.fn_name.clone(), arguments })
}
