//! A model that says who has come, and answers when a test lets it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use holdfast::model::{Model, ModelError, Request};
use holdfast::session::{Message, Reply};
use tokio::sync::{Semaphore, mpsc};

use super::script::say;

/// Answers every message with `re: ` and the message.
pub(crate) struct Gated {
    arrived: mpsc::UnboundedSender<Request>,
    open: Semaphore,
    inside: AtomicUsize,
    peak: AtomicUsize,
}

/// The requests in the order in which they came.
pub(crate) struct Arrivals(mpsc::UnboundedReceiver<Request>);

impl Gated {
    pub(crate) fn new() -> (Arc<Self>, Arrivals) {
        let (arrived, arrivals) = mpsc::unbounded_channel();
        let (inside, peak) = (AtomicUsize::new(0), AtomicUsize::new(0));
        (Arc::new(Self { arrived, open: Semaphore::new(0), inside, peak }), Arrivals(arrivals))
    }

    /// Lets so many requests be answered.
    pub(crate) fn answer(&self, requests: usize) {
        self.open.add_permits(requests);
    }

    pub(crate) fn answer_all(&self) {
        self.answer(1_000_000);
    }

    /// The most requests that were there at one time.
    pub(crate) fn peak(&self) -> usize {
        self.peak.load(Ordering::SeqCst)
    }
}

impl Arrivals {
    /// The message of the next request.
    pub(crate) async fn next(&mut self) -> String {
        messages(&self.next_request().await).pop().expect("a request has a message")
    }

    pub(crate) async fn next_request(&mut self) -> Request {
        let next = tokio::time::timeout(std::time::Duration::from_secs(30), self.0.recv());
        next.await.expect("a request comes").expect("the model is there")
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What was said, by whomever.
pub(crate) fn messages(request: &Request) -> Vec<String> {
    let text = |message: &Message| match message {
        Message::User { text, .. } | Message::Tool { text, .. } => text.clone(),
        Message::Assistant(reply) => reply.content.clone(),
    };
    request.messages.iter().map(text).collect()
}

/// Whoever drops the request leaves.
struct Inside<'a>(&'a AtomicUsize);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait::async_trait]
impl Model for Gated {
    async fn reply(&self, request: &Request) -> Result<Reply, ModelError> {
        let now = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
        let _inside = Inside(&self.inside);
        self.peak.fetch_max(now, Ordering::SeqCst);
        // A test that is over listens no more.
        let _ = self.arrived.send(request.clone());
        self.open.acquire().await.expect("the gate is never closed").forget();
        Ok(say(&format!("re: {}", messages(request).pop().unwrap_or_default())))
    }
}
