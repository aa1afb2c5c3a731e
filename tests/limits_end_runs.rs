//! Steps and time end a run with a named reason; waiting for a human does not count; an approval expires.

use std::time::Duration;

use serde_json::json;

use crate::support::process::text;
use crate::support::{Script, TestHost, call, say};

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
