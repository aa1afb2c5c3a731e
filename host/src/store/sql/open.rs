//! Opening the database: is its schema this program's, may it be brought up to date, and which installation is it?

use std::fs::File;
use std::sync::{Mutex, OnceLock};

use sqlx::ConnectOptions as _;
use sqlx::migrate::{Migrate as _, Migrator};
use sqlx::pool::PoolOptions;
use tokio::sync::mpsc;

use super::{Access, SqlStore};
use crate::store::StoreError;
use crate::store::dialect::{ConnectOptions, Dialect, Sql};
use crate::store::kill::KillPoint;
use crate::store::watch::Watchers;
use crate::store::writer::{self, Writer};

/// Readers at once. More would only queue for the same disk and cores.
const READERS: u32 = 4;

/// Bytes of the installation's random value.
const INSTALLATION: usize = 32;

impl<D: Dialect> SqlStore<D> {
    /// Brings the schema up to date where `lock` says that nobody else uses the database.
    pub(in crate::store) async fn open(
        writer: ConnectOptions<D>,
        readers: ConnectOptions<D>,
        access: Access,
        lock: Option<File>,
        kill: Option<KillPoint>,
    ) -> Result<Self, StoreError> {
        let mut connection = writer.connect().await?;
        match compare_schema::<D>(&mut connection).await? {
            Schema::Newer { found, known } => return Err(StoreError::Newer { found, known }),
            Schema::Same | Schema::Older if lock.is_some() => {
                // Not `run`: its bounds defeat the compiler's proof that this future is `Send`.
                let migrated = D::migrator().run_direct(None, &mut connection, false).await;
                migrated.map_err(StoreError::database)?;
            }
            Schema::Same => {}
            // To migrate under a running server would pull its tables away.
            Schema::Older => return Err(StoreError::InUse),
        }
        let installation = installation(&mut Sql::<D>(&mut connection)).await?;
        let owned = lock.filter(|_| access == Access::Owner);
        let (queue, queued) = mpsc::channel(writer::MOST);
        let watchers = Watchers::default();
        let task =
            Writer::<D>::new(writer, connection, queued, owned).telling(watchers.clone()).dying_at(kill);
        let task = tokio::spawn(task.run());
        Ok(Self {
            readers: PoolOptions::new().max_connections(READERS).connect_lazy_with(readers),
            queue: Mutex::new(Some(queue)),
            writer: tokio::sync::Mutex::new(Some(task)),
            installation,
            access,
            watchers,
            subscriptions: OnceLock::new(),
        })
    }
}

/// The database's schema against the one this program knows.
enum Schema {
    Older,
    Same,
    Newer { found: i64, known: i64 },
}

/// Only reads.
async fn compare_schema<D: Dialect>(connection: &mut D::Connection) -> Result<Schema, StoreError> {
    let migrator: &Migrator = D::migrator();
    let known = migrator.iter().map(|migration| migration.version).max().unwrap_or(0);
    let there = Sql::<D>(&mut *connection).row(D::HAS_MIGRATIONS, &[]).await?;
    if there.map(|row| row.int(0)).transpose()?.unwrap_or(0) == 0 {
        return Ok(Schema::Older);
    }
    let applied =
        connection.list_applied_migrations(&migrator.table_name).await.map_err(StoreError::database)?;
    let found = applied.iter().map(|migration| migration.version).max().unwrap_or(0);
    Ok(match found.cmp(&known) {
        std::cmp::Ordering::Less => Schema::Older,
        std::cmp::Ordering::Equal => Schema::Same,
        std::cmp::Ordering::Greater => Schema::Newer { found, known },
    })
}

/// Makes the installation's random value where there is none.
async fn installation<D: Dialect>(sql: &mut Sql<'_, D>) -> Result<Vec<u8>, StoreError> {
    let find = "select value from meta where name = 'installation'";
    if let Some(row) = sql.row(find, &[]).await? {
        return row.blob(0);
    }
    let mut random = [0_u8; INSTALLATION];
    getrandom::fill(&mut random).map_err(StoreError::database)?;
    sql.execute(
        "insert into meta (name, value) values ('installation', $1) on conflict (name) do nothing",
        &[random.as_slice().into()],
    )
    .await?;
    match sql.row(find, &[]).await? {
        Some(row) => row.blob(0),
        None => Err(StoreError::Damaged("the installation's random value is missing".to_owned())),
    }
}
