//! Who wants to know when a run's journal grows, or the outbox of webhooks.
//!
//! The writing task tells after each commit, whoever asked for the write and whether or not they still wait
//! for it. A watch carries no data, only that it is worth reading again: a slow watcher costs nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::id::RunId;

#[derive(Clone, Default)]
pub(super) struct Watchers {
    runs: Arc<Mutex<HashMap<RunId, watch::Sender<()>>>>,
    outbox: watch::Sender<()>,
}

/// Tells of each write of one run by this process, from its making on.
pub struct Watch {
    watchers: Watchers,
    run: RunId,
    written: watch::Receiver<()>,
}

impl Watchers {
    pub(super) fn watch(&self, run: &RunId) -> Watch {
        let written = self.lock().entry(run.clone()).or_default().subscribe();
        Watch { watchers: self.clone(), run: run.clone(), written }
    }

    pub(super) fn tell(&self, run: &RunId) {
        if let Some(written) = self.lock().get(run) {
            written.send_replace(());
        }
    }

    pub(super) fn watch_outbox(&self) -> OutboxWatch {
        OutboxWatch(self.outbox.subscribe())
    }

    pub(super) fn tell_outbox(&self) {
        self.outbox.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, watch::Sender<()>>> {
        // The map is consistent between any two statements that can panic.
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells of each write to the outbox of webhooks by this process, from its making on.
pub struct OutboxWatch(watch::Receiver<()>);

impl Watch {
    /// Waits until the run was written since the last call; at once where it already was.
    pub async fn written(&mut self) {
        changed(&mut self.written).await;
    }
}

impl OutboxWatch {
    /// Waits until something was written since the last call; at once where it already was.
    pub async fn written(&mut self) {
        changed(&mut self.0).await;
    }
}

async fn changed(written: &mut watch::Receiver<()>) {
    if written.changed().await.is_err() {
        // The store is gone: there is nothing to wait for.
        std::future::pending::<()>().await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watchers = self.watchers.lock();
        if watchers.get(&self.run).is_some_and(|written| written.receiver_count() == 1) {
            watchers.remove(&self.run);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn watches_hear_of_their_own_run_and_leave_nothing_behind() {
        let watchers = Watchers::default();
        let (one, two) = (RunId::from("1"), RunId::from("2"));
        watchers.tell(&one);
        let (mut first, mut second, mut other) =
            (watchers.watch(&one), watchers.watch(&one), watchers.watch(&two));
        assert_eq!(first.written().now_or_never(), None, "what was before it is not told");
        watchers.tell(&one);
        watchers.tell(&one);
        assert_eq!(first.written().now_or_never(), Some(()));
        assert_eq!(first.written().now_or_never(), None);
        drop(first);
        assert_eq!(second.written().now_or_never(), Some(()));
        assert_eq!(other.written().now_or_never(), None);
        drop((second, other));
        assert!(watchers.lock().is_empty());
    }
}
