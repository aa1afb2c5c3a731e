//! Statements on sessions: listing, reading and deleting conversations. Nothing here reads a journal.

use super::dialect::{Columns, Dialect, Sql, Value};
use super::writer::Undo;
use super::{StoreError, row};
use crate::id::{AgentId, OrgId, RunId, SessionId, UserId};
use crate::session::Session;

/// Which sessions are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionFilter {
    pub org: OrgId,
    pub user: Option<UserId>,
    pub agent: Option<AgentId>,
}

/// A message of a session and what was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    pub input: String,
    /// Of a run that completed.
    pub output: Option<String>,
}

/// What deleting a session came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deletion {
    Deleted,
    NoSuchSession,
    /// This run is under way. Nothing was deleted.
    Busy(RunId),
}

/// `$1` = org, `$2` = user, `$3` = agent. A statement of its own where an index of its own helps.
macro_rules! pages {
    ($condition:literal) => {
        Pages {
            rows: concat!(
                "select id, org_id, user_id, agent_id, title, created_at, updated_at from sessions where ",
                $condition,
                " order by updated_at desc, id desc limit $4 offset $5"
            ),
            count: concat!("select count(*) from sessions where ", $condition),
        }
    };
}

struct Pages {
    rows: &'static str,
    count: &'static str,
}

const OF_ORG: Pages = pages!("org_id = $1 and $2 is null and $3 is null");
const OF_AGENT: Pages = pages!("org_id = $1 and agent_id = $3 and $2 is null");
const OF_USER: Pages = pages!("org_id = $1 and user_id = $2 and ($3 is null or agent_id = $3)");

/// The last used first, and how many there are in all.
pub(super) async fn page<D: Dialect>(
    sql: &mut Sql<'_, D>,
    filter: &SessionFilter,
    offset: u64,
    limit: u32,
) -> Result<(Vec<Session>, u64), StoreError> {
    let pages = match (&filter.user, &filter.agent) {
        (Some(_), _) => OF_USER,
        (None, Some(_)) => OF_AGENT,
        (None, None) => OF_ORG,
    };
    let values: [Value<'_>; 5] = [
        filter.org.as_str().into(),
        filter.user.as_ref().map(UserId::as_str).into(),
        filter.agent.as_ref().map(AgentId::as_str).into(),
        limit.into(),
        offset.into(),
    ];
    let rows = sql.rows(pages.rows, &values).await?;
    let total = sql.row(pages.count, &values[..3]).await?;
    let sessions = rows.iter().map(row::session).collect::<Result<_, _>>()?;
    Ok((sessions, total.map_or(Ok(0), |row| row.count(0))?))
}

pub(super) async fn find<D: Dialect>(
    sql: &mut Sql<'_, D>,
    id: &SessionId,
) -> Result<Option<Session>, StoreError> {
    let row = sql
        .row(
            "select id, org_id, user_id, agent_id, title, created_at, updated_at from sessions where id = $1",
            &[id.as_str().into()],
        )
        .await?;
    row.as_ref().map(row::session).transpose()
}

pub(super) async fn exchanges<D: Dialect>(
    sql: &mut Sql<'_, D>,
    session: &SessionId,
) -> Result<Vec<Exchange>, StoreError> {
    let rows = sql
        .rows(
            "select input, output, status from runs where session_id = $1 order by turn",
            &[session.as_str().into()],
        )
        .await?;
    let exchange = |row: &Columns<D>| {
        let output = (row.text(2)? == "COMPLETED").then(|| row.text(1)).transpose()?;
        Ok(Exchange { input: row.text(0)?, output })
    };
    rows.iter().map(exchange).collect()
}

pub(super) async fn delete<D: Dialect>(
    sql: &mut Sql<'_, D>,
    session: &SessionId,
) -> Result<Deletion, Undo<Deletion>> {
    let id = session.as_str();
    // The list in it is that of an index.
    let busy = sql
        .row(
            "select id from runs where session_id = $1 and status in ('QUEUED', 'RUNNING', 'PAUSED')
               and status <> 'PAUSED' order by turn limit 1",
            &[id.into()],
        )
        .await?;
    if let Some(row) = busy {
        return Err(Undo::Refused(Deletion::Busy(RunId::from(row.text(0)?))));
    }
    for table in [
        "delete from kv where (plugin, org_id, scope, scope_id) in (
             select plugin, org_id, scope, scope_id from kv_spaces
             where scope_id = $1 and scope = 'session'
               and org_id = (select org_id from sessions where id = $1))",
        "delete from kv_spaces where scope_id = $1 and scope = 'session'
           and org_id = (select org_id from sessions where id = $1)",
    ] {
        sql.execute(table, &[id.into()]).await?;
    }
    // Runs, and what hangs on them, go with it.
    let deleted = sql.execute("delete from sessions where id = $1", &[id.into()]).await?;
    Ok(if deleted == 1 { Deletion::Deleted } else { Deletion::NoSuchSession })
}
