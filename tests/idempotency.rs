//! An `Idempotency-Key` makes a repeated request the same request.

use std::sync::Arc;

use holdfast::key::Role;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::support::host::{ONE_AGENT, answer, until};
use crate::support::sse::{Stream, events};
use crate::support::{Answer, Caller, Script, TestHost, call, say};

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

/// The same of a streamed decision: its repeat is told what the original was told, and nothing of what came later.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_streamed_decision_tells_the_same_again() {
    let model = Script::new([
        call("probe__effect", json!({"key": "one"})),
        call("probe__effect", json!({"key": "two"})),
        say("done"),
    ]);
    let host = TestHost::with_probe(model).await;
    let paused = host.run("go").await;
    let path = format!("{RUNS}/{}/continue/stream", paused["runId"].as_str().expect("an id"));
    let decide = async |key: &str| {
        let request = host.request(Method::POST, &path).header("idempotency-key", key);
        Stream::open(request.json(&json!({"action": "APPROVE"}))).await.rest().await
    };
    let first = decide("one").await;
    assert_eq!(events(&first), ["TOOL_START", "TOOL_END", "PAUSED"]);
    assert_eq!(decide("one").await, first);
    assert_eq!((host.effects("one").await, host.effects("two").await), (1, 0));
    let second = decide("two").await;
    assert_eq!(events(&second).last().expect("frames"), &"STOP");
    assert_eq!((decide("one").await, decide("two").await), (first, second), "after the run's end, too");
    assert_eq!((host.effects("one").await, host.effects("two").await), (1, 1));
}

/// Who says again what was just decided only waits for that work, and its key is its own all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_of_who_only_waited_does_not_decide_the_next_pause() {
    let gate = Arc::new(Semaphore::new(1));
    let one = call("probe__effect", json!({"key": "one"}));
    let model = Script::gated([one, call("probe__effect", json!({"key": "two"})), say("done")], &gate);
    let host = TestHost::with_probe(model.clone()).await;
    let paused = host.run("go").await;
    let path = format!("{RUNS}/{}/continue", paused["runId"].as_str().expect("an id"));
    let approve = json!({"action": "APPROVE"});
    let deciding = host.begin(&path, &approve);
    until("the model's turn", async || model.requests().len() == 2).await;

    let request = host.request(Method::POST, &path).header("idempotency-key", "late").json(&approve);
    let waiting = tokio::spawn(answer(request));
    until("the claim", async || host.texts("select key from idempotency_keys").await == ["late"]).await;
    gate.add_permits(2);

    let decided = deciding.await.expect("an answer");
    let waited = waiting.await.expect("it ends").expect("an answer");
    let repeated = keyed(&host, "late", &path, &approve).await;
    for answer in [&decided, &waited, &repeated] {
        assert_eq!((answer.status, &answer.body["status"]), (200, &json!("PAUSED")), "{answer:?}");
    }
    assert_eq!((host.effects("one").await, host.effects("two").await), (1, 0));
}

/// A client that lost its connection sends its decision again at once, and again: it is one decision, and
/// each is told what came of it, though the run is over before the last of them is looked at.
#[tokio::test(flavor = "multi_thread")]
async fn racing_decisions_with_one_key_are_one() {
    let model = Script::new([call("probe__effect", json!({"key": "k"})), say("done")]);
    let host = TestHost::with_probe(model).await;
    for round in 1..=20 {
        let paused = host.run("go").await;
        let path = format!("{RUNS}/{}/continue", paused["runId"].as_str().expect("an id"));
        let (approve, key) = (json!({"action": "APPROVE"}), format!("d{round}"));
        let decide = || keyed(&host, &key, &path, &approve);
        for answer in futures_util::future::join_all((0..16).map(|_| decide())).await {
            assert_eq!(
                (answer.status, &answer.body["status"]),
                (200, &json!("COMPLETED")),
                "round {round}: {answer:?}"
            );
        }
        assert_eq!(host.effects("k").await, round);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_one_users_word_for_one_call() {
    let config = format!("{ONE_AGENT}\n[[agents]]\nid = \"other\"\nmodel = \"script::v1\"\n");
    let host = TestHost::start(&[], &config, Script::new([say("fine")])).await;
    let body = json!({"message": "go"});
    let mine = keyed(&host, "a", RUNS, &body).await.body;

    let elsewhere = keyed(&host, "a", "/api/agents/other/runs", &body).await;
    assert_eq!(elsewhere.status, 422, "{elsewhere:?}");
    let continued = format!("{RUNS}/{}/continue", mine["runId"].as_str().expect("an id"));
    assert_eq!(keyed(&host, "a", &continued, &json!({"action": "APPROVE"})).await.status, 422);
    let background = keyed(&host, "a", &format!("{RUNS}/background"), &body).await;
    assert_eq!(background.status, 422, "{background:?}");

    let mut runs = vec![mine["runId"].clone()];
    for (org, user) in [("default", "ada"), ("default", "bob"), ("acme", "ada")] {
        let person = Caller::new(&host, Role::User, org, user).await;
        let [first, second] = [0, 1].map(|_| {
            let request = person.request(reqwest::Method::POST, RUNS);
            host.send(request.header("idempotency-key", "a").json(&body))
        });
        let (first, second) = (first.await, second.await);
        assert_eq!((first.status, &first.body), (200, &second.body), "{first:?}");
        assert!(!runs.contains(&first.body["runId"]), "{user} of {org} sees a run of their own");
        runs.push(first.body["runId"].clone());
    }
    assert_eq!(host.run_count().await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_none_is_refused_and_a_refusal_takes_no_key() {
    let host = TestHost::start(&[], ONE_AGENT, Script::new([say("fine")])).await;
    for bad in ["", "  ", &"k".repeat(256)] {
        let answer = keyed(&host, bad, RUNS, &json!({"message": "go"})).await;
        assert_eq!(
            (answer.status, &answer.body["invalidParams"][0]["field"]),
            (400, &json!("Idempotency-Key")),
            "{answer:?}"
        );
    }
    let bytes = reqwest::header::HeaderValue::from_bytes(&[0xff, 0xfe]).expect("bytes");
    let request = host.request(Method::POST, RUNS).header("idempotency-key", bytes);
    assert_eq!(host.send(request.json(&json!({"message": "go"}))).await.status, 400);
    assert_eq!(host.run_count().await, 0);

    assert_eq!(keyed(&host, "k", RUNS, &json!({"message": " "})).await.status, 400);
    assert_eq!(keyed(&host, "k", RUNS, &json!({"message": "corrected"})).await.status, 200);
    assert_eq!(keyed(&host, &"k".repeat(255), RUNS, &json!({"message": "go"})).await.status, 200);
}
