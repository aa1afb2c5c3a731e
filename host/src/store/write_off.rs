//! Ending a run whose journal cannot be read: by its row alone.
//!
//! Such a run can neither go on nor end by an event, and would keep its session and its worker's place for
//! ever. What can be read of the journal stays for whoever looks into the damage.

use serde_json::json;

use super::dialect::{Dialect, Sql};
use super::lists;
use super::{StoreError, approvals, audit};
use crate::audit::{Action, Actor, AuditEntry, ObjectType};
use crate::clock::Timestamp;
use crate::event::Failure;
use crate::id::RunId;

/// How a run ends that cannot be read any more.
#[derive(Clone, Debug)]
pub enum WriteOff {
    Failed(Failure),
    Cancelled(Actor),
}

pub(super) async fn end<D: Dialect>(
    sql: &mut Sql<'_, D>,
    run: &RunId,
    end: &WriteOff,
    at: Timestamp,
) -> Result<(), StoreError> {
    let (status, failure) = match end {
        WriteOff::Failed(failure) => ("FAILED", Some(failure)),
        WriteOff::Cancelled(_) => ("CANCELLED", None),
    };
    // The next version is one that no event has: a compare-and-set of who still has the run in memory fails.
    let ended = sql
        .execute(
            "update runs set version = version + 1, status = $2, error_type = $3, error_message = $4,
                 completed_at = $5, updated_at = $5
             where id = $1 and status in ('QUEUED', 'RUNNING', 'PAUSED')",
            &[
                run.as_str().into(),
                status.into(),
                failure.map(|failure| failure.kind.as_str()).into(),
                failure.map(|failure| failure.message.as_str()).into(),
                at.into(),
            ],
        )
        .await?;
    if ended == 0 {
        return Ok(());
    }
    let WriteOff::Cancelled(by) = end else {
        return Ok(approvals::close(sql, run, None, at).await?);
    };
    approvals::close(sql, run, Some(&by.user), at).await?;
    if let Some(row) = lists::one(sql, run).await? {
        let entry = AuditEntry {
            at,
            org: row.owner.org,
            by: by.clone(),
            action: Action::RunCancelled,
            object: ObjectType::Run,
            object_id: run.to_string(),
            details: json!({"agentId": row.agent}),
        };
        audit::append(sql, &entry).await?;
    }
    Ok(())
}
