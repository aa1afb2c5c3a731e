//! Idempotency keys, and statements on them.

use std::time::Duration;

use super::dialect::{Dialect, Sql};
use super::writer::Undo;
use super::{Creation, StoreError};
use crate::clock::Timestamp;
use crate::id::{ApprovalId, OrgId, RunId, UserId};

/// How long an idempotency key is remembered.
pub const CLAIM_AGE: Duration = Duration::from_hours(24);

/// A caller's `Idempotency-Key`: one principal's word for one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyClaim {
    pub org: OrgId,
    pub user: UserId,
    pub key: String,
    /// SHA-256 over method, path and body.
    pub request: String,
    /// The approvals that it is about; none = it starts a run.
    pub decides: Vec<ApprovalId>,
    pub at: Timestamp,
}

/// What a claim on an idempotency key came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The key was free.
    New,
    /// The same request came before: its run, and what it decided there. Nothing was written.
    Repeat { run: RunId, decides: Vec<ApprovalId> },
    /// The key belongs to another request. Nothing was written.
    Reused,
}

pub(super) async fn take<D: Dialect, T: From<Claim>>(
    sql: &mut Sql<'_, D>,
    claim: &KeyClaim,
    run: &RunId,
) -> Result<(), Undo<T>> {
    let decides = serde_json::to_string(&claim.decides).map_err(StoreError::database)?;
    let taken = sql
        .execute(
            "insert into idempotency_keys (org_id, user_id, key, request, run_id, created_at, decides)
             values ($1, $2, $3, $4, $5, $6, $8)
             on conflict (org_id, user_id, key) do update
             set request = excluded.request, run_id = excluded.run_id, created_at = excluded.created_at,
                 decides = excluded.decides
             where idempotency_keys.created_at <= $7",
            &[
                claim.org.as_str().into(),
                claim.user.as_str().into(),
                claim.key.as_str().into(),
                claim.request.as_str().into(),
                run.as_str().into(),
                claim.at.into(),
                forgotten(claim).into(),
                decides.as_str().into(),
            ],
        )
        .await?;
    if taken == 1 {
        return Ok(());
    }
    // Somebody else took it since it was looked up.
    match find(sql, claim).await? {
        Some(taken) => Err(Undo::Refused(taken.into())),
        None => Err(Undo::Failed(StoreError::Conflict)),
    }
}

pub(super) async fn find<D: Dialect>(
    sql: &mut Sql<'_, D>,
    claim: &KeyClaim,
) -> Result<Option<Claim>, StoreError> {
    let row = sql
        .row(
            "select request, run_id, decides from idempotency_keys
             where org_id = $1 and user_id = $2 and key = $3 and created_at > $4",
            &[
                claim.org.as_str().into(),
                claim.user.as_str().into(),
                claim.key.as_str().into(),
                forgotten(claim).into(),
            ],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    if row.text(0)? == claim.request {
        let decides = serde_json::from_str(&row.text(2)?)
            .map_err(|error| StoreError::Damaged(format!("idempotency key: {error}")))?;
        Ok(Some(Claim::Repeat { run: RunId::from(row.text(1)?), decides }))
    } else {
        Ok(Some(Claim::Reused))
    }
}

/// Forgets the keys claimed up to `before`.
pub(super) async fn prune<D: Dialect>(sql: &mut Sql<'_, D>, before: Timestamp) -> Result<u64, StoreError> {
    Ok(sql.execute("delete from idempotency_keys where created_at <= $1", &[before.into()]).await?)
}

/// A key claimed up to this time is as good as unknown.
fn forgotten(claim: &KeyClaim) -> Timestamp {
    claim.at.minus(CLAIM_AGE)
}

impl From<Claim> for Creation {
    fn from(claim: Claim) -> Self {
        match claim {
            Claim::New => Self::Created,
            Claim::Repeat { run, .. } => Self::Repeat(run),
            Claim::Reused => Self::KeyReused,
        }
    }
}
