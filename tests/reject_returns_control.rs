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
