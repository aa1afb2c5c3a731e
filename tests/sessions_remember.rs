//! Earlier turns of a session reach the model; other people's sessions look absent.

use holdfast::key::Role;
use holdfast::model::ModelError;
use serde_json::json;

use crate::support::gated::messages;
use crate::support::host::ONE_AGENT;
use crate::support::{Caller, Script, Speaker, TestHost, asked, call, say};

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

/// What failed has no answer, and is no part of the conversation either; what completed around it is.
#[tokio::test(flavor = "multi_thread")]
async fn failed_runs_are_not_sent() {
    let model = Speaker::new(|request| match asked(request).as_str() {
        "fail" => Err(ModelError::Refused("on purpose".to_owned())),
        message => Ok(say(&format!("re: {message}"))),
    });
    let host = TestHost::with_probe(model.clone()).await;
    let session = "0190a000-0000-7000-8000-000000000009";
    let mut statuses = Vec::new();
    for message in ["one", "fail", "two"] {
        let body = json!({"message": message, "sessionId": session});
        statuses.push(host.post("/api/agents/agent/runs", &body).await.body["status"].clone());
    }
    assert_eq!(statuses, ["COMPLETED", "FAILED", "COMPLETED"].map(|word| json!(word)));
    assert_eq!(messages(model.requests().last().expect("a request")), ["one", "re: one", "two"]);
}

/// What a tool was told and said stays in its run: later turns see the question and the answer.
#[tokio::test(flavor = "multi_thread")]
async fn earlier_turns_are_their_question_and_their_answer() {
    let model = Script::new([call("probe__echo", json!({"text": "secret detail"})), say("The answer.")]);
    let host = TestHost::with_probe(model.clone()).await;
    let first = host.run("question").await;
    let body = json!({"message": "next", "sessionId": first["sessionId"]});
    assert_eq!(host.post("/api/agents/agent/runs", &body).await.body["status"], "COMPLETED");
    assert_eq!(messages(&model.requests()[2]), ["question", "The answer.", "next"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_one_users() {
    let host = TestHost::start(&[], ONE_AGENT, Script::new([say("fine")])).await;
    let ada = Caller::new(&host, Role::User, "default", "ada").await;
    let bob = Caller::new(&host, Role::User, "default", "bob").await;
    let eve = Caller::new(&host, Role::User, "acme", "ada").await;
    let path = "/api/agents/agent/runs";
    let session = ada.post(path, &json!({"message": "mine"})).await.body["sessionId"].clone();
    let next = json!({"message": "next", "sessionId": session});
    for (who, status) in [(&ada, 200), (&bob, 404), (&eve, 404)] {
        let answer = who.post(path, &next).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
    // An admin goes on with it in its user's name, not in their own.
    assert_eq!(host.post(path, &next).await.status, 404);
    let named = json!({"message": "next", "sessionId": session, "userId": "ada"});
    assert_eq!(host.post(path, &named).await.status, 200);
    assert_eq!(host.run_count().await, 3, "a refusal leaves nothing behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_id_is_a_uuid() {
    let host = TestHost::start(&[], ONE_AGENT, Script::new([say("fine")])).await;
    for bad in ["", "mine", "0190a000-0000-7000-8000-00000000000", "0190a000-0000-7000-8000-00000000000g"] {
        for field in ["sessionId", "session_id"] {
            let answer = host.post("/api/agents/agent/runs", &json!({"message": "x", (field): bad})).await;
            assert_eq!(
                (answer.status, &answer.body["invalidParams"][0]["field"]),
                (400, &json!("sessionId")),
                "{answer:?}"
            );
        }
    }
    // One session, however its id is written.
    let mut ids = Vec::new();
    for id in ["0190A000-0000-7000-8000-00000000000F", "0190a0000000700080000000 0000000f"] {
        let id = id.replace(' ', "");
        let answer = host.post("/api/agents/agent/runs", &json!({"message": "x", "sessionId": id})).await;
        ids.push(answer.body["sessionId"].clone());
    }
    assert_eq!(ids, ["0190a000-0000-7000-8000-00000000000f"; 2]);
}
