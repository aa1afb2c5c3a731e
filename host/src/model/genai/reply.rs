//! Providers' answers as replies.

use ::genai::adapter::AdapterKind;
use ::genai::chat::{ChatResponse, ContentPart, StopReason, Usage};
use serde_json::Value;

use super::failure;
use crate::model::ModelError;
use crate::session::{Reply, Tokens};
use crate::tool::ToolCall;

/// Marks in [`Reply::signatures`] for the places of the text and of the calls.
pub(super) const TEXT: &str = "text";
pub(super) const CALL: &str = "call";

pub(super) fn read(response: &ChatResponse, kind: AdapterKind) -> Result<Reply, ModelError> {
    let raw = response.captured_raw_body.as_ref().unwrap_or(&Value::Null);
    if let Some(error) = failure::in_body(raw) {
        return Err(error);
    }
    let reasoning = response.reasoning_content.clone();
    if response.content.is_empty() && reasoning.is_none() {
        match &response.stop_reason {
            None => return Err(ModelError::Malformed("it holds no answer".to_owned())),
            Some(StopReason::ContentFilter(_)) => {
                return Err(ModelError::Refused("its content filter stopped the answer".to_owned()));
            }
            Some(_) => {}
        }
    }
    let calls = response.content.tool_calls();
    Ok(Reply {
        content: response.content.texts().join("\n\n"),
        tool_calls: calls
            .iter()
            .map(|call| ToolCall {
                id: call.call_id.as_str().into(),
                name: call.fn_name.clone(),
                arguments: call.fn_arguments.to_string(),
            })
            .collect(),
        signatures: opaque_parts(response.content.parts(), reasoning.as_deref(), kind),
        reasoning,
        tokens: tokens(&response.usage),
        chunks: Vec::new(),
        cost_micros: None,
        model: model_name(raw),
        cut_off: response.stop_reason.as_ref().is_some_and(StopReason::is_max_tokens),
    })
}

/// What must go back with the reply, as genai's parts in JSON, each at its place: Gemini signs the very
/// call it thought about, Anthropic wants signed and redacted thinking in order.
pub(super) fn opaque_parts(parts: &[ContentPart], reasoning: Option<&str>, kind: AdapterKind) -> Vec<String> {
    let mut marks: Vec<String> = Vec::new();
    let mut opaque = false;
    let has_calls = parts.iter().any(ContentPart::is_tool_call);
    if let Some(reasoning) = reasoning.filter(|_| has_calls && wants_reasoning_back(kind)) {
        let part = ContentPart::ReasoningContent(reasoning.to_owned());
        marks.extend(serde_json::to_string(&part));
        opaque = true;
    }
    for part in parts {
        match part {
            ContentPart::Text(_) => marks.push(TEXT.to_owned()),
            ContentPart::ToolCall(_) => marks.push(CALL.to_owned()),
            ContentPart::ThoughtSignature(_) | ContentPart::ReasoningContent(_) => {
                marks.extend(serde_json::to_string(part));
                opaque = true;
            }
            ContentPart::Custom(custom) => {
                // Without the model's name, which genai 0.7 writes in a form that it cannot read.
                let part = ContentPart::from_custom(custom.data.clone(), None);
                marks.extend(serde_json::to_string(&part));
                opaque = true;
            }
            ContentPart::Binary(_) | ContentPart::ToolResponse(_) => {}
        }
    }
    if opaque { marks } else { Vec::new() }
}

/// OpenAI-like providers that refuse a turn with tool calls when its `reasoning_content` is missing.
fn wants_reasoning_back(kind: AdapterKind) -> bool {
    matches!(kind, AdapterKind::DeepSeek | AdapterKind::Kimi | AdapterKind::Moonshot)
}

pub(super) fn tokens(usage: &Usage) -> Tokens {
    let count = |tokens: Option<i32>| tokens.and_then(|tokens| u64::try_from(tokens).ok());
    let (input, output) = (count(usage.prompt_tokens), count(usage.completion_tokens));
    // No prompt is empty: genai fills in zeros where a provider said nothing.
    if input.unwrap_or(0) == 0 && output.unwrap_or(0) == 0 {
        return Tokens::default();
    }
    let details = usage.completion_tokens_details.as_ref();
    Tokens { input, output, reasoning: count(details.and_then(|details| details.reasoning_tokens)) }
}

pub(super) fn model_name(raw: &Value) -> Option<String> {
    let name = raw.get("model").or_else(|| raw.get("modelVersion"))?;
    name.as_str().map(str::to_owned)
}

/// Reads an OpenAI-like answer that genai gave up on because of one of its calls: arguments that are cut off
/// or no JSON, no id, no type. Such a call is the run's to answer, not a reason to lose the turn.
pub(super) fn salvage(raw: &Value) -> Option<Reply> {
    let choice = raw.pointer("/choices/0")?;
    let message = choice.get("message")?;
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let calls = message.get("tool_calls")?.as_array()?;
    let reasoning = message.get("reasoning_content").or_else(|| message.get("reasoning"));
    Some(Reply {
        content: text(message.get("content")).trim().to_owned(),
        reasoning: reasoning.and_then(Value::as_str).map(str::to_owned),
        tool_calls: calls
            .iter()
            .map(|call| ToolCall {
                id: text(call.get("id")).into(),
                name: text(call.pointer("/function/name")),
                arguments: match call.pointer("/function/arguments") {
                    Some(Value::String(arguments)) => arguments.clone(),
                    Some(arguments) => arguments.to_string(),
                    None => String::new(),
                },
            })
            .collect(),
        chunks: Vec::new(),
        cost_micros: None,
        tokens: Tokens {
            input: raw.pointer("/usage/prompt_tokens").and_then(Value::as_u64),
            output: raw.pointer("/usage/completion_tokens").and_then(Value::as_u64),
            reasoning: None,
        },
        model: model_name(raw),
        cut_off: choice.get("finish_reason").and_then(Value::as_str) == Some("length"),
        signatures: Vec::new(),
    })
}
