//! The outbox of webhooks: what is to be told to whom, and what came of it.
//!
//! A row of `webhook_outbox` is one event for one endpoint, written in the transaction of the event itself.
//! A settled row is kept for a while with its log (`store/deliveries.rs`), so that it can be delivered again
//! by hand.

use serde_json::json;

use super::dialect::{Columns, Dialect, Sql};
use super::{StoreError, audit, deliveries};
use crate::audit::{Action, Actor, AuditEntry, ObjectType};
use crate::clock::Timestamp;
use crate::id::{OrgId, RunId};
use crate::notice::{NoticeKind, Subscription, notices};
use crate::run::Run;

/// One event for one endpoint.
pub(super) struct OutboxRow {
    pub(super) id: String,
    pub(super) endpoint: String,
    pub(super) kind: NoticeKind,
    pub(super) run: RunId,
    pub(super) org: OrgId,
    /// JSON.
    pub(super) body: String,
    pub(super) at: Timestamp,
}

/// An event that waits for one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueWebhook {
    pub event: String,
    /// JSON.
    pub body: String,
    /// Attempts that failed since it was written or redelivered.
    pub failures: u64,
    pub due_at: Timestamp,
    /// A human wants it delivered again.
    pub by_hand: bool,
}

/// What came of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookAttempt {
    pub event: String,
    pub endpoint: String,
    /// [`DueWebhook::due_at`]: tells whether the event was redelivered meanwhile.
    pub due_at: Timestamp,
    /// Of HTTP, where there was an answer.
    pub status: Option<u16>,
    /// None = a success.
    pub error: Option<&'static str>,
    pub duration_ms: u64,
    pub at: Timestamp,
    pub then: WebhookThen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookThen {
    Delivered,
    Retry(Timestamp),
    Dead,
}

/// A human's wish that an event is delivered again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redelivery {
    pub event: String,
    /// None = wherever it was for.
    pub endpoint: Option<String>,
    /// None = whosever it is.
    pub org: Option<OrgId>,
    pub by: Actor,
    pub at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookPrune {
    pub before: Timestamp,
    /// Most events of each kind.
    pub limit: u32,
    /// Endpoints whose events are never too old to be delivered.
    pub served: Vec<String>,
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

pub(super) async fn insert<D: Dialect>(sql: &mut Sql<'_, D>, row: &OutboxRow) -> Result<(), sqlx::Error> {
    sql.execute(
        "insert into webhook_outbox (event_id, endpoint, type, run_id, org_id, body, state, attempts, failures,
             next_attempt_at, created_at)
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

pub(super) async fn due<D: Dialect>(
    sql: &mut Sql<'_, D>,
    endpoint: &str,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<DueWebhook>, StoreError> {
    let rows = sql
        .rows(
            "select event_id, body, failures, next_attempt_at, attempts from webhook_outbox
             where endpoint = $1 and state = 'PENDING' and next_attempt_at <= $2
             order by next_attempt_at, event_id limit $3",
            &[endpoint.into(), now.into(), limit.into()],
        )
        .await?;
    let due = |row: &Columns<D>| {
        let failures = row.count(2)?;
        Ok(DueWebhook {
            event: row.text(0)?,
            body: row.text(1)?,
            failures,
            due_at: row.time(3)?,
            by_hand: failures == 0 && row.count(4)? > 0,
        })
    };
    rows.iter().map(due).collect()
}

/// Logs an attempt, and says what follows it.
pub(super) async fn attempted<D: Dialect>(
    sql: &mut Sql<'_, D>,
    attempt: &WebhookAttempt,
) -> Result<(), StoreError> {
    deliveries::append(sql, attempt).await?;
    let (event, endpoint) = (attempt.event.as_str(), attempt.endpoint.as_str());
    sql.execute(
        "update webhook_outbox set attempts = attempts + 1 where event_id = $1 and endpoint = $2",
        &[event.into(), endpoint.into()],
    )
    .await?;
    let (state, next, settled) = match attempt.then {
        WebhookThen::Delivered => ("DELIVERED", None, Some(attempt.at)),
        WebhookThen::Retry(next) => ("PENDING", Some(next), None),
        WebhookThen::Dead => ("DEAD", None, Some(attempt.at)),
    };
    // Where it was redelivered meanwhile, the attempt decides nothing: it may be why somebody asked.
    sql.execute(
        "update webhook_outbox set state = $3, next_attempt_at = $4, settled_at = $5, failures = failures + $6
         where event_id = $1 and endpoint = $2 and next_attempt_at = $7",
        &[
            event.into(),
            endpoint.into(),
            state.into(),
            next.into(),
            settled.into(),
            u64::from(attempt.then != WebhookThen::Delivered).into(),
            attempt.due_at.into(),
        ],
    )
    .await?;
    Ok(())
}

/// Makes an event due again, with all its retries. Names the endpoints; none = there is no such event.
pub(super) async fn redeliver<D: Dialect>(
    sql: &mut Sql<'_, D>,
    redelivery: &Redelivery,
) -> Result<Vec<String>, StoreError> {
    let rows = sql
        .rows(
            "update webhook_outbox set state = 'PENDING', failures = 0, next_attempt_at = $4, settled_at = null
             where event_id = $1 and ($2 is null or endpoint = $2) and ($3 is null or org_id = $3)
             returning endpoint, org_id",
            &[
                redelivery.event.as_str().into(),
                redelivery.endpoint.as_deref().into(),
                redelivery.org.as_ref().map(OrgId::as_str).into(),
                redelivery.at.into(),
            ],
        )
        .await?;
    let Some(first) = rows.first() else { return Ok(Vec::new()) };
    let mut endpoints: Vec<String> = rows.iter().map(|row| row.text(0)).collect::<Result<_, _>>()?;
    endpoints.sort();
    let entry = AuditEntry {
        at: redelivery.at,
        org: OrgId::from(first.text(1)?),
        by: redelivery.by.clone(),
        action: Action::WebhookRedelivered,
        object: ObjectType::Webhook,
        object_id: redelivery.event.clone(),
        details: json!({"endpoints": endpoints}),
    };
    audit::append(sql, &entry).await?;
    Ok(endpoints)
}

/// Whether [`prune`] may find something.
pub(super) async fn has_old<D: Dialect>(
    sql: &mut Sql<'_, D>,
    prune: &WebhookPrune,
) -> Result<bool, StoreError> {
    let found = sql
        .row(
            "select 1 where exists (select 1 from webhook_outbox where settled_at < $1)
                 or exists (select 1 from webhook_outbox where state = 'PENDING' and created_at < $1)",
            &[prune.before.into()],
        )
        .await?;
    Ok(found.is_some())
}

/// Forgets what was settled long ago, and what waits for endpoints that nobody serves any more.
pub(super) async fn prune<D: Dialect>(sql: &mut Sql<'_, D>, prune: &WebhookPrune) -> Result<u64, StoreError> {
    let mut gone = sql
        .execute(
            "delete from webhook_outbox where (event_id, endpoint) in
                 (select event_id, endpoint from webhook_outbox
                  where settled_at < $1 order by settled_at limit $2)",
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
