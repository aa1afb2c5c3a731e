//! Webhooks after the Standard Webhooks specification: tells endpoints what became of runs and approvals.
//!
//! The store writes what is to be told in the transaction of the event (`store/outbox.rs`); here it is
//! delivered, at least once and always under the same id, in no promised order. Each endpoint has a task of
//! its own (`webhook/lane.rs`), so that one that hangs holds up nobody else. `webhook/endpoint.rs` is the
//! configuration and the signature, `webhook/delivery.rs` one attempt.

mod delivery;
mod endpoint;
mod lane;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::delivery::Delivery;
pub use self::endpoint::{Endpoint, EndpointError, Secret};
use self::lane::Lane;
use crate::clock::Clock;
use crate::notice::NoticeKind;
use crate::store::{Store, StoreError, WebhookPrune};

/// Everything that is configured about webhooks.
#[derive(Clone, Debug, Default)]
pub struct Webhooks {
    pub endpoints: Vec<Endpoint>,
    /// How long before its expiry an approval is announced to be expiring.
    pub approval_warning: Duration,
}

/// How often retries that have become due and expiring approvals are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Most approvals announced in one look.
const ANNOUNCE_BATCH: u32 = 100;

/// How long events are kept after they were delivered or given up.
const KEPT: Duration = Duration::from_hours(7 * 24);

const PRUNE_EVERY: Duration = Duration::from_mins(10);

const PRUNE_BATCH: u32 = 1_000;

/// Delivers until it is stopped.
pub(crate) struct Dispatcher {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Dispatcher {
    /// Begins to deliver what the store has and gets. Without endpoints only old events are forgotten.
    pub(crate) fn start(
        webhooks: &Webhooks,
        store: &Arc<dyn Store>,
        clock: &Clock,
    ) -> Result<Self, reqwest::Error> {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        for endpoint in &webhooks.endpoints {
            let delivery = Delivery::new(endpoint.clone(), clock.clone())?;
            let lane = Lane::new(delivery, Arc::clone(store), clock.clone());
            let stop = stop.clone();
            // What is under way when the server stops is delivered again by the next one.
            tasks.spawn(async move { stop.run_until_cancelled(lane.serve()).await });
        }
        let wanted = |endpoint: &Endpoint| endpoint.events.contains(&NoticeKind::ApprovalExpiring);
        if webhooks.endpoints.iter().any(wanted) {
            let before = webhooks.approval_warning;
            let (store, clock, stop) = (Arc::clone(store), clock.clone(), stop.clone());
            tasks.spawn(
                async move { stop.run_until_cancelled(announce_forever(&*store, &clock, before)).await },
            );
        }
        let served = webhooks.endpoints.iter().map(|endpoint| endpoint.id.clone()).collect();
        let (store, clock, stopped) = (Arc::clone(store), clock.clone(), stop.clone());
        tasks.spawn(async move { stopped.run_until_cancelled(prune_forever(&*store, &clock, served)).await });
        tasks.close();
        Ok(Self { tasks, stop })
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

async fn announce_forever(store: &dyn Store, clock: &Clock, before: Duration) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    loop {
        ticks.tick().await;
        if let Err(error) = announce(store, clock, before).await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "cannot announce expiring approvals; trying again"
            );
        }
    }
}

async fn announce(store: &dyn Store, clock: &Clock, before: Duration) -> Result<(), StoreError> {
    let now = clock.now();
    let approvals = store.expiring(now, now.plus(before), ANNOUNCE_BATCH).await?;
    store.announce_expiring(&approvals, now).await?;
    Ok(())
}

async fn prune_forever(store: &dyn Store, clock: &Clock, served: Vec<String>) {
    let mut ticks = tokio::time::interval(PRUNE_EVERY);
    loop {
        ticks.tick().await;
        let before = clock.now().minus(KEPT);
        let prune = WebhookPrune { before, limit: PRUNE_BATCH, served: served.clone() };
        if let Err(error) = forget(store, prune).await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "cannot forget old webhooks; trying again later"
            );
        }
    }
}

async fn forget(store: &dyn Store, prune: WebhookPrune) -> Result<(), StoreError> {
    while store.prune_webhooks(prune.clone()).await? >= u64::from(prune.limit) {}
    Ok(())
}
