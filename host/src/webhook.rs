//! Webhooks after the Standard Webhooks specification: tells endpoints what became of runs and approvals.
//!
//! The store writes what is to be told in the transaction of the event (`store/outbox.rs`); here it is
//! delivered, at least once and always under the same id, in no promised order. Each endpoint has a task of
//! its own, so that one that hangs holds up nobody else. `webhook/endpoint.rs` is the configuration and the
//! signature, `webhook/delivery.rs` one attempt.

mod delivery;
mod endpoint;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::delivery::{Delivery, Verdict};
pub use self::endpoint::{Endpoint, EndpointError, Secret};
use crate::clock::Clock;
use crate::notice::NoticeKind;
use crate::store::{Store, StoreError, WebhookPrune};

/// Everything that is configured about webhooks.
#[derive(Clone, Debug, Default)]
pub struct Webhooks {
    pub endpoints: Vec<Endpoint>,
    /// How long before its expiry an approval is announced to be expiring; none = an hour.
    pub expiring_before: Option<Duration>,
}

/// How often due events and expiring approvals are looked for. What this process writes is seen at once.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Most requests to one endpoint at a time.
const AT_ONCE: u32 = 8;

/// Most approvals announced in one look.
const ANNOUNCE_BATCH: u32 = 100;

const EXPIRING_BEFORE: Duration = Duration::from_hours(1);

/// How long events are kept after they were delivered or given up.
const KEPT: Duration = Duration::from_hours(7 * 24);

const PRUNE_EVERY: Duration = Duration::from_mins(10);

const PRUNE_BATCH: u32 = 1_000;

/// Delivers until it is stopped.
pub struct Dispatcher {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Dispatcher {
    /// Begins to deliver what the store has and gets. Without endpoints only old events are forgotten.
    pub fn start(webhooks: &Webhooks, store: &Arc<dyn Store>, clock: &Clock) -> Result<Self, reqwest::Error> {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        for endpoint in &webhooks.endpoints {
            let lane = Lane {
                delivery: Delivery::new(endpoint.clone(), clock.clone())?,
                store: Arc::clone(store),
                clock: clock.clone(),
            };
            let stop = stop.clone();
            // What is under way when the server stops is delivered again by the next one.
            tasks.spawn(async move { stop.run_until_cancelled(lane.serve()).await });
        }
        let wanted = |endpoint: &Endpoint| endpoint.events.contains(&NoticeKind::ApprovalExpiring);
        if webhooks.endpoints.iter().any(wanted) {
            let before = webhooks.expiring_before.unwrap_or(EXPIRING_BEFORE);
            let (store, clock, stop) = (Arc::clone(store), clock.clone(), stop.clone());
            tasks.spawn(async move { stop.run_until_cancelled(announce(&*store, &clock, before)).await });
        }
        let served = webhooks.endpoints.iter().map(|endpoint| endpoint.id.clone()).collect();
        let (store, clock, stopped) = (Arc::clone(store), clock.clone(), stop.clone());
        tasks.spawn(async move { stopped.run_until_cancelled(prune(&*store, &clock, served)).await });
        tasks.close();
        Ok(Self { tasks, stop })
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

/// The task of one endpoint.
struct Lane {
    delivery: Delivery,
    store: Arc<dyn Store>,
    clock: Clock,
}

/// What one look at the outbox came to.
enum Look {
    Idle,
    /// There may be more.
    Busy,
    /// The endpoint wants nothing any more.
    Gone,
}

impl Lane {
    async fn serve(self) {
        let mut written = self.store.outbox_written();
        loop {
            match self.deliver_due().await {
                Ok(Look::Busy) => continue,
                Ok(Look::Idle) => {}
                Ok(Look::Gone) => {
                    tracing::warn!(
                        webhook.id = self.delivery.endpoint_id(),
                        "the endpoint answered 410 Gone: it gets nothing until this server starts again"
                    );
                    return;
                }
                Err(error) => tracing::error!(
                    error = &error as &dyn std::error::Error,
                    webhook.id = self.delivery.endpoint_id(),
                    "cannot read or write what is to be delivered; trying again"
                ),
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                changed = written.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }

    async fn deliver_due(&self) -> Result<Look, StoreError> {
        let due = self.store.due_webhooks(self.delivery.endpoint_id(), self.clock.now(), AT_ONCE).await?;
        if due.is_empty() {
            return Ok(Look::Idle);
        }
        let mut look = Look::Busy;
        for verdict in join_all(due.iter().map(|due| self.delivery.attempt(due))).await {
            let Verdict { attempt, gone } = verdict;
            self.store.webhook_attempted(attempt).await?;
            if gone {
                look = Look::Gone;
            }
        }
        Ok(look)
    }
}

/// Announces approvals that expire soon.
async fn announce(store: &dyn Store, clock: &Clock, before: Duration) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    loop {
        ticks.tick().await;
        let now = clock.now();
        if let Err(error) = store.announce_expiring(now, now.plus(before), ANNOUNCE_BATCH).await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "cannot announce expiring approvals; trying again"
            );
        }
    }
}

/// Forgets old events.
async fn prune(store: &dyn Store, clock: &Clock, served: Vec<String>) {
    let mut ticks = tokio::time::interval(PRUNE_EVERY);
    loop {
        ticks.tick().await;
        let before = clock.now().minus(KEPT);
        let prune = WebhookPrune { before, limit: PRUNE_BATCH, served: served.clone() };
        loop {
            match store.prune_webhooks(prune.clone()).await {
                Ok(gone) if gone >= u64::from(PRUNE_BATCH) => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "cannot forget old webhooks; trying again later"
                    );
                    break;
                }
            }
        }
    }
}
