//! Drives runs: the only place where models, tools and the store meet.
//!
//! A [`Runner`] starts, decides, cancels and recovers runs. Whatever the caller waits for, there is one way
//! a run is driven (`runner/drive.rs`), in a task of its own, so that a client that leaves stops nothing.
//! Who may do what is checked before, in `http`.

mod allowance;
mod answer;
mod decide;
mod drive;
mod live;
mod presence;
mod queue;
mod recovery;
mod start;
mod tools;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::decide::{Choice, DecideError, DecideRequest, Targets};
use self::live::Live;
pub use self::live::Seat;
use self::presence::{Presence, Present};
use self::queue::Queue;
pub use self::queue::QueueSettings;
pub use self::start::{Admission, OnBusy, OnPaused, StartError};
use crate::audit::Actor;
use crate::budget::Budgets;
use crate::clock::Clock;
use crate::id::{Ids, RunId};
use crate::model::Models;
use crate::registry::Shelf;
use crate::run::{InvalidTransition, Run};
use crate::store::{Store, StoreError, WriteOff};

/// Cheap to clone; all clones drive the same runs.
#[derive(Clone)]
pub struct Runner {
    store: Arc<dyn Store>,
    models: Arc<Models>,
    registry: Shelf,
    clock: Clock,
    ids: Ids,
    budgets: Arc<Budgets>,
    presence: Presence,
    queue: Queue,
    live: Live,
    tasks: TaskTracker,
    /// Fires when the grace period is over: whatever still runs stops where its journal is.
    stop: CancellationToken,
    /// Fires when the server begins to shut down: no new work.
    draining: CancellationToken,
    /// Fires when nothing is driven any more: what is followed does not change before the next start.
    drained: CancellationToken,
}

/// What a [`Runner`] is made of.
pub struct Parts {
    pub store: Arc<dyn Store>,
    pub models: Arc<Models>,
    pub registry: Shelf,
    pub clock: Clock,
    pub ids: Ids,
    pub budgets: Arc<Budgets>,
    pub queue: QueueSettings,
}

impl Runner {
    pub fn new(parts: Parts) -> Self {
        Self {
            store: parts.store,
            models: parts.models,
            registry: parts.registry,
            clock: parts.clock,
            ids: parts.ids,
            budgets: parts.budgets,
            presence: Presence::default(),
            queue: Queue::new(parts.queue),
            live: Live::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            draining: CancellationToken::new(),
            drained: CancellationToken::new(),
        }
    }

    /// The run, once nobody in this process works on it or waits to: it is terminal or paused, or queued
    /// behind a paused one, unless the server is stopping.
    pub async fn settled(&self, id: &RunId) -> Result<Option<Run>, StoreError> {
        self.presence.wait_until_left(id).await;
        self.store.load(id).await
    }

    /// Ends the run in whatever state it is. The first end stays: cancelling a terminal run changes nothing.
    pub async fn cancel(&self, id: &RunId, by: impl Into<Actor>) -> Result<(), StoreError> {
        let by: Actor = by.into();
        let cancelled = self.change(id, |run| {
            let now = self.clock.now();
            // What was shown of a reply stays, and nothing more is shown.
            if let Some(partial) = self.live.close(id, run.version() + 1) {
                run.broke_off(partial, now)?;
            }
            run.cancel(by.clone(), now)
        });
        match cancelled.await {
            Err(error @ StoreError::Damaged(_)) => {
                self.write_off(id, &error, WriteOff::Cancelled(by)).await?;
            }
            result => result?,
        }
        // Only after the journal says so: a driver that has not noticed yet cannot save anything any more.
        self.presence.cancel(id);
        self.queue.leave(id);
        self.queue.changed();
        Ok(())
    }

    /// Ends a run by its row: its journal cannot be read.
    async fn write_off(&self, id: &RunId, why: &StoreError, end: WriteOff) -> Result<(), StoreError> {
        tracing::error!(error = why as &dyn std::error::Error, run.id = %id, ?end, "a run is written off");
        self.store.write_off(id, &end, self.clock.now()).await
    }

    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Refuses new work, gives runs `grace` to finish or pause, then drops what is left: those runs stay
    /// RUNNING in the store and are taken up by the next process.
    pub async fn drain(&self, grace: Duration) {
        self.draining.cancel();
        self.queue.leave_all();
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_err() {
            tracing::warn!(
                runs = self.presence.len(),
                "the grace period is over: leaving runs to the next start"
            );
            self.stop.cancel();
            self.tasks.wait().await;
        }
        self.drained.cancel();
    }

    /// Resolves when the server has stopped driving runs.
    pub async fn drained(&self) {
        self.drained.cancelled().await;
    }

    /// A seat from which the run is followed, to be taken before looking at its journal. Who takes one
    /// with `streaming` before the run is driven has its model stream.
    pub fn follow(&self, id: &RunId, streaming: bool) -> Seat {
        self.live.enter(id, streaming)
    }

    /// Applies a transition to the stored run, as often as somebody else wins the compare-and-set. A
    /// transition that is not legal any more is left out.
    async fn change(
        &self,
        id: &RunId,
        transition: impl Fn(&mut Run) -> Result<(), InvalidTransition>,
    ) -> Result<(), StoreError> {
        loop {
            let Some(mut run) = self.store.load(id).await? else { return Ok(()) };
            if transition(&mut run).is_err() {
                return Ok(());
            }
            match self.store.save(&mut run).await {
                Err(StoreError::Conflict) => {}
                result => return result,
            }
        }
    }

    fn spawn(&self, run: Run, present: Present) {
        let runner = self.clone();
        // Now, not in the task: whoever wants the run streamed may leave before that begins.
        let seat = self.live.enter_to_drive(&run.spec().id);
        self.tasks.spawn(async move {
            let _seat = seat;
            runner.drive(run, present).await;
        });
    }
}
