//! A receiver of webhooks that answers as a test says, and hands over what it got.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holdfast::notice::NoticeKind;
use holdfast::webhook::{Endpoint, Secret};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex as AsyncMutex, mpsc};

use super::process::HOOK_SECRET;

type Answer = dyn Fn(usize, &Delivered) -> Response + Send + Sync;

pub(crate) struct Receiver {
    /// To be given as `url`.
    pub(crate) url: String,
    got: AsyncMutex<mpsc::UnboundedReceiver<Delivered>>,
    server: tokio::task::JoinHandle<()>,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Delivered {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

#[derive(Clone)]
struct Shared {
    answer: Arc<Answer>,
    got: mpsc::UnboundedSender<Delivered>,
    count: Arc<Mutex<usize>>,
}

impl Receiver {
    /// `answer` gets the request and its number, from 1.
    pub(crate) async fn start(
        answer: impl Fn(usize, &Delivered) -> Response + Send + Sync + 'static,
    ) -> Self {
        let (sender, got) = mpsc::unbounded_channel();
        let shared = Shared { answer: Arc::new(answer), got: sender, count: Arc::default() };
        let router = Router::new().fallback(take).with_state(shared);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        Self { url, got: AsyncMutex::new(got), server }
    }

    /// One that takes everything.
    pub(crate) async fn content() -> Self {
        Self::start(|_, _| answer(204)).await
    }

    /// The next request, when it comes.
    pub(crate) async fn next(&self) -> Delivered {
        let mut got = self.got.lock().await;
        let next = tokio::time::timeout(Duration::from_mins(1), got.recv());
        next.await.expect("a webhook comes within a minute").expect("the receiver lives")
    }

    /// Nothing has come that was not taken by [`Receiver::next`].
    pub(crate) async fn is_idle(&self) -> bool {
        self.got.lock().await.is_empty()
    }

    /// The configuration of this receiver: everything, without content.
    pub(crate) fn endpoint(&self, id: &str) -> Endpoint {
        Endpoint {
            id: id.to_owned(),
            url: self.url.parse().expect("a URL"),
            secret: Secret::parse(HOOK_SECRET).expect("a secret"),
            events: NoticeKind::ALL.to_vec(),
            org: None,
            allow_private: true,
            include_content: false,
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Delivered {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub(crate) fn id(&self) -> &str {
        self.header("webhook-id")
    }

    /// The body, if it is signed with [`HOOK_SECRET`].
    pub(crate) fn verified(&self) -> Value {
        let key = STANDARD.decode(HOOK_SECRET.trim_start_matches("whsec_")).expect("base64");
        let signed = format!("{}.{}.{}", self.id(), self.header("webhook-timestamp"), self.text);
        let expected = format!("v1,{}", STANDARD.encode(hmac_sha256(&key, signed.as_bytes())));
        assert_eq!(self.header("webhook-signature"), expected);
        serde_json::from_str(&self.text).expect("JSON")
    }

    /// When it was sent, in seconds.
    pub(crate) fn timestamp(&self) -> i64 {
        self.header("webhook-timestamp").parse().expect("a number")
    }

    /// The run that it tells of.
    pub(crate) fn run(&self) -> Value {
        self.verified()["data"]["runId"].clone()
    }

    /// The body's type.
    pub(crate) fn kind(&self) -> String {
        self.verified()["type"].as_str().expect("a type").to_owned()
    }
}

/// RFC 2104, written out: what the server uses must not check itself.
fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    assert!(key.len() <= 64, "longer keys are hashed first");
    let pad =
        |with: u8| -> Vec<u8> { (0..64).map(|index| key.get(index).copied().unwrap_or(0) ^ with).collect() };
    let inner = Sha256::digest([pad(0x36).as_slice(), message].concat());
    Sha256::digest([pad(0x5c).as_slice(), &inner].concat()).to_vec()
}

/// A response without a body.
pub(crate) fn answer(status: u16) -> Response {
    Response::builder().status(status).body(axum::body::Body::empty()).expect("a response")
}

pub(crate) fn answer_with(status: u16, header: &str, value: &str) -> Response {
    let response = Response::builder().status(status).header(header, value);
    response.body(axum::body::Body::empty()).expect("a response")
}

async fn take(State(shared): State<Shared>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let text = String::from_utf8(body.to_vec()).expect("text");
    let delivered = Delivered { path: uri.path().to_owned(), headers, text };
    let number = {
        let mut count = shared.count.lock().expect("no test panics in here");
        *count += 1;
        *count
    };
    let response = (shared.answer)(number, &delivered);
    // The test may be over.
    let _ = shared.got.send(delivered);
    response
}
