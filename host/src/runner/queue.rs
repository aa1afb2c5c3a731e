//! Who may start when: runs that wait for a worker, or for their turn in their session.
//!
//! The queue itself is in the store, so it survives whatever happens to the process. One task looks for
//! runs that may start, takes each with a compare-and-set, and lets it be driven like any other. A worker
//! is a place, not a task: a run holds one while it is RUNNING, and none while it is paused.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::Runner;
use super::presence::Present;
use crate::id::{OrgId, RunId, SessionId};
use crate::run::{Run, RunStatus};
use crate::store::{Caps, QueueState, StoreError};

/// How often to look without having been told to.
const POLL: Duration = Duration::from_secs(5);

/// How much background work there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// Most background runs at work at once.
    pub workers: u32,
    /// Most of them of one agent that does not say itself.
    pub per_agent: u32,
    /// Most of them on one model.
    pub per_model: u32,
    /// Most runs that wait.
    pub max_queued: u32,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self { workers: 8, per_agent: 4, per_model: 4, max_queued: 1000 }
    }
}

#[derive(Clone)]
pub(super) struct Queue {
    pub(super) settings: QueueSettings,
    changed: Arc<Notify>,
    /// Callers wait for these runs: whoever waits for a run waits until nobody is present at it.
    awaited: Arc<Mutex<HashMap<RunId, Awaited>>>,
}

struct Awaited {
    session: SessionId,
    _present: Present,
}

impl Queue {
    pub(super) fn new(settings: QueueSettings) -> Self {
        Self { settings, changed: Arc::default(), awaited: Arc::default() }
    }

    /// A run was queued, or one that was in the way is not any more.
    pub(super) fn changed(&self) {
        self.changed.notify_one();
    }

    /// Lets callers wait for a run that nobody drives yet.
    pub(super) fn awaits(&self, run: &RunId, session: &SessionId, present: Present) {
        let awaited = Awaited { session: session.clone(), _present: present };
        self.lock().insert(run.clone(), awaited);
    }

    pub(super) fn leave(&self, run: &RunId) {
        let left = self.lock().remove(run);
        // Dropped here, after the lock.
        drop(left);
    }

    /// A run came to rest. Where it is paused, what waits behind it waits for humans: nobody should hold
    /// the line for that.
    pub(super) fn rested(&self, run: &Run) {
        if let RunStatus::Paused { .. } = run.status() {
            let session = &run.spec().session;
            let left: Vec<Awaited> = self
                .lock()
                .extract_if(|_, awaited| awaited.session == *session)
                .map(|(_, left)| left)
                .collect();
            drop(left);
        }
        self.changed();
    }

    /// Sends every caller home: the next process starts what is queued.
    pub(super) fn leave_all(&self) {
        let left = std::mem::take(&mut *self.lock());
        drop(left);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, Awaited>> {
        // The map is consistent between any two statements that can panic.
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Runner {
    /// Starts queued runs, now and until the server shuts down.
    pub fn work(&self) {
        let runner = self.clone();
        self.tasks.spawn(async move {
            let (mut turns, mut unreadable) = (Turns::default(), Vec::new());
            loop {
                // What changes while it looks makes it look again.
                if let Err(error) = runner.take_all(&mut turns, &mut unreadable).await {
                    let error: &dyn std::error::Error = &error;
                    tracing::error!(error, "cannot look for queued runs; trying again");
                }
                tokio::select! {
                    biased;
                    () = runner.draining.cancelled() => return,
                    () = runner.queue.changed.notified() => {}
                    () = tokio::time::sleep(POLL) => {}
                }
            }
        });
    }

    /// Runs that cannot be taken keep no others from starting. Those whose journals cannot be read are left to
    /// the next start; the rest are tried again at the next look.
    async fn take_all(&self, turns: &mut Turns, unreadable: &mut Vec<RunId>) -> Result<(), StoreError> {
        let mut skip = unreadable.clone();
        while !self.is_draining() {
            let Some(run) = self.next(turns, &skip).await? else { return Ok(()) };
            if let Err(error) = self.take(&run).await {
                tracing::error!(error = &error as &dyn std::error::Error, run.id = %run, "cannot start a run");
                if matches!(error, StoreError::Damaged(_)) {
                    unreadable.push(run.clone());
                }
                skip.push(run);
            }
        }
        Ok(())
    }

    async fn next(&self, turns: &mut Turns, skip: &[RunId]) -> Result<Option<RunId>, StoreError> {
        if let Some(run) = self.store.next_in_line(skip).await? {
            return Ok(Some(run));
        }
        let QueueSettings { workers, per_agent, per_model, .. } = self.queue.settings;
        let state = self.store.queue().await?;
        if state.at_work.iter().map(|(_, runs)| runs).sum::<u32>() >= workers {
            return Ok(None);
        }
        for org in turns.order(state) {
            let caps = Caps { per_agent, per_model };
            if let Some(run) = self.store.next_in_background(&org, caps, skip).await? {
                turns.had(org);
                return Ok(Some(run));
            }
        }
        Ok(None)
    }

    async fn take(&self, id: &RunId) -> Result<(), StoreError> {
        let present = self.presence.enter(id);
        let Some(mut run) = self.store.load(id).await? else { return Ok(()) };
        if run.start(self.clock.now()).is_err() {
            return Ok(());
        }
        match self.store.save(&mut run).await {
            Ok(()) => {
                // Callers now wait for whoever drives it.
                self.queue.leave(id);
                self.spawn(run, present);
                Ok(())
            }
            // Somebody cancelled it.
            Err(StoreError::Conflict) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Whose turn it is: who has the fewest runs at work, and of those who has waited longest since its last.
#[derive(Default)]
struct Turns {
    /// When each had its last turn; those that are not in the queue are forgotten.
    last: HashMap<OrgId, u64>,
    count: u64,
}

impl Turns {
    fn order(&mut self, state: QueueState) -> Vec<OrgId> {
        let QueueState { at_work, mut waiting } = state;
        self.last.retain(|org, _| waiting.contains(org));
        let at_work: HashMap<OrgId, u32> = at_work.into_iter().collect();
        waiting.sort_by_key(|org| (at_work.get(org).copied(), self.last.get(org).copied()));
        waiting
    }

    fn had(&mut self, org: OrgId) {
        self.count += 1;
        self.last.insert(org, self.count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orgs(names: &[&str]) -> Vec<OrgId> {
        names.iter().map(|name| OrgId::from(*name)).collect()
    }

    #[test]
    fn the_one_with_the_fewest_at_work_is_next_and_equals_take_turns() {
        let mut turns = Turns::default();
        let mut order = |at_work: &[(&str, u32)], waiting: &[&str]| {
            let at_work = at_work.iter().map(|(org, runs)| (OrgId::from(*org), *runs)).collect();
            let order = turns.order(QueueState { at_work, waiting: orgs(waiting) });
            turns.had(order[0].clone());
            order
        };
        assert_eq!(order(&[], &["a", "b", "c"]), orgs(&["a", "b", "c"]));
        assert_eq!(order(&[], &["a", "b", "c"]), orgs(&["b", "c", "a"]));
        assert_eq!(order(&[], &["a", "b", "c"]), orgs(&["c", "a", "b"]));
        assert_eq!(order(&[("a", 2), ("b", 1)], &["a", "b"]), orgs(&["b", "a"]));
        assert_eq!(order(&[], &["a", "b"]), orgs(&["a", "b"]), "c has left, a had its turn before b");
    }
}
