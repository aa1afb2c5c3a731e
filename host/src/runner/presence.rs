//! Who in this process works on which run.
//!
//! Everybody who drives a run, or is about to decide whether to, holds a [`Present`]. Waiting for a run
//! means waiting until nobody is present; cancelling it means telling those who are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::id::RunId;

#[derive(Clone, Default)]
pub(super) struct Presence(Arc<Mutex<HashMap<RunId, Slot>>>);

struct Slot {
    present: usize,
    /// Closed when the last one leaves.
    left: watch::Sender<()>,
    cancelled: CancellationToken,
}

/// Somebody works on the run as long as this lives.
pub(super) struct Present {
    presence: Presence,
    run: RunId,
    cancelled: CancellationToken,
}

impl Presence {
    pub(super) fn enter(&self, run: &RunId) -> Present {
        let mut slots = self.lock();
        let slot = slots.entry(run.clone()).or_insert_with(|| Slot {
            present: 0,
            left: watch::Sender::new(()),
            cancelled: CancellationToken::new(),
        });
        slot.present += 1;
        Present { presence: self.clone(), run: run.clone(), cancelled: slot.cancelled.clone() }
    }

    pub(super) async fn wait_until_left(&self, run: &RunId) {
        let left = self.lock().get(run).map(|slot| slot.left.subscribe());
        if let Some(mut left) = left {
            // Nothing is ever sent: this ends, with an error, when the slot is dropped.
            while left.changed().await.is_ok() {}
        }
    }

    pub(super) fn cancel(&self, run: &RunId) {
        if let Some(slot) = self.lock().get(run) {
            slot.cancelled.cancel();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, Slot>> {
        // The map is consistent between any two statements that can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Present {
    /// Fires when the run has been cancelled.
    pub(super) fn cancelled(&self) -> &CancellationToken {
        &self.cancelled
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        let mut slots = self.presence.lock();
        if let Some(slot) = slots.get_mut(&self.run) {
            slot.present -= 1;
            if slot.present == 0 {
                slots.remove(&self.run);
            }
        }
    }
}
