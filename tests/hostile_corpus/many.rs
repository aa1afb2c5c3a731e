//! A hundred thousand calls, half of them traps, leave the host as large as ten thousand do.

use std::time::Instant;

use futures_util::future::join_all;
use holdfast::plugin::PluginSettings;
use serde_json::json;

use super::bench::{Bench, call};
use super::log::Log;
use crate::support::wat_guest::Guest;
use crate::support::{own_process, resident_bytes};

/// Most that the second part may add: 46 bytes for each call.
const GROWTH: u64 = 4 << 20;

/// Callers side by side: more than any machine that this runs on has cores to spare.
const CALLERS: u32 = 8;

/// Calls of all callers together.
const FIRST: u32 = 10_000;
const ALL: u32 = 100_000;

#[test]
fn calls_leave_nothing_behind() {
    own_process("hostile_corpus::many::ten_times_as_many_calls_take_no_more_memory");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by `calls_leave_nothing_behind`, in a process of its own"]
async fn ten_times_as_many_calls_take_no_more_memory() {
    // A trap is a line of the log, and this process keeps none.
    let bench = Bench::new(Log::default()).await;
    let mut plugins = Vec::new();
    for body in ["(call $done)", "(unreachable)"] {
        plugins.push(bench.load("test", Guest::new().call(body).bytes(), &PluginSettings::default()).await);
    }
    let calls = async |count: u32| {
        let callers = (0..CALLERS).map(|_| {
            let plugins = plugins.clone();
            tokio::spawn(async move {
                for number in 0..count / CALLERS {
                    let kind = call(&plugins[number as usize % 2], "act", &json!({"n": number})).await.kind;
                    assert_eq!(kind.word(), ["ok", "trap"][number as usize % 2]);
                }
            })
        });
        join_all(callers).await.into_iter().for_each(|caller| caller.expect("each call ends as it must"));
        resident_bytes(std::process::id()).expect("it runs")
    };
    let started = Instant::now();
    let (few, many) = (calls(FIRST).await, calls(ALL - FIRST).await);
    let grown = many.saturating_sub(few);
    eprintln!(
        "{} KiB after {FIRST} calls, {} KiB after {ALL}, in {:?}",
        few >> 10,
        many >> 10,
        started.elapsed()
    );
    assert!(grown < GROWTH, "{} KiB more", grown >> 10);
}
