//! An approval may change the arguments: the edit is checked, executed, and both versions are kept.

use serde_json::{Value, json};

use crate::support::process::text;
use crate::support::{Script, TestHost, call, calls, say};

#[tokio::test(flavor = "multi_thread")]
async fn the_edit_is_executed_and_both_versions_are_kept() {
    let model = Script::new([call("probe__effect", json!({"key": "model"})), say("done")]);
    let host = TestHost::with_probe(model.clone()).await;
    let paused = host.run("go").await;

    let answer = host.resume(&paused, json!({"action": "APPROVE", "arguments": {"key": "human"}})).await;

    assert_eq!((answer.status, &answer.body["status"]), (200, &json!("COMPLETED")), "{answer:?}");
    assert_eq!((host.effects("model").await, host.effects("human").await), (0, 1));
    assert_eq!(answer.body["tools"][0]["toolInput"], r#"{"key":"human"}"#);
    let seen = format!("{:?}", model.requests()[1].messages);
    assert!(
        seen.contains("human") && !seen.contains(r#"\"model\""#),
        "the model sees what was executed: {seen}"
    );
    let database = host.folder().join("holdfast.db");
    let row = "select arguments || ' -> ' || edited_arguments || ' by ' || resolved_by from approvals";
    assert_eq!(text(&database, row).await, [r#"{"key":"model"} -> {"key":"human"} by admin"#]);
    let replied =
        text(&database, "select body from run_events where kind = 'replied' order by seq limit 1").await;
    assert!(replied[0].contains("model"), "the journal keeps what the model wrote: {replied:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_edit_is_refused_and_nothing_is_lost() {
    let model = Script::new([call("probe__effect", json!({"key": "k"})), say("done")]);
    let host = TestHost::with_probe(model).await;
    let paused = host.run("go").await;
    for arguments in [json!({}), json!({"key": 7}), json!([]), json!("k"), Value::from(1)] {
        let answer = host.resume(&paused, json!({"action": "APPROVE", "arguments": arguments})).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        assert_eq!(answer.body["invalidParams"][0]["field"], "arguments");
    }
    assert_eq!(host.read(&paused).await["status"], "PAUSED");
    assert_eq!(host.effects("k").await, 0);
    assert_eq!(host.resume(&paused, json!({"action": "APPROVE"})).await.body["status"], "COMPLETED");
    assert_eq!(host.effects("k").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_names_its_call_when_several_are_pending() {
    let two = [("probe__effect", json!({"key": "a"})), ("probe__effect", json!({"key": "b"}))];
    let host = TestHost::with_probe(Script::new([calls(two), say("done")])).await;
    let paused = host.run("go").await;
    let answer = host.resume(&paused, json!({"action": "APPROVE", "arguments": {"key": "c"}})).await;
    assert_eq!(answer.status, 400, "{answer:?}");
    let approval = paused["metadata"]["requiredActions"][1]["approvalId"].clone();
    let named = json!({"action": "APPROVE", "approvalId": approval, "arguments": {"key": "c"}});
    assert_eq!(host.resume(&paused, named).await.body["status"], "PAUSED");
    assert_eq!(host.resume(&paused, json!({"action": "APPROVE"})).await.body["status"], "COMPLETED");
    let counts = (host.effects("a").await, host.effects("b").await, host.effects("c").await);
    assert_eq!(counts, (1, 0, 1));
}
