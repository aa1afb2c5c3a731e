//! Posts what is due, one task for each endpoint, so that a slow one holds up no other.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Attempt, Delivery, Webhook};
use crate::clock::Clock;
use crate::outbound::{self, Reach};
use crate::store::{Store, StoreError};

/// How often to look for what is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);

const TIMEOUT: Duration = Duration::from_secs(10);

/// Most deliveries under way to one endpoint.
const AT_ONCE: usize = 4;

/// Most deliveries read in one look.
const BATCH: u32 = 64;

/// How long after each failed attempt to try again; after the last one never.
const BACKOFF: [Duration; 6] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_mins(2),
    Duration::from_mins(10),
    Duration::from_hours(1),
    Duration::from_hours(6),
];

/// How long deliveries are kept for the log; longer than all attempts take.
const KEEP: Duration = Duration::from_hours(7 * 24);

/// The tasks that deliver.
pub(crate) struct Dispatcher {
    tasks: TaskTracker,
    stop: CancellationToken,
}

struct Sender {
    webhook: Webhook,
    client: reqwest::Client,
    store: Arc<dyn Store>,
    clock: Clock,
}

impl Dispatcher {
    /// `warning` is how long before its expiry an approval is said to expire.
    pub(crate) fn start(
        webhooks: &[Webhook],
        warning: Duration,
        store: &Arc<dyn Store>,
        clock: &Clock,
    ) -> Result<Self, reqwest::Error> {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        for webhook in webhooks {
            let sender = Sender {
                client: outbound::client(Reach::allowing_private(webhook.allow_private), TIMEOUT)?,
                webhook: webhook.clone(),
                store: store.clone(),
                clock: clock.clone(),
            };
            let stop = stop.clone();
            // What is dropped half-way is sent again at the next start.
            tasks.spawn(async move { stop.run_until_cancelled(sender.run()).await });
        }
        if !webhooks.is_empty() {
            let (store, clock, stop) = (store.clone(), clock.clone(), stop.clone());
            tasks.spawn(async move { stop.run_until_cancelled(keep_house(store, clock, warning)).await });
        }
        tasks.close();
        Ok(Self { tasks, stop })
    }

    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

/// Warns of approvals that expire soon, and forgets old deliveries.
async fn keep_house(store: Arc<dyn Store>, clock: Clock, warning: Duration) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    loop {
        ticks.tick().await;
        let now = clock.now();
        let warned = store.warn_of_expiry(now, now.plus(warning)).await;
        let pruned = store.prune_deliveries(now.minus(KEEP)).await;
        for error in [warned.err(), pruned.err()].into_iter().flatten() {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "cannot look after webhook deliveries; trying again");
        }
    }
}

impl Sender {
    async fn run(self) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        loop {
            ticks.tick().await;
            if let Err(error) = self.deliver_due().await {
                let error = &error as &dyn std::error::Error;
                tracing::error!(
                    error,
                    webhook = self.webhook.subscription.endpoint,
                    "cannot deliver; trying again"
                );
            }
        }
    }

    async fn deliver_due(&self) -> Result<(), StoreError> {
        loop {
            let due = self
                .store
                .due_deliveries(&self.webhook.subscription.endpoint, self.clock.now(), BATCH)
                .await?;
            if due.is_empty() {
                return Ok(());
            }
            let mut settled =
                stream::iter(due).map(|delivery| self.deliver(delivery)).buffer_unordered(AT_ONCE);
            while let Some(result) = settled.next().await {
                result?;
            }
        }
    }

    async fn deliver(&self, delivery: Delivery) -> Result<(), StoreError> {
        let answer = self.post(&delivery).await;
        let at = self.clock.now();
        let delivered = answer.as_ref().is_ok_and(reqwest::StatusCode::is_success);
        if let Err(error) = &answer {
            let error = error as &dyn std::error::Error;
            tracing::info!(error, webhook = delivery.endpoint, delivery.id, "a webhook was not delivered");
        }
        let failed_before = usize::try_from(delivery.attempts).unwrap_or(usize::MAX);
        let next = BACKOFF.get(failed_before).map(|wait| at.plus(*wait));
        let status = answer.ok().map(|status| status.as_u16());
        self.store.settle_delivery(&delivery.id, Attempt { at, delivered, status, next }).await
    }

    async fn post(&self, delivery: &Delivery) -> Result<reqwest::StatusCode, reqwest::Error> {
        let seconds = self.clock.now().as_millis().div_euclid(1000);
        let signature = self.webhook.secret.sign(&delivery.id, seconds, &delivery.body);
        let request = self
            .client
            .post(self.webhook.url.clone())
            .header("content-type", "application/json")
            .header("webhook-id", &delivery.id)
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", signature)
            .body(delivery.body.clone());
        // Nobody reads what it answers.
        Ok(request.send().await.map_err(reqwest::Error::without_url)?.status())
    }
}
