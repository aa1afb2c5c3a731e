//! A reply that is shown while it comes: what a model puts in, what is shown of it, and the record of both.

use std::sync::Arc;

use tokio::sync::Notify;

use super::splitter::Splitter;
use crate::clock::{Clock, Timestamp};
use crate::session::{Chunk, ChunkOf, Reply};

/// One piece of a reply as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub of: ChunkOf,
    pub text: Arc<str>,
    pub at: Timestamp,
}

/// Takes the pieces of a reply from a [`Model`](super::Model) that streams.
///
/// What is shown, put together, is what the reply says: the clean-up of `thinking` happens
/// before anything is shown.
pub struct Deltas {
    clock: Clock,
    show: Box<dyn FnMut(Piece) + Send>,
    splitter: Splitter,
    shown: Reply,
    progress: Arc<Notify>,
}

impl Deltas {
    pub fn new(clock: Clock, show: impl FnMut(Piece) + Send + 'static) -> Self {
        Self {
            clock,
            show: Box::new(show),
            splitter: Splitter::default(),
            shown: Reply::default(),
            progress: Arc::default(),
        }
    }

    pub fn content(&mut self, text: &str) {
        let pieces = self.splitter.content(text);
        self.put(pieces);
    }

    /// What the provider itself calls reasoning.
    pub fn reasoning(&mut self, text: &str) {
        let pieces = self.splitter.reasoning(text);
        self.put(pieces);
    }

    /// Something came that is not shown, such as a piece of a tool call.
    pub fn alive(&self) {
        self.progress.notify_one();
    }

    /// Hears of every sign of life.
    pub(super) fn progress(&self) -> Arc<Notify> {
        Arc::clone(&self.progress)
    }

    /// Something was shown: this reply cannot be asked for again.
    pub(super) fn begun(&self) -> bool {
        !self.shown.chunks.is_empty()
    }

    /// Forgets what was held back of an attempt that failed.
    pub(super) fn restart(&mut self) {
        self.splitter = Splitter::default();
    }

    /// The reply as it was shown; none = it came as a whole.
    pub(super) fn finish(&mut self, reply: Reply) -> Option<Reply> {
        let pieces = self.splitter.finish();
        self.put(pieces);
        let Reply { content, reasoning, chunks, .. } = std::mem::take(&mut self.shown);
        (!chunks.is_empty()).then_some(Reply { content, reasoning, chunks, ..reply })
    }

    fn put(&mut self, pieces: Vec<(ChunkOf, String)>) {
        self.progress.notify_one();
        for (of, text) in pieces {
            let at = self.clock.now();
            self.shown.chunks.push(Chunk { of, bytes: text.len(), at });
            match of {
                ChunkOf::Content => self.shown.content.push_str(&text),
                ChunkOf::Reasoning => self.shown.reasoning.get_or_insert_default().push_str(&text),
            }
            (self.show)(Piece { of, text: text.into(), at });
        }
    }
}
