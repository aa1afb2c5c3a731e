//! What organisations use per day, counted in the transaction that records the use.

use super::StoreError;
use super::dialect::{Dialect, Sql};
use crate::budget::{Day, DayUsage};
use crate::event::{Recorded, RunEvent};
use crate::id::{OrgId, RunId};
use crate::run::Run;

/// Most that one reply counts for: sums of what a provider says must not overflow.
const MOST: u64 = 1 << 40;

/// What a run's unsaved events add to one day.
pub(super) struct UsageChange {
    pub(super) org: OrgId,
    pub(super) day: Day,
    pub(super) runs: u32,
    pub(super) input_tokens: u64,
    pub(super) output_tokens: u64,
    pub(super) cost_micros: u64,
}

impl UsageChange {
    pub(super) fn of(recorded: &Recorded, run: &Run) -> Option<Self> {
        let org = run.spec().owner.org.clone();
        let none = Self {
            org,
            day: Day::of(recorded.at),
            runs: 0,
            input_tokens: 0,
            output_tokens: 0,
            cost_micros: 0,
        };
        let (tokens, cost_micros) = match &recorded.event {
            RunEvent::Created(_) => return Some(Self { runs: 1, ..none }),
            RunEvent::Replied { reply } | RunEvent::ReplyBroken { partial: reply } => {
                (reply.tokens, reply.cost_micros)
            }
            RunEvent::FollowupsSuggested { tokens, cost_micros, .. } => (*tokens, *cost_micros),
            RunEvent::Started
            | RunEvent::Claimed { .. }
            | RunEvent::CallStarted { .. }
            | RunEvent::CallSuspended { .. }
            | RunEvent::CallResumed { .. }
            | RunEvent::CallFinished { .. }
            | RunEvent::Paused { .. }
            | RunEvent::Decided(_)
            | RunEvent::AnswerAccepted { .. }
            | RunEvent::AnswerRefused { .. }
            | RunEvent::Completed
            | RunEvent::Failed { .. }
            | RunEvent::Cancelled { .. } => return None,
        };
        Some(Self {
            input_tokens: tokens.input.unwrap_or(0).min(MOST),
            output_tokens: tokens.output.unwrap_or(0).min(MOST),
            cost_micros: cost_micros.unwrap_or(0).min(MOST),
            ..none
        })
    }
}

pub(super) async fn add<D: Dialect>(sql: &mut Sql<'_, D>, change: &UsageChange) -> Result<(), sqlx::Error> {
    sql.execute(
        "insert into org_usage (org_id, day, runs, input_tokens, output_tokens, cost_micros)
         values ($1, $2, $3, $4, $5, $6)
         on conflict (org_id, day) do update set
             runs = org_usage.runs + excluded.runs,
             input_tokens = org_usage.input_tokens + excluded.input_tokens,
             output_tokens = org_usage.output_tokens + excluded.output_tokens,
             cost_micros = org_usage.cost_micros + excluded.cost_micros",
        &[
            change.org.as_str().into(),
            change.day.number().into(),
            change.runs.into(),
            change.input_tokens.into(),
            change.output_tokens.into(),
            change.cost_micros.into(),
        ],
    )
    .await?;
    Ok(())
}

/// None = there is no such run.
pub(super) async fn of_day<D: Dialect>(
    sql: &mut Sql<'_, D>,
    run: &RunId,
    day: Day,
) -> Result<Option<DayUsage>, StoreError> {
    let row = sql
        .row(
            "select r.day_ordinal, coalesce(u.input_tokens, 0), coalesce(u.output_tokens, 0),
                 coalesce(u.cost_micros, 0)
             from runs r left join org_usage u on u.org_id = r.org_id and u.day = $2
             where r.id = $1",
            &[run.as_str().into(), day.number().into()],
        )
        .await?;
    let usage = |row: &super::dialect::Columns<D>| {
        Ok(DayUsage {
            ordinal: row.count(0)?,
            input_tokens: row.count(1)?,
            output_tokens: row.count(2)?,
            cost_micros: row.count(3)?,
        })
    };
    row.as_ref().map(usage).transpose()
}
