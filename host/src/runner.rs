//! Drives runs: the only place where models, tools and the store meet.
//!
//! A [`Runner`] starts, decides, cancels and recovers runs. Whatever the caller waits for, there is one way
//! a run is driven (`runner/drive.rs`), in a task of its own, so that a client that leaves stops nothing.
//! Who may do what is checked before, in `http`.

mod answer;
mod decide;
mod drive;
mod presence;
mod recovery;
mod tools;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::decide::{Choice, DecideError, DecideRequest, Targets};
use self::presence::{Presence, Present};
use crate::clock::Clock;
use crate::event::NewRun;
use crate::id::{Ids, RunId, UserId};
use crate::model::Models;
use crate::registry::ToolRegistry;
use crate::run::{InvalidTransition, Run};
use crate::store::{Creation, KeyClaim, Store, StoreError};

/// Cheap to clone; all clones drive the same runs.
#[derive(Clone)]
pub struct Runner {
    store: Arc<dyn Store>,
    models: Arc<Models>,
    registry: Arc<ArcSwap<ToolRegistry>>,
    clock: Clock,
    ids: Ids,
    presence: Presence,
    tasks: TaskTracker,
    /// Fires when the grace period is over: whatever still runs stops where its journal is.
    stop: CancellationToken,
    /// Fires when the server begins to shut down: no new work.
    draining: CancellationToken,
}

/// What a [`Runner`] is made of.
pub struct Parts {
    pub store: Arc<dyn Store>,
    pub models: Arc<Models>,
    pub registry: Arc<ArcSwap<ToolRegistry>>,
    pub clock: Clock,
    pub ids: Ids,
}

/// Why a run did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the server is shutting down")]
    Draining,
    #[error("the session belongs to another user or agent")]
    ForeignSession,
    #[error("the idempotency key was used for another request")]
    KeyReused,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Runner {
    pub fn new(parts: Parts) -> Self {
        Self {
            store: parts.store,
            models: parts.models,
            registry: parts.registry,
            clock: parts.clock,
            ids: parts.ids,
            presence: Presence::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            draining: CancellationToken::new(),
        }
    }

    /// Stores the run and begins to drive it. Returns its id, or that of the run which the same
    /// idempotency key started before.
    pub async fn start(&self, new: NewRun, claim: Option<&KeyClaim>) -> Result<RunId, StartError> {
        if self.is_draining() {
            return Err(StartError::Draining);
        }
        let id = new.id.clone();
        let present = self.presence.enter(&id);
        let mut run = Run::new(new, self.clock.now());
        match self.store.create(&mut run, claim).await? {
            Creation::Created => self.spawn(run, present),
            Creation::Repeat(earlier) => return Ok(earlier),
            Creation::KeyReused => return Err(StartError::KeyReused),
            Creation::ForeignSession => return Err(StartError::ForeignSession),
        }
        Ok(id)
    }

    /// The run, once nobody in this process works on it any more: it is terminal or paused, unless the
    /// server is stopping.
    pub async fn settled(&self, id: &RunId) -> Result<Option<Run>, StoreError> {
        self.presence.wait_until_left(id).await;
        self.store.load(id).await
    }

    /// Ends the run in whatever state it is. The first end stays: cancelling a terminal run changes nothing.
    pub async fn cancel(&self, id: &RunId, by: &UserId) -> Result<(), StoreError> {
        self.change(id, |run| run.cancel(by.clone(), self.clock.now())).await?;
        // Only after the journal says so: a driver that has not noticed yet cannot save anything any more.
        self.presence.cancel(id);
        Ok(())
    }

    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Refuses new work, gives runs `grace` to finish or pause, then drops what is left: those runs stay
    /// RUNNING in the store and are taken up by the next process.
    pub async fn drain(&self, grace: Duration) {
        self.draining.cancel();
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_err() {
            tracing::warn!(
                runs = self.presence.len(),
                "the grace period is over: leaving runs to the next start"
            );
            self.stop.cancel();
            self.tasks.wait().await;
        }
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
        self.tasks.spawn(async move { runner.drive(run, present).await });
    }
}
