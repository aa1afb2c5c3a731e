//! The one task that writes: what is queued when it looks is committed as one transaction.
//!
//! A commit waits for the disk, and that costs the same for one write as for a hundred. So writes queue up
//! while a commit is under way, and the next takes them all. Each has a savepoint of its own: one that is
//! refused, or fails, leaves nothing behind and does not touch its neighbours. Nobody is told anything
//! before the commit, and a commit that fails is a failure of every write in it.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;

use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::{mpsc, oneshot};

use super::announcements::{self, Announcement};
use super::dialect::{ConnectOptions, Dialect, Sql};
use super::kill::{Countdown, KillPoint};
use super::kv::Put;
use super::row::{OriginRow, RunChange};
use super::watch::Watchers;
use super::{
    AgentWrite, AgentWritten, Claim, Creation, Deletion, KeyClaim, KvRefusal, KvSpace, PluginWrite,
    Redelivery, ServedComponent, StoreError, Terms, WebhookAttempt, WebhookPrune, WriteOff,
};
use super::{agents, claims, keys, kv, outbox, plugins, runs, sessions, write_off};
use crate::clock::Timestamp;
use crate::id::{KeyId, RunId, SessionId};
use crate::key::ApiKey;

/// Most writes in one transaction, and in the queue: beyond it callers wait to be queued.
pub(super) const MOST: usize = 256;

/// Something to write, with whom to tell what came of it. A caller may have gone: its write still happens.
pub(super) enum Write {
    Create(Box<OriginRow>, Box<RunChange>, Box<Terms>, Reply<Creation>),
    Save(Box<RunChange>, Option<KeyClaim>, Reply<Claim>),
    Claim(RunId, Box<KeyClaim>, Reply<Claim>),
    End(RunId, Box<WriteOff>, Timestamp, Reply<()>),
    PruneClaims(Timestamp, Reply<u64>),
    DeleteSession(SessionId, Reply<Deletion>),
    Agent(Box<AgentWrite>, Reply<AgentWritten>),
    WebhookAttempted(Box<WebhookAttempt>, Reply<()>),
    Announce(Vec<Announcement>, Reply<u64>),
    Redeliver(Box<Redelivery>, Reply<Vec<String>>),
    PruneWebhooks(Box<WebhookPrune>, Reply<u64>),
    AddKey(Box<ApiKey>, String, Reply<()>),
    RevokeKey(KeyId, Timestamp, Reply<bool>),
    Plugin(Box<PluginWrite>, Reply<bool>),
    ServeComponent(ServedComponent, Reply<()>),
    /// Ids of plugins and digests.
    DropComponents(Vec<(String, String)>, Reply<u64>),
    KvPut(Box<Put>, Reply<Result<u64, KvRefusal>>),
    KvDelete(KvSpace, String, Option<u64>, Reply<Result<bool, KvRefusal>>),
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// Why a write leaves nothing behind.
pub(super) enum Undo<T> {
    /// That is its answer.
    Refused(T),
    Failed(StoreError),
}

impl<T> From<StoreError> for Undo<T> {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

impl<T> From<sqlx::Error> for Undo<T> {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// A write that was carried out, and waits for the commit to be announced.
struct Settled {
    keep: bool,
    tell: Box<dyn FnOnce(Option<StoreError>) + Send>,
}

pub(super) struct Writer<D: Dialect> {
    options: ConnectOptions<D>,
    /// None after a failure: the next transaction connects again.
    connection: Option<D::Connection>,
    queue: mpsc::Receiver<Write>,
    /// Told of what was written.
    watchers: Watchers,
    countdown: Countdown,
    /// Given back when the last write is done, not before.
    _owned: Option<File>,
}

impl<D: Dialect> Writer<D> {
    pub(super) fn new(
        options: ConnectOptions<D>,
        connection: D::Connection,
        queue: mpsc::Receiver<Write>,
        owned: Option<File>,
    ) -> Self {
        let watchers = Watchers::default();
        let countdown = Countdown::default();
        Self { options, connection: Some(connection), queue, watchers, countdown, _owned: owned }
    }

    pub(super) fn telling(self, watchers: Watchers) -> Self {
        Self { watchers, ..self }
    }

    pub(super) fn dying_at(self, point: Option<KillPoint>) -> Self {
        Self { countdown: Countdown::to(point), ..self }
    }

    /// Works until the store is closed or dropped and everything queued is written.
    pub(super) async fn run(mut self) {
        let mut batch = Vec::with_capacity(MOST);
        while self.queue.recv_many(&mut batch, MOST).await > 0 {
            self.commit(batch.drain(..).collect()).await;
        }
        if let Some(mut connection) = self.connection.take() {
            if let Some(checkpoint) = D::CHECKPOINT {
                // What is not moved to the database file now is moved when it is opened again.
                let _ = D::execute(&mut connection, checkpoint, &[]).await;
            }
            let _ = connection.close().await;
        }
    }

    async fn commit(&mut self, mut batch: VecDeque<Write>) {
        let mut settled = Vec::with_capacity(batch.len());
        let runs: Vec<RunId> = batch.iter().filter_map(Write::run).cloned().collect();
        let outbox = batch.iter().any(Write::fills_outbox);
        self.countdown.before(batch.iter().map(Write::events).sum());
        let failure = self.transaction(&mut batch, &mut settled).await.err().map(Arc::new);
        if failure.is_some() {
            // Closing it rolls back what it had begun.
            self.connection = None;
        }
        self.countdown.after();
        // A refused write has changed nothing: its watchers look once in vain.
        for run in &runs {
            self.watchers.tell(run);
        }
        if outbox {
            self.watchers.tell_outbox();
        }
        let failed = || failure.clone().map(StoreError::database);
        for write in settled {
            (write.tell)(failed());
        }
        for write in batch {
            write.fail(failed().unwrap_or(StoreError::Closed));
        }
    }

    /// Moves each write from `batch` to `settled` as it is carried out.
    async fn transaction(
        &mut self,
        batch: &mut VecDeque<Write>,
        settled: &mut Vec<Settled>,
    ) -> Result<(), sqlx::Error> {
        let mut sql = Sql::<D>(self.begin().await?);
        while let Some(write) = batch.pop_front() {
            if let Err(error) = sql.execute("savepoint one_write", &[]).await {
                batch.push_front(write);
                return Err(error);
            }
            let write = write.apply(&mut sql).await;
            let keep = write.keep;
            settled.push(write);
            if !keep {
                sql.execute("rollback to savepoint one_write", &[]).await?;
            }
            sql.execute("release savepoint one_write", &[]).await?;
        }
        sql.execute("commit", &[]).await?;
        Ok(())
    }

    /// Begins a transaction, on a new connection if the old one is of no use any more.
    async fn begin(&mut self) -> Result<&mut D::Connection, sqlx::Error> {
        if let Some(old) = self.connection.take()
            && let Ok(old) = begun::<D>(old).await
        {
            return Ok(self.connection.insert(old));
        }
        let new = begun::<D>(self.options.connect().await?).await?;
        Ok(self.connection.insert(new))
    }
}

async fn begun<D: Dialect>(mut connection: D::Connection) -> Result<D::Connection, sqlx::Error> {
    D::execute(&mut connection, D::BEGIN, &[]).await?;
    Ok(connection)
}

impl Write {
    /// How many events it writes.
    fn events(&self) -> u64 {
        if let Self::Create(_, change, ..) | Self::Save(change, ..) = self {
            return change.events.len() as u64;
        }
        0
    }

    /// The run whose journal grows by it.
    fn run(&self) -> Option<&RunId> {
        if let Self::Create(_, change, ..) | Self::Save(change, ..) = self {
            return Some(&change.row.id);
        }
        None
    }

    /// Whether webhooks may be due by it.
    fn fills_outbox(&self) -> bool {
        match self {
            Self::Create(_, change, ..) | Self::Save(change, ..) => !change.outbox.is_empty(),
            Self::Announce(..) | Self::Redeliver(..) => true,
            Self::Claim(..)
            | Self::End(..)
            | Self::PruneClaims(..)
            | Self::DeleteSession(..)
            | Self::Agent(..)
            | Self::WebhookAttempted(..)
            | Self::PruneWebhooks(..)
            | Self::AddKey(..)
            | Self::RevokeKey(..)
            | Self::Plugin(..)
            | Self::ServeComponent(..)
            | Self::DropComponents(..)
            | Self::KvPut(..)
            | Self::KvDelete(..) => false,
        }
    }

    async fn apply<D: Dialect>(self, sql: &mut Sql<'_, D>) -> Settled {
        match self {
            Self::Create(origin, change, terms, reply) => {
                settle(reply, runs::create(sql, &origin, &change, &terms).await)
            }
            Self::Save(change, claim, reply) => settle(reply, runs::save(sql, &change, claim.as_ref()).await),
            Self::Claim(run, claim, reply) => {
                settle(reply, claims::take(sql, &claim, &run).await.map(|()| Claim::New))
            }
            Self::End(run, end, at, reply) => {
                settle(reply, write_off::end(sql, &run, &end, at).await.map_err(Undo::Failed))
            }
            Self::PruneClaims(before, reply) => {
                settle(reply, claims::prune(sql, before).await.map_err(Undo::Failed))
            }
            Self::DeleteSession(session, reply) => settle(reply, sessions::delete(sql, &session).await),
            Self::Agent(write, reply) => settle(reply, agents::write(sql, &write).await),
            Self::WebhookAttempted(attempt, reply) => {
                settle(reply, outbox::attempted(sql, &attempt).await.map_err(Undo::Failed))
            }
            Self::Announce(announcements, reply) => {
                settle(reply, announcements::announce(sql, &announcements).await.map_err(Undo::Failed))
            }
            Self::Redeliver(redelivery, reply) => {
                settle(reply, outbox::redeliver(sql, &redelivery).await.map_err(Undo::Failed))
            }
            Self::PruneWebhooks(prune, reply) => {
                settle(reply, outbox::prune(sql, &prune).await.map_err(Undo::Failed))
            }
            Self::AddKey(key, hash, reply) => {
                settle(reply, keys::add(sql, &key, &hash).await.map_err(Undo::Failed))
            }
            Self::RevokeKey(id, at, reply) => {
                settle(reply, keys::revoke(sql, &id, at).await.map_err(Undo::Failed))
            }
            Self::Plugin(write, reply) => {
                settle(reply, plugins::write(sql, &write).await.map_err(Undo::Failed))
            }
            Self::ServeComponent(component, reply) => {
                settle(reply, plugins::serve(sql, &component).await.map_err(Undo::from))
            }
            Self::DropComponents(components, reply) => {
                settle(reply, plugins::forget(sql, &components).await.map_err(Undo::from))
            }
            Self::KvPut(put, reply) => settle(reply, kv::put(sql, &put).await),
            Self::KvDelete(space, key, expected, reply) => {
                settle(reply, kv::delete(sql, &space, &key, expected).await)
            }
        }
    }

    /// Tells the caller that nothing was written. Nobody may be there any more.
    fn fail(self, error: StoreError) {
        match self {
            Self::Create(.., reply) => drop(reply.send(Err(error))),
            Self::Save(.., reply) | Self::Claim(.., reply) => drop(reply.send(Err(error))),
            Self::PruneClaims(.., reply)
            | Self::Announce(.., reply)
            | Self::PruneWebhooks(.., reply)
            | Self::DropComponents(.., reply) => {
                drop(reply.send(Err(error)));
            }
            Self::DeleteSession(.., reply) => drop(reply.send(Err(error))),
            Self::Agent(.., reply) => drop(reply.send(Err(error))),
            Self::AddKey(.., reply)
            | Self::WebhookAttempted(.., reply)
            | Self::End(.., reply)
            | Self::ServeComponent(.., reply) => {
                drop(reply.send(Err(error)));
            }
            Self::Redeliver(.., reply) => drop(reply.send(Err(error))),
            Self::RevokeKey(.., reply) | Self::Plugin(.., reply) => drop(reply.send(Err(error))),
            Self::KvPut(.., reply) => drop(reply.send(Err(error))),
            Self::KvDelete(.., reply) => drop(reply.send(Err(error))),
        }
    }
}

fn settle<T: Send + 'static>(reply: Reply<T>, result: Result<T, Undo<T>>) -> Settled {
    let keep = result.is_ok();
    let answer = match result {
        Ok(answer) | Err(Undo::Refused(answer)) => Ok(answer),
        Err(Undo::Failed(error)) => Err(error),
    };
    let tell = Box::new(move |failure: Option<StoreError>| {
        let answer = failure.map_or(answer, Err);
        // Nobody may be there any more.
        drop(reply.send(answer));
    });
    Settled { keep, tell }
}

#[cfg(test)]
mod tests {
    use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
    use sqlx::{Connection as _, Sqlite};
    use tempfile::TempDir;

    use super::*;

    async fn revoke(queue: &mpsc::Sender<Write>) -> Result<bool, StoreError> {
        let (reply, answer) = oneshot::channel();
        let write = Write::RevokeKey(KeyId::from("k"), Timestamp::from_millis(0), reply);
        queue.send(write).await.ok().unwrap();
        answer.await.unwrap()
    }

    #[tokio::test]
    async fn a_writer_outlives_its_connection() {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("a.db");
        let options = SqliteConnectOptions::new().filename(&file);
        // Useless: no transaction can begin inside this one.
        let mut broken = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        sqlx::query("begin").execute(&mut broken).await.unwrap();
        let (queue, queued) = mpsc::channel(MOST);
        let writer = tokio::spawn(Writer::<Sqlite>::new(options.clone(), broken, queued, None).run());
        assert!(matches!(revoke(&queue).await, Err(StoreError::Database(_))), "there is no file");

        let mut made = options.create_if_missing(true).connect().await.unwrap();
        let tables = "create table api_keys (id text, org_id text, user_id text, role text, label text, revoked_at integer);
             create table audit_log (at integer, org_id text, user_id text, key_id text, action text,
                 object_type text, object_id text, details text)";
        sqlx::raw_sql(tables).execute(&mut made).await.unwrap();
        sqlx::query("insert into api_keys values ('k', 'o', 'u', 'user', '', null)")
            .execute(&mut made)
            .await
            .unwrap();
        assert!(revoke(&queue).await.unwrap());
        drop(queue);
        writer.await.unwrap();
    }
}
