//! Several gated calls: the ungated run first, each is decided by itself, and the next pause is another.

use serde_json::json;

use crate::support::{Script, TestHost, call, calls, say};

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
