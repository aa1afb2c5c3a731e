//! Statements on runs, their journals, approvals and sessions, and on idempotency keys.

use super::dialect::{Columns, Dialect, Sql};
use super::row::{self, ApprovalChange, EventRow, OriginRow, Resolution, RunChange, RunRow};
use super::writer::Undo;
use super::{Claim, Creation, KeyClaim, StoreError};
use crate::clock::Timestamp;
use crate::id::{ApprovalId, RunId, SessionId, UserId};
use crate::run::Run;
use crate::session::{PastTurn, Session};
use crate::tool::PendingApproval;

pub(super) async fn create<D: Dialect>(
    sql: &mut Sql<'_, D>,
    origin: &OriginRow,
    change: &RunChange,
    claim: Option<&KeyClaim>,
) -> Result<Creation, Undo<Creation>> {
    // First of all: a repeat says what the original said, whatever else has changed since.
    if let Some(claim) = claim
        && let Some(taken) = find_claim(sql, claim).await?
    {
        return Err(Undo::Refused(taken.into()));
    }
    if !join_session(sql, origin).await? {
        return Err(Undo::Refused(Creation::ForeignSession));
    }
    insert_run(sql, origin, &change.row).await?;
    append(sql, change).await?;
    if let Some(claim) = claim {
        take_claim(sql, claim, &change.row.id).await?;
    }
    Ok(Creation::Created)
}

pub(super) async fn save<D: Dialect>(
    sql: &mut Sql<'_, D>,
    change: &RunChange,
    claim: Option<&KeyClaim>,
) -> Result<Claim, Undo<Claim>> {
    if let Some(claim) = claim
        && let Some(taken) = find_claim(sql, claim).await?
    {
        return Err(Undo::Refused(taken));
    }
    update_run(sql, change).await?;
    append(sql, change).await?;
    if let Some(claim) = claim {
        take_claim(sql, claim, &change.row.id).await?;
    }
    Ok(Claim::New)
}

/// Makes the session unless it is there. False = it is somebody else's. The update also makes two
/// processes that add a run to one session do so one after the other.
async fn join_session<D: Dialect>(sql: &mut Sql<'_, D>, origin: &OriginRow) -> Result<bool, sqlx::Error> {
    let (id, owner) = (origin.session.as_str(), &origin.owner);
    sql.execute(
        "insert into sessions (id, org_id, user_id, agent_id, title, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $6)
         on conflict (id) do nothing",
        &[
            id.into(),
            owner.org.as_str().into(),
            owner.user.as_str().into(),
            origin.agent.as_str().into(),
            origin.title.as_str().into(),
            origin.created_at.into(),
        ],
    )
    .await?;
    let joined = sql
        .execute(
            "update sessions set updated_at = $5
             where id = $1 and org_id = $2 and user_id = $3 and agent_id = $4",
            &[
                id.into(),
                owner.org.as_str().into(),
                owner.user.as_str().into(),
                origin.agent.as_str().into(),
                origin.created_at.into(),
            ],
        )
        .await?;
    Ok(joined == 1)
}

async fn insert_run<D: Dialect>(
    sql: &mut Sql<'_, D>,
    origin: &OriginRow,
    row: &RunRow,
) -> Result<(), StoreError> {
    let inserted = sql
        .execute(
            "insert into runs (id, session_id, turn, org_id, user_id, agent_id, model, input, created_at,
                 started_at, version, status, attempt, output, error_type, error_message, model_calls,
                 input_tokens, output_tokens, reasoning_tokens, active_ms, completed_at, updated_at)
             values ($1, $2, (select coalesce(max(turn), 0) + 1 from runs where session_id = $2),
                 $3, $4, $5, $6, $7, $8,
                 $8, $9, $10, $11, $12, $13, $14, $15,
                 $16, $17, $18, $19, $20, $21)
             on conflict (id) do nothing",
            &[
                row.id.as_str().into(),
                origin.session.as_str().into(),
                origin.owner.org.as_str().into(),
                origin.owner.user.as_str().into(),
                origin.agent.as_str().into(),
                origin.model.as_str().into(),
                origin.input.as_str().into(),
                origin.created_at.into(),
                row.version.into(),
                row.status.into(),
                row.attempt.into(),
                row.output.as_str().into(),
                row.error_type.into(),
                row.error_message.as_deref().into(),
                row.model_calls.into(),
                row.tokens.input.into(),
                row.tokens.output.into(),
                row.tokens.reasoning.into(),
                row.active_ms.into(),
                row.completed_at.into(),
                row.updated_at.into(),
            ],
        )
        .await?;
    one_row(inserted)
}

/// The compare-and-set.
async fn update_run<D: Dialect>(sql: &mut Sql<'_, D>, change: &RunChange) -> Result<(), StoreError> {
    let row = &change.row;
    let updated = sql
        .execute(
            "update runs set version = $3, status = $4, attempt = $5, output = $6, error_type = $7,
                 error_message = $8, model_calls = $9, input_tokens = $10, output_tokens = $11,
                 reasoning_tokens = $12, active_ms = $13, completed_at = $14, updated_at = $15
             where id = $1 and version = $2",
            &[
                row.id.as_str().into(),
                change.follows.into(),
                row.version.into(),
                row.status.into(),
                row.attempt.into(),
                row.output.as_str().into(),
                row.error_type.into(),
                row.error_message.as_deref().into(),
                row.model_calls.into(),
                row.tokens.input.into(),
                row.tokens.output.into(),
                row.tokens.reasoning.into(),
                row.active_ms.into(),
                row.completed_at.into(),
                row.updated_at.into(),
            ],
        )
        .await?;
    one_row(updated)
}

fn one_row(affected: u64) -> Result<(), StoreError> {
    if affected == 1 {
        Ok(())
    } else {
        Err(StoreError::Conflict)
    }
}

async fn append<D: Dialect>(sql: &mut Sql<'_, D>, change: &RunChange) -> Result<(), StoreError> {
    let run = &change.row.id;
    for event in &change.events {
        insert_event(sql, run, event).await?;
    }
    for approval in &change.approvals {
        match approval {
            ApprovalChange::Opened(pending, at) => open_approval(sql, run, pending, *at).await?,
            ApprovalChange::Resolved(resolution) => resolve_approval(sql, run, resolution).await?,
            ApprovalChange::Closed { by, at } => {
                sql.execute(
                    "update approvals set status = 'CANCELLED', resolved_by = $2, resolved_at = $3
                     where run_id = $1 and status = 'PENDING'",
                    &[
                        run.as_str().into(),
                        by.as_ref().map(UserId::as_str).into(),
                        (*at).into(),
                    ],
                )
                .await?;
            }
        }
    }
    Ok(())
}

async fn insert_event<D: Dialect>(
    sql: &mut Sql<'_, D>,
    run: &RunId,
    event: &EventRow,
) -> Result<(), sqlx::Error> {
    sql.execute(
        "insert into run_events (run_id, seq, kind, at, body) values ($1, $2, $3, $4, $5)",
        &[
            run.as_str().into(),
            event.seq.into(),
            event.kind.into(),
            event.at.into(),
            event.body.as_str().into(),
        ],
    )
    .await?;
    Ok(())
}

async fn open_approval<D: Dialect>(
    sql: &mut Sql<'_, D>,
    run: &RunId,
    pending: &PendingApproval,
    at: Timestamp,
) -> Result<(), sqlx::Error> {
    let tool = pending.tool.to_string();
    sql.execute(
        "insert into approvals (id, run_id, call_id, org_id, user_id, agent_id, tool_name, arguments,
             fingerprint, status, message, requested_by, created_at, expires_at)
         select $2, id, $3, org_id, user_id, agent_id, $4, $5, $6, 'PENDING', $7, user_id, $8, $9
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
        ],
    )
    .await?;
    Ok(())
}

async fn resolve_approval<D: Dialect>(
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

async fn take_claim<D: Dialect, T: From<Claim>>(
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
    match find_claim(sql, claim).await? {
        Some(taken) => Err(Undo::Refused(taken.into())),
        None => Err(Undo::Failed(StoreError::Conflict)),
    }
}

pub(super) async fn find_claim<D: Dialect>(
    sql: &mut Sql<'_, D>,
    claim: &KeyClaim,
) -> Result<Option<Claim>, StoreError> {
    let row = sql
        .row(
            "select request, run_id from idempotency_keys where org_id = $1 and user_id = $2 and key = $3",
            &[
                claim.org.as_str().into(),
                claim.user.as_str().into(),
                claim.key.as_str().into(),
            ],
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

pub(super) async fn load<D: Dialect>(sql: &mut Sql<'_, D>, run: &RunId) -> Result<Option<Run>, StoreError> {
    let rows = sql
        .rows(
            "select e.seq, e.kind, e.at, e.body, r.version
             from runs r left join run_events e on e.run_id = r.id
             where r.id = $1 order by e.seq",
            &[run.as_str().into()],
        )
        .await?;
    let Some(first) = rows.first() else {
        return Ok(None);
    };
    let version = first.count(4)?;
    let damaged = |what: String| StoreError::Damaged(format!("run {run}: {what}"));
    let events: Vec<_> = rows.iter().map(row::event).collect::<Result<_, _>>()?;
    let loaded = Run::replay(events).map_err(|error| damaged(error.to_string()))?;
    // Without its last events a run would do again what it has done.
    if loaded.version() != version {
        return Err(damaged(format!(
            "{version} events are expected, {} are there",
            loaded.version()
        )));
    }
    Ok(Some(loaded))
}

pub(super) async fn history<D: Dialect>(
    sql: &mut Sql<'_, D>,
    run: &RunId,
    limit: u32,
) -> Result<Vec<PastTurn>, StoreError> {
    let rows = sql
        .rows(
            "select past.input, past.output
             from runs this join runs past on past.session_id = this.session_id and past.turn < this.turn
             where this.id = $1 and past.status = 'COMPLETED'
             order by past.turn desc limit $2",
            &[run.as_str().into(), limit.into()],
        )
        .await?;
    let turn = |row: &Columns<D>| {
        Ok(PastTurn {
            input: row.text(0)?,
            output: row.text(1)?,
        })
    };
    rows.iter().rev().map(turn).collect()
}

pub(super) async fn session<D: Dialect>(
    sql: &mut Sql<'_, D>,
    id: &SessionId,
) -> Result<Option<Session>, StoreError> {
    let row = sql
        .row(
            "select id, org_id, user_id, agent_id, created_at from sessions where id = $1",
            &[id.as_str().into()],
        )
        .await?;
    row.as_ref().map(row::session).transpose()
}

pub(super) async fn running<D: Dialect>(sql: &mut Sql<'_, D>) -> Result<Vec<RunId>, StoreError> {
    let rows = sql
        .rows(
            "select id from runs where status = 'RUNNING' order by created_at, id",
            &[],
        )
        .await?;
    rows.iter().map(|row| row.text(0).map(RunId::from)).collect()
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
