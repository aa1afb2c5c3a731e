//! Statements on API keys.

use super::StoreError;
use super::dialect::{Dialect, Sql};
use super::row;
use crate::clock::Timestamp;
use crate::id::KeyId;
use crate::key::ApiKey;

pub(super) async fn add<D: Dialect>(
    sql: &mut Sql<'_, D>,
    key: &ApiKey,
    hash: &str,
) -> Result<(), StoreError> {
    sql.execute(
        "insert into api_keys (id, hash, org_id, user_id, role, label, created_at, revoked_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
        &[
            key.id.as_str().into(),
            hash.into(),
            key.owner.org.as_str().into(),
            key.owner.user.as_str().into(),
            key.role.as_str().into(),
            key.label.as_str().into(),
            key.created_at.into(),
            key.revoked_at.into(),
        ],
    )
    .await?;
    Ok(())
}

pub(super) async fn revoke<D: Dialect>(
    sql: &mut Sql<'_, D>,
    id: &KeyId,
    at: Timestamp,
) -> Result<bool, StoreError> {
    let revoked = sql
        .execute(
            "update api_keys set revoked_at = $2 where id = $1 and revoked_at is null",
            &[id.as_str().into(), at.into()],
        )
        .await?;
    Ok(revoked == 1)
}

pub(super) async fn find<D: Dialect>(sql: &mut Sql<'_, D>, hash: &str) -> Result<Option<ApiKey>, StoreError> {
    let row = sql
        .row(
            "select id, org_id, user_id, role, label, created_at, revoked_at
             from api_keys where hash = $1 and revoked_at is null",
            &[hash.into()],
        )
        .await?;
    row.as_ref().map(row::api_key).transpose()
}

pub(super) async fn all<D: Dialect>(sql: &mut Sql<'_, D>) -> Result<Vec<ApiKey>, StoreError> {
    let rows = sql
        .rows(
            "select id, org_id, user_id, role, label, created_at, revoked_at
             from api_keys order by created_at, id",
            &[],
        )
        .await?;
    rows.iter().map(row::api_key).collect()
}
