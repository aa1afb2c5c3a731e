//! A store of kv values without quotas over several of them; everything else fails.

use std::collections::BTreeMap;
use std::sync::Mutex;

use tokio::sync::watch;

use crate::clock::Timestamp;
use crate::id::{ApprovalId, KeyId, RunId, SessionId};
use crate::key::ApiKey;
use crate::notice::Subscription;
use crate::run::Run;
use crate::session::{PastTurn, Session};
use crate::store::{Claim, Creation, KeyClaim, KvCondition, KvEntry, KvRefusal, KvSpace, Store, StoreError};
use crate::store::{DueWebhook, WebhookAttempt, WebhookDelivery, WebhookFilter, WebhookPrune};

#[derive(Default)]
pub(in crate::plugin) struct MemoryStore {
    values: Mutex<BTreeMap<String, KvEntry>>,
}

fn place(space: &KvSpace, key: &str) -> String {
    format!("{space:?} {key}")
}

type Answer<T> = Result<T, StoreError>;

#[async_trait::async_trait]
impl Store for MemoryStore {
    async fn create(&self, _: &mut Run, _: Option<&KeyClaim>) -> Answer<Creation> {
        Err(StoreError::Closed)
    }

    async fn save(&self, _: &mut Run) -> Answer<()> {
        Err(StoreError::Closed)
    }

    async fn save_claiming(&self, _: &mut Run, _: &KeyClaim) -> Answer<Claim> {
        Err(StoreError::Closed)
    }

    async fn load(&self, _: &RunId) -> Answer<Option<Run>> {
        Err(StoreError::Closed)
    }

    async fn find_claim(&self, _: &KeyClaim) -> Answer<Option<Claim>> {
        Err(StoreError::Closed)
    }

    async fn history(&self, _: &RunId, _: u32) -> Answer<Vec<PastTurn>> {
        Err(StoreError::Closed)
    }

    async fn session(&self, _: &SessionId) -> Answer<Option<Session>> {
        Err(StoreError::Closed)
    }

    async fn running(&self) -> Answer<Vec<RunId>> {
        Err(StoreError::Closed)
    }

    async fn expired(&self, _: Timestamp, _: u32) -> Answer<Vec<(RunId, ApprovalId)>> {
        Err(StoreError::Closed)
    }

    fn subscribe(&self, _: Vec<Subscription>) {}

    fn outbox_written(&self) -> watch::Receiver<()> {
        watch::Sender::new(()).subscribe()
    }

    async fn due_webhooks(&self, _: &str, _: Timestamp, _: u32) -> Answer<Vec<DueWebhook>> {
        Err(StoreError::Closed)
    }

    async fn webhook_attempted(&self, _: WebhookAttempt) -> Answer<()> {
        Err(StoreError::Closed)
    }

    async fn announce_expiring(&self, _: Timestamp, _: Timestamp, _: u32) -> Answer<()> {
        Err(StoreError::Closed)
    }

    async fn webhook_deliveries(
        &self,
        _: &WebhookFilter,
        _: u32,
        _: u64,
    ) -> Answer<(Vec<WebhookDelivery>, u64)> {
        Err(StoreError::Closed)
    }

    async fn redeliver_webhook(&self, _: &str, _: &WebhookFilter, _: Timestamp) -> Answer<Vec<String>> {
        Err(StoreError::Closed)
    }

    async fn prune_webhooks(&self, _: WebhookPrune) -> Answer<u64> {
        Err(StoreError::Closed)
    }

    async fn add_key(&self, _: &ApiKey, _: &str) -> Answer<()> {
        Err(StoreError::Closed)
    }

    async fn key(&self, _: &str) -> Answer<Option<ApiKey>> {
        Err(StoreError::Closed)
    }

    async fn keys(&self) -> Answer<Vec<ApiKey>> {
        Err(StoreError::Closed)
    }

    async fn revoke_key(&self, _: &KeyId, _: Timestamp) -> Answer<bool> {
        Err(StoreError::Closed)
    }

    async fn kv_get(&self, space: &KvSpace, key: &str) -> Answer<Option<KvEntry>> {
        Ok(self.values.lock().unwrap().get(&place(space, key)).cloned())
    }

    async fn kv_put(
        &self,
        space: &KvSpace,
        key: &str,
        value: &[u8],
        condition: KvCondition,
    ) -> Answer<Result<u64, KvRefusal>> {
        let mut values = self.values.lock().unwrap();
        let version = values.get(&place(space, key)).map_or(0, |entry| entry.version);
        if condition.expected.is_some_and(|expected| expected != version) {
            return Ok(Err(KvRefusal::Conflict(version)));
        }
        if value.len() as u64 > condition.max_bytes {
            return Ok(Err(KvRefusal::Bytes));
        }
        let entry = KvEntry { value: value.to_vec(), version: version + 1 };
        values.insert(place(space, key), entry);
        Ok(Ok(version + 1))
    }

    async fn kv_delete(&self, _: &KvSpace, _: &str, _: Option<u64>) -> Answer<Result<bool, KvRefusal>> {
        Err(StoreError::Closed)
    }

    async fn kv_list(&self, _: &KvSpace, _: &str, _: Option<&str>, _: u32) -> Answer<Vec<String>> {
        Err(StoreError::Closed)
    }

    fn installation(&self) -> &[u8] {
        b"installation"
    }

    async fn ping(&self) -> Answer<()> {
        Err(StoreError::Closed)
    }

    async fn close(&self) {}
}
