//! Approvals whose time is nearly up: found by a reader, announced by the writer, which looks again.

use super::StoreError;
use super::dialect::{Columns, Dialect, Sql};
use super::outbox::{self, OutboxRow};
use crate::clock::Timestamp;
use crate::id::{ApprovalId, OrgId, RunId};
use crate::notice::{ExpiringApproval, NoticeKind, Subscription};

/// An approval that is about to expire, with a row for each endpoint that wants to know.
pub(super) struct Announcement {
    approval: ApprovalId,
    rows: Vec<OutboxRow>,
    at: Timestamp,
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
                 a.expires_at, r.status
             from approvals a join runs r on r.id = a.run_id
             where a.status = 'PENDING' and a.expires_at > $1 and a.expires_at <= $2 and a.warned_at is null
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
            status: row.text(9)?,
        })
    };
    rows.iter().map(approval).collect()
}

/// Announces those that nobody has decided or announced since they were found. Returns how many.
pub(super) async fn announce<D: Dialect>(
    sql: &mut Sql<'_, D>,
    announcements: &[Announcement],
) -> Result<u64, StoreError> {
    let mut announced = 0;
    for Announcement { approval, rows, at } in announcements {
        let pending = sql
            .execute(
                "update approvals set warned_at = $2 where id = $1 and status = 'PENDING' and warned_at is null",
                &[approval.as_str().into(), (*at).into()],
            )
            .await?;
        if pending == 0 {
            continue;
        }
        for row in rows {
            outbox::insert(sql, row).await?;
        }
        announced += 1;
    }
    Ok(announced)
}
