//! A model that follows a script: what it replies depends only on how far the conversation is, so that it
//! says the same after a restart and to callers side by side.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use holdfast::model::{Model, ModelError, Request};
use holdfast::session::{Message, Reply};
use holdfast::tool::ToolCall;
use tokio::sync::Semaphore;

#[derive(Default)]
pub(crate) struct Script {
    turns: Vec<Reply>,
    requests: Mutex<VecDeque<Request>>,
    /// Each reply takes a permit first.
    gate: Option<Arc<Semaphore>>,
}

impl Script {
    /// The n-th reply after a user's message is the n-th of `turns`; the last one repeats.
    pub(crate) fn new(turns: impl IntoIterator<Item = Reply>) -> Arc<Self> {
        Arc::new(Self { turns: turns.into_iter().collect(), ..Self::default() })
    }

    /// Replies wait for the gate's permits.
    pub(crate) fn gated(turns: impl IntoIterator<Item = Reply>, gate: &Arc<Semaphore>) -> Arc<Self> {
        let turns = turns.into_iter().collect();
        Arc::new(Self { turns, gate: Some(Arc::clone(gate)), ..Self::default() })
    }

    /// The requests so far, oldest first.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no test panics in here").iter().cloned().collect()
    }
}

#[async_trait::async_trait]
impl Model for Script {
    async fn reply(&self, request: &Request) -> Result<Reply, ModelError> {
        self.requests.lock().expect("no test panics in here").push_back(request.clone());
        if let Some(gate) = &self.gate {
            gate.acquire().await.expect("the gate is never closed").forget();
        }
        Ok(self.turns.get(replied(request)).or(self.turns.last()).expect("a script has a turn").clone())
    }
}

type Speak = dyn Fn(&Request) -> Result<Reply, ModelError> + Send + Sync;

/// A model that a closure speaks for; remembers what it was asked.
pub(crate) struct Speaker {
    speak: Box<Speak>,
    requests: Mutex<Vec<Request>>,
}

impl Speaker {
    pub(crate) fn new(
        speak: impl Fn(&Request) -> Result<Reply, ModelError> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { speak: Box::new(speak), requests: Mutex::default() })
    }

    /// The requests so far, oldest first.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no test panics in here").clone()
    }
}

#[async_trait::async_trait]
impl Model for Speaker {
    async fn reply(&self, request: &Request) -> Result<Reply, ModelError> {
        self.requests.lock().expect("no test panics in here").push(request.clone());
        (self.speak)(request)
    }
}

/// How many replies the model has given since the last user's message.
pub(crate) fn replied(request: &Request) -> usize {
    let since = request.messages.iter().rev().take_while(|message| !matches!(message, Message::User { .. }));
    since.filter(|message| matches!(message, Message::Assistant(_))).count()
}

/// The last user's message.
pub(crate) fn asked(request: &Request) -> String {
    let text = |message: &Message| match message {
        Message::User { text, .. } => Some(text.clone()),
        Message::Assistant(_) | Message::Tool { .. } => None,
    };
    request.messages.iter().rev().find_map(text).expect("a user's message")
}

/// A reply with one call.
pub(crate) fn call(name: &str, arguments: serde_json::Value) -> Reply {
    calls([(name, arguments)])
}

/// A reply with calls.
pub(crate) fn calls<const N: usize>(calls: [(&str, serde_json::Value); N]) -> Reply {
    let tool_calls = calls
        .into_iter()
        .enumerate()
        .map(|(index, (name, arguments))| ToolCall {
            id: format!("call-{}", index + 1).as_str().into(),
            name: name.to_owned(),
            arguments: arguments.to_string(),
        })
        .collect();
    Reply { tool_calls, ..Reply::default() }
}

/// The final reply.
pub(crate) fn say(text: &str) -> Reply {
    Reply { content: text.to_owned(), ..Reply::default() }
}
