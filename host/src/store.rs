//! What survives: runs and their journals, approvals, sessions, API keys, and the plugins' values.
//!
//! Callers see [`Store`]; the SQL is in `store/`. Every write happens wholly or not at all, and a run is
//! written with a compare-and-set on its version: whoever loses it knows that somebody else owns the run
//! now. `sql.rs` is the store itself, `writer.rs` its one writing task, `row.rs` the rows, `dialect.rs` what
//! differs between databases, `sqlite.rs` the first of them, and the rest are the statements.

use std::sync::Arc;
use std::time::Duration;

use sqlx::Sqlite;

use crate::budget::{Day, DayUsage};
use crate::clock::Timestamp;
use crate::event::Recorded;
use crate::id::{AgentId, ApprovalId, KeyId, OrgId, RunId, SessionId};
use crate::key::ApiKey;
use crate::notice::{ExpiringApproval, Subscription};
use crate::run::Run;
use crate::session::{PastTurn, Session};

mod agents;
mod announcements;
mod approvals;
mod audit;
mod claims;
mod deliveries;
mod dialect;
mod history;
mod keys;
mod kill;
mod kv;
mod lists;
mod outbox;
mod plugins;
mod queue;
mod row;
mod runs;
mod sessions;
mod sql;
mod sqlite;
mod usage;
mod watch;
mod write_off;
mod writer;

#[cfg(test)]
mod contract;

pub use agents::{AgentChange, AgentWrite, AgentWritten, StoredAgent};
pub use approvals::{ApprovalFilter, ApprovalRow};
pub use audit::{AuditFilter, AuditRow};
pub use claims::{CLAIM_AGE, Claim, KeyClaim};
pub use deliveries::{WebhookDelivery, WebhookFilter};
pub use history::HistoryWindow;
pub use kill::KillPoint;
pub use lists::{Listed, PendingSummary, Range, RunFilter, RunSummary};
pub use outbox::{DueWebhook, Redelivery, WebhookAttempt, WebhookPrune, WebhookThen};
pub use plugins::{KeptComponent, PluginChange, PluginGrant, PluginWrite, Revocation, ServedComponent};
pub use queue::{Caps, Creation, Lane, QueueState, Terms};
pub use sessions::{Deletion, Exchange, SessionFilter};
use sql::{Access, SqlStore};
use sqlite::Place;
pub use watch::{OutboxWatch, Watch};
pub use write_off::WriteOff;

/// Told of a run that was written, while its new events still count as unsaved, and how long it took.
pub type Observer = Box<dyn Fn(&Run, Duration) + Send + Sync>;

/// What is not done yet, over all organisations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub queued: u64,
    pub running: u64,
    pub paused: u64,
    pub pending_approvals: u64,
}

/// Rows, whatever the database.
///
/// A write whose future is dropped may still happen. A run that was written has no unsaved events left; in
/// every other case it keeps them.
#[async_trait::async_trait]
pub trait Store: Send + Sync {
    /// Writes a new run with its first events, its session where that is new, and the claim on the
    /// caller's idempotency key, or nothing of it. The terms hold at the moment of writing.
    async fn create(&self, run: &mut Run, terms: &Terms) -> Result<Creation, StoreError>;

    /// Appends the run's unsaved events and brings its row and approvals up to date.
    /// [`StoreError::Conflict`] = the stored run is not the one these events follow: nothing was written.
    async fn save(&self, run: &mut Run) -> Result<(), StoreError>;

    /// Like [`Store::save`], with the claim on an idempotency key in the same transaction. A claim that is
    /// not new writes nothing, and is told before any conflict.
    async fn save_claiming(&self, run: &mut Run, claim: &KeyClaim) -> Result<Claim, StoreError>;

    /// What the run's row says, whatever has become of its journal.
    async fn summary(&self, run: &RunId) -> Result<Option<RunSummary>, StoreError>;

    /// Ends a run whose journal cannot be read, unless its row says that it has ended: the row and its approvals
    /// change, the journal is kept as it is. Whoever has it in memory writes no more of it.
    async fn write_off(&self, run: &RunId, end: &WriteOff, at: Timestamp) -> Result<(), StoreError>;

    /// Claims an idempotency key for a request to which nothing was left to be done.
    async fn claim(&self, run: &RunId, claim: &KeyClaim) -> Result<Claim, StoreError>;

    /// A journal that is not whole is [`StoreError::Damaged`].
    async fn load(&self, run: &RunId) -> Result<Option<Run>, StoreError>;

    /// The run of an idempotency key that was claimed in the last [`CLAIM_AGE`].
    async fn find_claim(&self, claim: &KeyClaim) -> Result<Option<Claim>, StoreError>;

    /// The latest completed runs of the run's session that were created before it and fit the window,
    /// oldest first. Costs what the window costs, however long the session is.
    async fn history(&self, run: &RunId, window: HistoryWindow) -> Result<Vec<PastTurn>, StoreError>;

    async fn session(&self, id: &SessionId) -> Result<Option<Session>, StoreError>;

    /// Runs whose row says RUNNING, oldest first.
    async fn running(&self) -> Result<Vec<RunId>, StoreError>;

    /// Pending approvals whose time is up, at most `limit`.
    async fn expired(&self, now: Timestamp, limit: u32) -> Result<Vec<(RunId, ApprovalId)>, StoreError>;

    // -- Approvals --

    /// Those that a no can answer, oldest first.
    async fn pending_approvals(
        &self,
        filter: &ApprovalFilter,
        range: Range,
    ) -> Result<Listed<ApprovalRow>, StoreError>;

    async fn approval(&self, id: &ApprovalId) -> Result<Option<ApprovalRow>, StoreError>;

    // -- Sessions and the queue --

    /// Who has background runs at work, and who has some in the queue.
    async fn queue(&self) -> Result<QueueState, StoreError>;

    /// The organisation's oldest background run that may start now: it is first in its session, and its
    /// agent and model have fewer at work than they may. Those in `skip` are passed over.
    async fn next_in_background(
        &self,
        org: &OrgId,
        caps: Caps,
        skip: &[RunId],
    ) -> Result<Option<RunId>, StoreError>;

    /// The oldest run with a waiting caller that is first in its session. Those in `skip` are passed over.
    async fn next_in_line(&self, skip: &[RunId]) -> Result<Option<RunId>, StoreError>;

    /// The paused run that holds up the session, if any.
    async fn paused_in(&self, session: &SessionId) -> Result<Option<RunId>, StoreError>;

    /// Forgets idempotency keys that were claimed up to `before`. Returns how many.
    async fn prune_claims(&self, before: Timestamp) -> Result<u64, StoreError>;

    /// A page of sessions, the last used first, and how many there are.
    async fn sessions(
        &self,
        filter: &SessionFilter,
        offset: u64,
        limit: u32,
    ) -> Result<(Vec<Session>, u64), StoreError>;

    /// What was said in the session, oldest first; from the runs' rows, not their journals.
    async fn exchanges(&self, session: &SessionId) -> Result<Vec<Exchange>, StoreError>;

    /// The session's runs, oldest first; from their rows, not their journals.
    async fn session_runs(&self, session: &SessionId) -> Result<Vec<RunSummary>, StoreError>;

    /// Deletes the session with its runs and the values that plugins keep in it, unless one of the runs is
    /// under way.
    async fn delete_session(&self, session: &SessionId) -> Result<Deletion, StoreError>;

    /// Makes, changes, deletes or restores an organisation's agent, with its audit row.
    async fn write_agent(&self, write: AgentWrite) -> Result<AgentWritten, StoreError>;

    /// Also a deleted one.
    async fn agent(&self, org: &OrgId, id: &AgentId) -> Result<Option<StoredAgent>, StoreError>;

    /// All of an organisation's, by id, deleted ones included.
    async fn agents(&self, org: &OrgId) -> Result<Vec<StoredAgent>, StoreError>;

    /// Every organisation's.
    async fn agent_ids(&self) -> Result<Vec<(OrgId, AgentId)>, StoreError>;

    /// Newest first.
    async fn audit_log(&self, filter: &AuditFilter, range: Range) -> Result<Listed<AuditRow>, StoreError>;

    /// Newest first.
    async fn runs(&self, filter: &RunFilter, range: Range) -> Result<Listed<RunSummary>, StoreError>;

    /// What the run's organisation used on a day; none = there is no such run.
    async fn day_usage(&self, run: &RunId, day: Day) -> Result<Option<DayUsage>, StoreError>;

    // -- For the operator --

    /// Who is told of each run that was written. Once, before anything is written.
    fn observe(&self, observer: Observer);

    /// How many runs and approvals there are whose end is still to come.
    async fn standing(&self) -> Result<Standing, StoreError>;

    // -- Webhooks --

    /// Who wants to hear of runs from now on: what is saved afterwards is written to the outbox, too. Once,
    /// before anything is written.
    fn subscribe(&self, subscriptions: Vec<Subscription>);

    /// Tells of each write to the outbox from now on.
    fn watch_outbox(&self) -> OutboxWatch;

    /// What waits for the endpoint and is due, at most `limit`.
    async fn due_webhooks(
        &self,
        endpoint: &str,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<DueWebhook>, StoreError>;

    /// Logs an attempt, and says what follows it.
    async fn webhook_attempted(&self, attempt: WebhookAttempt) -> Result<(), StoreError>;

    /// Pending approvals that expire between the two times and were not announced, at most `limit`.
    async fn expiring(
        &self,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<ExpiringApproval>, StoreError>;

    /// Announces those that are still pending, once each. Returns how many.
    async fn announce_expiring(
        &self,
        approvals: &[ExpiringApproval],
        now: Timestamp,
    ) -> Result<u64, StoreError>;

    /// Attempts, newest first.
    async fn webhook_deliveries(
        &self,
        filter: &WebhookFilter,
        range: Range,
    ) -> Result<Listed<WebhookDelivery>, StoreError>;

    /// Makes an event due again, with its audit row. Returns for which endpoints; none = no such event.
    async fn redeliver_webhook(&self, redelivery: Redelivery) -> Result<Vec<String>, StoreError>;

    /// Forgets old events with their log. Returns how many; fewer than the limit = there are no more.
    async fn prune_webhooks(&self, prune: WebhookPrune) -> Result<u64, StoreError>;

    /// The run's events after `seq`, at most `limit`, oldest first; none of an unknown run.
    async fn events_after(&self, run: &RunId, seq: u64, limit: u32) -> Result<Vec<Recorded>, StoreError>;

    /// Tells of each write of the run from now on.
    fn watch(&self, run: &RunId) -> Watch;

    async fn add_key(&self, key: &ApiKey, hash: &str) -> Result<(), StoreError>;

    /// The key whose token has this hash, unless it was revoked.
    async fn key(&self, hash: &str) -> Result<Option<ApiKey>, StoreError>;

    async fn keys(&self) -> Result<Vec<ApiKey>, StoreError>;

    /// False if there is no such key or it was revoked before.
    async fn revoke_key(&self, id: &KeyId, at: Timestamp) -> Result<bool, StoreError>;

    // -- Plugins --

    /// Writes down the operator's word about a plugin, with its audit row. False: there was nothing to change.
    async fn write_plugin(&self, write: PluginWrite) -> Result<bool, StoreError>;

    /// Every decision that stands.
    async fn plugin_grants(&self) -> Result<Vec<PluginGrant>, StoreError>;

    async fn revocations(&self) -> Result<Vec<Revocation>, StoreError>;

    /// The latest row of the audit log, and whether one after `after` is about a plugin.
    async fn plugin_changes(&self, after: u64) -> Result<(u64, bool), StoreError>;

    /// Keeps a component, unless it is there, and notes that it serves from now on.
    async fn serve_component(&self, component: ServedComponent) -> Result<(), StoreError>;

    /// Which components are kept, without their bytes; of each plugin in the order in which they last came to serve.
    async fn components(&self) -> Result<Vec<KeptComponent>, StoreError>;

    async fn component(&self, plugin: &str, digest: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Forgets these components, but for those that unfinished runs need. Returns how many.
    async fn drop_components(&self, components: Vec<(String, String)>) -> Result<u64, StoreError>;

    async fn kv_get(&self, space: &KvSpace, key: &str) -> Result<Option<KvEntry>, StoreError>;

    /// Returns the new version. A refused put writes nothing.
    async fn kv_put(
        &self,
        space: &KvSpace,
        key: &str,
        value: &[u8],
        condition: KvCondition,
    ) -> Result<Result<u64, KvRefusal>, StoreError>;

    /// False if there was none. `expected` as in [`KvCondition`].
    async fn kv_delete(
        &self,
        space: &KvSpace,
        key: &str,
        expected: Option<u64>,
    ) -> Result<Result<bool, KvRefusal>, StoreError>;

    /// At most `limit` keys that start with `prefix` and sort after `after`, in byte order.
    async fn kv_list(
        &self,
        space: &KvSpace,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<String>, StoreError>;

    /// A random value made when the database was: keys the users' pseudonyms that plugins see.
    fn installation(&self) -> &[u8];

    /// The database answers.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Writes what is queued and closes the database. Everything after that is [`StoreError::Closed`].
    async fn close(&self);
}

/// Whose values: the host fills this in, never a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvSpace {
    /// The run on whose behalf: once it has ended, nothing more is written.
    pub run: Option<RunId>,
    pub plugin: String,
    pub org: OrgId,
    /// `plugin`, `user` or `session`.
    pub scope: &'static str,
    /// The user's or session's id; empty for `plugin`.
    pub scope_id: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvEntry {
    pub value: Vec<u8>,
    pub version: u64,
}

/// What must hold for a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvCondition {
    /// None = whatever is there; 0 = nothing is there; otherwise the entry's version.
    pub expected: Option<u64>,
    /// Most bytes of keys and values in the space.
    pub max_bytes: u64,
    /// Most entries in the space.
    pub max_entries: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvRefusal {
    /// The run has ended, by a cancel for example: its call no longer counts.
    RunEnded,
    /// Carries the current version; 0 = there is none.
    Conflict(u64),
    Bytes,
    Entries,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody else wrote the run first.
    #[error("the run was changed by somebody else")]
    Conflict,
    #[error(
        "the database was made by a newer version of holdfast (its schema is at {found}, this one knows {known}): run that version, or restore a backup from before the upgrade"
    )]
    Newer { found: i64, known: i64 },
    #[error(
        "another holdfast process is using this database: stop it, or give this one a database of its own"
    )]
    InUse,
    /// Carries what it is, without the URL: that may hold a password.
    #[error("this build cannot open a {0}: write sqlite://path/to/file.db")]
    Unsupported(String),
    #[error("the database's file, its lock or its folder cannot be opened or made")]
    File(#[source] std::io::Error),
    #[error("the database's file is something else than a SQLite database: it was left as it is")]
    NotADatabase,
    /// See [`open_shared`].
    #[error("the database was opened beside a server: this is the server's to write")]
    Shared,
    #[error("a stored row cannot be read: {0}")]
    Damaged(String),
    #[error("the store is closed")]
    Closed,
    #[error("the database failed")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl StoreError {
    fn database(source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Database(Box::new(source))
    }
}

/// Opens a database, makes it if there is none, and brings its schema up to date. It belongs to this
/// process until the store is closed or, a moment later, dropped.
pub async fn open(url: &str) -> Result<Arc<dyn Store>, StoreError> {
    open_with(url, None).await
}

/// The same, for a process that is to be killed at a place in its journal.
pub async fn open_with(url: &str, kill: Option<KillPoint>) -> Result<Arc<dyn Store>, StoreError> {
    let place = place(url)?;
    let lock = place.lock().await?;
    let store =
        SqlStore::<Sqlite>::open(place.writer, place.readers, Access::Owner, Some(lock), kill).await?;
    Ok(Arc::new(store))
}

/// Opens a database that a server may be using, to make, list and revoke API keys, and to decide about plugins.
/// Everything else that writes is refused with [`StoreError::Shared`].
pub async fn open_shared(url: &str) -> Result<Arc<dyn Store>, StoreError> {
    let place = place(url)?;
    let lock = place.try_lock()?;
    let store = SqlStore::<Sqlite>::open(place.writer, place.readers, Access::Shared, lock, None).await?;
    Ok(Arc::new(store))
}

/// Whether another process has the database: a server, or for a moment a command.
pub fn in_use(url: &str) -> Result<bool, StoreError> {
    Ok(place(url)?.try_lock()?.is_none())
}

fn place(url: &str) -> Result<Place, StoreError> {
    match url.split_once(':') {
        Some(("sqlite", _)) => Place::prepare(url),
        Some((scheme, _)) => Err(StoreError::Unsupported(format!("`{scheme}` database"))),
        None => Err(StoreError::Unsupported("database URL without a scheme".to_owned())),
    }
}
