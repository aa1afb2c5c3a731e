//! What happens without anybody asking: taking up the runs of a process that is gone, expiring approvals
//! that nobody decided, and forgetting old idempotency keys.

use std::collections::HashSet;
use std::time::Duration;

use super::Runner;
use super::drive::internal;
use super::presence::Present;
use crate::id::{ApprovalId, RunId, UserId};
use crate::run::RunStatus;
use crate::store::{CLAIM_AGE, StoreError, WriteOff};
use crate::tool::{Decided, Decision};

/// Runs that a process which starts takes up in one [`PACE`]. Thousands at once would read their journals,
/// and then ask their models, all at the same time; how long each then takes holds up none behind it.
const TAKEN_UP_AT_ONCE: usize = 64;

const PACE: Duration = Duration::from_millis(100);

/// How often expired approvals are looked for.
const EXPIRY_EVERY: Duration = Duration::from_secs(5);

/// How often idempotency keys are forgotten. One that is too old counts as unknown without that.
const PRUNE_EVERY: Duration = Duration::from_mins(10);

/// Most approvals expired in one look.
const EXPIRY_BATCH: u32 = 100;

impl Runner {
    /// Takes up every run that the store says is RUNNING, one pace after the other, and says how many they
    /// are. Called once, before requests are served: the database has one owner, so nobody else drives them.
    pub async fn recover(&self) -> Result<usize, StoreError> {
        let runs = self.store.running().await?;
        let found = runs.len();
        for (place, id) in runs.into_iter().enumerate() {
            let turn = PACE * u32::try_from(place / TAKEN_UP_AT_ONCE).unwrap_or(u32::MAX);
            // Now, not at its turn: who asks for the run meanwhile waits for it, and a cancel finds it.
            let present = self.presence.enter(&id);
            let (runner, cancelled) = (self.clone(), present.cancelled().clone());
            self.tasks.spawn(async move {
                tokio::select! {
                    biased;
                    () = runner.draining.cancelled() => {}
                    () = cancelled.cancelled() => {}
                    () = tokio::time::sleep(turn) => runner.take_up(&id, present).await,
                }
            });
        }
        Ok(found)
    }

    /// A run that cannot be taken up is left to the next start, and keeps no other from going on. One whose
    /// journal is damaged cannot be read by that either: it ends here.
    async fn take_up(&self, id: &RunId, present: Present) {
        let claimed = async {
            let Some(mut run) = self.store.load(id).await? else { return Ok(None) };
            if run.claim(self.clock.now()).is_err() {
                return Ok(None);
            }
            match self.store.save(&mut run).await {
                Ok(()) => Ok(Some(run)),
                // Somebody cancelled it.
                Err(StoreError::Conflict) => Ok(None),
                Err(error) => Err(error),
            }
        };
        match claimed.await {
            Ok(Some(run)) => self.spawn(run, present),
            Ok(None) => {}
            Err(error @ StoreError::Damaged(_)) => {
                let ended = self.write_off(id, &error, WriteOff::Failed(internal())).await;
                self.queue.changed();
                if let Err(error) = ended {
                    tracing::error!(error = &error as &dyn std::error::Error, run.id = %id, "cannot end a run");
                }
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, run.id = %id, "cannot take up a run");
            }
        }
    }

    /// Expires approvals, and forgets idempotency keys, until the server stops.
    pub async fn expire_forever(&self) {
        let (mut ticks, mut prunes) =
            (tokio::time::interval(EXPIRY_EVERY), tokio::time::interval(PRUNE_EVERY));
        let mut unreadable = HashSet::new();
        loop {
            tokio::select! {
                () = self.draining.cancelled() => return,
                _ = ticks.tick() => {
                    if let Err(error) = self.expire_due(&mut unreadable).await {
                        tracing::error!(
                            error = &error as &dyn std::error::Error,
                            "cannot expire approvals; trying again"
                        );
                    }
                }
                _ = prunes.tick() => {
                    if let Err(error) = self.store.prune_claims(self.clock.now().minus(CLAIM_AGE)).await {
                        tracing::error!(
                            error = &error as &dyn std::error::Error,
                            "cannot forget old idempotency keys; trying again"
                        );
                    }
                }
            }
        }
    }

    /// Expires what is due now. Approvals of runs whose journals cannot be read are left to the next start:
    /// they keep no others from expiring, and are not tried again and again.
    async fn expire_due(&self, unreadable: &mut HashSet<ApprovalId>) -> Result<(), StoreError> {
        let known = u32::try_from(unreadable.len()).unwrap_or(u32::MAX);
        let due = self.store.expired(self.clock.now(), EXPIRY_BATCH.saturating_add(known)).await?;
        for (run, approval) in due {
            if unreadable.contains(&approval) {
                continue;
            }
            match self.expire(&run).await {
                Err(error @ StoreError::Damaged(_)) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::error!(error, run.id = %run, "cannot expire an approval; the next start tries again");
                    unreadable.insert(approval);
                }
                result => result?,
            }
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
