//! What a model is sent of a long session is its newest whole turns, and a turn costs what the window costs.

use serde_json::json;

use crate::support::gated::messages;
use crate::support::host::ONE_AGENT;
use crate::support::{Script, TestHost, say};

const SESSION: &str = "0192b3c4-0000-7000-8000-000000000002";

async fn send(host: &TestHost, message: &str) {
    let body = json!({"message": message, "sessionId": SESSION});
    let answer = host.post("/api/agents/agent/runs", &body).await;
    assert_eq!(answer.body["status"], "COMPLETED", "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_whole_turns_that_fit_are_sent_oldest_first() {
    let config = ONE_AGENT.replace("tools = [\"*\"]", "history_tokens = 100");
    let model = Script::new([say("answer")]);
    let host = TestHost::start(&[], &config, model.clone()).await;
    // 400 bytes: three turns of 100 + 6, and not a fourth.
    for number in 0..5 {
        send(&host, &format!("{number}{}", "x".repeat(99))).await;
    }
    let seen = messages(model.requests().last().expect("a request"));
    let firsts: String = seen.iter().filter_map(|text| text.chars().next()).collect();
    assert_eq!(firsts, "1a2a3a4");

    // Exactly as much as fits: 294 bytes beside the 106 of the turn before.
    send(&host, &"y".repeat(288)).await;
    send(&host, "short").await;
    let seen = messages(model.requests().last().expect("a request"));
    assert_eq!(seen.len(), 5);
    // One byte more does not fit, and no part of it is sent.
    send(&host, &"é".repeat(200)).await;
    send(&host, "last").await;
    assert_eq!(messages(model.requests().last().expect("a request")), ["last"]);
}

/// A session of 300 turns grows the database by the same for each of them.
#[tokio::test(flavor = "multi_thread")]
async fn the_database_grows_by_the_same_for_every_turn() {
    let mut host = TestHost::start(&[], ONE_AGENT, Script::new([say(&"a".repeat(1000))])).await;
    let mut sizes = Vec::new();
    for turn in 0..=300 {
        if turn % 100 == 0 {
            // Stopping moves everything into the database's one file.
            host.restart().await;
            sizes.push(std::fs::metadata(host.folder().join("holdfast.db")).expect("a file").len());
        }
        send(&host, &format!("{turn:04}{}", "q".repeat(996))).await;
    }
    let per_turn: Vec<u64> = sizes.windows(2).map(|pair| (pair[1] - pair[0]) / 100).collect();
    let (least, most) = (per_turn.iter().min().expect("three"), per_turn.iter().max().expect("three"));
    assert!(most * 10 <= least * 11, "bytes for a turn: {per_turn:?}");
    // Messages of 2,000 bytes, told twice (in the journal and in the row), and what belongs to a run.
    assert!(*most < 12_000, "bytes for a turn: {per_turn:?}");
}
