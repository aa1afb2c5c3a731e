//! A cancelled run stays cancelled: a later approval is a conflict and executes nothing.

use std::sync::Arc;

use reqwest::Method;
use serde_json::json;

use crate::support::host::ONE_AGENT;
use crate::support::process::text;
use crate::support::{Script, Speaker, TestHost, asked, call, calls, replied, say};

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

/// The path names a run of an agent: another agent's run is not there, and is not cancelled.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_cancelled_under_its_own_agent() {
    let config = format!("{ONE_AGENT}\n[[agents]]\nid = \"other\"\nmodel = \"script::v1\"\n");
    let model = Script::new([call("probe__effect", json!({"key": "k"})), say("done")]);
    let host = TestHost::start(&["probe"], &config, model).await;
    let paused = host.run("go").await;
    let id = paused["runId"].as_str().expect("an id");
    let foreign = host.request(Method::DELETE, &format!("/api/agents/other/runs/{id}"));
    assert_eq!(host.send(foreign).await.status, 404);
    assert_eq!(host.read(&paused).await["status"], "PAUSED");
    let unknown = host.request(Method::DELETE, "/api/agents/other/runs/no-such-run");
    assert_eq!(host.send(unknown).await.status, 204);
    assert_eq!(host.post(&format!("/api/v1/runs/{id}/cancel"), &json!({})).await.status, 204);
    assert_eq!(host.read(&paused).await["status"], "CANCELLED");
}

/// A model that asks for the gated effect on the key that the message names.
fn by_key() -> Arc<Speaker> {
    Speaker::new(|request| match replied(request) {
        0 => Ok(call("probe__effect", json!({"key": asked(request)}))),
        _ => Ok(say("done")),
    })
}

/// Whoever wins, what was not approved never executes, and the end that was recorded first stays.
#[tokio::test(flavor = "multi_thread")]
async fn cancel_and_approve_race() {
    let host = TestHost::with_probe(by_key()).await;
    let mut conflicts = Vec::new();
    for round in 0..20 {
        let key = format!("r{round}");
        let paused = host.run(&key).await;
        let (cancelled, approved) =
            tokio::join!(host.cancel(&paused), host.resume(&paused, json!({"action": "APPROVE"})));
        assert_eq!(cancelled.status, 204);
        let run = host.read(&paused).await;
        match approved.status {
            409 => {
                assert_eq!(
                    (&approved.body["currentStatus"], &run["status"]),
                    (&json!("CANCELLED"), &json!("CANCELLED"))
                );
                conflicts.push(key);
            }
            200 => {
                assert_eq!(approved.body["status"], run["status"], "round {round}: {run}");
                let happened = host.effects(&key).await;
                match run["status"].as_str() {
                    Some("COMPLETED") => assert_eq!(happened, 1, "round {round}: {run}"),
                    Some("CANCELLED") => assert!(happened <= 1, "round {round}: {run}"),
                    other => panic!("round {round}: {other:?}"),
                }
            }
            other => panic!("round {round}: {other} {:?}", approved.body),
        }
    }
    for key in conflicts {
        assert_eq!(host.effects(&key).await, 0, "{key} was not approved");
    }
}

/// An approval that is sent when the cancel has been acknowledged finds nothing to approve.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_executes_after_a_cancel_that_was_acknowledged() {
    let host = TestHost::with_probe(by_key()).await;
    for round in 0..20 {
        let key = format!("r{round}");
        let paused = host.run(&key).await;
        let approval = paused["metadata"]["requiredAction"]["approvalId"].clone();
        let cancels = futures_util::future::join_all((0..4).map(|_| host.cancel(&paused)));
        assert!(cancels.await.iter().all(|answer| answer.status == 204), "cancelling again changes nothing");
        let named = json!({"action": "APPROVE", "approvalId": approval});
        let approvals = futures_util::future::join_all((0..4).map(|_| host.resume(&paused, named.clone())));
        for answer in approvals.await {
            assert_eq!(
                (answer.status, &answer.body["currentStatus"]),
                (409, &json!("CANCELLED")),
                "{answer:?}"
            );
        }
    }
    assert_eq!(
        host.texts("select cast(count(*) as text) from run_events where kind = 'call_started'").await,
        ["0"]
    );
    assert_eq!(
        host.texts("select cast(count(*) as text) from run_events where kind = 'cancelled'").await,
        ["20"]
    );
}

/// Calls pending beside each other are all closed, and what was decided before stays decided.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_decided_before_the_cancel_stays_decided() {
    let two = [("probe__effect", json!({"key": "a"})), ("probe__effect", json!({"key": "b"}))];
    let host = TestHost::with_probe(Script::new([calls(two), say("done")])).await;
    let paused = host.run("go").await;
    let ids = [0, 1].map(|index: usize| paused["metadata"]["requiredActions"][index]["approvalId"].clone());
    let approve = |id: &serde_json::Value| json!({"action": "APPROVE", "approvalId": id});
    assert_eq!(host.resume(&paused, approve(&ids[0])).await.body["status"], "PAUSED");

    assert_eq!(host.cancel(&paused).await.status, 204);

    let rows = "select status || ' by ' || resolved_by from approvals order by created_at, id";
    assert_eq!(host.texts(rows).await, ["APPROVED by admin", "CANCELLED by admin"]);
    let repeat = host.resume(&paused, approve(&ids[0])).await;
    assert_eq!((repeat.status, &repeat.body["status"]), (200, &json!("CANCELLED")), "a repeat sees the run");
    let late = host.resume(&paused, approve(&ids[1])).await;
    assert_eq!((late.status, &late.body["currentStatus"]), (409, &json!("CANCELLED")));
    assert_eq!((host.effects("a").await, host.effects("b").await), (0, 0), "approved, but never begun");
}
