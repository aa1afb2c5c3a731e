//! Several gated calls: the ungated run first, each is decided by itself, and the next pause is another.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::Semaphore;

use crate::support::sse::Stream;
use crate::support::{Script, TestHost, call, calls, say, until};

#[tokio::test(flavor = "multi_thread")]
async fn each_is_decided_by_itself() {
    let three = [
        ("probe__effect", json!({"key": "a"})),
        ("probe__effect_ungated", json!({"key": "free"})),
        ("probe__effect", json!({"key": "b"})),
    ];
    let host = TestHost::with_probe(Script::new([calls(three), say("done")])).await;
    let paused = host.run("go").await;
    assert_eq!(paused["status"], "PAUSED");
    assert_eq!(host.effects("free").await, 1, "what needs nobody runs first");
    let actions = paused["metadata"]["requiredActions"].as_array().expect("actions").clone();
    assert_eq!(actions.len(), 2);
    assert_eq!(paused["metadata"]["requiredAction"], actions[0]);
    assert_eq!(paused["tools"].as_array().map(Vec::len), Some(1), "pending calls are not listed yet");

    let one = json!({"decisions": [{"approvalId": actions[1]["approvalId"], "action": "REJECT"}]});
    let still = host.resume(&paused, one).await;
    assert_eq!((still.status, &still.body["status"]), (200, &json!("PAUSED")));
    assert_eq!(still.body["metadata"]["requiredActions"].as_array().map(Vec::len), Some(1));
    assert_eq!(host.effects("a").await, 0, "nothing runs before everything is decided");

    let rest = json!({"decisions": [{"approvalId": actions[0]["approvalId"], "action": "APPROVE"}]});
    let done = host.resume(&paused, rest).await;
    assert_eq!(done.body["status"], "COMPLETED", "{done:?}");
    assert_eq!((host.effects("a").await, host.effects("b").await), (1, 0));
    let outcomes: Vec<&str> = done.body["tools"]
        .as_array()
        .expect("tools")
        .iter()
        .map(|tool| tool["outcome"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(outcomes, ["ok", "ok", "rejected"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_alone_decides_all_that_are_pending() {
    let two = [("probe__effect", json!({"key": "a"})), ("probe__effect", json!({"key": "b"}))];
    let host = TestHost::with_probe(Script::new([calls(two), say("done")])).await;
    let paused = host.run("go").await;
    let done = host.resume(&paused, json!({"decision": "approved"})).await;
    assert_eq!(done.body["status"], "COMPLETED", "{done:?}");
    assert_eq!((host.effects("a").await, host.effects("b").await), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_gated_call_pauses_again() {
    let model = Script::new([
        call("probe__effect", json!({"key": "first"})),
        call("probe__effect", json!({"key": "second"})),
        say("done"),
    ]);
    let host = TestHost::with_probe(model).await;
    let first = host.run("go").await;
    let approve =
        json!({"action": "APPROVE", "approvalId": first["metadata"]["requiredAction"]["approvalId"]});

    let decide = || host.resume(&first, approve.clone());
    for answer in futures_util::future::join_all((0..8).map(|_| decide())).await {
        assert_eq!((answer.status, &answer.body["status"]), (200, &json!("PAUSED")), "{answer:?}");
        assert_ne!(answer.body["metadata"]["requiredAction"]["approvalId"], approve["approvalId"]);
    }
    assert_eq!(
        (host.effects("first").await, host.effects("second").await),
        (1, 0),
        "nobody approved the second"
    );

    assert_eq!(host.resume(&first, json!({"action": "APPROVE"})).await.body["status"], "COMPLETED");
    assert_eq!(host.effects("second").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_approval_decides_nothing() {
    let host =
        TestHost::with_probe(Script::new([call("probe__effect", json!({"key": "k"})), say("done")])).await;
    let paused = host.run("go").await;
    let known = &paused["metadata"]["requiredAction"]["approvalId"];
    let both = json!({"decisions": [{"approvalId": known, "action": "APPROVE"}, {"approvalId": "x", "action": "APPROVE"}]});
    let answer = host.resume(&paused, both).await;
    assert_eq!((answer.status, &answer.body["type"]), (404, &json!("urn:problem-type:resource-not-found")));
    let twice = json!({"decisions": [{"approvalId": known, "action": "APPROVE"}, {"approvalId": known, "action": "REJECT"}]});
    assert_eq!(host.resume(&paused, twice).await.status, 400);
    assert_eq!(host.read(&paused).await["status"], "PAUSED");
    assert_eq!(host.effects("k").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_answer_decides_each_in_its_own_way() {
    let three = ["a", "b", "c"].map(|key| ("probe__effect", json!({"key": key})));
    let host = TestHost::with_probe(Script::new([calls(three), say("done")])).await;
    let paused = host.run("go").await;
    let action = |index: usize| paused["metadata"]["requiredActions"][index].clone();
    // In another order than they were asked for.
    let decisions = json!({"decisions": [
        {"approvalId": action(2)["approvalId"], "decision": "approved"},
        {"approvalId": action(1)["approvalId"], "action": "REJECT", "comment": "not b"},
        {"approvalId": action(0)["approvalId"], "action": "APPROVE", "arguments": {"key": "c"}},
    ]});

    let done = host.resume(&paused, decisions.clone()).await;

    assert_eq!((done.status, &done.body["status"]), (200, &json!("COMPLETED")), "{done:?}");
    let tools = done.body["tools"].as_array().expect("tools");
    let outputs: Vec<&str> = tools.iter().map(|tool| tool["toolOutput"].as_str().expect("text")).collect();
    let rejected = "A human rejected this call. It did not run. Their comment: not b";
    assert_eq!(outputs, ["1", rejected, "2"], "the calls run in the model's order");
    let counts = futures_util::future::join_all(["a", "b", "c"].map(|key| host.effects(key))).await;
    assert_eq!(counts, [0, 0, 2]);
    assert_eq!(host.resume(&paused, decisions).await.body, done.body, "a repeat is told the same");
    assert_eq!(host.effects("c").await, 2);
}

/// A bare decision means what was pending when it came: one that comes while the first pause's decision is at
/// work never decides the next pause.
#[tokio::test(flavor = "multi_thread")]
async fn a_retried_approval_does_not_approve_what_comes_later() {
    let gate = Arc::new(Semaphore::new(1));
    let model = Script::gated(
        [
            call("probe__effect", json!({"key": "first"})),
            call("probe__effect", json!({"key": "second"})),
            say("done"),
        ],
        &gate,
    );
    let host = TestHost::with_probe(model.clone()).await;
    let first = host.run("go").await;
    let path = format!("/api/agents/agent/runs/{}/continue", first["runId"].as_str().expect("an id"));
    let approve = json!({"action": "APPROVE"});
    let approving = host.begin(&path, &approve);
    until("the model is asked again", async || model.requests().len() == 2).await;

    // As streams: their heads say that the retries have arrived, before there is a second call to decide.
    let mut retries = Vec::new();
    for _ in 0..4 {
        let retry = host.request(reqwest::Method::POST, &format!("{path}/stream"));
        retries.push(Stream::open(retry.json(&approve)).await);
    }
    let reject = host.resume(&first, json!({"action": "REJECT"})).await;
    assert_eq!((reject.status, &reject.body["currentStatus"]), (409, &json!("RUNNING")), "{reject:?}");
    gate.add_permits(1);

    let paused = approving.await.expect("no panic").body;
    assert_eq!(paused["status"], "PAUSED", "{paused}");
    assert_ne!(
        paused["metadata"]["requiredAction"]["approvalId"],
        first["metadata"]["requiredAction"]["approvalId"]
    );
    for retry in retries {
        let last = retry.rest().await.pop().expect("a frame");
        assert_eq!(last.event, "PAUSED", "{last:?}");
        assert_eq!(last.json()["approvalId"], paused["metadata"]["requiredAction"]["approvalId"]);
    }
    assert_eq!((host.effects("first").await, host.effects("second").await), (1, 0));
    gate.add_permits(1);
    assert_eq!(host.resume(&first, json!({"action": "REJECT"})).await.body["status"], "COMPLETED");
    assert_eq!(host.effects("second").await, 0);
}

/// Everybody decides one of two calls; the run goes on once, after the last of them.
#[tokio::test(flavor = "multi_thread")]
async fn partial_decisions_race() {
    let two = [("probe__effect", json!({"key": "a"})), ("probe__effect", json!({"key": "b"}))];
    let model = Script::new([calls(two), say("done")]);
    let host = TestHost::with_probe(model.clone()).await;
    let paused = host.run("go").await;
    let decide = |index: usize| {
        let approval = &paused["metadata"]["requiredActions"][index % 2]["approvalId"];
        host.resume(&paused, json!({"action": "APPROVE", "approvalId": approval}))
    };
    for answer in futures_util::future::join_all((0..16).map(decide)).await {
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(
            ["PAUSED", "COMPLETED"].map(|word| json!(word)).contains(&answer.body["status"]),
            "{answer:?}"
        );
    }
    assert_eq!(host.settled(&paused).await["status"], "COMPLETED");
    assert_eq!((host.effects("a").await, host.effects("b").await), (1, 1));
    assert_eq!(model.requests().len(), 2, "it went on once");
}
