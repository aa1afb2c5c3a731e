//! Statements on runs and their journals.

use super::agents;
use super::approvals;
use super::audit;
use super::claims;
use super::dialect::{Dialect, Sql, Value};
use super::outbox;
use super::row::{self, ApprovalChange, EventRow, OriginRow, RunChange, RunRow};
use super::usage;
use super::writer::Undo;
use super::{Claim, Creation, KeyClaim, Lane, StoreError, Terms, queue};
use crate::budget::Day;
use crate::event::Recorded;
use crate::id::RunId;
use crate::run::Run;

pub(super) async fn create<D: Dialect>(
    sql: &mut Sql<'_, D>,
    origin: &OriginRow,
    change: &RunChange,
    terms: &Terms,
) -> Result<Creation, Undo<Creation>> {
    // First of all: a repeat says what the original said, whatever else has changed since.
    if let Some(claim) = &terms.claim
        && let Some(taken) = claims::find(sql, claim).await?
    {
        return Err(Undo::Refused(taken.into()));
    }
    if !join_session(sql, origin).await? {
        return Err(Undo::Refused(Creation::ForeignSession));
    }
    // One of the configuration file has no version, and hides a stored one of its id.
    if origin.agent_version > 0 && agents::is_deleted(sql, &origin.owner.org, &origin.agent).await? {
        return Err(Undo::Refused(Creation::AgentDeleted));
    }
    if let Some(refusal) = queue::refusal(sql, &origin.session, &change.row, terms).await? {
        return Err(Undo::Refused(refusal));
    }
    // Before the run, which takes its place in the day from there.
    count_usage(sql, change).await?;
    insert_run(sql, origin, &change.row, terms.lane).await?;
    append(sql, change).await?;
    if let Some(claim) = &terms.claim {
        claims::take(sql, claim, &change.row.id).await?;
    }
    Ok(Creation::Created)
}

pub(super) async fn save<D: Dialect>(
    sql: &mut Sql<'_, D>,
    change: &RunChange,
    claim: Option<&KeyClaim>,
) -> Result<Claim, Undo<Claim>> {
    if let Some(claim) = claim
        && let Some(taken) = claims::find(sql, claim).await?
    {
        return Err(Undo::Refused(taken));
    }
    update_run(sql, change).await?;
    count_usage(sql, change).await?;
    append(sql, change).await?;
    if let Some(claim) = claim {
        claims::take(sql, claim, &change.row.id).await?;
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
    lane: Lane,
) -> Result<(), StoreError> {
    let background: i64 = match lane {
        Lane::Direct => 0,
        Lane::Background => 1,
    };
    let fixed = [
        origin.session.as_str().into(),
        origin.owner.org.as_str().into(),
        origin.owner.user.as_str().into(),
        origin.agent.as_str().into(),
        origin.model.as_str().into(),
        origin.input.as_str().into(),
        origin.created_at.into(),
        origin.agent_version.into(),
        Day::of(origin.created_at).number().into(),
        background.into(),
        origin.max_concurrent.map(u64::from).into(),
    ];
    let inserted = sql
        .execute(
            "insert into runs (id, version, status, attempt, output, error_type, error_message, model_calls,
                 input_tokens, output_tokens, reasoning_tokens, active_ms, completed_at, updated_at, started_at,
                 tool_calls, failed_calls, cost_micros,
                 session_id, turn, org_id, user_id, agent_id, model, input, created_at, agent_version, day_ordinal,
                 background, max_concurrent)
             values ($1, $2, $3, $4, $5, $6, $7, $8,
                 $9, $10, $11, $12, $13, $14, $15,
                 $16, $17, $18,
                 $19, (select coalesce(max(turn), 0) + 1 from runs where session_id = $19),
                 $20, $21, $22, $23, $24, $25, $26,
                 (select runs from org_usage where org_id = $20 and day = $27),
                 $28, $29)
             on conflict (id) do nothing",
            &[changing_values(row).as_slice(), &fixed].concat(),
        )
        .await?;
    one_row(inserted)
}

/// The compare-and-set.
async fn update_run<D: Dialect>(sql: &mut Sql<'_, D>, change: &RunChange) -> Result<(), StoreError> {
    let updated = sql
        .execute(
            "update runs set version = $2, status = $3, attempt = $4, output = $5, error_type = $6,
                 error_message = $7, model_calls = $8, input_tokens = $9, output_tokens = $10,
                 reasoning_tokens = $11, active_ms = $12, completed_at = $13, updated_at = $14, started_at = $15,
                 tool_calls = $16, failed_calls = $17, cost_micros = $18
             where id = $1 and version = $19",
            &[changing_values(&change.row).as_slice(), &[change.follows.into()]].concat(),
        )
        .await?;
    one_row(updated)
}

/// What `$1` to `$18` are in both.
fn changing_values(row: &RunRow) -> [Value<'_>; 18] {
    [
        row.id.as_str().into(),
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
        row.started_at.into(),
        row.tool_calls.into(),
        row.failed_calls.into(),
        row.cost_micros.into(),
    ]
}

fn one_row(affected: u64) -> Result<(), StoreError> {
    if affected == 1 { Ok(()) } else { Err(StoreError::Conflict) }
}

async fn append<D: Dialect>(sql: &mut Sql<'_, D>, change: &RunChange) -> Result<(), StoreError> {
    let run = &change.row.id;
    for event in &change.events {
        insert_event(sql, run, event).await?;
    }
    for approval in &change.approvals {
        match approval {
            ApprovalChange::Opened(pending, at) => approvals::open(sql, run, pending, *at).await?,
            ApprovalChange::Resolved(resolution) => approvals::resolve(sql, run, resolution).await?,
            ApprovalChange::Closed { by, at } => approvals::close(sql, run, by.as_ref(), *at).await?,
        }
    }
    for entry in &change.audit {
        audit::append(sql, entry).await?;
    }
    for row in &change.outbox {
        outbox::insert(sql, row).await?;
    }
    Ok(())
}

async fn count_usage<D: Dialect>(sql: &mut Sql<'_, D>, change: &RunChange) -> Result<(), StoreError> {
    for usage in &change.usage {
        usage::add(sql, usage).await?;
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
        return Err(damaged(format!("{version} events are expected, {} are there", loaded.version())));
    }
    Ok(Some(loaded))
}

pub(super) async fn events_after<D: Dialect>(
    sql: &mut Sql<'_, D>,
    run: &RunId,
    seq: u64,
    limit: u32,
) -> Result<Vec<Recorded>, StoreError> {
    let rows = sql
        .rows(
            "select seq, kind, at, body from run_events where run_id = $1 and seq > $2 order by seq limit $3",
            &[run.as_str().into(), seq.into(), limit.into()],
        )
        .await?;
    rows.iter().map(row::event).collect()
}

pub(super) async fn running<D: Dialect>(sql: &mut Sql<'_, D>) -> Result<Vec<RunId>, StoreError> {
    let rows = sql.rows("select id from runs where status = 'RUNNING' order by created_at, id", &[]).await?;
    rows.iter().map(|row| row.text(0).map(RunId::from)).collect()
}
