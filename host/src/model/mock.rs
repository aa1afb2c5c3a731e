//! A provider on this machine for tests: answers what it was told to, and remembers what it was asked.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::IntoResponse;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{Models, Provider, Request};

/// One answer of the mock.
#[derive(Clone)]
pub(super) struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
    delay: Duration,
}

impl Answer {
    pub(super) fn json(body: &Value) -> Self {
        Self::raw(200, "application/json", &body.to_string())
    }

    pub(super) fn error(status: u16, body: &Value) -> Self {
        Self::raw(status, "application/json", &body.to_string())
    }

    pub(super) fn raw(status: u16, content_type: &str, body: &str) -> Self {
        Self {
            status,
            headers: vec![("content-type", content_type.to_owned())],
            body: body.to_owned(),
            delay: Duration::ZERO,
        }
    }

    pub(super) fn with_header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(super) fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// A message of an OpenAI-compatible server, with usage.
    pub(super) fn message(message: &Value, finish_reason: &str) -> Self {
        Self::json(&json!({
            "model": "mock-1",
            "choices": [{"index": 0, "finish_reason": finish_reason, "message": message}],
            "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
        }))
    }

    pub(super) fn text(text: &str) -> Self {
        Self::message(&json!({"role": "assistant", "content": text}), "stop")
    }
}

/// What the mock was asked.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
}

#[derive(Default)]
struct Shared {
    answers: Mutex<VecDeque<Answer>>,
    asked: Mutex<Vec<Asked>>,
    arrived: Notify,
    dropped: Notify,
}

pub(super) struct MockProvider {
    shared: Arc<Shared>,
    address: std::net::SocketAddr,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for MockProvider {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl MockProvider {
    /// The last answer is repeated for ever.
    pub(super) async fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        let shared = Arc::new(Shared::default());
        shared.answers.lock().unwrap().extend(answers);
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { shared, address, server }
    }

    pub(super) fn provider(&self, path: &str) -> Provider {
        Provider {
            base_url: Some(format!("http://{}{path}", self.address).parse().unwrap()),
            ..Provider::default()
        }
    }

    /// Models with this server as provider `mock`.
    pub(super) fn models(&self) -> Models {
        models("mock", self.provider("/v1"))
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// Waits until a request has come in.
    pub(super) async fn arrived(&self) {
        self.shared.arrived.notified().await;
    }

    /// Waits until a client has gone away before its answer.
    pub(super) async fn dropped(&self) {
        self.shared.dropped.notified().await;
    }
}

pub(super) fn models(name: &str, provider: Provider) -> Models {
    Models::new([(name.to_owned(), provider)].into()).unwrap()
}

/// A request to `mock::m` with one user message.
pub(super) fn request(text: &str) -> Request {
    Request {
        model: "mock::m".parse().unwrap(),
        system: String::new(),
        messages: vec![crate::session::Message::User { text: text.to_owned(), media: Vec::new() }],
        tools: Vec::new(),
        temperature: None,
        top_p: None,
        max_tokens: None,
        response_schema: None,
    }
}

/// Tells of a client that left: hyper drops the handler's future then.
struct Departure(Arc<Shared>, bool);

impl Drop for Departure {
    fn drop(&mut self) {
        if !self.1 {
            self.0.dropped.notify_one();
        }
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> impl IntoResponse {
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let path = uri.path().to_owned();
    shared.asked.lock().unwrap().push(Asked { path, headers, body });
    shared.arrived.notify_one();
    let answer = {
        let mut answers = shared.answers.lock().unwrap();
        if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0].clone() }
    };
    let mut departure = Departure(Arc::clone(&shared), false);
    tokio::time::sleep(answer.delay).await;
    departure.1 = true;
    let mut headers = HeaderMap::new();
    for (name, value) in &answer.headers {
        headers.insert(*name, value.parse().unwrap());
    }
    (StatusCode::from_u16(answer.status).unwrap(), headers, answer.body)
}
