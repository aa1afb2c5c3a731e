//! What happens without anybody asking: taking up the runs of a process that is gone, expiring approvals
//! that nobody decided, and forgetting old idempotency keys.

use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};

use super::Runner;
use crate::id::{RunId, UserId};
use crate::run::RunStatus;
use crate::store::{CLAIM_AGE, StoreError};
use crate::tool::{Decided, Decision};

/// Runs whose journals are read at once when a process starts.
const TAKEN_UP_AT_ONCE: usize = 64;

/// How often expired approvals are looked for.
const EXPIRY_EVERY: Duration = Duration::from_secs(5);

/// Most approvals expired in one look.
const EXPIRY_BATCH: u32 = 100;

impl Runner {
    /// Takes up every run that the store says is RUNNING. Called once, before requests are served: the
    /// database has one owner, so nobody else drives them.
    pub async fn recover(&self) -> Result<usize, StoreError> {
        let runs = self.store.running().await?;
        let found = runs.len();
        let mut taken_up = stream::iter(runs).map(|id| self.take_up(id)).buffer_unordered(TAKEN_UP_AT_ONCE);
        while let Some(result) = taken_up.next().await {
            result?;
        }
        Ok(found)
    }

    async fn take_up(&self, id: RunId) -> Result<(), StoreError> {
        let present = self.presence.enter(&id);
        // A run whose journal cannot be read must not keep the others from going on.
        let mut run = match self.store.load(&id).await {
            Ok(Some(run)) => run,
            Ok(None) => return Ok(()),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, run.id = %id, "cannot take up a run");
                return Ok(());
            }
        };
        if run.claim(self.clock.now()).is_ok() {
            self.store.save(&mut run).await?;
            self.spawn(run, present);
        }
        Ok(())
    }

    /// Expires approvals, and forgets idempotency keys, until the server stops.
    pub async fn expire_forever(&self) {
        let mut ticks = tokio::time::interval(EXPIRY_EVERY);
        loop {
            tokio::select! {
                () = self.draining.cancelled() => return,
                _ = ticks.tick() => {}
            }
            if let Err(error) = self.expire_due().await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "cannot expire approvals; trying again"
                );
            }
            // A key that is not pruned yet counts as unknown all the same.
            if let Err(error) = self.store.prune_claims(self.clock.now().minus(CLAIM_AGE)).await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "cannot forget old idempotency keys; trying again"
                );
            }
        }
    }

    /// Expires what is due now.
    pub async fn expire_due(&self) -> Result<(), StoreError> {
        for (run, _) in self.store.expired(self.clock.now(), EXPIRY_BATCH).await? {
            self.expire(&run).await?;
        }
        Ok(())
    }

    /// Rejects the run's overdue approvals in the system's name; the run goes on when none is pending.
    pub(super) async fn expire(&self, id: &RunId) -> Result<(), StoreError> {
        loop {
            let present = self.presence.enter(id);
            let Some(mut run) = self.store.load(id).await? else { return Ok(()) };
            let now = self.clock.now();
            let overdue = run.pending().iter().filter(|approval| approval.expires_at <= now);
            let by = UserId::from("system");
            let expired: Vec<Decided> = overdue
                .map(|a| Decided {
                    approval_id: a.id.clone(),
                    decision: Decision::Expire,
                    by: by.clone(),
                    key: None,
                })
                .collect();
            if expired.is_empty() || run.decide(expired, now).is_err() {
                return Ok(());
            }
            match self.store.save(&mut run).await {
                Ok(()) if *run.status() == RunStatus::Running => {
                    self.spawn(run, present);
                    return Ok(());
                }
                Err(StoreError::Conflict) => {}
                result => return result,
            }
        }
    }
}
