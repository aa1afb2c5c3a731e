//! Statements on webhooks: what is to be delivered, and the log of what was tried.
//!
//! A row of `webhook_outbox` is one event for one endpoint, written in the transaction of the event itself.
//! A settled row is kept for a while with its log, so that it can be delivered again by hand.

use super::dialect::{Columns, Dialect, Sql};
use super::{
    DueWebhook, StoreError, WebhookAttempt, WebhookDelivery, WebhookFilter, WebhookPrune, WebhookThen,
};
use crate::clock::Timestamp;
use crate::id::{ApprovalId, OrgId, RunId};
use crate::notice::{ExpiringApproval, NoticeKind, Subscription, notices};
use crate::run::Run;

/// One event for one endpoint.
pub(super) struct OutboxRow {
    id: String,
    endpoint: String,
    kind: NoticeKind,
    run: RunId,
    org: OrgId,
    /// JSON.
    body: String,
    at: Timestamp,
}

/// An approval that is about to expire, with a row for each endpoint that wants to know.
pub(super) struct Announcement {
    approval: ApprovalId,
    rows: Vec<OutboxRow>,
    at: Timestamp,
}

impl OutboxRow {
    /// What a run's unsaved events have to tell to whom.
    pub(super) fn of(run: &Run, subscriptions: &[Subscription]) -> Vec<Self> {
        if subscriptions.is_empty() {
            return Vec::new();
        }
        let org = &run.spec().owner.org;
        let rows = notices(run).flat_map(|notice| {
            let wanted =
                subscriptions.iter().filter(move |subscription| subscription.wants(notice.kind, org));
            wanted.map(move |subscription| Self {
                id: notice.id(),
                endpoint: subscription.endpoint.clone(),
                kind: notice.kind,
                run: run.spec().id.clone(),
                org: org.clone(),
                body: notice.body(subscription.content),
                at: notice.at(),
            })
        });
        rows.collect()
    }
}

impl Announcement {
    pub(super) fn of(approval: &ExpiringApproval, at: Timestamp, subscriptions: &[Subscription]) -> Self {
        let kind = NoticeKind::ApprovalExpiring;
        let wanted = subscriptions.iter().filter(|subscription| subscription.wants(kind, &approval.org));
        let row = |subscription: &Subscription| OutboxRow {
            id: approval.notice_id(),
            endpoint: subscription.endpoint.clone(),
            kind,
            run: approval.run.clone(),
            org: approval.org.clone(),
            body: approval.body(at),
            at,
        };
        Self { approval: approval.id.clone(), rows: wanted.map(row).collect(), at }
    }
}

pub(super) async fn insert<D: Dialect>(sql: &mut Sql<'_, D>, row: &OutboxRow) -> Result<(), sqlx::Error> {
    sql.execute(
        "insert into webhook_outbox
             (event_id, endpoint, type, run_id, org_id, body, state, attempts, failures, next_attempt_at, created_at)
         values ($1, $2, $3, $4, $5, $6, 'PENDING', 0, 0, $7, $7)",
        &[
            row.id.as_str().into(),
            row.endpoint.as_str().into(),
            row.kind.word().into(),
            row.run.as_str().into(),
            row.org.as_str().into(),
            row.body.as_str().into(),
            row.at.into(),
        ],
    )
    .await?;
    Ok(())
}

pub(super) async fn announce_all<D: Dialect>(
    sql: &mut Sql<'_, D>,
    announcements: &[Announcement],
) -> Result<(), StoreError> {
    for announcement in announcements {
        announce(sql, announcement).await?;
    }
    Ok(())
}

/// Announces an approval unless that was done before, or it has been decided since it was looked at.
async fn announce<D: Dialect>(sql: &mut Sql<'_, D>, announcement: &Announcement) -> Result<(), StoreError> {
    let first = sql
        .execute(
            "insert into webhook_announcements (approval_id, at)
             select id, $2 from approvals where id = $1 and status = 'PENDING'
             on conflict (approval_id) do nothing",
            &[announcement.approval.as_str().into(), announcement.at.into()],
        )
        .await?;
    if first == 1 {
        for row in &announcement.rows {
            insert(sql, row).await?;
        }
    }
    Ok(())
}

/// Pending approvals that expire from `now` to `until` and have not been announced.
pub(super) async fn expiring<D: Dialect>(
    sql: &mut Sql<'_, D>,
    now: Timestamp,
    until: Timestamp,
    limit: u32,
) -> Result<Vec<ExpiringApproval>, StoreError> {
    let rows = sql
        .rows(
            "select a.id, a.run_id, r.session_id, a.agent_id, a.user_id, a.org_id, a.call_id, a.tool_name,
                 a.expires_at
             from approvals a join runs r on r.id = a.run_id
             where a.status = 'PENDING' and a.expires_at > $1 and a.expires_at <= $2
                 and not exists (select 1 from webhook_announcements w where w.approval_id = a.id)
             order by a.expires_at, a.id limit $3",
            &[now.into(), until.into(), limit.into()],
        )
        .await?;
    let approval = |row: &Columns<D>| {
        Ok(ExpiringApproval {
            id: ApprovalId::from(row.text(0)?),
            run: RunId::from(row.text(1)?),
            session: row.text(2)?,
            agent: row.text(3)?,
            user: row.text(4)?,
            org: OrgId::from(row.text(5)?),
            call: row.text(6)?,
            tool: row.text(7)?,
            expires_at: row.time(8)?,
        })
    };
    rows.iter().map(approval).collect()
}

pub(super) async fn due<D: Dialect>(
    sql: &mut Sql<'_, D>,
    endpoint: &str,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<DueWebhook>, StoreError> {
    let rows = sql
        .rows(
            "select event_id, body, failures from webhook_outbox
             where endpoint = $1 and state = 'PENDING' and next_attempt_at <= $2
             order by next_attempt_at, event_id limit $3",
            &[endpoint.into(), now.into(), limit.into()],
        )
        .await?;
    let due = |row: &Columns<D>| {
        Ok(DueWebhook { event: row.text(0)?, body: row.text(1)?, failures: row.count(2)? })
    };
    rows.iter().map(due).collect()
}

/// Logs an attempt, and says what follows it.
pub(super) async fn attempted<D: Dialect>(
    sql: &mut Sql<'_, D>,
    attempt: &WebhookAttempt,
) -> Result<(), StoreError> {
    let status = attempt.status.map(u64::from);
    sql.execute(
        "insert into webhook_deliveries (event_id, endpoint, attempt, status, error, duration_ms, at)
         select event_id, endpoint, attempts + 1, $3, $4, $5, $6
         from webhook_outbox where event_id = $1 and endpoint = $2",
        &[
            attempt.event.as_str().into(),
            attempt.endpoint.as_str().into(),
            status.into(),
            attempt.error.into(),
            attempt.duration_ms.into(),
            attempt.at.into(),
        ],
    )
    .await?;
    let (state, next, settled) = match attempt.then {
        WebhookThen::Delivered => ("DELIVERED", None, Some(attempt.at)),
        WebhookThen::Retry(next) => ("PENDING", Some(next), None),
        WebhookThen::Dead => ("DEAD", None, Some(attempt.at)),
    };
    sql.execute(
        "update webhook_outbox set state = $3, next_attempt_at = $4, settled_at = $5, attempts = attempts + 1,
             failures = failures + $6
         where event_id = $1 and endpoint = $2",
        &[
            attempt.event.as_str().into(),
            attempt.endpoint.as_str().into(),
            state.into(),
            next.into(),
            settled.into(),
            u64::from(attempt.then != WebhookThen::Delivered).into(),
        ],
    )
    .await?;
    Ok(())
}

/// Makes an event due again, with all its retries. Names the endpoints; none = there is no such event.
pub(super) async fn redeliver<D: Dialect>(
    sql: &mut Sql<'_, D>,
    event: &str,
    filter: &WebhookFilter,
    now: Timestamp,
) -> Result<Vec<String>, StoreError> {
    let values = [
        event.into(),
        filter.endpoint.as_deref().into(),
        filter.org.as_ref().map(OrgId::as_str).into(),
        now.into(),
    ];
    sql.execute(
        "update webhook_outbox set state = 'PENDING', failures = 0, next_attempt_at = $4, settled_at = null
         where event_id = $1 and ($2 is null or endpoint = $2) and ($3 is null or org_id = $3)",
        &values,
    )
    .await?;
    let rows = sql
        .rows(
            "select endpoint from webhook_outbox
             where event_id = $1 and ($2 is null or endpoint = $2) and ($3 is null or org_id = $3)
             order by endpoint",
            values.get(..3).unwrap_or_default(),
        )
        .await?;
    rows.iter().map(|row| row.text(0)).collect()
}

/// A page of the log, newest first, and how many entries there are in all.
pub(super) async fn deliveries<D: Dialect>(
    sql: &mut Sql<'_, D>,
    filter: &WebhookFilter,
    limit: u32,
    offset: u64,
) -> Result<(Vec<WebhookDelivery>, u64), StoreError> {
    let values = [
        filter.endpoint.as_deref().into(),
        filter.event.as_deref().into(),
        filter.org.as_ref().map(OrgId::as_str).into(),
        limit.into(),
        offset.into(),
    ];
    let rows = sql
        .rows(
            "select d.event_id, d.endpoint, d.attempt, d.status, coalesce(d.error, ''), d.duration_ms, d.at, o.type,
                 o.run_id, o.state, o.next_attempt_at
             from webhook_deliveries d
                 join webhook_outbox o on o.event_id = d.event_id and o.endpoint = d.endpoint
             where ($1 is null or d.endpoint = $1) and ($2 is null or d.event_id = $2)
                 and ($3 is null or o.org_id = $3)
             order by d.at desc, d.event_id desc, d.endpoint, d.attempt desc limit $4 offset $5",
            &values,
        )
        .await?;
    let total = sql
        .row(
            "select count(*) from webhook_deliveries d
                 join webhook_outbox o on o.event_id = d.event_id and o.endpoint = d.endpoint
             where ($1 is null or d.endpoint = $1) and ($2 is null or d.event_id = $2)
                 and ($3 is null or o.org_id = $3)",
            values.get(..3).unwrap_or_default(),
        )
        .await?;
    let total = total.map(|row| row.count(0)).transpose()?.unwrap_or(0);
    Ok((rows.iter().map(delivery).collect::<Result<_, _>>()?, total))
}

fn delivery<D: Dialect>(row: &Columns<D>) -> Result<WebhookDelivery, StoreError> {
    Ok(WebhookDelivery {
        event: row.text(0)?,
        endpoint: row.text(1)?,
        attempt: row.count(2)?,
        status: row.opt_int(3)?.and_then(|status| u16::try_from(status).ok()),
        error: Some(row.text(4)?).filter(|word| !word.is_empty()),
        duration_ms: row.count(5)?,
        at: row.time(6)?,
        kind: row.text(7)?,
        run: RunId::from(row.text(8)?),
        state: row.text(9)?,
        next_attempt_at: row.opt_int(10)?.map(Timestamp::from_millis),
    })
}

/// Forgets what was settled long ago, and what waits for endpoints that nobody serves any more.
pub(super) async fn prune<D: Dialect>(sql: &mut Sql<'_, D>, prune: &WebhookPrune) -> Result<u64, StoreError> {
    let mut gone = sql
        .execute(
            "delete from webhook_outbox where (event_id, endpoint) in
                 (select event_id, endpoint from webhook_outbox where settled_at < $1 order by settled_at limit $2)",
            &[prune.before.into(), prune.limit.into()],
        )
        .await?;
    let waiting = sql
        .rows(
            "select distinct endpoint from webhook_outbox where state = 'PENDING' and created_at < $1",
            &[prune.before.into()],
        )
        .await?;
    for row in &waiting {
        let endpoint = row.text(0)?;
        if prune.served.contains(&endpoint) {
            continue;
        }
        gone += sql
            .execute(
                "delete from webhook_outbox where (event_id, endpoint) in
                     (select event_id, endpoint from webhook_outbox
                      where endpoint = $1 and state = 'PENDING' and created_at < $2 order by created_at limit $3)",
                &[endpoint.as_str().into(), prune.before.into(), prune.limit.into()],
            )
            .await?;
    }
    Ok(gone)
}
