//! SQLite: one file beside a lock file, in WAL mode, synced to disk at every commit.
//!
//! The lock file makes sure that one process owns the database: two would take up each other's runs. The
//! system drops the lock with the process, so that nothing has to be cleaned up after a crash.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::query::Query;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteRow, SqliteSynchronous,
};
use sqlx::{Row as _, Sqlite};

use super::StoreError;
use super::dialect::{Dialect, Value};

static MIGRATOR: Migrator = sqlx::migrate!("migrations/sqlite");

/// The first bytes of every SQLite file that is not empty.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// How often, 10 ms apart, to try for a lock: the former owner may be on its last commit.
const LOCK_TRIES: u32 = 50;

impl Dialect for Sqlite {
    // A transaction that begins as a reader may find that it cannot become a writer.
    const BEGIN: &'static str = "begin immediate";
    const HAS_MIGRATIONS: &'static str =
        "select count(*) from sqlite_master where type = 'table' and name = '_sqlx_migrations'";
    const CHECKPOINT: Option<&'static str> = Some("pragma wal_checkpoint(truncate)");

    fn migrator() -> &'static Migrator {
        &MIGRATOR
    }

    async fn execute(
        connection: &mut SqliteConnection,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<u64, sqlx::Error> {
        let result = bind(sql, values).execute(connection).await?;
        Ok(result.rows_affected())
    }

    async fn fetch(
        connection: &mut SqliteConnection,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<Vec<SqliteRow>, sqlx::Error> {
        bind(sql, values).fetch_all(connection).await
    }

    fn int(row: &SqliteRow, column: usize) -> Result<Option<i64>, sqlx::Error> {
        row.try_get(column)
    }

    fn text(row: &SqliteRow, column: usize) -> Result<Option<String>, sqlx::Error> {
        row.try_get(column)
    }

    fn blob(row: &SqliteRow, column: usize) -> Result<Option<Vec<u8>>, sqlx::Error> {
        row.try_get(column)
    }
}

fn bind<'q>(sql: &'static str, values: &[Value<'_>]) -> Query<'q, Sqlite, SqliteArguments> {
    values.iter().fold(sqlx::query(sql), |query, value| match value {
        Value::Int(number) => query.bind(*number),
        Value::Text(text) => query.bind(*text),
        Value::Blob(bytes) => query.bind(*bytes),
    })
}

/// A database file that exists and may be connected to.
pub(super) struct Place {
    pub(super) writer: SqliteConnectOptions,
    pub(super) readers: SqliteConnectOptions,
    lock: PathBuf,
}

impl Place {
    /// Finds the file that `url` names, or makes an empty one that only its owner can read.
    pub(super) fn prepare(url: &str) -> Result<Self, StoreError> {
        let (_, name) = url.split_once(':').unwrap_or_default();
        let name = name.strip_prefix("//").unwrap_or(name);
        if name.is_empty() || name.contains(['?', '#']) || name == ":memory:" {
            let what = "SQLite database without a file, or with parameters";
            return Err(StoreError::Unsupported(what.to_owned()));
        }
        let options = SqliteConnectOptions::from_str(url).map_err(StoreError::database)?;
        let path = make_file(options.get_filename()).map_err(StoreError::File)?;
        if !is_sqlite(&path).map_err(StoreError::File)? {
            return Err(StoreError::NotADatabase);
        }
        let mut lock = path.clone().into_os_string();
        lock.push(".lock");
        let options = options
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5));
        Ok(Self { readers: options.clone().pragma("query_only", "on"), writer: options, lock: lock.into() })
    }

    /// Takes the database for this process; it is given back when the file is dropped.
    pub(super) async fn lock(&self) -> Result<File, StoreError> {
        for _ in 0..LOCK_TRIES {
            if let Some(lock) = self.try_lock()? {
                return Ok(lock);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err(StoreError::InUse)
    }

    /// None = another process has it.
    pub(super) fn try_lock(&self) -> Result<Option<File>, StoreError> {
        let file = private().open(&self.lock).map_err(StoreError::File)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(StoreError::File(error)),
        }
    }
}

/// Returns the file's real path: a lock belongs to the file, however it was named.
fn make_file(path: &Path) -> io::Result<PathBuf> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        make_folder(folder)?;
    }
    private().open(path)?;
    path.canonicalize()
}

fn is_sqlite(path: &Path) -> io::Result<bool> {
    let mut start = Vec::with_capacity(MAGIC.len());
    File::open(path)?.take(MAGIC.len() as u64).read_to_end(&mut start)?;
    Ok(start.is_empty() || start == MAGIC)
}

#[cfg(unix)]
fn private() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    options
}

#[cfg(not(unix))]
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true);
    options
}

#[cfg(unix)]
fn make_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(not(unix))]
fn make_folder(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)
}

#[cfg(test)]
mod tests {
    use sqlx::{ConnectOptions as _, SqliteConnection};
    use tempfile::TempDir;

    use super::*;

    #[tokio::test]
    async fn connections_are_set_up_to_last() {
        let folder = TempDir::new().unwrap();
        let place = Place::prepare(&format!("sqlite:{}/a%20b.db", folder.path().display())).unwrap();
        assert!(folder.path().join("a b.db").exists(), "URLs are percent-encoded");
        let mut writer = place.writer.connect().await.unwrap();
        let mut reader = place.readers.connect().await.unwrap();
        let asked = async |connection: &mut SqliteConnection, pragma| -> String {
            let row = sqlx::query(pragma).fetch_one(connection).await.unwrap();
            row.try_get_unchecked(0).unwrap()
        };
        for connection in [&mut writer, &mut reader] {
            assert_eq!(asked(connection, "pragma journal_mode").await, "wal");
            assert_eq!(asked(connection, "pragma synchronous").await, "2", "FULL");
            assert_eq!(asked(connection, "pragma foreign_keys").await, "1");
            assert_eq!(asked(connection, "pragma busy_timeout").await, "5000");
        }
        let refused = sqlx::query("create table t (x integer)").execute(&mut reader).await;
        assert!(refused.is_err(), "readers do not write");
    }
}
