//! genai against a mock server: each line of what real servers do is a case here.

use std::time::Duration;

use serde_json::{Value, json};

use crate::model::mock::{Answer, MockProvider, models, request};
use crate::model::{Model, ModelError, Models, Provider, Request};
use crate::session::{Media, Message, Reply, Tokens};
use crate::tool::{Annotations, ToolCall, ToolSpec};

use super::{Clients, Genai};

/// One attempt, without the retries that would hide what it says.
async fn once(server: &MockProvider, request: &Request) -> Result<Reply, ModelError> {
    let provider = Provider { api_key: Some("key-12345".to_owned()), ..server.provider("/v1") };
    Genai::new("mock", &provider, &Clients::new().unwrap()).unwrap().reply(request).await
}

async fn answered(answer: Answer) -> Result<Reply, ModelError> {
    once(&MockProvider::start([answer]).await, &request("hi")).await
}

fn call(id: &str, name: &str, arguments: &str) -> ToolCall {
    ToolCall { id: id.into(), name: name.to_owned(), arguments: arguments.to_owned() }
}

fn wire_call(id: &str, name: &str, arguments: &str) -> Value {
    json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
}

fn tool(name: &str) -> ToolSpec {
    ToolSpec {
        name: name.parse().unwrap(),
        description: "Does it.".to_owned(),
        input_schema: json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "properties": {"a": {"type": "integer"}},
        }),
        output_schema: None,
        annotations: Annotations::default(),
    }
}

/// A turn with two calls and their results, after a question with a picture.
fn conversation() -> Request {
    let result = |call: &str, text: &str| Message::Tool {
        call: call.into(),
        name: "p__t".to_owned(),
        text: text.to_owned(),
        failed: false,
    };
    Request {
        system: "Be brief.".to_owned(),
        messages: vec![
            Message::User {
                text: "Look".to_owned(),
                media: vec![Media { mime: "image/png".to_owned(), base64: "AAAA".to_owned() }],
            },
            Message::Assistant(Box::new(Reply {
                tool_calls: vec![call("c1", "p__t", r#"{"b":1,"a":2}"#), call("c2", "p__t", "{")],
                ..Reply::default()
            })),
            result("c1", "one"),
            result("c2", "two"),
            Message::Assistant(Box::default()),
        ],
        tools: vec![tool("p__t")],
        temperature: Some(0.0),
        top_p: Some(0.5),
        max_tokens: Some(64),
        response_schema: None,
        ..request("")
    }
}

#[tokio::test]
async fn parallel_calls_come_through_beside_empty_or_absent_content() {
    for content in [json!(""), Value::Null] {
        let message = json!({
            "role": "assistant",
            "content": content,
            "tool_calls": [
                wire_call("OXVhcLDd3Yn8Ii2m8ZVWQH1cAKHvXtLx", "p__t", r#"{"a":1}"#),
                wire_call("c2", "p__u", "{}"),
            ],
        });
        let reply = answered(Answer::message(&message, "tool_calls")).await.unwrap();
        let expected = Reply {
            tool_calls: vec![
                call("OXVhcLDd3Yn8Ii2m8ZVWQH1cAKHvXtLx", "p__t", r#"{"a":1}"#),
                call("c2", "p__u", "{}"),
            ],
            tokens: Tokens { input: Some(11), output: Some(7), reasoning: None },
            model: Some("mock-1".to_owned()),
            ..Reply::default()
        };
        assert_eq!(reply, expected);
    }
}

#[tokio::test]
async fn a_conversation_goes_out_in_order_with_its_ids() {
    let server = MockProvider::start([Answer::text("done")]).await;
    once(&server, &conversation()).await.unwrap();
    let asked = server.asked().remove(0);
    assert_eq!(asked.path, "/v1/chat/completions");
    assert_eq!(asked.headers["authorization"], "Bearer key-12345");
    let expected = json!({
        "model": "m",
        "stream": false,
        "tools": [{"type": "function", "function": {
            "name": "p__t",
            "description": "Does it.",
            "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
            "strict": false,
        }}],
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [
                {"type": "text", "text": "Look"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            ]},
            // The second call's arguments were cut off: a server would answer 500 to them.
            {"role": "assistant", "content": "", "tool_calls": [
                wire_call("c1", "p__t", r#"{"b":1,"a":2}"#),
                wire_call("c2", "p__t", "{}"),
            ]},
            {"role": "tool", "content": "one", "tool_call_id": "c1"},
            {"role": "tool", "content": "two", "tool_call_id": "c2"},
        ],
        "temperature": 0.0,
        "max_tokens": 64,
        "top_p": 0.5,
    });
    assert_eq!(asked.body, expected);
}

#[tokio::test]
async fn base_urls_lead_to_the_same_path_with_and_without_a_slash() {
    for path in ["/v1", "/v1/", "", "/"] {
        let server = MockProvider::start([Answer::text("ok")]).await;
        models("mock", server.provider(path)).reply(&request("hi")).await.unwrap();
        let asked = server.asked().remove(0);
        assert_eq!(asked.path, "/v1/chat/completions", "{path}");
        assert_eq!(asked.headers["authorization"], "Bearer none", "no key is needed here");
    }
}

#[tokio::test]
async fn names_of_models_go_out_as_they_are() {
    let server = MockProvider::start([Answer::text("ok")]).await;
    let mut request = request("hi");
    request.model = "mock::lab/my-max".parse().unwrap();
    once(&server, &request).await.unwrap();
    let body = &server.asked()[0].body;
    assert_eq!((&body["model"], &body["reasoning_effort"]), (&json!("lab/my-max"), &Value::Null));
}

#[tokio::test]
async fn usage_is_never_made_up() {
    let choice = json!([{"finish_reason": "stop", "message": {"content": "hi"}}]);
    let usage = |usage: Value| Answer::json(&json!({"choices": choice, "usage": usage}));
    let reasoning = json!({
        "prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 6},
    });
    for (answer, (input, output, reasoning)) in [
        (Answer::json(&json!({"choices": choice})), (None, None, None)),
        (usage(Value::Null), (None, None, None)),
        (usage(json!({"prompt_tokens": 0, "completion_tokens": 0})), (None, None, None)),
        (usage(reasoning), (Some(5), Some(9), Some(6))),
    ] {
        let reply = answered(answer).await.unwrap();
        let expected = Tokens { input, output, reasoning };
        assert_eq!((reply.tokens, reply.model), (expected, None));
    }
}

#[tokio::test]
async fn calls_that_cannot_be_read_are_kept_for_the_run_to_answer() {
    let message = |calls: Value| json!({"content": "", "tool_calls": calls});
    for (calls, finish_reason, cut_off, expected) in [
        (json!([wire_call("c", "p__t", "{")]), "length", true, call("c", "p__t", "{")),
        (json!([wire_call("c", "p__t", "a=1")]), "tool_calls", false, call("c", "p__t", "a=1")),
        (json!([wire_call("c", "p__t", "")]), "tool_calls", false, call("c", "p__t", "")),
        (
            json!([{"function": {"name": "p__t", "arguments": {"a": 1}}}]),
            "tool_calls",
            false,
            call("", "p__t", r#"{"a":1}"#),
        ),
    ] {
        let reply = answered(Answer::message(&message(calls), finish_reason)).await.unwrap();
        assert_eq!((reply.tool_calls, reply.cut_off), (vec![expected], cut_off));
        assert_eq!(reply.tokens.input, Some(11));
    }
}

#[tokio::test]
async fn a_reply_cut_off_without_a_call_says_so() {
    let message = json!({"content": "and so on and"});
    let reply = answered(Answer::message(&message, "length")).await.unwrap();
    assert!(reply.cut_off && reply.tool_calls.is_empty());
    let reply = answered(Answer::text("")).await.unwrap();
    assert_eq!((reply.content.as_str(), reply.cut_off), ("", false));
}

#[tokio::test]
async fn reasoning_beside_the_content_is_kept_apart() {
    let message = json!({"content": "42", "reasoning_content": "six times seven"});
    let reply = answered(Answer::message(&message, "stop")).await.unwrap();
    assert_eq!((reply.content.as_str(), reply.reasoning.as_deref()), ("42", Some("six times seven")));
}

#[tokio::test]
async fn answers_that_are_none_are_malformed() {
    for answer in [
        Answer::json(&json!({"choices": []})),
        Answer::json(&json!({})),
        Answer::json(&json!([1])),
        Answer::json(&json!({"choices": [{"message": {"role": "assistant", "content": null}}]})),
        Answer::raw(200, "application/json", r#"{"choices": [{"#),
        Answer::raw(200, "text/html", "<html>hello</html>"),
        Answer::raw(200, "text/event-stream", "data: {\"error\":{\"message\":\"x\"}}\n\n"),
    ] {
        let error = answered(answer).await.unwrap_err();
        assert!(matches!(error, ModelError::Malformed(_)), "{error:?}");
    }
}

#[tokio::test]
async fn errors_are_told_apart_and_told_safely() {
    let overflow = json!({"error": {
        "code": 400, "type": "exceed_context_size_error", "n_prompt_tokens": 9000, "n_ctx": 8192,
        "message": "the request exceeds the available context size",
    }});
    let error = answered(Answer::error(400, &overflow)).await.unwrap_err();
    assert!(matches!(error, ModelError::ContextOverflow(_)), "{error:?}");

    let key =
        json!({"error": {"code": 401, "type": "authentication_error", "message": "Invalid key key-12345"}});
    let text = answered(Answer::error(401, &key)).await.unwrap_err().to_string();
    let expected = "the model provider refused the request: HTTP 401: Invalid key *** (is the key right? set \
                    providers.mock.api_key_env in holdfast.toml)";
    assert_eq!(text, expected);

    let limited = Answer::error(429, &json!({"error": {"message": "slow"}})).with_header("retry-after", "3");
    let error = answered(limited).await.unwrap_err();
    assert!(matches!(error, ModelError::RateLimited { retry_after_ms: Some(3000), .. }), "{error:?}");

    let within = Answer::json(&json!({"error": {"code": 500, "message": "template failed"}}));
    let text = answered(within).await.unwrap_err().to_string();
    assert_eq!(text, "the model provider failed: template failed");

    let elsewhere = Answer::raw(307, "text/plain", "").with_header("location", "http://127.0.0.1:9/");
    let error = answered(elsewhere).await.unwrap_err();
    assert!(matches!(error, ModelError::Refused(_)), "{error:?}");
}

#[tokio::test]
async fn a_blocked_prompt_is_a_refusal() {
    let blocked = Answer::json(&json!({"promptFeedback": {"blockReason": "SAFETY"}}));
    let server = MockProvider::start([blocked]).await;
    let model = Genai::new("gemini", &server.provider(""), &Clients::new().unwrap()).unwrap();
    let error = model.reply(&request("hi")).await.unwrap_err();
    assert!(matches!(error, ModelError::Refused(_)), "{error:?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let server = MockProvider::start([Answer::text("")]).await;
    let provider = server.provider("/v1");
    drop(server);
    // The port was free a moment ago: nobody listens once the server's task is gone.
    tokio::task::yield_now().await;
    let model = Genai::new("mock", &provider, &Clients::new().unwrap()).unwrap();
    let text = model.reply(&request("hi")).await.unwrap_err().to_string();
    assert_eq!(text, "the model provider failed: no connection can be made to it");
}

#[tokio::test]
async fn a_slow_answer_times_out_and_is_asked_for_again() {
    let slow = Answer::text("late").after(Duration::from_mins(1));
    let server = MockProvider::start([slow, Answer::text("in time")]).await;
    let provider = Provider { timeout_ms: Some(300), ..server.provider("/v1") };
    let reply = models("mock", provider).reply(&request("hi")).await.unwrap();
    assert_eq!((reply.content.as_str(), server.asked().len()), ("in time", 2));
}

#[tokio::test]
async fn dropping_the_future_closes_the_connection() {
    let server = MockProvider::start([Answer::text("late").after(Duration::from_mins(1))]).await;
    let models: Models = server.models();
    let asking = tokio::spawn(async move { models.reply(&request("hi")).await });
    server.arrived().await;
    let start = std::time::Instant::now();
    asking.abort();
    server.dropped().await;
    assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());
}

#[tokio::test]
async fn anthropic_speaks_its_own_format_and_gets_its_thinking_back() {
    let answer = Answer::json(&json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-mock",
        "content": [
            {"type": "thinking", "thinking": "a note first", "signature": "sig-1"},
            {"type": "redacted_thinking", "data": "opaque"},
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "toolu_1", "name": "p__t", "input": {"a": 1}},
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 20, "output_tokens": 10},
    }));
    let server = MockProvider::start([answer]).await;
    let provider = Provider { api_key: Some("key-12345".to_owned()), ..server.provider("/v1") };
    let model = Genai::new("anthropic", &provider, &Clients::new().unwrap()).unwrap();
    let mut request = conversation();
    let reply = model.reply(&request).await.unwrap();
    assert_eq!(reply.content, "I look.");
    assert_eq!(reply.reasoning.as_deref(), Some("a note first"));
    assert_eq!(reply.tool_calls, [call("toolu_1", "p__t", r#"{"a":1}"#)]);
    assert_eq!((reply.tokens.input, reply.tokens.output), (Some(20), Some(10)));

    // The journal keeps the reply as JSON; from there it goes into the next request.
    let kept = serde_json::to_string(&reply).unwrap();
    request.messages.push(Message::Assistant(serde_json::from_str(&kept).unwrap()));
    model.reply(&request).await.unwrap();
    let asked = server.asked();
    assert_eq!(
        (asked[0].path.as_str(), &asked[0].headers["x-api-key"]),
        ("/v1/messages", &"key-12345".parse().unwrap())
    );
    let expected = json!([
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "c1", "content": "one"},
            {"type": "tool_result", "tool_use_id": "c2", "content": "two"},
        ]},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "a note first", "signature": "sig-1"},
            {"type": "redacted_thinking", "data": "opaque"},
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "toolu_1", "name": "p__t", "input": {"a": 1}},
        ]},
    ]);
    assert_eq!(asked[1].body["messages"].as_array().unwrap()[2..], *expected.as_array().unwrap());
}

#[tokio::test]
async fn gemini_gets_the_signature_back_on_the_call_that_it_signed() {
    let parts = json!([
        {"text": "Looking."},
        {"functionCall": {"name": "p__t", "args": {"a": 1}}, "thoughtSignature": "sig-1"},
        {"functionCall": {"name": "p__t", "args": {"a": 2}}},
    ]);
    let answer = Answer::json(&json!({
        "modelVersion": "gemini-mock",
        "candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": "STOP"}],
    }));
    let server = MockProvider::start([answer]).await;
    let provider = Provider { api_key: Some("key-12345".to_owned()), ..server.provider("") };
    let model = Genai::new("gemini", &provider, &Clients::new().unwrap()).unwrap();
    let mut request = request("hi");
    let reply = model.reply(&request).await.unwrap();
    assert_eq!((reply.tool_calls.len(), reply.tokens), (2, Tokens::default()));
    request.messages.push(Message::Assistant(Box::new(reply)));
    model.reply(&request).await.unwrap();
    let asked = server.asked().remove(1);
    assert_eq!(asked.path, "/v1beta/models/m:generateContent");
    let sent = &asked.body["contents"][1]["parts"];
    assert_eq!(sent[0]["text"], "Looking.");
    assert_eq!(
        (&sent[1]["thoughtSignature"], &sent[1]["functionCall"]["args"]["a"]),
        (&json!("sig-1"), &json!(1))
    );
    assert_eq!(
        (&sent[2]["thoughtSignature"], &sent[2]["functionCall"]["args"]["a"]),
        (&Value::Null, &json!(2))
    );
}
