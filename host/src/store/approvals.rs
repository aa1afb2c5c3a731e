//! Statements on approvals. The journal decides; these rows are how approvals are found and listed.

use serde_json::Value;

use super::dialect::{Columns, Dialect, Sql};
use super::row::Resolution;
use super::{Listed, Range, StoreError};
use crate::clock::Timestamp;
use crate::id::{AgentId, ApprovalId, OrgId, RunId, UserId};
use crate::session::Owner;
use crate::tool::{PendingApproval, Question};

pub(super) async fn open<D: Dialect>(
    sql: &mut Sql<'_, D>,
    run: &RunId,
    pending: &PendingApproval,
    at: Timestamp,
) -> Result<(), sqlx::Error> {
    let tool = pending.tool.to_string();
    let answer_schema = pending.inquiry.as_ref().map(|inquiry| inquiry.answer_schema.to_string());
    sql.execute(
        "insert into approvals (id, run_id, call_id, org_id, user_id, agent_id, tool_name, arguments,
             fingerprint, status, message, requested_by, created_at, expires_at, question, approvers, answer_schema,
             digest)
         select $2, id, $3, org_id, user_id, agent_id, $4, $5, $6, 'PENDING', $7, user_id, $8, $9, $10, $11, $12, $13
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
            answer_schema.as_deref().into(),
            pending.digest.as_deref().into(),
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

/// Whose approvals are meant; none = everybody's.
#[derive(Clone, Debug, Default)]
pub struct ApprovalFilter {
    pub org: Option<OrgId>,
    pub user: Option<UserId>,
}

/// An approval as its row says.
#[derive(Clone, Debug, PartialEq)]
pub struct ApprovalRow {
    pub id: ApprovalId,
    pub run: RunId,
    /// Whose run it is.
    pub owner: Owner,
    pub agent: AgentId,
    pub tool: String,
    pub question: Question,
    /// Of [`Question::Input`].
    pub answer_schema: Option<Value>,
    /// JSON text.
    pub arguments: String,
    pub status: String,
    pub resolved_by: Option<UserId>,
    pub comment: Option<String>,
    pub message: String,
    pub created_at: Timestamp,
    pub resolved_at: Option<Timestamp>,
    pub expires_at: Timestamp,
}

/// Written out, because statements are constants.
macro_rules! columns {
    ($rest:literal) => {
        concat!(
            "select id, run_id, org_id, user_id, agent_id, tool_name, arguments, status, resolved_by, comment, message,
                 created_at, resolved_at, expires_at, question, answer_schema
             from approvals ",
            $rest
        )
    };
}

/// Those that a no can answer, oldest first: not what became of a call at a crash.
pub(super) async fn pending<D: Dialect>(
    sql: &mut Sql<'_, D>,
    filter: &ApprovalFilter,
    range: Range,
) -> Result<Listed<ApprovalRow>, StoreError> {
    let values =
        [filter.org.as_ref().map(OrgId::as_str).into(), filter.user.as_ref().map(UserId::as_str).into()];
    let count = "select count(*) from approvals where status = 'PENDING' and question <> 'outcome_unknown'
        and ($1 is null or org_id = $1) and ($2 is null or user_id = $2)";
    let total = sql.row(count, &values).await?.map_or(Ok(0), |row| row.count(0))?;
    let page = columns!(
        "where status = 'PENDING' and question <> 'outcome_unknown'
             and ($1 is null or org_id = $1) and ($2 is null or user_id = $2)
         order by created_at, id limit $3 offset $4"
    );
    let rows = sql.rows(page, &[&values[..], &range.values()].concat()).await?;
    Ok(Listed { rows: rows.iter().map(approval).collect::<Result<_, _>>()?, total })
}

pub(super) async fn find<D: Dialect>(
    sql: &mut Sql<'_, D>,
    id: &ApprovalId,
) -> Result<Option<ApprovalRow>, StoreError> {
    let row = sql.row(columns!("where id = $1"), &[id.as_str().into()]).await?;
    row.as_ref().map(approval).transpose()
}

fn approval<D: Dialect>(row: &Columns<D>) -> Result<ApprovalRow, StoreError> {
    Ok(ApprovalRow {
        id: ApprovalId::from(row.text(0)?),
        run: RunId::from(row.text(1)?),
        owner: Owner { org: OrgId::from(row.text(2)?), user: UserId::from(row.text(3)?) },
        agent: AgentId::from(row.text(4)?),
        tool: row.text(5)?,
        arguments: row.text(6)?,
        status: row.text(7)?,
        resolved_by: row.opt_text(8)?.map(UserId::from),
        comment: row.opt_text(9)?,
        message: row.text(10)?,
        created_at: row.time(11)?,
        resolved_at: row.opt_int(12)?.map(Timestamp::from_millis),
        expires_at: row.time(13)?,
        question: question(row, 14)?,
        answer_schema: answer_schema(row, 15)?,
    })
}

pub(super) fn question<D: Dialect>(row: &Columns<D>, column: usize) -> Result<Question, StoreError> {
    let word = row.text(column)?;
    Question::ALL
        .into_iter()
        .find(|question| question.word() == word)
        .ok_or_else(|| StoreError::Damaged(format!("`{word}` is no question")))
}

pub(super) fn answer_schema<D: Dialect>(
    row: &Columns<D>,
    column: usize,
) -> Result<Option<Value>, StoreError> {
    let text = row.opt_text(column)?;
    let parsed = text.map(|text| serde_json::from_str(&text)).transpose();
    parsed.map_err(|error| StoreError::Damaged(format!("an answer's schema: {error}")))
}
