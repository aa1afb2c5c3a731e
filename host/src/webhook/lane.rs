//! The task of one endpoint: sends what is due, as soon as it is written.

use std::sync::Arc;

use futures_util::future::join_all;

use super::LOOK_EVERY;
use super::delivery::{Delivery, Verdict};
use crate::clock::Clock;
use crate::store::{DueWebhook, Store, StoreError};

/// Most requests to one endpoint at a time.
const AT_ONCE: u32 = 8;

pub(super) struct Lane {
    delivery: Delivery,
    store: Arc<dyn Store>,
    clock: Clock,
    /// It answered 410 Gone: it is sent nothing until a human wants it to be.
    gone: bool,
}

impl Lane {
    pub(super) fn new(delivery: Delivery, store: Arc<dyn Store>, clock: Clock) -> Self {
        Self { delivery, store, clock, gone: false }
    }

    pub(super) async fn serve(mut self) {
        // Made before the first look, so that nothing is written unseen between the two.
        let mut outbox = self.store.watch_outbox();
        loop {
            match self.deliver_due().await {
                Ok(0) => {}
                Ok(_) => continue,
                Err(error) => tracing::error!(
                    error = &error as &dyn std::error::Error,
                    webhook.id = self.delivery.endpoint_id(),
                    "cannot read or write what is to be delivered; trying again"
                ),
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = outbox.written() => {}
            }
        }
    }

    /// Returns how much was due.
    async fn deliver_due(&mut self) -> Result<usize, StoreError> {
        let due = self.store.due_webhooks(self.delivery.endpoint_id(), self.clock.now(), AT_ONCE).await?;
        let verdicts = join_all(due.iter().map(|due| self.deliver(due))).await;
        if let Some(gone) = verdicts.iter().filter_map(|verdict| verdict.gone).max() {
            self.note(gone);
        }
        for Verdict { attempt, .. } in verdicts {
            self.store.webhook_attempted(attempt).await?;
        }
        Ok(due.len())
    }

    async fn deliver(&self, due: &DueWebhook) -> Verdict {
        if self.gone && !due.by_hand {
            return self.delivery.withhold(due);
        }
        self.delivery.attempt(due).await
    }

    fn note(&mut self, gone: bool) {
        if gone && !self.gone {
            tracing::warn!(
                webhook.id = self.delivery.endpoint_id(),
                "the endpoint answered 410 Gone: it is sent nothing more until this server starts again or an admin \
                 redelivers an event to it"
            );
        }
        self.gone = gone;
    }
}
