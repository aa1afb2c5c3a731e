//! The hostile corpus: each fixture means harm, with how it must end, within what time, and at what cost to the
//! host. A good plugin is called beside each of them all the time.
//!
//! The table runs in a process of its own, so that what the host's memory grows by is the fixture's doing, and so
//! that it has the log for itself. Fixtures are WAT, made here, where they need no compiler of a language. What takes
//! a whole server has one of its own, in this process where it can; the neighbour is then called through the same
//! server, and the server's own memory counts.

mod bench;
mod bombs;
mod calls;
mod costs;
mod flips;
mod internet;
mod loads;
mod log;
mod many;
mod names;
mod requests;
mod responses;
mod sealed;
mod stage;
mod stops;
mod values;
mod watch;

use std::fmt::Write as _;
use std::time::Duration;

use self::bench::{Bench, Row, Seen};
use self::log::Log;
use crate::support::own_process;

/// Most time that the good neighbour may take for a call of microseconds while others misbehave. It stands
/// far above what is measured (the table is printed), so that a busy machine does not fail the test.
const NEIGHBOUR: Duration = Duration::from_secs(1);

#[test]
fn the_corpus() {
    own_process("hostile_corpus::the_table");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by `the_corpus`, in a process of its own"]
async fn the_table() {
    let bench = Bench::new(Log::take()).await;
    let mut table = format!(
        "{:<44} {:<60} {:>15} {:>13} {:>12} {:>18}\n",
        "fixture", "outcome", "ms of", "MiB peak of", "MiB kept of", "neighbour us of"
    );
    let alone = bench.neighbour_alone().await;
    let _ = writeln!(table, "{:<146} {:>18}", "(none)", of(alone.as_micros(), NEIGHBOUR.as_micros()));
    let mut wrong = Vec::new();
    let rows = [
        calls::rows(),
        loads::rows(),
        bombs::rows(),
        costs::rows(),
        names::rows(),
        flips::rows(),
        requests::rows(),
        responses::rows(),
        values::rows(),
        sealed::rows(),
        stops::rows(),
    ];
    for row in rows.into_iter().flatten() {
        // Seen at once where one of them hangs.
        eprintln!("{}", row.name);
        let seen = bench.run(&row).await;
        line(&mut table, &row, &seen);
        if !row.fits(&seen.outcome) {
            wrong.push(format!("{}: {} instead of {}", row.name, seen.outcome, row.outcome));
        }
        if seen.took > row.within {
            wrong.push(format!("{}: took {:?}", row.name, seen.took));
        }
        if seen.peak_mib > row.peak_mib || seen.kept_mib > row.kept_mib() {
            wrong
                .push(format!("{}: {} MiB at its peak, {} MiB kept", row.name, seen.peak_mib, seen.kept_mib));
        }
        if seen.neighbour > NEIGHBOUR {
            wrong.push(format!("{}: the neighbour took {:?}", row.name, seen.neighbour));
        }
    }
    eprintln!("{table}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Each figure beside its bound.
fn line(table: &mut String, row: &Row, seen: &Seen) {
    let _ = writeln!(
        table,
        "{:<44} {:<60} {:>15} {:>13} {:>12} {:>18}",
        row.name.chars().take(44).collect::<String>(),
        seen.outcome.chars().take(60).collect::<String>(),
        of(seen.took.as_millis(), row.within.as_millis()),
        of(seen.peak_mib, row.peak_mib),
        of(seen.kept_mib, row.kept_mib()),
        of(seen.neighbour.as_micros(), NEIGHBOUR.as_micros()),
    );
}

fn of<N: std::fmt::Display>(figure: N, bound: N) -> String {
    format!("{figure}/{bound}")
}
