//! Steps and time end a run with a named reason; waiting for a human does not count; an approval expires.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::Semaphore;

use crate::support::openai::{self, OpenAi};
use crate::support::process::text;
use crate::support::{Script, TestHost, call, calls, say, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_never_stops_calling_is_stopped() {
    let model = Script::new([call("probe__count", json!({"key": "k"}))]);
    let host = TestHost::with_probe(model.clone()).await;
    for (options, steps) in [(json!({}), 20), (json!({"maxSteps": 3}), 3)] {
        let before = model.requests().len();
        let run =
            host.post("/api/agents/agent/runs", &json!({"message": "go", "options": options})).await.body;
        assert_eq!((&run["status"], &run["content"]), (&json!("FAILED"), &json!("")), "{run}");
        assert_eq!(run["metrics"]["errorType"], "budget_exceeded");
        let message = run["metrics"]["errorMessage"].as_str().expect("a message");
        assert!(message.contains(&format!("maxSteps = {steps}")), "{message}");
        assert_eq!(model.requests().len() - before, steps);
        assert_eq!(run["tools"].as_array().map(Vec::len), Some(steps), "with what it had so far");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_takes_too_long_is_stopped_with_its_call() {
    let model = Script::new([call("probe__slow", json!({"ms": 60_000, "key": "k"})), say("never")]);
    let host = TestHost::with_probe(model).await;
    let body = json!({"message": "go", "options": {"timeoutMs": 500}});
    let run = host.post("/api/agents/agent/runs", &body).await.body;
    assert_eq!(
        (&run["status"], &run["metrics"]["errorType"]),
        (&json!("FAILED"), &json!("timeout")),
        "{run}"
    );
    assert_eq!((host.effects("k.started").await, host.effects("k.finished").await), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_a_human_does_not_count_as_time() {
    let model = Script::new([call("probe__effect", json!({"key": "k"})), say("done")]);
    let host = TestHost::with_probe(model).await;
    let body = json!({"message": "go", "options": {"timeoutMs": 60_000}});
    let paused = host.post("/api/agents/agent/runs", &body).await.body;
    host.clock.advance(Duration::from_hours(1));
    let run = host.resume(&paused, json!({"action": "APPROVE"})).await.body;
    assert_eq!((&run["status"], &run["metrics"]["durationMs"]), (&json!("COMPLETED"), &json!(0)), "{run}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_expires_after_a_day_and_the_run_goes_on_without_it() {
    let model = Script::new([call("probe__effect", json!({"key": "k"})), say("went on")]);
    let host = TestHost::with_probe(model).await;
    let paused = host.run("go").await;
    assert_eq!(paused["metadata"]["requiredAction"]["expiresAt"], "2026-01-02T00:00:00.000Z");
    host.clock.advance(Duration::from_hours(25));
    let late = host.resume(&paused, json!({"action": "APPROVE"})).await;
    assert_eq!(
        (late.status, &late.body["type"]),
        (410, &json!("urn:problem-type:approval-expired")),
        "{late:?}"
    );
    let run = host.settled(&paused).await;
    assert_eq!((&run["status"], &run["content"]), (&json!("COMPLETED"), &json!("went on")), "{run}");
    assert_eq!(run["tools"][0]["outcome"], "rejected");
    assert_eq!(host.effects("k").await, 0);
    let row = "select status || ' by ' || resolved_by from approvals";
    assert_eq!(text(&host.folder().join("holdfast.db"), row).await, ["EXPIRED by system"]);
}

/// The limit ends a call of the model as it ends one of a tool.
#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_takes_too_long_is_given_up() {
    let model = OpenAi::start(|_| openai::text("too late")).await;
    model.delay(Duration::from_mins(1));
    let host = TestHost::start(&["probe"], &model.config(), Script::new([say("unused")])).await;
    let body = json!({"message": "go", "options": {"timeoutMs": 300}});
    let run = host.post("/api/agents/agent/runs", &body).await.body;
    assert_eq!(
        (&run["status"], &run["metrics"]["errorType"]),
        (&json!("FAILED"), &json!("timeout")),
        "{run}"
    );
    let message = run["metadata"]["message"].as_str().expect("a message");
    assert!(message.contains("timeoutMs = 300"), "{message}");
    until("the connection's end", async || model.left() == 1).await;
}

/// Time at work adds up over pauses and restarts; what is used up is not there for an approved call.
#[tokio::test(flavor = "multi_thread")]
async fn time_at_work_adds_up() {
    let gate = Arc::new(Semaphore::new(0));
    let model = Script::gated([call("probe__effect", json!({"key": "k"})), say("done")], &gate);
    let mut host = TestHost::with_probe(model.clone()).await;
    let body = json!({"message": "go", "options": {"timeoutMs": 60_000}});
    let waiting = host.begin("/api/agents/agent/runs", &body);
    until("a request", async || model.requests().len() == 1).await;
    // The tests' clock, not the one that ends a wait: the model was at work for 61 s.
    host.clock.advance(Duration::from_secs(61));
    gate.add_permits(10);
    let paused = waiting.await.expect("no panic").body;
    assert_eq!((&paused["status"], &paused["metrics"]["durationMs"]), (&json!("PAUSED"), &json!(61_000)));
    host.restart().await;

    let run = host.resume(&paused, json!({"action": "APPROVE"})).await.body;

    assert_eq!(
        (&run["status"], &run["metrics"]["errorType"]),
        (&json!("FAILED"), &json!("timeout")),
        "{run}"
    );
    assert_eq!(host.effects("k").await, 0);
}

/// Nobody has to call: the server rejects what nobody decided, and what was decided in time stands.
#[tokio::test(flavor = "multi_thread")]
async fn an_approval_expires_by_itself_and_others_of_the_turn_stand() {
    let two = [("probe__effect", json!({"key": "decided"})), ("probe__effect", json!({"key": "forgotten"}))];
    let host = TestHost::with_probe(Script::new([calls(two), say("went on")])).await;
    let paused = host.run("go").await;
    let ids = [0, 1].map(|index: usize| paused["metadata"]["requiredActions"][index]["approvalId"].clone());
    let decide = |action: &str, id: &serde_json::Value| json!({"action": action, "approvalId": id});
    assert_eq!(host.resume(&paused, decide("APPROVE", &ids[0])).await.body["status"], "PAUSED");
    host.clock.advance(Duration::from_hours(25));

    let run = host.settled(&paused).await;

    assert_eq!((&run["status"], &run["content"]), (&json!("COMPLETED"), &json!("went on")), "{run}");
    assert_eq!((host.effects("decided").await, host.effects("forgotten").await), (1, 0));
    let outcomes = [0, 1].map(|index: usize| run["tools"][index]["outcome"].clone());
    assert_eq!(outcomes, [json!("ok"), json!("rejected")]);
    let told = "Nobody approved this call in time. It did not run.";
    assert_eq!(run["tools"][1]["toolOutput"], told);
    // Too late for either word, and what was decided in time is no news.
    for action in ["APPROVE", "REJECT"] {
        assert_eq!(host.resume(&paused, decide(action, &ids[1])).await.status, 410, "{action}");
    }
    assert_eq!(host.resume(&paused, decide("APPROVE", &ids[0])).await.status, 200);
}

/// Decisions that race with the expiry all get the same word, and the effect says which.
#[tokio::test(flavor = "multi_thread")]
async fn decisions_race_with_the_expiry() {
    let model = Script::new([call("probe__effect", json!({"key": "k"})), say("done")]);
    let host = TestHost::with_probe(model).await;
    for round in 0..20 {
        let before = host.effects("k").await;
        let paused = host.run("go").await;
        let approval = paused["metadata"]["requiredAction"]["approvalId"].clone();
        let decide = || host.resume(&paused, json!({"action": "APPROVE", "approvalId": approval}));
        let (answers, ()) = tokio::join!(futures_util::future::join_all((0..16).map(|_| decide())), async {
            // Somewhere among the sixteen.
            for _ in 0..round {
                tokio::task::yield_now().await;
            }
            host.clock.advance(Duration::from_hours(24));
        });
        let run = host.settled(&paused).await;
        let happened = host.effects("k").await - before;
        let expected = if happened == 1 { 200 } else { 410 };
        for answer in answers {
            assert_eq!(answer.status, expected, "round {round}: {answer:?}");
        }
        assert_eq!(run["tools"][0]["isError"], json!(happened == 0), "round {round}: {run}");
    }
}
