//! The hostile corpus: each fixture is a component that means harm, with how it must end, within what time,
//! and at what cost to the host. A good plugin is called beside each of them all the time.
//!
//! The table runs in a process of its own, so that what the host's memory grows by is the fixture's doing.
//! Fixtures are WAT, made here, where they need no compiler of a language. What needs a whole server has
//! tests of its own: cancelled and disconnected callers and SIGTERM in `cancel_interrupts` and `drain`, kv
//! scopes, quotas and races in `deny`, the machine's files and sockets in `deny`, refused imports in
//! `load_refusals`.

mod bench;
mod bombs;
mod calls;
mod loads;
mod many;

use std::fmt::Write as _;
use std::time::Duration;

use self::bench::{Bench, Phase, Row};
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
    let bench = Bench::new().await;
    let alone = bench.neighbour_alone().await;
    let mut table = format!(
        "{:<34} {:<44} {:>7} {:>7} {:>7} {:>9}\n{:<34} {:<44} {:>7} {:>7} {:>7} {:>9}\n",
        "fixture",
        "outcome",
        "ms",
        "peak",
        "kept",
        "neighbour",
        "(none)",
        "",
        "",
        "",
        "",
        micros(alone)
    );
    let mut wrong = Vec::new();
    for row in calls::rows().into_iter().chain(loads::rows()).chain(bombs::rows()) {
        // Seen at once where one of them hangs.
        eprintln!("{}", row.name);
        let seen = bench.run(&row).await;
        eprintln!(
            "  {} in {:?}, neighbour {:?}, {}/{} MiB",
            seen.outcome.chars().take(60).collect::<String>(),
            seen.took,
            seen.neighbour,
            seen.peak_mib,
            seen.kept_mib
        );
        let _ = writeln!(
            table,
            "{:<34} {:<44} {:>7} {:>7} {:>7} {:>9}",
            row.name,
            seen.outcome.chars().take(44).collect::<String>(),
            seen.took.as_millis(),
            seen.peak_mib,
            seen.kept_mib,
            micros(seen.neighbour),
        );
        if !row.fits(&seen.outcome) {
            wrong.push(format!("{}: {} instead of {}", row.name, seen.outcome, row.outcome));
        }
        if seen.took > row.within {
            wrong.push(format!("{}: took {:?}", row.name, seen.took));
        }
        if seen.peak_mib > row.peak_mib || seen.kept_mib > row.peak_mib / 2 {
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

fn micros(time: Duration) -> String {
    format!("{} us", time.as_micros())
}
