//! The second door to a pause, and all doors at once.

use holdfast::key::Role;
use serde_json::{Value, json};

use crate::support::host::ONE_AGENT;
use crate::support::{Answer, Caller, Script, TestHost, call, calls, say};

fn gated(key: &str) -> holdfast::session::Reply {
    call("probe__effect", json!({"key": key}))
}

fn approval(run: &Value) -> String {
    run["metadata"]["requiredAction"]["approvalId"].as_str().unwrap_or_else(|| panic!("{run}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_is_listed_read_and_resolved() {
    let host = TestHost::with_probe(Script::new([gated("k"), say("done")])).await;
    let run = host.run("go").await;
    let id = approval(&run);
    let listed = host.get("/api/v1/approvals/pending").await.body;
    let expected = json!({
        "id": id, "runId": run["runId"], "agentId": "agent", "type": "TOOL_APPROVAL", "toolName": "probe__effect",
        "toolArguments": r#"{"key":"k"}"#, "status": "PENDING", "requestedBy": "admin", "resolvedBy": null,
        "comment": null, "contextualMessage": "Agent wants to call probe__effect. Approve or reject this call.",
        "createdAt": "2026-01-01T00:00:00.000Z", "resolvedAt": null, "expiresAt": "2026-01-02T00:00:00.000Z",
    });
    assert_eq!((&listed["content"], &listed["totalElements"]), (&json!([expected]), &json!(1)));
    assert_eq!(host.get(&format!("/api/v1/approvals/{id}")).await.body, expected);

    let path = format!("/api/v1/approvals/{id}/resolve");
    let decision = json!({"decision": "APPROVED", "comment": "fine"});
    let resolved = host.post(&path, &decision).await;
    assert_eq!((resolved.status, &resolved.body["status"]), (200, &json!("APPROVED")), "{resolved:?}");
    assert_eq!((&resolved.body["resolvedBy"], &resolved.body["comment"]), (&json!("admin"), &json!("fine")));
    assert_eq!(host.settled(&run).await["content"], "done", "the run goes on by itself");
    assert_eq!(host.effects("k").await, 1);

    assert_eq!(host.post(&path, &decision).await.status, 200, "saying it again changes nothing");
    let other = host.post(&path, &json!({"decision": "REJECTED"})).await;
    assert_eq!((other.status, &other.body["type"]), (409, &json!("urn:problem-type:run-not-paused")));
    assert_eq!(host.post(&path, &json!({"decision": "MAYBE"})).await.status, 400);
    assert_eq!(host.post("/api/v1/approvals/none/resolve", &decision).await.status, 404);
    assert_eq!(host.get("/api/v1/approvals/pending").await.body["totalElements"], 0);
    assert_eq!(host.effects("k").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_are_resolved_each_by_itself() {
    let host = TestHost::with_probe(Script::new([gated("k"), say("done")])).await;
    let (one, two) = (host.run("one").await, host.run("two").await);
    host.cancel(&two).await;
    let body = json!({"ids": [approval(&one), approval(&two), "none"], "decision": "APPROVED"});
    let bulk = host.post("/api/v1/approvals/bulk-resolve", &body).await.body;
    assert_eq!((&bulk["resolved"], &bulk["failed"]), (&json!(1), &json!(2)), "{bulk}");
    assert_eq!(bulk["results"][0]["status"], "APPROVED");
    assert_eq!(bulk["results"][1]["error"]["currentStatus"], "CANCELLED");
    assert_eq!(bulk["results"][2]["error"]["status"], 404);
    host.settled(&one).await;
    assert_eq!(host.effects("k").await, 1);
    let none = host.post("/api/v1/approvals/bulk-resolve", &json!({"ids": [], "decision": "APPROVED"})).await;
    assert_eq!(none.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_sees_what_they_may_decide() {
    let host = TestHost::with_probe(Script::new([gated("k"), say("done")])).await;
    let ann = Caller::new(&host, Role::User, "acme", "ann").await;
    let bob = Caller::new(&host, Role::User, "acme", "bob").await;
    let boss = Caller::new(&host, Role::Approver, "acme", "boss").await;
    let other = Caller::new(&host, Role::Admin, "other", "eve").await;
    let run = ann.post("/api/agents/agent/runs", &json!({"message": "x"})).await.body;
    let path = format!("/api/v1/approvals/{}", approval(&run));
    for (caller, count, status) in [(&ann, 1, 200), (&bob, 0, 404), (&boss, 1, 200), (&other, 0, 404)] {
        assert_eq!(caller.get("/api/v1/approvals/pending").await.body["totalElements"], count);
        assert_eq!(caller.get(&path).await.status, status);
    }
    let resolve = format!("{path}/resolve");
    let decision = json!({"decision": "APPROVED"});
    assert_eq!(bob.post(&resolve, &decision).await.status, 404);
    assert_eq!(other.post(&resolve, &decision).await.status, 404);
    assert_eq!(boss.post(&resolve, &decision).await.status, 200);
}

/// An agent whose effect needs two people, and neither of them the run's own user.
fn strict() -> String {
    let rule = r#"approval = { "probe.effect" = { policy = "ask", approvers = 2, expiry_ms = 60000, self_approval = false } }"#;
    ONE_AGENT.replace("tools = [\"*\"]", &format!("tools = [\"*\"]\n{rule}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_must_approve_and_not_the_one_who_asked() {
    let host = TestHost::start(&["probe"], &strict(), Script::new([gated("k"), say("done")])).await;
    let ann = Caller::new(&host, Role::Approver, "acme", "ann").await;
    let bob = Caller::new(&host, Role::Approver, "acme", "bob").await;
    let joe = Caller::new(&host, Role::Approver, "acme", "joe").await;
    let run = ann.post("/api/agents/agent/runs", &json!({"message": "x"})).await.body;
    let action = &run["metadata"]["requiredAction"];
    assert_eq!((&action["approvalsNeeded"], &action["approvalsGiven"]), (&json!(2), &json!(0)), "{run}");
    assert_eq!(action["expiresAt"], "2026-01-01T00:01:00.000Z");
    let path = format!("/api/agents/agent/runs/{}/continue", run["runId"].as_str().expect("an id"));
    let approve = json!({"action": "APPROVE"});
    let vote = async |caller: &Caller<'_>, body: &Value| -> Answer { caller.post(&path, body).await };

    assert_eq!(vote(&ann, &approve).await.status, 403, "not one's own");
    let first = vote(&bob, &approve).await;
    assert_eq!((first.status, &first.body["status"]), (200, &json!("PAUSED")), "{first:?}");
    assert_eq!(first.body["metadata"]["requiredAction"]["approvalsGiven"], 1);
    let again = vote(&bob, &approve).await;
    assert_eq!(again.body["metadata"]["requiredAction"]["approvalsGiven"], 1, "one vote each");
    assert_eq!(vote(&bob, &json!({"action": "REJECT"})).await.status, 409, "a vote stays");
    let edit = json!({"action": "APPROVE", "arguments": {"key": "other"}});
    assert_eq!(vote(&joe, &edit).await.status, 400);
    assert_eq!(host.effects("k").await, 0);
    assert_eq!(vote(&joe, &approve).await.body["status"], "COMPLETED");
    assert_eq!(host.effects("k").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_rejection_ends_a_vote() {
    let host = TestHost::start(&["probe"], &strict(), Script::new([gated("k"), say("went on")])).await;
    let ann = Caller::new(&host, Role::User, "acme", "ann").await;
    let bob = Caller::new(&host, Role::Approver, "acme", "bob").await;
    let run = ann.post("/api/agents/agent/runs", &json!({"message": "x"})).await.body;
    let id = approval(&run);
    let resolve = format!("/api/v1/approvals/{id}/resolve");
    assert_eq!(bob.post(&resolve, &json!({"decision": "APPROVED"})).await.body["status"], "PENDING");
    // Her own run's call is hers to give up.
    let rejected = ann.post(&resolve, &json!({"decision": "REJECTED"})).await;
    assert_eq!((rejected.status, &rejected.body["status"]), (200, &json!("REJECTED")), "{rejected:?}");
    assert_eq!(host.effects("k").await, 0);
}

/// Sixty-four callers through every door at once.
#[tokio::test(flavor = "multi_thread")]
async fn all_doors_lead_through_one_compare_and_set() {
    let host = TestHost::with_probe(Script::new([gated("k"), say("done")])).await;
    let paused = host.run("go").await;
    let id = approval(&paused);
    let door = async |index: usize| match index % 4 {
        0 => host.resume(&paused, json!({"action": "APPROVE"})).await,
        1 => host.resume(&paused, json!({"action": "APPROVE", "approvalId": id})).await,
        2 => host.post(&format!("/api/v1/approvals/{id}/resolve"), &json!({"decision": "APPROVED"})).await,
        _ => host.post("/api/v1/approvals/bulk-resolve", &json!({"ids": [id], "decision": "APPROVED"})).await,
    };
    let answers = futures_util::future::join_all((0..64).map(door)).await;
    for (index, answer) in answers.iter().enumerate() {
        // Only a decision without a name can come too late: it means what is pending when it arrives.
        assert!(answer.status == 200 || (index % 4 == 0 && answer.status == 409), "{index}: {answer:?}");
    }
    host.settled(&paused).await;
    assert_eq!(host.effects("k").await, 1);
}

/// Half the callers say yes, half say no: one side wins, and everybody is told the same.
#[tokio::test(flavor = "multi_thread")]
async fn opposite_decisions_through_different_doors() {
    let two = [("probe__effect", json!({"key": "k"})), ("probe__effect", json!({"key": "l"}))];
    let host = TestHost::with_probe(Script::new([calls(two), say("done")])).await;
    for round in 0..5 {
        let before = (host.effects("k").await, host.effects("l").await);
        let paused = host.run("go").await;
        let ids: Vec<Value> = paused["metadata"]["requiredActions"]
            .as_array()
            .expect("two")
            .iter()
            .map(|action| action["approvalId"].clone())
            .collect();
        let yes = json!({"ids": ids, "decision": "APPROVED"});
        let no = json!({"decisions": ids.iter().map(|id| json!({"approvalId": id, "action": "REJECT"})).collect::<Vec<_>>()});
        let door = async |index: usize| match index % 2 {
            0 => host.post("/api/v1/approvals/bulk-resolve", &yes).await,
            _ => host.resume(&paused, no.clone()).await,
        };
        futures_util::future::join_all((0..16).map(door)).await;
        let run = host.settled(&paused).await;
        for (index, key) in ["k", "l"].into_iter().enumerate() {
            let happened = host.effects(key).await - [before.0, before.1][index];
            let outcome = run["tools"][index]["outcome"].as_str().expect("an outcome");
            assert_eq!(happened, u64::from(outcome == "ok"), "round {round}: {key} {outcome}");
        }
    }
}
