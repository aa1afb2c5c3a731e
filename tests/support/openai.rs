//! An OpenAI-compatible server that answers as a test says, and remembers what it was asked.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};

type Answer = dyn Fn(&Value) -> Response + Send + Sync;

pub(crate) struct OpenAi {
    /// To be given as `base_url`.
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Value>>>,
    /// Milliseconds that each answer takes.
    delay: Arc<AtomicU64>,
    /// How many requests are answered without delay.
    prompt: Arc<AtomicU64>,
    left: Arc<AtomicU64>,
    server: tokio::task::JoinHandle<()>,
}

#[derive(Clone)]
struct Shared {
    answer: Arc<Answer>,
    delay: Arc<AtomicU64>,
    prompt: Arc<AtomicU64>,
    asked: Arc<Mutex<Vec<Value>>>,
    /// Callers who closed the connection before they were answered.
    left: Arc<AtomicU64>,
}

impl OpenAi {
    /// `answer` gets the request's body.
    pub(crate) async fn start(answer: impl Fn(&Value) -> Response + Send + Sync + 'static) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let delay = Arc::new(AtomicU64::new(0));
        let (prompt, left) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let shared = Shared {
            answer: Arc::new(answer),
            delay: Arc::clone(&delay),
            prompt: Arc::clone(&prompt),
            asked: Arc::clone(&asked),
            left: Arc::clone(&left),
        };
        let router = Router::new().route("/v1/chat/completions", post(complete)).with_state(shared);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        Self { url, asked, delay, prompt, left, server }
    }

    /// From now on each answer takes this long.
    pub(crate) fn delay(&self, delay: Duration) {
        self.delay.store(u64::try_from(delay.as_millis()).expect("a short time"), Ordering::SeqCst);
    }

    /// The same, from the n-th request on.
    pub(crate) fn delay_from(&self, request: u64, delay: Duration) {
        self.prompt.store(request - 1, Ordering::SeqCst);
        self.delay(delay);
    }

    /// The requests so far, oldest first.
    pub(crate) fn asked(&self) -> Vec<Value> {
        self.asked.lock().expect("no test panics in here").clone()
    }

    /// How many callers closed the connection before they were answered.
    pub(crate) fn left(&self) -> u64 {
        self.left.load(Ordering::SeqCst)
    }

    /// A configuration file with one agent, `agent`, on this server, and every tool.
    pub(crate) fn config(&self) -> String {
        format!(
            "[providers.mock]\nbase_url = \"{}\"\nadapter = \"openai\"\n{}",
            self.url,
            super::host::ONE_AGENT.replace("script::v1", "mock::m1")
        )
    }
}

impl Drop for OpenAi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn complete(State(shared): State<Shared>, Json(body): Json<Value>) -> Response {
    let number = {
        let mut asked = shared.asked.lock().expect("no test panics in here");
        asked.push(body.clone());
        asked.len() as u64
    };
    let mut waiting = Waiting { left: &shared.left, answered: false };
    if number > shared.prompt.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(shared.delay.load(Ordering::SeqCst))).await;
    }
    waiting.answered = true;
    (shared.answer)(&body)
}

/// hyper drops the answer under way when its caller closes the connection.
struct Waiting<'a> {
    left: &'a AtomicU64,
    answered: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.left.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// How many replies the model has given since the last user's message.
pub(crate) fn replied(body: &Value) -> usize {
    let messages = body["messages"].as_array().expect("messages");
    messages.iter().rev().take_while(|m| m["role"] != "user").filter(|m| m["role"] == "assistant").count()
}

/// A completion with a text.
pub(crate) fn text(text: &str) -> Response {
    completion(&json!({"role": "assistant", "content": text}), "stop")
}

/// A completion with tool calls: id, name, arguments.
pub(crate) fn tool_calls(calls: &[(&str, &str, Value)]) -> Response {
    let calls: Vec<Value> = calls
        .iter()
        .map(|(id, name, arguments)| {
            json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments.to_string()}})
        })
        .collect();
    completion(&json!({"role": "assistant", "content": null, "tool_calls": calls}), "tool_calls")
}

pub(crate) fn completion(message: &Value, finish_reason: &str) -> Response {
    Json(json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m1",
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    }))
    .into_response()
}

pub(crate) fn error(status: u16, message: &str) -> Response {
    let status = StatusCode::from_u16(status).expect("a status");
    (status, Json(json!({"error": {"message": message, "type": "error"}}))).into_response()
}

/// A line of a streamed completion with a piece of its text.
pub(crate) fn delta(text: &str) -> String {
    line(&json!({"content": text}), None)
}

/// A line of a streamed completion.
pub(crate) fn line(delta: &Value, finish_reason: Option<&str>) -> String {
    let choice = json!({"index": 0, "delta": delta, "finish_reason": finish_reason});
    format!("data: {}\n\n", json!({"model": "m1", "choices": [choice]}))
}

/// The last lines of a streamed completion.
pub(crate) fn stop(finish_reason: &str) -> String {
    let usage = json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15});
    let usage = json!({"model": "m1", "choices": [], "usage": usage});
    format!("{}data: {usage}\n\ndata: [DONE]\n\n", line(&json!({}), Some(finish_reason)))
}

/// A body whose lines a test sends; an error breaks the connection.
pub(crate) type Lines = tokio::sync::mpsc::UnboundedReceiver<std::io::Result<String>>;

pub(crate) fn sse_body(lines: Lines) -> Response {
    let body = futures_util::stream::unfold(lines, |mut lines| async { Some((lines.recv().await?, lines)) });
    ([("content-type", "text/event-stream")], axum::body::Body::from_stream(body)).into_response()
}

/// A streamed completion, sent at once.
pub(crate) fn sse_text(text: &str) -> Response {
    ([("content-type", "text/event-stream")], text.to_owned()).into_response()
}
