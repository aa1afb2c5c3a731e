//! A cancelled run stays cancelled: a later approval is a conflict and executes nothing.

use serde_json::json;

use crate::support::process::text;
use crate::support::{Script, TestHost, call, say};

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_after_a_cancel_is_a_conflict() {
    let model = Script::new([call("probe__effect", json!({"key": "k"})), say("done")]);
    let host = TestHost::with_probe(model).await;
    let paused = host.run("go").await;
    let approval = paused["metadata"]["requiredAction"]["approvalId"].clone();

    let cancelled = host.cancel(&paused).await;
    assert_eq!((cancelled.status, cancelled.body), (204, serde_json::Value::Null));
    assert_eq!(host.read(&paused).await["status"], "CANCELLED");

    for body in [json!({"action": "APPROVE"}), json!({"action": "APPROVE", "approvalId": approval})] {
        let answer = host.resume(&paused, body).await;
        assert_eq!((answer.status, &answer.body["currentStatus"]), (409, &json!("CANCELLED")), "{answer:?}");
    }
    assert_eq!(host.cancel(&paused).await.status, 204, "again changes nothing");
    assert_eq!(host.effects("k").await, 0);
    let database = host.folder().join("holdfast.db");
    assert_eq!(text(&database, "select status from approvals").await, ["CANCELLED"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_stays_as_it_ended() {
    let host = TestHost::with_probe(Script::new([say("done")])).await;
    let completed = host.run("go").await;
    assert_eq!(host.cancel(&completed).await.status, 204);
    assert_eq!(host.read(&completed).await["status"], "COMPLETED");
    let unknown = json!({"runId": "no-such-run"});
    assert_eq!(host.cancel(&unknown).await.status, 204);
}

/// Whoever wins, nothing executes after a cancel that was acknowledged first.
#[tokio::test(flavor = "multi_thread")]
async fn cancel_and_approve_race() {
    let model = Script::new([call("probe__effect", json!({"key": "k"})), say("done")]);
    let host = TestHost::with_probe(model).await;
    for round in 0..20 {
        let before = host.effects("k").await;
        let paused = host.run("go").await;
        let (cancelled, approved) =
            tokio::join!(host.cancel(&paused), host.resume(&paused, json!({"action": "APPROVE"})));
        assert_eq!(cancelled.status, 204);
        let run = host.read(&paused).await;
        let happened = host.effects("k").await - before;
        match approved.status {
            409 => assert_eq!((happened, &run["status"]), (0, &json!("CANCELLED")), "round {round}"),
            200 => assert!(happened <= 1, "round {round}: {run}"),
            other => panic!("round {round}: {other} {:?}", approved.body),
        }
    }
}
