//! The delivery log: each attempt to deliver an event of the outbox (`store/outbox.rs`).

use super::dialect::{Columns, Dialect, Sql};
use super::lists::{Listed, Range};
use super::{StoreError, WebhookAttempt};
use crate::clock::Timestamp;
use crate::id::{OrgId, RunId};

/// Which deliveries are meant; none = all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebhookFilter {
    pub endpoint: Option<String>,
    pub event: Option<String>,
    pub org: Option<OrgId>,
}

/// An attempt, with how its event stands now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookDelivery {
    pub event: String,
    pub kind: String,
    pub run: RunId,
    pub endpoint: String,
    /// From 1.
    pub attempt: u64,
    pub status: Option<u64>,
    pub error: Option<String>,
    pub duration_ms: u64,
    pub at: Timestamp,
    pub state: String,
    pub next_attempt_at: Option<Timestamp>,
}

/// As the next attempt of its event.
pub(super) async fn append<D: Dialect>(
    sql: &mut Sql<'_, D>,
    attempt: &WebhookAttempt,
) -> Result<(), sqlx::Error> {
    sql.execute(
        "insert into webhook_deliveries (event_id, endpoint, attempt, status, error, duration_ms, at)
         select event_id, endpoint, attempts + 1, $3, $4, $5, $6
         from webhook_outbox where event_id = $1 and endpoint = $2",
        &[
            attempt.event.as_str().into(),
            attempt.endpoint.as_str().into(),
            attempt.status.map(u64::from).into(),
            attempt.error.into(),
            attempt.duration_ms.into(),
            attempt.at.into(),
        ],
    )
    .await?;
    Ok(())
}

/// Written out, because statements are constants.
macro_rules! of_the_log {
    ($columns:literal, $rest:literal) => {
        concat!(
            "select ",
            $columns,
            " from webhook_deliveries d
                  join webhook_outbox o on o.event_id = d.event_id and o.endpoint = d.endpoint
              where ($1 is null or d.endpoint = $1) and ($2 is null or d.event_id = $2)
                  and ($3 is null or o.org_id = $3) ",
            $rest
        )
    };
}

/// Newest first.
pub(super) async fn list<D: Dialect>(
    sql: &mut Sql<'_, D>,
    filter: &WebhookFilter,
    range: Range,
) -> Result<Listed<WebhookDelivery>, StoreError> {
    let values = [
        filter.endpoint.as_deref().into(),
        filter.event.as_deref().into(),
        filter.org.as_ref().map(OrgId::as_str).into(),
    ];
    let count = of_the_log!("count(*)", "");
    let total = sql.row(count, &values).await?.map_or(Ok(0), |row| row.count(0))?;
    let page = of_the_log!(
        "d.event_id, d.endpoint, d.attempt, d.status, d.error, d.duration_ms, d.at, o.type, o.run_id, o.state,
             o.next_attempt_at",
        "order by d.at desc, d.event_id desc, d.endpoint, d.attempt desc limit $4 offset $5"
    );
    let rows = sql.rows(page, &[&values[..], &range.values()].concat()).await?;
    Ok(Listed { rows: rows.iter().map(delivery).collect::<Result<_, _>>()?, total })
}

fn delivery<D: Dialect>(row: &Columns<D>) -> Result<WebhookDelivery, StoreError> {
    Ok(WebhookDelivery {
        event: row.text(0)?,
        endpoint: row.text(1)?,
        attempt: row.count(2)?,
        status: row.opt_count(3)?,
        error: row.opt_text(4)?,
        duration_ms: row.count(5)?,
        at: row.time(6)?,
        kind: row.text(7)?,
        run: RunId::from(row.text(8)?),
        state: row.text(9)?,
        next_attempt_at: row.opt_int(10)?.map(Timestamp::from_millis),
    })
}
