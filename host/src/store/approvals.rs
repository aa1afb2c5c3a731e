//! Statements on approvals. The journal decides; these rows are how approvals are found and listed.

use super::StoreError;
use super::dialect::{Columns, Dialect, Sql};
use super::row::Resolution;
use crate::clock::Timestamp;
use crate::id::{ApprovalId, RunId, UserId};
use crate::tool::PendingApproval;

pub(super) async fn open<D: Dialect>(
    sql: &mut Sql<'_, D>,
    run: &RunId,
    pending: &PendingApproval,
    at: Timestamp,
) -> Result<(), sqlx::Error> {
    let tool = pending.tool.to_string();
    sql.execute(
        "insert into approvals (id, run_id, call_id, org_id, user_id, agent_id, tool_name, arguments,
             fingerprint, status, message, requested_by, created_at, expires_at, question, approvers)
         select $2, id, $3, org_id, user_id, agent_id, $4, $5, $6, 'PENDING', $7, user_id, $8, $9, $10, $11
         from runs where id = $1",
        &[
            run.as_str().into(),
            pending.id.as_str().into(),
            pending.call.id.as_str().into(),
            tool.as_str().into(),
            pending.call.arguments.as_str().into(),
            pending.fingerprint.as_str().into(),
            pending.message.as_str().into(),
            at.into(),
            pending.expires_at.into(),
            pending.question.word().into(),
            pending.approvers.into(),
        ],
    )
    .await?;
    Ok(())
}

pub(super) async fn resolve<D: Dialect>(
    sql: &mut Sql<'_, D>,
    run: &RunId,
    resolution: &Resolution,
) -> Result<(), StoreError> {
    let resolved = sql
        .execute(
            "update approvals
             set status = $3, resolved_by = $4, resolved_at = $5, comment = $6, edited_arguments = $7
             where id = $1 and run_id = $2 and status = 'PENDING'",
            &[
                resolution.id.as_str().into(),
                run.as_str().into(),
                resolution.status.into(),
                resolution.by.as_str().into(),
                resolution.at.into(),
                resolution.comment.as_deref().into(),
                resolution.edited_arguments.as_deref().into(),
            ],
        )
        .await?;
    if resolved == 1 {
        Ok(())
    } else {
        // The run's version matched, so its journal says that it is pending.
        let what = format!("approval {} of run {run} is not pending", resolution.id);
        Err(StoreError::Damaged(what))
    }
}

/// Voids what is still pending.
pub(super) async fn close<D: Dialect>(
    sql: &mut Sql<'_, D>,
    run: &RunId,
    by: Option<&UserId>,
    at: Timestamp,
) -> Result<(), sqlx::Error> {
    sql.execute(
        "update approvals set status = 'CANCELLED', resolved_by = $2, resolved_at = $3
         where run_id = $1 and status = 'PENDING'",
        &[run.as_str().into(), by.map(UserId::as_str).into(), at.into()],
    )
    .await?;
    Ok(())
}

pub(super) async fn expired<D: Dialect>(
    sql: &mut Sql<'_, D>,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<(RunId, ApprovalId)>, StoreError> {
    let rows = sql
        .rows(
            "select run_id, id from approvals where status = 'PENDING' and expires_at <= $1
             order by expires_at, id limit $2",
            &[now.into(), limit.into()],
        )
        .await?;
    let approval = |row: &Columns<D>| Ok((RunId::from(row.text(0)?), ApprovalId::from(row.text(1)?)));
    rows.iter().map(approval).collect()
}
