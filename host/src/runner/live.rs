//! What is not in the journal yet: the reply under way of each run that somebody streams.
//!
//! The journal gets a reply as a whole. Until then its pieces are here, once, whoever reads them: readers
//! hold a cursor and fetch what is behind it, so a slow one slows nobody, and what is kept is bounded by
//! one reply a run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::id::RunId;
use crate::model::Piece;
use crate::session::{Chunk, ChunkOf, Reply};

#[derive(Clone, Default)]
pub(super) struct Live(Arc<Mutex<HashMap<RunId, Slot>>>);

#[derive(Default)]
struct Slot {
    seats: usize,
    streaming: usize,
    draft: Draft,
    grown: watch::Sender<()>,
}

/// The reply under way.
#[derive(Default)]
struct Draft {
    /// The event that it will be.
    seq: u64,
    pieces: Vec<Piece>,
    /// It ended otherwise: what still comes is not shown.
    closed: bool,
}

/// Somebody drives or follows the run as long as this lives.
pub struct Seat {
    live: Live,
    run: RunId,
    streaming: bool,
    grown: watch::Receiver<()>,
}

impl Live {
    /// `streaming` = the model is to be asked to stream.
    pub(super) fn enter(&self, run: &RunId, streaming: bool) -> Seat {
        let mut slots = self.lock();
        let slot = slots.entry(run.clone()).or_default();
        slot.seats += 1;
        slot.streaming += usize::from(streaming);
        Seat { live: self.clone(), run: run.clone(), streaming, grown: slot.grown.subscribe() }
    }

    /// A seat for the run's driver: it streams to its end if somebody wants that now.
    pub(super) fn enter_to_drive(&self, run: &RunId) -> Seat {
        let streaming = self.is_streamed(run);
        self.enter(run, streaming)
    }

    pub(super) fn is_streamed(&self, run: &RunId) -> bool {
        self.lock().get(run).is_some_and(|slot| slot.streaming > 0)
    }

    /// A reply begins that will be event `seq`.
    pub(super) fn begin(&self, run: &RunId, seq: u64) {
        if let Some(slot) = self.lock().get_mut(run) {
            slot.draft = Draft { seq, pieces: Vec::new(), closed: false };
        }
    }

    pub(super) fn show(&self, run: &RunId, piece: Piece) {
        if let Some(slot) = self.lock().get_mut(run)
            && !slot.draft.closed
        {
            slot.draft.pieces.push(piece);
            slot.grown.send_replace(());
        }
    }

    /// The journal has everything up to event `seq`: what of it is here is not needed any more.
    pub(super) fn saved(&self, run: &RunId, seq: u64) {
        if let Some(slot) = self.lock().get_mut(run)
            && slot.draft.seq <= seq
        {
            slot.draft = Draft::default();
        }
    }

    /// Ends the reply that would have been event `seq`, and returns what was shown of it. Nothing is shown
    /// afterwards: what the journal then says was shown, was.
    pub(super) fn close(&self, run: &RunId, seq: u64) -> Option<Reply> {
        let mut slots = self.lock();
        let draft = slots.get_mut(run).map(|slot| &mut slot.draft).filter(|draft| draft.seq == seq)?;
        draft.closed = true;
        (!draft.pieces.is_empty()).then(|| joined(&draft.pieces))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, Slot>> {
        // The map is consistent between any two statements that can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn joined(pieces: &[Piece]) -> Reply {
    let mut reply = Reply::default();
    for Piece { of, text, at } in pieces {
        reply.chunks.push(Chunk { of: *of, bytes: text.len(), at: *at });
        match of {
            ChunkOf::Content => reply.content.push_str(text),
            ChunkOf::Reasoning => reply.reasoning.get_or_insert_default().push_str(text),
        }
    }
    reply
}

impl Seat {
    /// The pieces of the reply that will be event `seq`, after the first `shown`.
    pub fn pieces(&self, seq: u64, shown: usize) -> Vec<Piece> {
        let slots = self.live.lock();
        let draft = slots.get(&self.run).map(|slot| &slot.draft).filter(|draft| draft.seq == seq);
        draft.and_then(|draft| draft.pieces.get(shown..)).unwrap_or_default().to_vec()
    }

    /// Waits until there are more pieces than at the last call; at once where there already are.
    pub async fn grown(&mut self) {
        if self.grown.changed().await.is_err() {
            // The sender lives as long as a seat does; without it there is nothing to wait for.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut slots = self.live.lock();
        if let Some(slot) = slots.get_mut(&self.run) {
            slot.seats -= 1;
            slot.streaming -= usize::from(self.streaming);
            if slot.seats == 0 {
                slots.remove(&self.run);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    fn piece(text: &str) -> Piece {
        Piece { of: ChunkOf::Content, text: text.into(), at: Timestamp::from_millis(1) }
    }

    #[test]
    fn readers_fetch_what_is_behind_their_cursor() {
        let live = Live::default();
        let run = RunId::from("r");
        let (driver, reader) = (live.enter_to_drive(&run), live.enter(&run, false));
        live.begin(&run, 2);
        live.show(&run, piece("a"));
        live.show(&run, piece("b"));
        assert_eq!(reader.pieces(2, 1), [piece("b")]);
        assert_eq!((reader.pieces(3, 0), reader.pieces(2, 7)), (vec![], vec![]));
        live.begin(&run, 5);
        assert_eq!(reader.pieces(2, 0), [], "one reply at a time");
        live.show(&run, piece("c"));
        live.saved(&run, 4);
        assert_eq!(reader.pieces(5, 0), [piece("c")]);
        live.saved(&run, 5);
        assert_eq!(reader.pieces(5, 0), [], "the journal has it");
        drop((driver, reader));
        assert!(live.lock().is_empty());
    }

    #[test]
    fn a_closed_reply_grows_no_more() {
        let live = Live::default();
        let run = RunId::from("r");
        let seat = live.enter(&run, true);
        live.begin(&run, 2);
        assert_eq!(live.close(&run, 2), None, "nothing was shown");
        live.begin(&run, 2);
        live.show(&run, piece("a"));
        assert_eq!(live.close(&run, 3), None, "that is another reply");
        let partial = live.close(&run, 2).unwrap();
        live.show(&run, piece("b"));
        assert_eq!((partial.content.as_str(), partial.chunks.len(), seat.pieces(2, 0).len()), ("a", 1, 1));
    }

    #[test]
    fn a_run_is_streamed_to_its_rest_once_somebody_wanted_it() {
        let live = Live::default();
        let run = RunId::from("r");
        let client = live.enter(&run, true);
        let driver = live.enter_to_drive(&run);
        drop(client);
        assert!(live.is_streamed(&run));
        drop(driver);
        assert!(!live.is_streamed(&run));
    }
}
