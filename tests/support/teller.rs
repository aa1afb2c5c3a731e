//! A scripted model that streams: each reply in pieces, each piece at its own time.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use holdfast::clock::Clock;
use holdfast::model::{Deltas, Model, ModelError, Request};
use holdfast::session::{Message, Reply};
use tokio::sync::Semaphore;

/// One reply.
#[derive(Clone, Default)]
pub(crate) struct Telling {
    thoughts: Vec<String>,
    words: Vec<String>,
    rest: Reply,
}

impl Telling {
    /// With the calls and figures of this reply.
    pub(crate) fn of(rest: Reply) -> Self {
        Self { rest, ..Self::default() }
    }

    /// With these pieces of reasoning.
    pub(crate) fn thinking<const N: usize>(mut self, thoughts: [&str; N]) -> Self {
        self.thoughts = thoughts.map(str::to_owned).to_vec();
        self
    }

    pub(crate) fn saying<const N: usize>(mut self, words: [&str; N]) -> Self {
        self.words = words.map(str::to_owned).to_vec();
        self
    }

    pub(crate) fn saying_all(mut self, words: Vec<String>) -> Self {
        self.words = words;
        self
    }
}

pub(crate) struct Teller {
    turns: Vec<Telling>,
    /// Moved on by each piece, so that no two have the same time.
    clock: OnceLock<Clock>,
    /// Each piece takes a permit first.
    gate: Option<Arc<Semaphore>>,
}

impl Teller {
    /// The n-th reply after a user's message is the n-th of `turns`; the last one repeats, and is what it
    /// says when asked for follow-up questions.
    pub(crate) fn new(turns: impl IntoIterator<Item = Telling>) -> Arc<Self> {
        Arc::new(Self { turns: turns.into_iter().collect(), clock: OnceLock::new(), gate: None })
    }

    pub(crate) fn gated(turns: impl IntoIterator<Item = Telling>, gate: &Arc<Semaphore>) -> Arc<Self> {
        let gate = Some(Arc::clone(gate));
        Arc::new(Self { turns: turns.into_iter().collect(), clock: OnceLock::new(), gate })
    }

    pub(crate) fn moves(&self, clock: &Clock) {
        self.clock.set(clock.clone()).expect("once");
    }

    fn turn(&self, request: &Request) -> Telling {
        if request.system.contains("follow-up questions") {
            return self.turns.last().expect("a script has a turn").clone();
        }
        let replied = request
            .messages
            .iter()
            .rev()
            .take_while(|message| !matches!(message, Message::User { .. }))
            .filter(|message| matches!(message, Message::Assistant(_)))
            .count();
        self.turns.get(replied).or(self.turns.last()).expect("a script has a turn").clone()
    }

    async fn wait(&self) {
        if let Some(gate) = &self.gate {
            gate.acquire().await.expect("the gate is never closed").forget();
        }
        if let Some(clock) = self.clock.get() {
            clock.advance(Duration::from_millis(7));
        }
    }
}

#[async_trait::async_trait]
impl Model for Teller {
    async fn reply(&self, request: &Request) -> Result<Reply, ModelError> {
        let Telling { thoughts, words, rest } = self.turn(request);
        let reasoning = (!thoughts.is_empty()).then(|| thoughts.concat());
        Ok(Reply { content: words.concat(), reasoning, ..rest })
    }

    async fn stream(&self, request: &Request, deltas: &mut Deltas) -> Result<Reply, ModelError> {
        let Telling { thoughts, words, rest } = self.turn(request);
        for thought in &thoughts {
            self.wait().await;
            deltas.reasoning(thought);
        }
        for word in &words {
            self.wait().await;
            deltas.content(word);
        }
        Ok(rest)
    }
}
