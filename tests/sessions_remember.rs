//! Earlier turns of a session reach the model; other people's sessions look absent.

use serde_json::json;

use crate::support::host::ONE_AGENT;
use crate::support::{Script, TestHost, call, say};

#[tokio::test(flavor = "multi_thread")]
async fn completed_turns_of_the_same_session_are_sent() {
    let model = Script::new([say("noted")]);
    let mut host = TestHost::with_probe(model.clone()).await;
    let first = host.run("my name is Ada").await;
    let session = first["sessionId"].as_str().expect("an id").to_owned();
    host.run("another conversation").await;
    host.restart().await;

    let body = json!({"message": "what is my name?", "session_id": session});
    let second = host.post("/api/agents/agent/runs", &body).await.body;
    assert_eq!(second["sessionId"], json!(session));
    let sent = format!("{:?}", model.requests().last().expect("a request").messages);
    let place = |text: &str| sent.find(text).unwrap_or_else(|| panic!("{text} in {sent}"));
    assert!(place("my name is Ada") < place("noted") && place("noted") < place("what is my name?"));
    assert!(!sent.contains("another conversation"));
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_without_an_answer_are_not_part_of_the_conversation() {
    let model = Script::new([call("probe__effect", json!({"key": "k"})), say("done")]);
    let host = TestHost::with_probe(model.clone()).await;
    let paused = host.run("never mind this").await;
    host.cancel(&paused).await;
    host.post("/api/agents/agent/runs", &json!({"message": "next", "sessionId": paused["sessionId"]})).await;
    let sent = format!("{:?}", model.requests().last().expect("a request").messages);
    assert!(sent.contains("next") && !sent.contains("never mind this"), "{sent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_sessions_look_absent() {
    let config = format!("{ONE_AGENT}\n[[agents]]\nid = \"other\"\nmodel = \"script::v1\"\n");
    let host = TestHost::start(&[], &config, Script::new([say("fine")])).await;
    let mine = host.run("mine").await["sessionId"].clone();
    let ask = async |path: &str, body| host.post(path, &body).await.status;
    let agent = "/api/agents/agent/runs";
    assert_eq!(ask(agent, json!({"message": "x", "sessionId": mine})).await, 200);
    assert_eq!(ask(agent, json!({"message": "x", "sessionId": mine, "userId": "bob"})).await, 404);
    assert_eq!(ask(agent, json!({"message": "x", "sessionId": mine, "orgId": "acme"})).await, 404);
    assert_eq!(ask("/api/agents/other/runs", json!({"message": "x", "sessionId": mine})).await, 404);
    let new = "0190a000-0000-7000-8000-000000000001";
    let made = host.post(agent, &json!({"message": "x", "sessionId": new})).await;
    assert_eq!(made.body["sessionId"], new, "an unknown one starts a session under that id");
}
