//! REJECT cancels the call, not the run: the model is told, with the comment, and goes on.

use serde_json::json;

use crate::support::process::text;
use crate::support::{Script, TestHost, call, say};

#[tokio::test(flavor = "multi_thread")]
async fn the_model_is_told_and_goes_on() {
    let model = Script::new([
        call("probe__effect", json!({"key": "k"})),
        call("probe__echo", json!({"text": "instead"})),
        say("I did something else."),
    ]);
    let host = TestHost::with_probe(model.clone()).await;
    let paused = host.run("go").await;

    let answer = host.resume(&paused, json!({"action": "REJECT", "comment": "too risky"})).await;

    assert_eq!((answer.status, &answer.body["status"]), (200, &json!("COMPLETED")), "{answer:?}");
    assert_eq!(answer.body["content"], "I did something else.");
    let rejected = &answer.body["tools"][0];
    assert_eq!((&rejected["outcome"], &rejected["isError"]), (&json!("rejected"), &json!(true)));
    let told = "A human rejected this call. It did not run. Their comment: too risky";
    assert_eq!(rejected["toolOutput"], told);
    assert_eq!(answer.body["tools"][1]["toolOutput"], "instead");
    let seen = format!("{:?}", model.requests()[1].messages);
    assert!(seen.contains(told), "{seen}");
    assert_eq!(host.effects("k").await, 0);

    let database = host.folder().join("holdfast.db");
    let row = "select status || ' by ' || resolved_by || ': ' || comment from approvals where resolved_at is not null";
    assert_eq!(text(&database, row).await, ["REJECTED by admin: too risky"]);
}

/// The model may insist: each call is asked about anew, and the run is the model's to end.
#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_insists_is_asked_about_again() {
    let again = || call("probe__effect", json!({"key": "k"}));
    let host = TestHost::with_probe(Script::new([again(), again(), say("I give up.")])).await;
    let first = host.run("go").await;
    let second = host.resume(&first, json!({"action": "reject"})).await.body;
    assert_eq!(second["status"], "PAUSED");
    let id = |run: &serde_json::Value| run["metadata"]["requiredAction"]["approvalId"].clone();
    assert_ne!(id(&first), id(&second));
    assert_eq!(second["tools"][0]["toolOutput"], "A human rejected this call. It did not run.");

    host.clock.advance(std::time::Duration::from_secs(5));
    let done = host.resume(&first, json!({"decision": "REJECTED", "comment": "  "})).await.body;

    assert_eq!((&done["status"], &done["content"]), (&json!("COMPLETED"), &json!("I give up.")), "{done}");
    assert_eq!(done["metrics"]["errorCount"], 2);
    assert_eq!(host.effects("k").await, 0);
    let times =
        "select cast((resolved_at - created_at) / 1000 as text) from approvals order by created_at, id";
    assert_eq!(host.texts(times).await, ["0", "5"], "when it was decided");
    let events = "select kind from run_events order by seq";
    let turn = ["replied", "paused", "decided"];
    assert_eq!(
        host.texts(events).await,
        [&["created"], &turn[..], &turn, &["replied", "completed"]].concat()
    );
}
