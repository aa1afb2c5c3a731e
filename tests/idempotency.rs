//! An `Idempotency-Key` makes a repeated request the same request.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Script, TestHost, call, say};

const RUNS: &str = "/api/agents/agent/runs";

async fn keyed(host: &TestHost, key: &str, path: &str, body: &Value) -> Answer {
    host.send(host.request(Method::POST, path).header("idempotency-key", key).json(body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_and_body_is_one_run() {
    let model = Script::new([call("probe__effect_ungated", json!({"key": "k"})), say("done")]);
    let mut host = TestHost::with_probe(model).await;
    let body = json!({"message": "go"});
    let racing = futures_util::future::join_all((0..16).map(|_| keyed(&host, "a", RUNS, &body))).await;
    let first = &racing[0].body;
    assert_eq!(first["status"], "COMPLETED", "{first}");
    for answer in &racing {
        assert_eq!((answer.status, &answer.body), (200, first));
    }
    host.restart().await;
    assert_eq!(&keyed(&host, "a", RUNS, &body).await.body, first, "after a restart, too");
    assert_eq!(host.effects("k").await, 1);

    let other = keyed(&host, "a", RUNS, &json!({"message": "something else"})).await;
    assert_eq!((other.status, &other.body["type"]), (422, &json!("urn:problem-type:idempotency-key-reuse")));
    assert_ne!(keyed(&host, "b", RUNS, &body).await.body["runId"], first["runId"]);
    assert_eq!(host.effects("k").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_decision_does_not_decide_the_next_pause() {
    let model = Script::new([
        call("probe__effect", json!({"key": "one"})),
        call("probe__effect", json!({"key": "two"})),
        say("done"),
    ]);
    let host = TestHost::with_probe(model).await;
    let paused = host.run("go").await;
    let path = format!("{RUNS}/{}/continue", paused["runId"].as_str().expect("an id"));
    let approve = json!({"action": "APPROVE"});
    for _ in 0..3 {
        let answer = keyed(&host, "d", &path, &approve).await;
        assert_eq!((answer.status, &answer.body["status"]), (200, &json!("PAUSED")), "{answer:?}");
    }
    assert_eq!((host.effects("one").await, host.effects("two").await), (1, 0));
    let other = keyed(&host, "d", &path, &json!({"action": "REJECT"})).await;
    assert_eq!(other.status, 422);
}
