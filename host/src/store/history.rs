//! What a model is sent of a session's earlier turns: the newest that fit a window.
//!
//! First only lengths are read, of a bounded number of rows, then the texts that fit. So a turn costs the
//! same in a long session as in a short one.

use super::StoreError;
use super::dialect::{Columns, Dialect, Sql};
use crate::id::RunId;
use crate::session::PastTurn;

/// How much of a session's history fits. Whole turns only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryWindow {
    pub turns: u32,
    /// Bytes of inputs and outputs together.
    pub bytes: u64,
}

/// Oldest first.
pub(super) async fn read<D: Dialect>(
    sql: &mut Sql<'_, D>,
    run: &RunId,
    window: HistoryWindow,
) -> Result<Vec<PastTurn>, StoreError> {
    // `octet_length` does not read the text.
    let rows = sql
        .rows(
            "with latest as (
                 select past.session_id, past.turn, octet_length(past.input) + octet_length(past.output) as bytes
                 from runs this join runs past on past.session_id = this.session_id and past.turn < this.turn
                 where this.id = $1 and past.status = 'COMPLETED'
                 order by past.turn desc limit $2
             ), summed as (
                 select session_id, turn, sum(bytes) over (order by turn desc) as bytes from latest
             )
             select runs.input, runs.output
             from summed join runs on runs.session_id = summed.session_id and runs.turn = summed.turn
             where summed.bytes <= $3
             order by summed.turn",
            &[run.as_str().into(), window.turns.into(), window.bytes.into()],
        )
        .await?;
    let turn = |row: &Columns<D>| Ok(PastTurn { input: row.text(0)?, output: row.text(1)? });
    rows.iter().map(turn).collect()
}
