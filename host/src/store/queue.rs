//! The queue: which runs wait, who may start next, and whether another one is let in.
//!
//! The queue is the rows that say QUEUED; nothing about it is kept in memory. Of a session's unfinished
//! runs the first is the only one that may be at work or paused, so whoever is first may start.

use super::dialect::{Dialect, Sql};
use super::row::RunRow;
use super::{KeyClaim, StoreError};
use crate::id::{OrgId, RunId, SessionId};

/// On what terms a run is let in.
#[derive(Clone, Debug)]
pub struct Terms {
    pub claim: Option<KeyClaim>,
    pub lane: Lane,
    /// Refused while another run of its session is unfinished. A run that is not queued always is; behind
    /// a paused one none is let in.
    pub idle_session: bool,
    /// Most runs in the queue, with this one.
    pub max_queued: u32,
}

impl Default for Terms {
    fn default() -> Self {
        Self { claim: None, lane: Lane::Direct, idle_session: false, max_queued: u32::MAX }
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Creation {
    Created,
    /// As [`Claim::Repeat`](super::Claim::Repeat).
    Repeat(RunId),
    /// As [`Claim::Reused`](super::Claim::Reused).
    KeyReused,
    /// The session belongs to somebody else, or to another agent.
    ForeignSession,
    /// This run of the session is at work, or first in its queue.
    SessionBusy(RunId),
    /// This run of the session waits for humans.
    SessionPaused(RunId),
    QueueFull,
    /// The agent was deleted a moment ago.
    AgentDeleted,
}

/// What a queued run waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Its turn in its session: a caller is waiting, or was.
    Direct,
    /// A worker, too.
    Background,
}

/// Most background runs at work at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Of one agent that does not say itself.
    pub per_agent: u32,
    pub per_model: u32,
}

/// The background's tenants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueState {
    /// How many runs each has at work; those that have none are left out.
    pub at_work: Vec<(OrgId, u32)>,
    /// Those that have runs in the queue.
    pub waiting: Vec<OrgId>,
}

/// Why the run must not be let in, if so.
pub(super) async fn refusal<D: Dialect>(
    sql: &mut Sql<'_, D>,
    session: &SessionId,
    row: &RunRow,
    terms: &Terms,
) -> Result<Option<Creation>, StoreError> {
    let queued = row.status == "QUEUED";
    let unfinished = sql
        .row(
            "select id, status from runs
             where session_id = $1 and status in ('QUEUED', 'RUNNING', 'PAUSED')
             order by turn limit 1",
            &[session.as_str().into()],
        )
        .await?;
    if let Some(first) = unfinished {
        let id = RunId::from(first.text(0)?);
        if first.text(1)? == "PAUSED" {
            return Ok(Some(Creation::SessionPaused(id)));
        }
        if terms.idle_session || !queued {
            return Ok(Some(Creation::SessionBusy(id)));
        }
    }
    if queued && count(sql).await? >= u64::from(terms.max_queued) {
        return Ok(Some(Creation::QueueFull));
    }
    Ok(None)
}

async fn count<D: Dialect>(sql: &mut Sql<'_, D>) -> Result<u64, StoreError> {
    let row = sql.row("select count(*) from runs where status = 'QUEUED'", &[]).await?;
    row.map_or(Ok(0), |row| row.count(0))
}

pub(super) async fn state<D: Dialect>(sql: &mut Sql<'_, D>) -> Result<QueueState, StoreError> {
    let at_work = sql
        .rows(
            "select org_id, count(*) from runs where status = 'RUNNING' and background = 1 group by org_id",
            &[],
        )
        .await?;
    // From one organisation to the next in the index, past all of its rows.
    let waiting = sql
        .rows(
            "with recursive orgs (org_id) as (
                 select (select min(org_id) from runs where status = 'QUEUED' and background = 1)
                 union all
                 select (select min(org_id) from runs
                     where status = 'QUEUED' and background = 1 and org_id > orgs.org_id)
                 from orgs where orgs.org_id is not null
             )
             select org_id from orgs where org_id is not null",
            &[],
        )
        .await?;
    Ok(QueueState {
        at_work: at_work
            .iter()
            .map(|row| Ok((OrgId::from(row.text(0)?), u32::try_from(row.count(1)?).unwrap_or(u32::MAX))))
            .collect::<Result<_, StoreError>>()?,
        waiting: waiting.iter().map(|row| row.text(0).map(OrgId::from)).collect::<Result<_, _>>()?,
    })
}

pub(super) async fn next_in_background<D: Dialect>(
    sql: &mut Sql<'_, D>,
    org: &OrgId,
    caps: Caps,
    skip: &[RunId],
) -> Result<Option<RunId>, StoreError> {
    let rows = sql
        .rows(
            "select q.id from runs q
             where q.status = 'QUEUED' and q.background = 1 and q.org_id = $1
               and not exists (select 1 from runs e
                   where e.session_id = q.session_id and e.turn < q.turn
                     and e.status in ('QUEUED', 'RUNNING', 'PAUSED'))
               and (select count(*) from runs a
                   where a.status = 'RUNNING' and a.background = 1 and a.agent_id = q.agent_id)
                   < coalesce(q.max_concurrent, $2)
               and (select count(*) from runs m
                   where m.status = 'RUNNING' and m.background = 1 and m.model = q.model) < $3
             order by q.created_at, q.id limit $4",
            &[
                org.as_str().into(),
                caps.per_agent.into(),
                caps.per_model.into(),
                (skip.len() as u64 + 1).into(),
            ],
        )
        .await?;
    first_beside(skip, rows.iter().map(|row| row.text(0)))
}

pub(super) async fn next_in_line<D: Dialect>(
    sql: &mut Sql<'_, D>,
    skip: &[RunId],
) -> Result<Option<RunId>, StoreError> {
    let rows = sql
        .rows(
            "select q.id from runs q
             where q.status = 'QUEUED' and q.background = 0
               and not exists (select 1 from runs e
                   where e.session_id = q.session_id and e.turn < q.turn
                     and e.status in ('QUEUED', 'RUNNING', 'PAUSED'))
             order by q.created_at, q.id limit $1",
            &[(skip.len() as u64 + 1).into()],
        )
        .await?;
    first_beside(skip, rows.iter().map(|row| row.text(0)))
}

/// As many rows as there are to skip, and one more, are enough.
fn first_beside(
    skip: &[RunId],
    ids: impl Iterator<Item = Result<String, StoreError>>,
) -> Result<Option<RunId>, StoreError> {
    for id in ids {
        let id = RunId::from(id?);
        if !skip.contains(&id) {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

pub(super) async fn paused_in<D: Dialect>(
    sql: &mut Sql<'_, D>,
    session: &SessionId,
) -> Result<Option<RunId>, StoreError> {
    let row = sql
        .row(
            "select id from runs where session_id = $1 and status in ('QUEUED', 'RUNNING', 'PAUSED')
               and status = 'PAUSED'",
            &[session.as_str().into()],
        )
        .await?;
    row.map(|row| row.text(0).map(RunId::from)).transpose()
}
