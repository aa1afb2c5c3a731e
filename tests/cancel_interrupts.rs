//! Cancelling interrupts what is under way, wherever it is, and nothing executes afterwards. How quickly is in
//! `cancel_latency.rs`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::host::ONE_AGENT;
use crate::support::openai::{self, OpenAi};
use crate::support::{Script, Speaker, TestHost, asked, call, calls, replied, say, until};

const RUNS: &str = "/api/agents/agent/runs";

/// The run that was begun.
async fn begun(host: &TestHost) -> Value {
    json!({"runId": host.texts("select id from runs").await[0]})
}

/// Cancels the run of a caller who waits, and returns what that caller is told.
async fn cancelled(host: &TestHost, waiting: tokio::task::JoinHandle<crate::support::Answer>) -> Value {
    let started = Instant::now();
    assert_eq!(host.cancel(&begun(host).await).await.status, 204);
    let told = waiting.await.expect("no panic");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!((told.status, &told.body["status"]), (200, &json!("CANCELLED")), "{told:?}");
    assert_eq!(told.body["content"], "");
    told.body
}

/// The provider is not left to write an answer that nobody reads.
#[tokio::test(flavor = "multi_thread")]
async fn the_request_to_the_model_is_dropped() {
    let model = OpenAi::start(|_| openai::text("too late")).await;
    model.delay(Duration::from_mins(1));
    let host = TestHost::start(&["probe"], &model.config(), Script::new([say("unused")])).await;
    let waiting = host.begin(RUNS, &json!({"message": "go"}));
    until("a request", async || model.asked().len() == 1).await;
    assert_eq!(model.left(), 0);

    cancelled(&host, waiting).await;

    until("the connection's end", async || model.left() == 1).await;
    assert_eq!(model.asked().len(), 1, "it is not asked again");
}

/// The call ends where it is, the ones behind it never begin, and the model is not told.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_sleeps_is_interrupted_and_the_next_one_never_begins() {
    let two =
        [("probe__slow", json!({"ms": 2000, "key": "k"})), ("probe__effect_ungated", json!({"key": "next"}))];
    let model = Script::new([calls(two), say("never")]);
    let host = TestHost::with_probe(model.clone()).await;
    let waiting = host.begin(RUNS, &json!({"message": "go"}));
    until("the call", async || host.effects("k.started").await == 1).await;

    let told = cancelled(&host, waiting).await;

    assert_eq!(told["tools"][0]["outcome"], "cancelled", "{told}");
    let events = host.texts("select kind from run_events order by seq").await;
    assert_eq!(events.last().map(String::as_str), Some("cancelled"), "{events:?}");
    // For longer than the call would have taken, another run lives and the cancelled one does not.
    let other = Script::new([call("probe__slow", json!({"ms": 2500, "key": "other"})), say("done")]);
    let beside = TestHost::with_probe(other).await;
    assert_eq!(beside.run("go").await["status"], "COMPLETED");
    assert_eq!(host.texts("select kind from run_events order by seq").await, events, "nothing was added");
    assert_eq!((host.effects("k.finished").await, host.effects("next").await), (0, 0));
    assert_eq!(model.requests().len(), 1);
}

/// Calls that run side by side end together.
#[tokio::test(flavor = "multi_thread")]
async fn calls_side_by_side_are_all_interrupted() {
    let reads = ["a", "b", "c"].map(|key| ("probe__slow_read", json!({"ms": 20_000, "key": key})));
    let host = TestHost::with_probe(Script::new([calls(reads), say("never")])).await;
    let waiting = host.begin(RUNS, &json!({"message": "go"}));
    for key in ["a.started", "b.started", "c.started"] {
        until(key, async || host.effects(key).await == 1).await;
    }
    let told = cancelled(&host, waiting).await;
    let outcomes: Vec<&Value> =
        told["tools"].as_array().expect("tools").iter().map(|tool| &tool["outcome"]).collect();
    assert_eq!(outcomes, ["cancelled"; 3]);
    for key in ["a.finished", "b.finished", "c.finished"] {
        assert_eq!(host.effects(key).await, 0, "{key}");
    }
}

/// What was approved and is under way is interrupted as well, and what was approved behind it does not begin.
#[tokio::test(flavor = "multi_thread")]
async fn approved_calls_are_interrupted() {
    let two = [("probe__slow", json!({"ms": 20_000, "key": "k"})), ("probe__effect", json!({"key": "next"}))];
    let ask =
        ONE_AGENT.replace("tools = [\"*\"]", "tools = [\"*\"]\napproval = { \"probe.slow\" = \"ask\" }");
    let host = TestHost::start(&["probe"], &ask, Script::new([calls(two), say("never")])).await;
    let paused = host.run("go").await;
    let path = format!("{RUNS}/{}/continue", paused["runId"].as_str().expect("an id"));
    let approving = host.begin(&path, &json!({"action": "APPROVE"}));
    until("the call", async || host.effects("k.started").await == 1).await;

    cancelled(&host, approving).await;

    assert_eq!((host.effects("k.finished").await, host.effects("next").await), (0, 0));
    let late = host.resume(&paused, json!({"action": "APPROVE"})).await;
    assert_eq!((late.status, &late.body["currentStatus"]), (409, &json!("CANCELLED")));
    let rows = host.texts("select status from approvals").await;
    assert_eq!(rows, ["APPROVED", "APPROVED"], "what was decided stays as it was decided");
}

/// Whenever a cancel comes, what it has acknowledged is the end: an effect that had not happened by then does
/// not happen later, not even by a few milliseconds.
#[tokio::test(flavor = "multi_thread")]
async fn no_effect_comes_after_the_acknowledgement() {
    let model = Speaker::new(|request| match replied(request) {
        0 => Ok(call("probe__effect", json!({"key": asked(request)}))),
        _ => Ok(say("done")),
    });
    let host = TestHost::with_probe(model).await;
    // A linear congruential generator: the moments are the same in every run of this test.
    let mut seed = 20_261_124_u64;
    let (mut rounds, mut interrupted) = (Vec::new(), 0);
    for round in 0..100 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let moment = Duration::from_micros((seed >> 33) % 12_000);
        let key = format!("r{round}");
        let paused = host.run(&key).await;
        let path = format!("{RUNS}/{}/continue", paused["runId"].as_str().expect("an id"));
        let approving = host.begin(&path, &json!({"action": "APPROVE"}));
        tokio::time::sleep(moment).await;
        assert_eq!(host.cancel(&paused).await.status, 204);
        let effects = host.effects(&key).await;
        interrupted += u32::from(host.read(&paused).await["status"] == "CANCELLED");
        let told = approving.await.expect("no panic");
        assert_eq!(host.effects(&key).await, effects, "round {round}: after the waiting caller was told");
        assert!([200, 409].contains(&told.status), "{told:?}");
        rounds.push((key, effects));
    }
    for (key, effects) in rounds {
        assert_eq!(host.effects(&key).await, effects, "{key}");
    }
    assert!(interrupted > 0, "no cancel came in time to be one");
}
