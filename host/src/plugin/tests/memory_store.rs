//! A store of nothing: these tests reach no stored value.

use crate::clock::Timestamp;
use crate::id::{ApprovalId, KeyId, RunId, SessionId};
use crate::key::ApiKey;
use crate::run::Run;
use crate::session::{PastTurn, Session};
use crate::store::{Claim, Creation, KeyClaim, KvCondition, KvEntry, KvRefusal, KvSpace, Store, StoreError};

#[derive(Default)]
pub(super) struct MemoryStore;

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

    async fn kv_get(&self, _: &KvSpace, _: &str) -> Answer<Option<KvEntry>> {
        Err(StoreError::Closed)
    }

    async fn kv_put(&self, _: &KvSpace, _: &str, _: &[u8], _: KvCondition) -> Answer<Result<u64, KvRefusal>> {
        Err(StoreError::Closed)
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
