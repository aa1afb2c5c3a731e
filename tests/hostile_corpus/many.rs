//! A hundred thousand calls leave the host as large as ten thousand do.

use serde_json::json;

use super::bench::{Bench, call};
use crate::support::wat_guest::Guest;
use crate::support::{own_process, resident_bytes};

/// Most that the second part may add.
const GROWTH: u64 = 8 << 20;

#[test]
fn calls_leave_nothing_behind() {
    own_process("hostile_corpus::many::ten_times_as_many_calls_take_no_more_memory");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by `calls_leave_nothing_behind`, in a process of its own"]
async fn ten_times_as_many_calls_take_no_more_memory() {
    grow_by(2_000).await;
}

/// `cargo test --test holdfast -- --ignored --nocapture a_hundred_thousand`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes without optimisation"]
async fn a_hundred_thousand_calls_take_no_more_memory() {
    grow_by(10_000).await;
}

/// First so many calls, then nine times as many.
async fn grow_by(first: u32) {
    let bench = Bench::new().await;
    for (what, body) in [("answers", "(call $done)"), ("traps", "(unreachable)")] {
        let guest = Guest::new().call(body).bytes();
        let plugin = bench.load(guest).await;
        let started = std::time::Instant::now();
        let calls = async |count: u32| {
            for _ in 0..count {
                call(&plugin, "act", &json!({"n": 1})).await;
            }
            resident_bytes()
        };
        let (few, many) = (calls(first).await, calls(first * 9).await);
        let grown = many.saturating_sub(few);
        eprintln!(
            "{what}: {} KiB after {first} calls, {} KiB after {}, in {:?}",
            few >> 10,
            many >> 10,
            first * 10,
            started.elapsed()
        );
        assert!(grown < GROWTH, "{what}: {} KiB more", grown >> 10);
    }
}
