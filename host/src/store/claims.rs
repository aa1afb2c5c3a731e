//! Statements on idempotency keys.

use super::dialect::{Dialect, Sql};
use super::writer::Undo;
use super::{Claim, Creation, KeyClaim, StoreError};
use crate::id::RunId;

pub(super) async fn take<D: Dialect, T: From<Claim>>(
    sql: &mut Sql<'_, D>,
    claim: &KeyClaim,
    run: &RunId,
) -> Result<(), Undo<T>> {
    let taken = sql
        .execute(
            "insert into idempotency_keys (org_id, user_id, key, request, run_id, created_at)
             values ($1, $2, $3, $4, $5, $6)
             on conflict (org_id, user_id, key) do nothing",
            &[
                claim.org.as_str().into(),
                claim.user.as_str().into(),
                claim.key.as_str().into(),
                claim.request.as_str().into(),
                run.as_str().into(),
                claim.at.into(),
            ],
        )
        .await?;
    if taken == 1 {
        return Ok(());
    }
    // Another process took it since it was looked up.
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
            "select request, run_id from idempotency_keys where org_id = $1 and user_id = $2 and key = $3",
            &[claim.org.as_str().into(), claim.user.as_str().into(), claim.key.as_str().into()],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    if row.text(0)? == claim.request {
        Ok(Some(Claim::Repeat(RunId::from(row.text(1)?))))
    } else {
        Ok(Some(Claim::Reused))
    }
}

impl From<Claim> for Creation {
    fn from(claim: Claim) -> Self {
        match claim {
            Claim::New => Self::Created,
            Claim::Repeat(run) => Self::Repeat(run),
            Claim::Reused => Self::KeyReused,
        }
    }
}
