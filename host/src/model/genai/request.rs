//! Our requests in genai's terms.

use ::genai::chat::{
    Binary, ChatMessage, ChatOptions, ChatRequest, ContentPart, MessageContent, Tool, ToolCall, ToolResponse,
};
use serde_json::{Map, Value};

use super::schema;
use crate::model::Request;
use crate::session::{Media, Message, Reply};
use crate::tool::ToolSpec;

pub(super) fn chat(request: &Request) -> ChatRequest {
    let mut chat = ChatRequest::new(messages(&request.messages));
    if !request.system.trim().is_empty() {
        chat = chat.with_system(request.system.clone());
    }
    if !request.tools.is_empty() {
        chat = chat.with_tools(request.tools.iter().map(tool).collect::<Vec<_>>());
    }
    chat
}

pub(super) fn options(request: &Request) -> ChatOptions {
    // The raw body tells what genai's reading of it leaves out: errors with status 200, and calls whose
    // arguments are no JSON.
    let mut options = ChatOptions::default().with_capture_raw_body(true);
    options.temperature = request.temperature;
    options.top_p = request.top_p;
    options.max_tokens = request.max_tokens;
    options
}

fn tool(spec: &ToolSpec) -> Tool {
    Tool::new(spec.name.to_string())
        .with_description(spec.description.clone())
        .with_schema(schema::acceptable(&spec.input_schema))
}

fn messages(messages: &[Message]) -> Vec<ChatMessage> {
    let mut chat: Vec<ChatMessage> = Vec::with_capacity(messages.len());
    // The results of one turn go into one message: Anthropic and Gemini demand that, and for the others
    // genai takes it apart again.
    let mut results: Vec<ContentPart> = Vec::new();
    for message in messages {
        if let Message::Tool { call, name, text, .. } = message {
            let result = ToolResponse::new(call.as_str(), text.clone()).with_fn_name(name.clone());
            results.push(ContentPart::ToolResponse(result));
            continue;
        }
        flush(&mut results, &mut chat);
        match message {
            Message::User { text, media } => chat.push(ChatMessage::user(user(text, media))),
            Message::Assistant(reply) => {
                let content = assistant(reply);
                // Providers refuse an empty message, and it says nothing.
                if !content.is_empty() {
                    chat.push(ChatMessage::assistant(content));
                }
            }
            Message::Tool { .. } => {}
        }
    }
    flush(&mut results, &mut chat);
    chat
}

fn flush(results: &mut Vec<ContentPart>, chat: &mut Vec<ChatMessage>) {
    if !results.is_empty() {
        chat.push(ChatMessage::tool(MessageContent::from_parts(std::mem::take(results))));
    }
}

fn user(text: &str, media: &[Media]) -> MessageContent {
    let binaries =
        media.iter().map(|media| Binary::from_base64(media.mime.as_str(), media.base64.as_str(), None));
    let mut parts = vec![ContentPart::from_text(text)];
    parts.extend(binaries.map(ContentPart::Binary));
    MessageContent::from_parts(parts)
}

/// The marks of `reply::opaque_parts` say where the text and the calls were.
fn assistant(reply: &Reply) -> MessageContent {
    let mut text = (!reply.content.is_empty()).then(|| ContentPart::from_text(reply.content.as_str()));
    let mut calls = reply.tool_calls.iter().map(|call| {
        // History must be JSON: servers answer 500 to anything else, and the tool's result says what
        // was wrong with the arguments.
        let arguments = call.parsed_arguments().unwrap_or_else(|_| Value::Object(Map::new()));
        ContentPart::ToolCall(ToolCall {
            call_id: call.id.as_str().to_owned(),
            fn_name: call.name.clone(),
            fn_arguments: arguments,
            thought_signatures: None,
        })
    });
    let mut parts = Vec::new();
    for mark in &reply.signatures {
        match mark.as_str() {
            super::reply::TEXT => parts.extend(text.take()),
            super::reply::CALL => parts.extend(calls.next()),
            opaque => parts.extend(serde_json::from_str::<ContentPart>(opaque).ok()),
        }
    }
    parts.extend(text);
    parts.extend(calls);
    MessageContent::from_parts(parts)
}
