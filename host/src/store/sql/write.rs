//! How a method hands its write to the writer, and waits for what came of it.

use std::sync::PoisonError;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use super::{Access, SqlStore};
use crate::notice::Subscription;
use crate::run::Run;
use crate::store::dialect::Dialect;
use crate::store::row::RunChange;
use crate::store::writer::{Reply, Write};
use crate::store::{Claim, KeyClaim, StoreError};

impl<D: Dialect> SqlStore<D> {
    pub(super) fn queue(&self) -> std::sync::MutexGuard<'_, Option<mpsc::Sender<Write>>> {
        // What it guards is one assignment: it is whole whatever its holder died of.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn write<T>(&self, write: impl FnOnce(Reply<T>) -> Write) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let queue = self.queue().clone().ok_or(StoreError::Closed)?;
        queue.send(write(reply)).await.map_err(|_| StoreError::Closed)?;
        drop(queue);
        answer.await.map_err(|_| StoreError::Closed)?
    }

    pub(super) fn subscriptions(&self) -> &[Subscription] {
        self.subscriptions.get().map_or(&[], Vec::as_slice)
    }

    /// The run's new events are written.
    pub(super) fn written(&self, run: &mut Run, since: Instant) {
        if let Some(observer) = self.observer.get() {
            observer(run, since.elapsed());
        }
        run.saved();
    }

    pub(super) fn check_owner(&self) -> Result<(), StoreError> {
        match self.access {
            Access::Owner => Ok(()),
            Access::Shared => Err(StoreError::Shared),
        }
    }

    pub(super) async fn save_with(
        &self,
        run: &mut Run,
        claim: Option<&KeyClaim>,
    ) -> Result<Claim, StoreError> {
        self.check_owner()?;
        let since = Instant::now();
        let change = Box::new(RunChange::of(run, self.subscriptions())?);
        let claim = claim.cloned();
        let claim = self.write(|reply| Write::Save(change, claim, reply)).await?;
        if claim == Claim::New {
            self.written(run, since);
        }
        Ok(claim)
    }
}
