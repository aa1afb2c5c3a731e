//! What differs between databases, and the few lines through which every statement passes.
//!
//! Statements are written once, in portable SQL, for any [`Dialect`]. sqlx can be generic over its
//! databases, but then each `impl` repeats a dozen bounds (every bound type's `Encode`, `Decode` and
//! `Type`, the executor, the column index). Here a dialect binds and reads the three kinds of value that
//! rows hold, and nothing else needs a bound.

use sqlx::migrate::{Migrate, Migrator};
use sqlx::{Connection, Database};

use super::StoreError;
use crate::clock::Timestamp;

/// One kind of database.
pub(super) trait Dialect: Database<Connection: Migrate> {
    /// Begins a transaction that will write.
    const BEGIN: &'static str;
    /// Counts 1 where a migration has ever been applied.
    const HAS_MIGRATIONS: &'static str;
    /// Runs before the writer's connection is closed.
    const CHECKPOINT: Option<&'static str>;

    fn migrator() -> &'static Migrator;

    /// Runs a statement and counts the rows it affected.
    fn execute(
        connection: &mut Self::Connection,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> impl Future<Output = Result<u64, sqlx::Error>> + Send;

    fn fetch(
        connection: &mut Self::Connection,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> impl Future<Output = Result<Vec<Self::Row>, sqlx::Error>> + Send;

    fn int(row: &Self::Row, column: usize) -> Result<Option<i64>, sqlx::Error>;
    fn text(row: &Self::Row, column: usize) -> Result<Option<String>, sqlx::Error>;
    fn blob(row: &Self::Row, column: usize) -> Result<Option<Vec<u8>>, sqlx::Error>;
}

pub(super) type ConnectOptions<D> = <<D as Database>::Connection as Connection>::Options;

/// A value bound to a statement.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Int(Option<i64>),
    Text(Option<&'a str>),
    Blob(&'a [u8]),
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Int(Some(number))
    }
}

/// Counters. What does not fit is as good as the largest that does.
impl From<u64> for Value<'_> {
    fn from(number: u64) -> Self {
        Self::Int(Some(i64::try_from(number).unwrap_or(i64::MAX)))
    }
}

impl From<u32> for Value<'_> {
    fn from(number: u32) -> Self {
        Self::Int(Some(i64::from(number)))
    }
}

impl From<usize> for Value<'_> {
    fn from(number: usize) -> Self {
        Self::from(number as u64)
    }
}

impl From<Option<u64>> for Value<'_> {
    fn from(number: Option<u64>) -> Self {
        number.map_or(Self::Int(None), Self::from)
    }
}

impl From<Timestamp> for Value<'_> {
    fn from(at: Timestamp) -> Self {
        Self::from(at.as_millis())
    }
}

impl From<Option<Timestamp>> for Value<'_> {
    fn from(at: Option<Timestamp>) -> Self {
        Self::Int(at.map(Timestamp::as_millis))
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Some(text))
    }
}

impl<'a> From<Option<&'a str>> for Value<'a> {
    fn from(text: Option<&'a str>) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Blob(bytes)
    }
}

/// A connection to run statements on.
pub(super) struct Sql<'c, D: Dialect>(pub(super) &'c mut D::Connection);

impl<D: Dialect> Sql<'_, D> {
    /// Runs a statement and counts the rows it affected.
    pub(super) async fn execute(
        &mut self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<u64, sqlx::Error> {
        D::execute(self.0, sql, values).await
    }

    pub(super) async fn rows(
        &mut self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<Vec<Columns<D>>, sqlx::Error> {
        let rows = D::fetch(self.0, sql, values).await?;
        Ok(rows.into_iter().map(Columns).collect())
    }

    /// The first row.
    pub(super) async fn row(
        &mut self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<Option<Columns<D>>, sqlx::Error> {
        Ok(self.rows(sql, values).await?.into_iter().next())
    }
}

/// A row, read by position. A value that is not what the schema says is damage.
pub(super) struct Columns<D: Dialect>(D::Row);

impl<D: Dialect> Columns<D> {
    pub(super) fn int(&self, column: usize) -> Result<i64, StoreError> {
        self.opt_int(column)?.ok_or_else(|| missing(column))
    }

    pub(super) fn opt_int(&self, column: usize) -> Result<Option<i64>, StoreError> {
        D::int(&self.0, column).map_err(|error| unreadable(column, &error))
    }

    /// A counter.
    pub(super) fn count(&self, column: usize) -> Result<u64, StoreError> {
        let number = self.int(column)?;
        u64::try_from(number).map_err(|_| StoreError::Damaged(format!("column {column} is negative")))
    }

    pub(super) fn time(&self, column: usize) -> Result<Timestamp, StoreError> {
        self.int(column).map(Timestamp::from_millis)
    }

    pub(super) fn text(&self, column: usize) -> Result<String, StoreError> {
        self.opt_text(column)?.ok_or_else(|| missing(column))
    }

    pub(super) fn opt_text(&self, column: usize) -> Result<Option<String>, StoreError> {
        D::text(&self.0, column).map_err(|error| unreadable(column, &error))
    }

    pub(super) fn opt_count(&self, column: usize) -> Result<Option<u64>, StoreError> {
        let negative = |_| StoreError::Damaged(format!("column {column} is negative"));
        self.opt_int(column)?.map(|number| u64::try_from(number).map_err(negative)).transpose()
    }

    pub(super) fn blob(&self, column: usize) -> Result<Vec<u8>, StoreError> {
        let bytes = D::blob(&self.0, column).map_err(|error| unreadable(column, &error))?;
        bytes.ok_or_else(|| missing(column))
    }
}

fn missing(column: usize) -> StoreError {
    StoreError::Damaged(format!("column {column} is null"))
}

fn unreadable(column: usize, error: &sqlx::Error) -> StoreError {
    StoreError::Damaged(format!("column {column}: {error}"))
}
