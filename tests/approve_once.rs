//! Whatever the number of callers, an approved call executes once.

use serde_json::json;

use crate::support::{Script, TestHost, call, say};

/// Everybody approves the same call at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_approvals_make_one_effect() {
    let model = Script::new([call("probe__effect", json!({"key": "k"})), say("done")]);
    let host = TestHost::with_probe(model).await;
    let paused = host.run("go").await;
    assert_eq!(paused["status"], "PAUSED");
    let approval = paused["metadata"]["requiredAction"]["approvalId"].clone();

    let decide = || host.resume(&paused, json!({"action": "APPROVE", "approvalId": approval}));
    let answers = futures_util::future::join_all((0..64).map(|_| decide())).await;

    for answer in answers {
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.body["status"], "COMPLETED", "everybody sees what the decision led to");
        assert_eq!(answer.body["content"], "done");
    }
    assert_eq!(host.effects("k").await, 1);
}

/// Half approve, half reject: one side wins, all of the other is told, and the effect is the winner's.
#[tokio::test(flavor = "multi_thread")]
async fn of_opposite_decisions_one_takes_effect() {
    let model = Script::new([call("probe__effect", json!({"key": "k"})), say("done")]);
    let host = TestHost::with_probe(model).await;
    let paused = host.run("go").await;
    let approval = paused["metadata"]["requiredAction"]["approvalId"].clone();

    let decide = |index: u32| {
        let action = if index.is_multiple_of(2) { "APPROVE" } else { "REJECT" };
        let request = host.resume(&paused, json!({"action": action, "approvalId": approval}));
        async move { (action, request.await) }
    };
    let answers = futures_util::future::join_all((0..32).map(decide)).await;

    let effects = host.effects("k").await;
    let winner = if effects == 1 { "APPROVE" } else { "REJECT" };
    assert!(effects <= 1);
    for (action, answer) in answers {
        if action == winner {
            assert_eq!((answer.status, &answer.body["status"]), (200, &json!("COMPLETED")), "{answer:?}");
        } else {
            assert_eq!(answer.status, 409, "{answer:?}");
            assert_eq!(answer.body["type"], "urn:problem-type:run-not-paused");
        }
    }
}

/// Without a name, a decision means what was pending when it came; later it is a conflict.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_approval_without_a_name_is_a_conflict_and_with_one_a_repeat() {
    let model = Script::new([call("probe__effect", json!({"key": "k"})), say("done")]);
    let host = TestHost::with_probe(model).await;
    let paused = host.run("go").await;
    let approval = paused["metadata"]["requiredAction"]["approvalId"].clone();
    assert_eq!(host.resume(&paused, json!({"action": "APPROVE"})).await.status, 200);

    let late = host.resume(&paused, json!({"action": "APPROVE"})).await;
    assert_eq!((late.status, &late.body["currentStatus"]), (409, &json!("COMPLETED")));
    let repeat = host.resume(&paused, json!({"action": "approved", "approvalId": approval})).await;
    assert_eq!((repeat.status, &repeat.body["content"]), (200, &json!("done")));
    let other = host.resume(&paused, json!({"action": "REJECT", "approvalId": approval})).await;
    assert_eq!(other.status, 409);
    assert_eq!(host.effects("k").await, 1);
}
