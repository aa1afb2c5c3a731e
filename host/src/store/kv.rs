//! Statements on the plugins' values.
//!
//! Keys and values are *guest-controlled*. Keys are stored as bytes, so that their order is the one the WIT
//! promises, and a prefix is a range: no UTF-8 text contains the byte 0xFF, so what starts with a prefix
//! sorts before the prefix followed by it.

use super::dialect::{Columns, Dialect, Sql, Value};
use super::writer::Undo;
use super::{KvCondition, KvEntry, KvRefusal, KvSpace, StoreError};

/// A put on its way to the writer.
pub(super) struct Put {
    pub(super) space: KvSpace,
    pub(super) key: String,
    pub(super) value: Vec<u8>,
    pub(super) condition: KvCondition,
}

type Refused<T> = Undo<Result<T, KvRefusal>>;

/// An entry without its value.
#[derive(Default)]
struct Held {
    /// 0 = there is none.
    version: u64,
    bytes: i64,
}

pub(super) async fn get<D: Dialect>(
    sql: &mut Sql<'_, D>,
    space: &KvSpace,
    key: &str,
) -> Result<Option<KvEntry>, StoreError> {
    let [plugin, org, scope, id] = space_values(space);
    let row = sql
        .row(
            "select value, version from kv
             where plugin = $1 and org_id = $2 and scope = $3 and scope_id = $4 and key = $5",
            &[plugin, org, scope, id, key.as_bytes().into()],
        )
        .await?;
    let entry = |row: Columns<D>| Ok(KvEntry { value: row.blob(0)?, version: row.count(1)? });
    row.map(entry).transpose()
}

pub(super) async fn put<D: Dialect>(
    sql: &mut Sql<'_, D>,
    put: &Put,
) -> Result<Result<u64, KvRefusal>, Refused<u64>> {
    let Put { space, key, value, condition } = put;
    check_run(sql, space).await?;
    enter(sql, space).await?;
    let held = held(sql, space, key).await?;
    check_version(&held, condition.expected)?;
    let bytes = i64::try_from(key.len() + value.len()).unwrap_or(i64::MAX);
    let entries = i64::from(held.version == 0);
    if !book(sql, space, bytes - held.bytes, entries, condition).await? {
        let refusal = which_limit(sql, space, entries, condition).await?;
        return Err(Undo::Refused(Err(refusal)));
    }
    let version = held.version + 1;
    let [plugin, org, scope, id] = space_values(space);
    sql.execute(
        "insert into kv (plugin, org_id, scope, scope_id, key, value, version)
         values ($1, $2, $3, $4, $5, $6, $7)
         on conflict (plugin, org_id, scope, scope_id, key)
         do update set value = excluded.value, version = excluded.version",
        &[plugin, org, scope, id, key.as_bytes().into(), value.as_slice().into(), version.into()],
    )
    .await?;
    Ok(Ok(version))
}

pub(super) async fn delete<D: Dialect>(
    sql: &mut Sql<'_, D>,
    space: &KvSpace,
    key: &str,
    expected: Option<u64>,
) -> Result<Result<bool, KvRefusal>, Refused<bool>> {
    check_run(sql, space).await?;
    enter(sql, space).await?;
    let held = held(sql, space, key).await?;
    check_version(&held, expected)?;
    if held.version == 0 {
        return Err(Undo::Refused(Ok(false)));
    }
    let [plugin, org, scope, id] = space_values(space);
    sql.execute(
        "delete from kv where plugin = $1 and org_id = $2 and scope = $3 and scope_id = $4 and key = $5",
        &[plugin, org, scope, id, key.as_bytes().into()],
    )
    .await?;
    sql.execute(
        "update kv_spaces set bytes = bytes - $5, entries = entries - 1
         where plugin = $1 and org_id = $2 and scope = $3 and scope_id = $4",
        &[plugin, org, scope, id, held.bytes.into()],
    )
    .await?;
    Ok(Ok(true))
}

pub(super) async fn list<D: Dialect>(
    sql: &mut Sql<'_, D>,
    space: &KvSpace,
    prefix: &str,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<String>, StoreError> {
    let [plugin, org, scope, id] = space_values(space);
    let end = [prefix.as_bytes(), &[0xff]].concat();
    // No key is empty, so all of them sort after the empty text.
    let after = after.unwrap_or_default();
    let rows = sql
        .rows(
            "select key from kv
             where plugin = $1 and org_id = $2 and scope = $3 and scope_id = $4
                 and key >= $5 and key < $6 and key > $7
             order by key limit $8",
            &[
                plugin,
                org,
                scope,
                id,
                prefix.as_bytes().into(),
                end.as_slice().into(),
                after.as_bytes().into(),
                limit.into(),
            ],
        )
        .await?;
    let key = |row: &Columns<D>| {
        String::from_utf8(row.blob(0)?).map_err(|_| StoreError::Damaged("a key is not UTF-8".to_owned()))
    };
    rows.iter().map(key).collect()
}

/// A guest is stopped soon after its run was cancelled, but not before somebody was told that it is.
async fn check_run<D: Dialect, T>(sql: &mut Sql<'_, D>, space: &KvSpace) -> Result<(), Refused<T>> {
    let Some(run) = &space.run else { return Ok(()) };
    let ended = sql
        .row(
            "select 1 from runs where id = $1 and status in ('COMPLETED', 'FAILED', 'CANCELLED')",
            &[run.as_str().into()],
        )
        .await?;
    if ended.is_some() { Err(Undo::Refused(Err(KvRefusal::RunEnded))) } else { Ok(()) }
}

/// Makes the space where it is not there, and keeps other processes out of it until the commit.
async fn enter<D: Dialect>(sql: &mut Sql<'_, D>, space: &KvSpace) -> Result<(), sqlx::Error> {
    sql.execute(
        "insert into kv_spaces (plugin, org_id, scope, scope_id, bytes, entries)
         values ($1, $2, $3, $4, 0, 0)
         on conflict (plugin, org_id, scope, scope_id) do update set entries = kv_spaces.entries",
        &space_values(space),
    )
    .await?;
    Ok(())
}

async fn held<D: Dialect>(sql: &mut Sql<'_, D>, space: &KvSpace, key: &str) -> Result<Held, StoreError> {
    let [plugin, org, scope, id] = space_values(space);
    let row = sql
        .row(
            "select version, cast(length(key) + length(value) as bigint) from kv
             where plugin = $1 and org_id = $2 and scope = $3 and scope_id = $4 and key = $5",
            &[plugin, org, scope, id, key.as_bytes().into()],
        )
        .await?;
    let Some(row) = row else {
        return Ok(Held::default());
    };
    Ok(Held { version: row.count(0)?, bytes: row.int(1)? })
}

fn check_version<T>(held: &Held, expected: Option<u64>) -> Result<(), Refused<T>> {
    match expected {
        Some(expected) if expected != held.version => {
            Err(Undo::Refused(Err(KvRefusal::Conflict(held.version))))
        }
        Some(_) | None => Ok(()),
    }
}

/// Adds to what the space holds; false where that is too much. What makes it no larger always fits: the
/// operator may have lowered the quota meanwhile.
async fn book<D: Dialect>(
    sql: &mut Sql<'_, D>,
    space: &KvSpace,
    bytes: i64,
    entries: i64,
    condition: &KvCondition,
) -> Result<bool, sqlx::Error> {
    let [plugin, org, scope, id] = space_values(space);
    let booked = sql
        .execute(
            "update kv_spaces set bytes = bytes + $5, entries = entries + $6
             where plugin = $1 and org_id = $2 and scope = $3 and scope_id = $4
                 and ($5 <= 0 or bytes + $5 <= $7) and ($6 <= 0 or entries + $6 <= $8)",
            &[
                plugin,
                org,
                scope,
                id,
                bytes.into(),
                entries.into(),
                condition.max_bytes.into(),
                condition.max_entries.into(),
            ],
        )
        .await?;
    Ok(booked == 1)
}

async fn which_limit<D: Dialect>(
    sql: &mut Sql<'_, D>,
    space: &KvSpace,
    entries: i64,
    condition: &KvCondition,
) -> Result<KvRefusal, StoreError> {
    let row = sql
        .row(
            "select entries from kv_spaces
             where plugin = $1 and org_id = $2 and scope = $3 and scope_id = $4",
            &space_values(space),
        )
        .await?;
    let there = row.map(|row| row.count(0)).transpose()?.unwrap_or_default();
    if entries > 0 && there >= condition.max_entries { Ok(KvRefusal::Entries) } else { Ok(KvRefusal::Bytes) }
}

fn space_values(space: &KvSpace) -> [Value<'_>; 4] {
    [
        space.plugin.as_str().into(),
        space.org.as_str().into(),
        space.scope.into(),
        space.scope_id.as_str().into(),
    ]
}
