//! A pause is rows in a database: `kill -9` does not touch it, and the approved call runs once.

use serde_json::json;

use crate::support::openai::{self, OpenAi};
use crate::support::process::Process;

/// A model that asks for the gated effect, then says what the tool answered.
async fn model() -> OpenAi {
    OpenAi::start(|body| match openai::replied(body) {
        0 => openai::tool_calls(&[("call_abc", "probe__effect", json!({"key": "k"}))]),
        _ => openai::text("It is done."),
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_run_is_approved_after_a_kill() {
    let model = model().await;
    let mut host = Process::start(&["probe"], &model.config()).await;
    let paused = host.run("go").await;
    assert_eq!(paused["status"], "PAUSED");

    host.restart().await;

    let id = paused["runId"].as_str().expect("an id");
    let read = host.get(&format!("/api/agents/agent/runs/{id}")).await.body;
    assert_eq!(read["status"], "PAUSED");
    assert_eq!(read["metadata"]["requiredAction"], paused["metadata"]["requiredAction"]);
    assert_eq!(host.effects("k").await, 0);

    let path = format!("/api/agents/agent/runs/{id}/continue");
    let answer = host.post(&path, &json!({"action": "APPROVE"})).await.expect("an answer");
    assert_eq!((answer.status, &answer.body["status"]), (200, &json!("COMPLETED")), "{answer:?}");
    assert_eq!(answer.body["content"], "It is done.");
    assert_eq!(host.effects("k").await, 1);

    let asked = model.asked();
    assert_eq!(asked.len(), 2, "no answer is bought twice");
    let told = asked[1]["messages"].as_array().and_then(|messages| messages.last()).expect("messages");
    assert_eq!(
        (&told["role"], &told["tool_call_id"], &told["content"]),
        (&json!("tool"), &json!("call_abc"), &json!("1"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_approved_before_a_kill_is_not_run_again_after_it() {
    let model = model().await;
    let mut host = Process::start(&["probe"], &model.config()).await;
    let paused = host.run("go").await;
    let id = paused["runId"].as_str().expect("an id");
    let approval = &paused["metadata"]["requiredAction"]["approvalId"];
    let path = format!("/api/agents/agent/runs/{id}/continue");
    let body = json!({"action": "APPROVE", "approvalId": approval});
    let first = host.post(&path, &body).await.expect("an answer").body;

    host.restart().await;

    let again = host.post(&path, &body).await.expect("an answer");
    assert_eq!((again.status, &again.body), (200, &first), "a repeat that names its approval sees the run");
    let late = host.post(&path, &json!({"action": "APPROVE"})).await.expect("an answer");
    assert_eq!((late.status, &late.body["currentStatus"]), (409, &json!("COMPLETED")));
    assert_eq!(host.effects("k").await, 1);
}

/// A client that does not know whether its decision arrived sends it again, whatever happened between.
#[tokio::test(flavor = "multi_thread")]
async fn a_decision_with_a_key_is_one_decision_across_kills() {
    let model = model().await;
    let mut host = Process::start(&["probe"], &model.config()).await;
    let paused = host.run("go").await;
    let id = paused["runId"].as_str().expect("an id");
    host.restart().await;
    let approve = json!({"action": "APPROVE"});
    let first = host.resume(id, Some("d"), &approve).await;
    assert_eq!((first.status, &first.body["status"]), (200, &json!("COMPLETED")), "{first:?}");

    host.restart().await;

    let again = host.resume(id, Some("d"), &approve).await;
    assert_eq!((again.status, &again.body), (200, &first.body), "the key makes it the same decision");
    let other = host.resume(id, Some("d"), &json!({"action": "REJECT"})).await;
    assert_eq!(other.status, 422, "{other:?}");
    assert_eq!((host.effects("k").await, model.asked().len()), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_run_is_rejected_after_a_kill() {
    let model = model().await;
    let mut host = Process::start(&["probe"], &model.config()).await;
    let paused = host.run("go").await;
    let id = paused["runId"].as_str().expect("an id");
    host.restart().await;

    let answer = host.resume(id, None, &json!({"action": "REJECT", "comment": "not today"})).await;

    assert_eq!((answer.status, &answer.body["status"]), (200, &json!("COMPLETED")), "{answer:?}");
    assert_eq!((host.effects("k").await, model.asked().len()), (0, 2));
    let messages = model.asked()[1]["messages"].clone();
    let (asked, told) = (&messages[1]["tool_calls"][0], &messages[2]);
    assert_eq!((&asked["id"], &told["tool_call_id"]), (&json!("call_abc"), &json!("call_abc")));
    assert!(told["content"].as_str().is_some_and(|told| told.contains("Their comment: not today")), "{told}");

    host.restart().await;
    assert_eq!(host.wait_for(id, &["COMPLETED"]).await["tools"], answer.body["tools"]);
}
