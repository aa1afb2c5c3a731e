//! Statements on API keys.

use serde_json::{Value, json};

use super::StoreError;
use super::audit;
use super::dialect::{Dialect, Sql};
use super::row;
use crate::audit::{Action, Actor, AuditEntry, ObjectType};
use crate::clock::Timestamp;
use crate::id::{KeyId, OrgId};
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
    let details = json!({"role": key.role.as_str(), "userId": key.owner.user, "label": key.label});
    let entry = entry(Action::KeyCreated, &key.id, &key.owner.org, key.created_at);
    audit::append(sql, &AuditEntry { details, ..entry }).await?;
    Ok(())
}

pub(super) async fn revoke<D: Dialect>(
    sql: &mut Sql<'_, D>,
    id: &KeyId,
    at: Timestamp,
) -> Result<bool, StoreError> {
    let revoked = sql
        .row(
            "update api_keys set revoked_at = $2 where id = $1 and revoked_at is null
             returning org_id, user_id, role, label",
            &[id.as_str().into(), at.into()],
        )
        .await?;
    let Some(row) = revoked else { return Ok(false) };
    let org = OrgId::from(row.text(0)?);
    let details = json!({"role": row.text(2)?, "userId": row.text(1)?, "label": row.text(3)?});
    let entry = entry(Action::KeyRevoked, id, &org, at);
    audit::append(sql, &AuditEntry { details, ..entry }).await?;
    Ok(true)
}

/// The command line is the one door to keys.
fn entry(action: Action, id: &KeyId, org: &OrgId, at: Timestamp) -> AuditEntry {
    AuditEntry {
        at,
        org: org.clone(),
        by: Actor::command_line(),
        action,
        object: ObjectType::Key,
        object_id: id.to_string(),
        details: Value::Null,
    }
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
