//! Statements on webhook deliveries: added in the transaction of what they tell, settled attempt by attempt.

use super::StoreError;
use super::dialect::{Columns, Dialect, Sql};
use super::lists::{Listed, Range};
use crate::clock::Timestamp;
use crate::id::{AgentId, ApprovalId, OrgId, RunId, SessionId, UserId};
use crate::session::Owner;
use crate::webhook::{Attempt, Delivery, Expiring, NewDelivery, Subscription};

/// Most approvals warned of in one transaction.
const WARNED_AT_ONCE: u32 = 100;

pub(super) async fn add<D: Dialect>(sql: &mut Sql<'_, D>, new: &NewDelivery) -> Result<(), sqlx::Error> {
    sql.execute(
        "insert into webhook_deliveries (id, endpoint, org_id, type, body, status, attempts, created_at,
             next_attempt_at)
         values ($1, $2, $3, $4, $5, 'PENDING', 0, $6, $6)",
        &[
            new.id.as_str().into(),
            new.endpoint.as_str().into(),
            new.org.as_str().into(),
            new.event.as_str().into(),
            new.body.as_str().into(),
            new.at.into(),
        ],
    )
    .await?;
    Ok(())
}

pub(super) async fn settle<D: Dialect>(
    sql: &mut Sql<'_, D>,
    id: &str,
    attempt: Attempt,
) -> Result<(), sqlx::Error> {
    let (status, next) = match (attempt.delivered, attempt.next) {
        (true, _) => ("DELIVERED", attempt.at),
        (false, Some(next)) => ("PENDING", next),
        (false, None) => ("DEAD", attempt.at),
    };
    sql.execute(
        "update webhook_deliveries
         set status = $2, attempts = attempts + 1, last_status = $3, last_attempt_at = $4, next_attempt_at = $5
         where id = $1",
        &[
            id.into(),
            status.into(),
            attempt.status.map(u64::from).into(),
            attempt.at.into(),
            next.into(),
        ],
    )
    .await?;
    Ok(())
}

pub(super) async fn warn<D: Dialect>(
    sql: &mut Sql<'_, D>,
    now: Timestamp,
    until: Timestamp,
    webhooks: &[Subscription],
) -> Result<u64, StoreError> {
    let rows = sql
        .rows(
            "select a.id, a.tool_name, a.run_id, r.session_id, a.agent_id, a.org_id, a.user_id, r.status
             from approvals a join runs r on r.id = a.run_id
             where a.status = 'PENDING' and a.expires_at > $1 and a.expires_at <= $2 and a.warned_at is null
             order by a.expires_at, a.id limit $3",
            &[now.into(), until.into(), WARNED_AT_ONCE.into()],
        )
        .await?;
    for row in &rows {
        let expiring = expiring(row)?;
        for delivery in expiring.deliveries(now, webhooks) {
            add(sql, &delivery).await?;
        }
        let warned = "update approvals set warned_at = $2 where id = $1";
        sql.execute(warned, &[expiring.approval.as_str().into(), now.into()]).await?;
    }
    Ok(rows.len() as u64)
}

fn expiring<D: Dialect>(row: &Columns<D>) -> Result<Expiring, StoreError> {
    Ok(Expiring {
        approval: ApprovalId::from(row.text(0)?),
        tool: row.text(1)?,
        run: RunId::from(row.text(2)?),
        session: SessionId::from(row.text(3)?),
        agent: AgentId::from(row.text(4)?),
        owner: Owner { org: OrgId::from(row.text(5)?), user: UserId::from(row.text(6)?) },
        status: row.text(7)?,
    })
}

pub(super) async fn prune<D: Dialect>(sql: &mut Sql<'_, D>, before: Timestamp) -> Result<u64, sqlx::Error> {
    sql.execute("delete from webhook_deliveries where created_at <= $1", &[before.into()]).await
}

/// Written out, because statements are constants.
macro_rules! columns {
    ($rest:literal) => {
        concat!(
            "select id, endpoint, type, body, status, attempts, last_status, created_at, last_attempt_at,
                 next_attempt_at
             from webhook_deliveries ",
            $rest
        )
    };
}

pub(super) async fn due<D: Dialect>(
    sql: &mut Sql<'_, D>,
    endpoint: &str,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<Delivery>, StoreError> {
    let due = columns!(
        "where endpoint = $1 and status = 'PENDING' and next_attempt_at <= $2
         order by next_attempt_at, id limit $3"
    );
    let rows = sql.rows(due, &[endpoint.into(), now.into(), limit.into()]).await?;
    rows.iter().map(delivery).collect()
}

pub(super) async fn list<D: Dialect>(
    sql: &mut Sql<'_, D>,
    org: Option<&OrgId>,
    range: Range,
) -> Result<Listed<Delivery>, StoreError> {
    let values = [org.map(OrgId::as_str).into()];
    let count = "select count(*) from webhook_deliveries where ($1 is null or org_id = $1)";
    let total = sql.row(count, &values).await?.map_or(Ok(0), |row| row.count(0))?;
    let page =
        columns!("where ($1 is null or org_id = $1) order by created_at desc, id desc limit $2 offset $3");
    let rows = sql.rows(page, &[&values[..], &range.values()].concat()).await?;
    Ok(Listed { rows: rows.iter().map(delivery).collect::<Result<_, _>>()?, total })
}

fn delivery<D: Dialect>(row: &Columns<D>) -> Result<Delivery, StoreError> {
    Ok(Delivery {
        id: row.text(0)?,
        endpoint: row.text(1)?,
        event: row.text(2)?,
        body: row.text(3)?,
        status: row.text(4)?,
        attempts: row.count(5)?,
        last_status: row.opt_count(6)?,
        created_at: row.time(7)?,
        last_attempt_at: row.opt_int(8)?.map(Timestamp::from_millis),
        next_attempt_at: row.time(9)?,
    })
}
