//! Follows a run: what its journal says first, then the reply under way, then whatever comes.
//!
//! Pulled by the client: a follower holds its place, the run as folded so far and a few events, and reads
//! on when the client has taken what it had. So a slow client makes nobody wait and nothing grow.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::cursor::Cursor;
use super::frame::{Frame, Told, Word, under_way};
use crate::event::{Recorded, RunEvent};
use crate::id::{ApprovalId, RunId};
use crate::run::{DamagedJournal, RunStatus};
use crate::runner::{Runner, Seat};
use crate::store::{Store, StoreError, Watch};

/// Most events read at once.
const BATCH: u32 = 16;

/// Where a stream begins.
pub(super) enum From {
    After(Cursor),
    /// With the first decision on one of these.
    Decision(Vec<ApprovalId>),
}

pub(super) struct Follower {
    run: RunId,
    runner: Runner,
    store: Arc<dyn Store>,
    seat: Seat,
    written: Watch,
    from: From,
    /// Ends where the run waits for a human, too.
    until_rest: bool,
    told: Told,
    events: VecDeque<Recorded>,
    frames: VecDeque<Frame>,
    /// Frames of the next event that the client has.
    shown: usize,
    server_stops: bool,
    ended: bool,
    /// Sent when the stream has ended; dropped unsent when the client left first.
    complete: Option<oneshot::Sender<()>>,
}

impl Follower {
    pub(super) fn new(runner: &Runner, store: &Arc<dyn Store>, run: RunId, seat: Seat, from: From) -> Self {
        let shown = match &from {
            From::After(cursor) => cursor.frames,
            From::Decision(_) => 0,
        };
        Self {
            written: store.watch(&run),
            run,
            runner: runner.clone(),
            store: Arc::clone(store),
            seat,
            from,
            until_rest: false,
            told: Told::default(),
            events: VecDeque::new(),
            frames: VecDeque::new(),
            shown,
            server_stops: false,
            ended: false,
            complete: None,
        }
    }

    pub(super) fn until_rest(mut self) -> Self {
        self.until_rest = true;
        self
    }

    /// Whoever holds the other end learns whether the client left first.
    pub(super) fn completing(mut self, complete: oneshot::Sender<()>) -> Self {
        self.complete = Some(complete);
        self
    }

    /// The next frame; none = the stream has ended.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        let frame = if self.ended { None } else { self.find().await };
        self.ended = match frame.as_ref().map(|frame| frame.event) {
            None | Some(Word::Stop | Word::Cancelled) => true,
            Some(Word::Paused) => self.until_rest,
            Some(_) => false,
        };
        if self.ended
            && let Some(complete) = self.complete.take()
        {
            // Nobody listens where leaving means nothing.
            let _ = complete.send(());
        }
        frame
    }

    async fn find(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Some(frame);
            }
            match self.read_on().await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::error!(error, run.id = %self.run, "a stream ends early");
                    return None;
                }
            }
            if self.look_at_reply() || self.say_where_it_rests() {
                continue;
            }
            if self.server_stops || self.told.run().is_none_or(|run| run.status().is_terminal()) {
                return None;
            }
            tokio::select! {
                () = self.written.written() => {}
                () = self.seat.grown() => {}
                () = self.runner.drained() => self.server_stops = true,
            }
        }
    }

    /// Takes in one event. False = the journal holds no more.
    async fn read_on(&mut self) -> Result<bool, StoreError> {
        if self.events.is_empty() {
            let events = self.store.events_after(&self.run, self.told.seq(), BATCH).await?;
            self.events = events.into();
        }
        let Some(recorded) = self.events.pop_front() else {
            if let From::Decision(_) = self.from {
                self.from = From::After(Cursor::after(self.told.seq()));
            }
            return Ok(false);
        };
        let damaged = |error: DamagedJournal| StoreError::Damaged(error.to_string());
        if self.is_before(&recorded) {
            self.told.follow(&recorded).map_err(damaged)?;
            return Ok(true);
        }
        let frames = self.told.tell(&recorded).map_err(damaged)?;
        let mut shown = std::mem::take(&mut self.shown);
        if shown > frames.len() {
            // What was shown was a reply that never came to its end.
            self.frames.push_back(Frame::discarded(recorded.seq, recorded.at));
            shown = 0;
        }
        self.frames.extend(frames.into_iter().skip(shown));
        Ok(true)
    }

    /// The event lies before the place where the stream begins.
    fn is_before(&mut self, recorded: &Recorded) -> bool {
        match (&self.from, &recorded.event) {
            (From::After(cursor), _) => recorded.seq <= cursor.seq,
            (From::Decision(ids), RunEvent::Decided(decided)) if ids.contains(&decided.approval_id) => {
                self.from = From::After(Cursor::after(recorded.seq - 1));
                false
            }
            (From::Decision(_), _) => true,
        }
    }

    /// False = there is nothing new of it.
    fn look_at_reply(&mut self) -> bool {
        let seq = self.told.seq();
        if matches!(self.from, From::After(cursor) if cursor.seq > seq) {
            return false;
        }
        let pieces = self.seat.pieces(seq + 1, self.shown);
        self.frames.extend(under_way(seq + 1, self.shown, &pieces));
        self.shown += pieces.len();
        !pieces.is_empty()
    }

    /// A decision that leaves others pending has no pause of its own in the journal.
    fn say_where_it_rests(&mut self) -> bool {
        match self.told.run() {
            Some(run) if self.until_rest && matches!(run.status(), RunStatus::Paused { .. }) => {
                self.frames.push_back(Frame::paused(run, run.times().updated));
                true
            }
            Some(_) | None => false,
        }
    }
}
