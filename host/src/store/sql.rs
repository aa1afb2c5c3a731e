//! [`Store`] over any [`Dialect`]: reads go to a small pool, writes to the [`Writer`](super::writer::Writer).

mod open;
mod write;

use std::sync::{Mutex, OnceLock};
use std::time::Instant;

use sqlx::Pool;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::announcements::{self, Announcement};
use super::dialect::{Dialect, Sql};
use super::kv::Put;
use super::row::{OriginRow, RunChange};
use super::watch::{OutboxWatch, Watch, Watchers};
use super::writer::Write;
use super::{
    AgentWrite, AgentWritten, ApprovalFilter, ApprovalRow, AuditFilter, AuditRow, Caps, Claim, Creation,
    Deletion, DueWebhook, Exchange, HistoryWindow, KeptComponent, KeyClaim, KvCondition, KvEntry, KvRefusal,
    KvSpace, Listed, Observer, PluginGrant, PluginWrite, QueueState, Range, Redelivery, Revocation,
    RunFilter, RunSummary, ServedComponent, SessionFilter, Standing, Store, StoreError, StoredAgent, Terms,
    WebhookAttempt, WebhookDelivery, WebhookFilter, WebhookPrune, WriteOff, agents, approvals, audit, claims,
    deliveries, history, keys, kv, lists, outbox, plugins, queue, runs, sessions, usage,
};
use crate::budget::{Day, DayUsage};
use crate::clock::Timestamp;
use crate::event::Recorded;
use crate::id::{AgentId, ApprovalId, KeyId, OrgId, RunId, SessionId};
use crate::key::ApiKey;
use crate::notice::{ExpiringApproval, Subscription};
use crate::run::Run;
use crate::session::{PastTurn, Session};

pub(super) struct SqlStore<D: Dialect> {
    readers: Pool<D>,
    /// None once the store is closed.
    queue: Mutex<Option<mpsc::Sender<Write>>>,
    writer: tokio::sync::Mutex<Option<JoinHandle<()>>>,
    installation: Vec<u8>,
    access: Access,
    watchers: Watchers,
    subscriptions: OnceLock<Vec<Subscription>>,
    observer: OnceLock<Observer>,
}

/// What a store may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Everything: no other process has the database.
    Owner,
    /// The operator's words only, keys and plugins: a server may be at work on the same database.
    Shared,
}

#[async_trait::async_trait]
impl<D: Dialect> Store for SqlStore<D> {
    async fn create(&self, run: &mut Run, terms: &Terms) -> Result<Creation, StoreError> {
        self.check_owner()?;
        let since = Instant::now();
        let change = Box::new(RunChange::of(run, self.subscriptions())?);
        let origin = Box::new(OriginRow::of(run));
        let terms = Box::new(terms.clone());
        let creation = self.write(|reply| Write::Create(origin, change, terms, reply)).await?;
        if creation == Creation::Created {
            self.written(run, since);
        }
        Ok(creation)
    }

    async fn save(&self, run: &mut Run) -> Result<(), StoreError> {
        if run.unsaved().is_empty() {
            return Ok(());
        }
        self.save_with(run, None).await.map(|_| ())
    }

    async fn save_claiming(&self, run: &mut Run, claim: &KeyClaim) -> Result<Claim, StoreError> {
        self.save_with(run, Some(claim)).await
    }

    async fn summary(&self, run: &RunId) -> Result<Option<RunSummary>, StoreError> {
        lists::one(&mut Sql::<D>(&mut *self.readers.acquire().await?), run).await
    }

    async fn write_off(&self, run: &RunId, end: &WriteOff, at: Timestamp) -> Result<(), StoreError> {
        self.check_owner()?;
        let (run, end) = (run.clone(), Box::new(end.clone()));
        self.write(|reply| Write::End(run, end, at, reply)).await
    }

    async fn claim(&self, run: &RunId, claim: &KeyClaim) -> Result<Claim, StoreError> {
        self.check_owner()?;
        let (run, claim) = (run.clone(), Box::new(claim.clone()));
        self.write(|reply| Write::Claim(run, claim, reply)).await
    }

    async fn load(&self, run: &RunId) -> Result<Option<Run>, StoreError> {
        runs::load(&mut Sql::<D>(&mut *self.readers.acquire().await?), run).await
    }

    async fn find_claim(&self, claim: &KeyClaim) -> Result<Option<Claim>, StoreError> {
        claims::find(&mut Sql::<D>(&mut *self.readers.acquire().await?), claim).await
    }

    async fn history(&self, run: &RunId, window: HistoryWindow) -> Result<Vec<PastTurn>, StoreError> {
        history::read(&mut Sql::<D>(&mut *self.readers.acquire().await?), run, window).await
    }

    async fn session(&self, id: &SessionId) -> Result<Option<Session>, StoreError> {
        sessions::find(&mut Sql::<D>(&mut *self.readers.acquire().await?), id).await
    }

    async fn running(&self) -> Result<Vec<RunId>, StoreError> {
        runs::running(&mut Sql::<D>(&mut *self.readers.acquire().await?)).await
    }

    async fn expired(&self, now: Timestamp, limit: u32) -> Result<Vec<(RunId, ApprovalId)>, StoreError> {
        approvals::expired(&mut Sql::<D>(&mut *self.readers.acquire().await?), now, limit).await
    }

    // -- Approvals --

    async fn pending_approvals(
        &self,
        filter: &ApprovalFilter,
        range: Range,
    ) -> Result<Listed<ApprovalRow>, StoreError> {
        approvals::pending(&mut Sql::<D>(&mut *self.readers.acquire().await?), filter, range).await
    }

    async fn approval(&self, id: &ApprovalId) -> Result<Option<ApprovalRow>, StoreError> {
        approvals::find(&mut Sql::<D>(&mut *self.readers.acquire().await?), id).await
    }

    // -- Sessions and the queue --

    async fn queue(&self) -> Result<QueueState, StoreError> {
        queue::state(&mut Sql::<D>(&mut *self.readers.acquire().await?)).await
    }

    async fn next_in_background(
        &self,
        org: &OrgId,
        caps: Caps,
        skip: &[RunId],
    ) -> Result<Option<RunId>, StoreError> {
        let mut reader = self.readers.acquire().await?;
        queue::next_in_background(&mut Sql::<D>(&mut reader), org, caps, skip).await
    }

    async fn next_in_line(&self, skip: &[RunId]) -> Result<Option<RunId>, StoreError> {
        queue::next_in_line(&mut Sql::<D>(&mut *self.readers.acquire().await?), skip).await
    }

    async fn paused_in(&self, session: &SessionId) -> Result<Option<RunId>, StoreError> {
        queue::paused_in(&mut Sql::<D>(&mut *self.readers.acquire().await?), session).await
    }

    async fn prune_claims(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.check_owner()?;
        self.write(|reply| Write::PruneClaims(before, reply)).await
    }

    async fn sessions(
        &self,
        filter: &SessionFilter,
        offset: u64,
        limit: u32,
    ) -> Result<(Vec<Session>, u64), StoreError> {
        let mut reader = self.readers.acquire().await?;
        sessions::page(&mut Sql::<D>(&mut reader), filter, offset, limit).await
    }

    async fn exchanges(&self, session: &SessionId) -> Result<Vec<Exchange>, StoreError> {
        sessions::exchanges(&mut Sql::<D>(&mut *self.readers.acquire().await?), session).await
    }

    async fn session_runs(&self, session: &SessionId) -> Result<Vec<RunSummary>, StoreError> {
        lists::of_session(&mut Sql::<D>(&mut *self.readers.acquire().await?), session).await
    }

    async fn delete_session(&self, session: &SessionId) -> Result<Deletion, StoreError> {
        self.check_owner()?;
        let session = session.clone();
        self.write(|reply| Write::DeleteSession(session, reply)).await
    }

    async fn write_agent(&self, write: AgentWrite) -> Result<AgentWritten, StoreError> {
        self.check_owner()?;
        let write = Box::new(write);
        self.write(|reply| Write::Agent(write, reply)).await
    }

    async fn agent(&self, org: &OrgId, id: &AgentId) -> Result<Option<StoredAgent>, StoreError> {
        agents::find(&mut Sql::<D>(&mut *self.readers.acquire().await?), org, id).await
    }

    async fn agents(&self, org: &OrgId) -> Result<Vec<StoredAgent>, StoreError> {
        agents::of_org(&mut Sql::<D>(&mut *self.readers.acquire().await?), org).await
    }

    async fn agent_ids(&self) -> Result<Vec<(OrgId, AgentId)>, StoreError> {
        agents::ids(&mut Sql::<D>(&mut *self.readers.acquire().await?)).await
    }

    async fn audit_log(&self, filter: &AuditFilter, range: Range) -> Result<Listed<AuditRow>, StoreError> {
        audit::list(&mut Sql::<D>(&mut *self.readers.acquire().await?), filter, range).await
    }

    async fn runs(&self, filter: &RunFilter, range: Range) -> Result<Listed<RunSummary>, StoreError> {
        lists::runs(&mut Sql::<D>(&mut *self.readers.acquire().await?), filter, range).await
    }

    async fn day_usage(&self, run: &RunId, day: Day) -> Result<Option<DayUsage>, StoreError> {
        usage::of_day(&mut Sql::<D>(&mut *self.readers.acquire().await?), run, day).await
    }

    // -- Webhooks --

    fn observe(&self, observer: Observer) {
        // Whoever comes second changes nothing.
        let _ = self.observer.set(observer);
    }

    async fn standing(&self) -> Result<Standing, StoreError> {
        queue::standing(&mut Sql::<D>(&mut *self.readers.acquire().await?)).await
    }

    fn subscribe(&self, subscriptions: Vec<Subscription>) {
        // Whoever comes second changes nothing.
        let _ = self.subscriptions.set(subscriptions);
    }

    fn watch_outbox(&self) -> OutboxWatch {
        self.watchers.watch_outbox()
    }

    async fn due_webhooks(
        &self,
        endpoint: &str,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<DueWebhook>, StoreError> {
        outbox::due(&mut Sql::<D>(&mut *self.readers.acquire().await?), endpoint, now, limit).await
    }

    async fn webhook_attempted(&self, attempt: WebhookAttempt) -> Result<(), StoreError> {
        self.check_owner()?;
        self.write(|reply| Write::WebhookAttempted(Box::new(attempt), reply)).await
    }

    async fn expiring(
        &self,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<ExpiringApproval>, StoreError> {
        announcements::expiring(&mut Sql::<D>(&mut *self.readers.acquire().await?), now, until, limit).await
    }

    async fn announce_expiring(
        &self,
        approvals: &[ExpiringApproval],
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        self.check_owner()?;
        if approvals.is_empty() {
            return Ok(0);
        }
        let of = |approval| Announcement::of(approval, now, self.subscriptions());
        let announcements = approvals.iter().map(of).collect();
        self.write(|reply| Write::Announce(announcements, reply)).await
    }

    async fn webhook_deliveries(
        &self,
        filter: &WebhookFilter,
        range: Range,
    ) -> Result<Listed<WebhookDelivery>, StoreError> {
        deliveries::list(&mut Sql::<D>(&mut *self.readers.acquire().await?), filter, range).await
    }

    async fn redeliver_webhook(&self, redelivery: Redelivery) -> Result<Vec<String>, StoreError> {
        self.check_owner()?;
        self.write(|reply| Write::Redeliver(Box::new(redelivery), reply)).await
    }

    async fn prune_webhooks(&self, prune: WebhookPrune) -> Result<u64, StoreError> {
        self.check_owner()?;
        // Mostly there is nothing, and to look costs no write.
        if !outbox::has_old(&mut Sql::<D>(&mut *self.readers.acquire().await?), &prune).await? {
            return Ok(0);
        }
        self.write(|reply| Write::PruneWebhooks(Box::new(prune), reply)).await
    }

    async fn events_after(&self, run: &RunId, seq: u64, limit: u32) -> Result<Vec<Recorded>, StoreError> {
        runs::events_after(&mut Sql::<D>(&mut *self.readers.acquire().await?), run, seq, limit).await
    }

    fn watch(&self, run: &RunId) -> Watch {
        self.watchers.watch(run)
    }

    async fn add_key(&self, key: &ApiKey, hash: &str) -> Result<(), StoreError> {
        let (key, hash) = (Box::new(key.clone()), hash.to_owned());
        self.write(|reply| Write::AddKey(key, hash, reply)).await
    }

    async fn key(&self, hash: &str) -> Result<Option<ApiKey>, StoreError> {
        keys::find(&mut Sql::<D>(&mut *self.readers.acquire().await?), hash).await
    }

    async fn keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        keys::all(&mut Sql::<D>(&mut *self.readers.acquire().await?)).await
    }

    async fn revoke_key(&self, id: &KeyId, at: Timestamp) -> Result<bool, StoreError> {
        let id = id.clone();
        self.write(|reply| Write::RevokeKey(id, at, reply)).await
    }

    // -- Plugins --

    async fn write_plugin(&self, write: PluginWrite) -> Result<bool, StoreError> {
        let write = Box::new(write);
        self.write(|reply| Write::Plugin(write, reply)).await
    }

    async fn plugin_grants(&self) -> Result<Vec<PluginGrant>, StoreError> {
        plugins::grants(&mut Sql::<D>(&mut *self.readers.acquire().await?)).await
    }

    async fn revocations(&self) -> Result<Vec<Revocation>, StoreError> {
        plugins::revocations(&mut Sql::<D>(&mut *self.readers.acquire().await?)).await
    }

    async fn plugin_changes(&self, after: u64) -> Result<(u64, bool), StoreError> {
        plugins::changes(&mut Sql::<D>(&mut *self.readers.acquire().await?), after).await
    }

    async fn serve_component(&self, component: ServedComponent) -> Result<(), StoreError> {
        self.check_owner()?;
        self.write(|reply| Write::ServeComponent(component, reply)).await
    }

    async fn components(&self) -> Result<Vec<KeptComponent>, StoreError> {
        plugins::components(&mut Sql::<D>(&mut *self.readers.acquire().await?)).await
    }

    async fn component(&self, plugin: &str, digest: &str) -> Result<Option<Vec<u8>>, StoreError> {
        plugins::component(&mut Sql::<D>(&mut *self.readers.acquire().await?), plugin, digest).await
    }

    async fn drop_components(&self, components: Vec<(String, String)>) -> Result<u64, StoreError> {
        self.check_owner()?;
        self.write(|reply| Write::DropComponents(components, reply)).await
    }

    async fn kv_get(&self, space: &KvSpace, key: &str) -> Result<Option<KvEntry>, StoreError> {
        kv::get(&mut Sql::<D>(&mut *self.readers.acquire().await?), space, key).await
    }

    async fn kv_put(
        &self,
        space: &KvSpace,
        key: &str,
        value: &[u8],
        condition: KvCondition,
    ) -> Result<Result<u64, KvRefusal>, StoreError> {
        self.check_owner()?;
        let put =
            Box::new(Put { space: space.clone(), key: key.to_owned(), value: value.to_vec(), condition });
        self.write(|reply| Write::KvPut(put, reply)).await
    }

    async fn kv_delete(
        &self,
        space: &KvSpace,
        key: &str,
        expected: Option<u64>,
    ) -> Result<Result<bool, KvRefusal>, StoreError> {
        self.check_owner()?;
        let (space, key) = (space.clone(), key.to_owned());
        self.write(|reply| Write::KvDelete(space, key, expected, reply)).await
    }

    async fn kv_list(
        &self,
        space: &KvSpace,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<String>, StoreError> {
        kv::list(&mut Sql::<D>(&mut *self.readers.acquire().await?), space, prefix, after, limit).await
    }

    fn installation(&self) -> &[u8] {
        &self.installation
    }

    async fn ping(&self) -> Result<(), StoreError> {
        if self.queue().as_ref().is_none_or(mpsc::Sender::is_closed) {
            return Err(StoreError::Closed);
        }
        Sql::<D>(&mut *self.readers.acquire().await?).rows("select 1", &[]).await?;
        Ok(())
    }

    async fn close(&self) {
        // Without it the writer stops once the queue is empty.
        drop(self.queue().take());
        // A reader would keep the checkpoint from finishing.
        self.readers.close().await;
        if let Some(writer) = self.writer.lock().await.take() {
            let _ = writer.await;
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::PoolClosed => Self::Closed,
            error => Self::database(error),
        }
    }
}
