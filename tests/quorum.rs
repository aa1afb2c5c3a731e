//! Several people must approve: their votes outlive the process, one person has one vote however many keys, and
//! whose run it is may be kept from deciding, of a retry after a crash, too.

use std::time::Duration;

use holdfast::key::Role;
use serde_json::{Value, json};

use crate::support::host::ONE_AGENT;
use crate::support::{Caller, Script, TestHost, call, say, until};

const RUNS: &str = "/api/agents/agent/runs";

/// The one agent, with more about it.
fn agent(settings: &str) -> String {
    ONE_AGENT.replace("tools = [\"*\"]", &format!("tools = [\"*\"]\n{settings}"))
}

fn effect() -> std::sync::Arc<Script> {
    Script::new([call("probe__effect", json!({"key": "k"})), say("done")])
}

fn approval(run: &Value) -> &str {
    run["metadata"]["requiredAction"]["approvalId"].as_str().unwrap_or_else(|| panic!("{run}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn votes_outlive_the_process_and_one_person_has_one() {
    let three = agent(r#"approval = { "probe.*" = { policy = "ask", approvers = 3 } }"#);
    let mut host = TestHost::start(&["probe"], &three, effect()).await;
    let paused = host.run("go").await;
    let path = format!("/api/v1/approvals/{}/resolve", approval(&paused));
    let yes = json!({"decision": "APPROVED"});
    for user in ["ann", "ann", "bob"] {
        let key = Caller::new(&host, Role::Approver, "default", user).await;
        let row = key.post(&path, &yes).await;
        assert_eq!((row.status, &row.body["status"]), (200, &json!("PENDING")), "{user}: {row:?}");
        assert_eq!(row.body["resolvedBy"], Value::Null, "nobody has resolved it");
    }
    host.restart().await;
    let given = |run: &Value| run["metadata"]["requiredAction"]["approvalsGiven"].clone();
    assert_eq!(given(&host.read(&paused).await), 2);
    // The same word of somebody who has voted is no third vote, and another word is none at all.
    let ann = Caller::new(&host, Role::Approver, "default", "ann").await;
    let continues = format!("{RUNS}/{}/continue", paused["runId"].as_str().expect("an id"));
    let again = ann.post(&continues, &json!({"action": "APPROVE"})).await;
    assert_eq!(given(&again.body), 2);
    let other = ann.post(&path, &json!({"decision": "REJECTED"})).await;
    assert_eq!((other.status, &other.body["currentStatus"]), (409, &json!("PAUSED")));
    assert_eq!(host.effects("k").await, 0);

    let joe = Caller::new(&host, Role::Approver, "default", "joe").await;
    let row = joe.post(&path, &yes).await.body;
    assert_eq!(
        (&row["status"], &row["resolvedBy"]),
        (&json!("APPROVED"), &json!("joe")),
        "the last vote settles it"
    );
    assert_eq!(host.settled(&paused).await["status"], "COMPLETED");
    assert_eq!(host.effects("k").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn votes_that_are_too_few_expire() {
    let two =
        agent(r#"approval = { "probe.effect" = { policy = "ask", approvers = 2, expiry_ms = 60000 } }"#);
    let host = TestHost::start(&["probe"], &two, effect()).await;
    let paused = host.run("go").await;
    let voted = host.resume(&paused, json!({"action": "APPROVE"})).await;
    assert_eq!(voted.body["metadata"]["requiredAction"]["approvalsNeeded"], 2);
    host.clock.advance(Duration::from_secs(61));
    let ann = Caller::new(&host, Role::Approver, "default", "ann").await;
    let late = ann
        .post(&format!("/api/v1/approvals/{}/resolve", approval(&paused)), &json!({"decision": "APPROVED"}))
        .await;
    assert_eq!((late.status, &late.body["type"]), (410, &json!("urn:problem-type:approval-expired")));
    let run = host.settled(&paused).await;
    assert_eq!((&run["status"], &run["tools"][0]["outcome"]), (&json!("COMPLETED"), &json!("rejected")));
    let row = ann.get(&format!("/api/v1/approvals/{}", approval(&paused))).await.body;
    assert_eq!((&row["status"], &row["resolvedBy"]), (&json!("EXPIRED"), &json!("system")));
    assert_eq!(host.effects("k").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_can_forbid_self_approval_at_every_door() {
    let host = TestHost::start(&["probe"], &agent("self_approval = false"), effect()).await;
    let ann = Caller::new(&host, Role::Admin, "default", "ann").await;
    let paused = ann.post(RUNS, &json!({"message": "go"})).await.body;
    let id = approval(&paused);
    let continues = format!("{RUNS}/{}/continue", paused["runId"].as_str().expect("an id"));
    let yes = json!({"decision": "APPROVED"});
    let forbidden = |problem: &Value| {
        assert_eq!(problem["type"], "urn:problem-type:forbidden", "{problem}");
        assert_eq!(problem["detail"], "Somebody else has to let this call run: it is your own run's.");
    };
    forbidden(&ann.post(&continues, &json!({"action": "APPROVE"})).await.body);
    forbidden(&ann.post(&format!("/api/v1/approvals/{id}/resolve"), &yes).await.body);
    let bulk =
        ann.post("/api/v1/approvals/bulk-resolve", &json!({"ids": [id], "decision": "APPROVED"})).await;
    forbidden(&bulk.body["results"][0]["error"]);
    assert_eq!(host.effects("k").await, 0);
    assert_eq!(host.resume(&paused, json!({"action": "APPROVE"})).await.body["status"], "COMPLETED");
    assert_eq!(host.effects("k").await, 1);
}

/// A server that stopped while an approved call of ann's run was under way, and the question it asks now.
async fn in_doubt(settings: &str) -> (TestHost, Value) {
    let slow = Script::new([call("probe__slow", json!({"ms": 20_000, "key": "k"})), say("went on")]);
    let mut host = TestHost::start(&["probe"], &agent(settings), slow).await;
    let run = {
        let ann = Caller::new(&host, Role::User, "default", "ann").await;
        let run = ann.post(&format!("{RUNS}/background"), &json!({"message": "go"})).await.body;
        until("a question or the call", async || {
            host.read(&run).await["status"] == "PAUSED" || host.effects("k.started").await == 1
        })
        .await;
        run
    };
    let state = host.read(&run).await;
    if state["status"] == "PAUSED" {
        let path = format!("/api/v1/approvals/{}/resolve", approval(&state));
        assert_eq!(host.post(&path, &json!({"decision": "APPROVED"})).await.status, 200);
    }
    until("the call", async || host.effects("k.started").await == 1).await;
    host.restart().await;
    until("the question", async || host.read(&run).await["status"] == "PAUSED").await;
    let asked = host.read(&run).await;
    assert_eq!(asked["metadata"]["requiredAction"]["type"], "TOOL_OUTCOME_UNKNOWN", "{asked}");
    (host, asked)
}

/// Running it again takes the same right as running it at all did.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_of_an_approved_call_is_no_self_approval_either() {
    let (host, run) =
        in_doubt(r#"approval = { "probe.slow" = { policy = "ask", self_approval = false } }"#).await;
    let ann = Caller::new(&host, Role::User, "default", "ann").await;
    let path = format!("{RUNS}/{}/continue", run["runId"].as_str().expect("an id"));
    let retry = ann.post(&path, &json!({"action": "RETRY"})).await;
    assert_eq!((retry.status, host.effects("k.started").await), (403, 1), "{retry:?}");
    let done = ann.post(&path, &json!({"action": "FAIL", "comment": "seen"})).await.body;
    assert_eq!((&done["status"], &done["tools"][0]["outcome"]), (&json!("COMPLETED"), &json!("interrupted")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_of_a_call_that_needed_nobody_needs_nobody() {
    let (host, run) = in_doubt("self_approval = false").await;
    let ann = Caller::new(&host, Role::User, "default", "ann").await;
    let path = format!("{RUNS}/{}/continue", run["runId"].as_str().expect("an id"));
    let retry = json!({"action": "RETRY"});
    let (retried, ()) = tokio::join!(ann.post(&path, &retry), async {
        until("the second attempt", async || host.effects("k.started").await == 2).await;
        host.cancel(&run).await;
    });
    assert_eq!((retried.status, &retried.body["status"]), (200, &json!("CANCELLED")), "{retried:?}");
}

/// It is no yes or no: its run's `continue` takes the answer, and here it can only be read.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_unknown_outcome_is_read_but_not_resolved_as_an_approval() {
    let (host, run) = in_doubt("").await;
    assert_eq!(host.get("/api/v1/approvals/pending").await.body["totalElements"], 0);
    let path = format!("/api/v1/approvals/{}", approval(&run));
    let row = host.get(&path).await;
    assert_eq!(
        (row.status, &row.body["status"], &row.body["toolName"]),
        (200, &json!("PENDING"), &json!("probe__slow"))
    );
    for word in ["APPROVED", "REJECTED"] {
        let answer = host.post(&format!("{path}/resolve"), &json!({"decision": word})).await;
        let field = &answer.body["invalidParams"][0]["field"];
        assert_eq!((answer.status, field), (400, &json!("decision")), "{answer:?}");
    }
    assert_eq!(host.read(&run).await["status"], "PAUSED");
}

/// Nobody looked: it counts as failed, and the run goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_unknown_outcome_expires_as_failed() {
    let (host, run) =
        in_doubt(r#"approval = { "probe.slow" = { policy = "allow", expiry_ms = 60000 } }"#).await;
    host.clock.advance(Duration::from_secs(59));
    assert_eq!(host.read(&run).await["status"], "PAUSED");
    host.clock.advance(Duration::from_secs(2));
    let done = host.settled(&run).await;
    assert_eq!(
        (&done["status"], &done["content"], &done["tools"][0]["outcome"]),
        (&json!("COMPLETED"), &json!("went on"), &json!("interrupted")),
        "{done}"
    );
    let row = host.get(&format!("/api/v1/approvals/{}", approval(&run))).await.body;
    assert_eq!((&row["status"], &row["resolvedBy"]), (&json!("EXPIRED"), &json!("system")));
    assert_eq!((host.effects("k.started").await, host.effects("k.finished").await), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_of_more_than_a_hundred_and_pages_of_more_than_two_hundred_are_refused() {
    let host = TestHost::with_probe(effect()).await;
    let ids = |count: usize| (0..count).map(|id| id.to_string()).collect::<Vec<_>>();
    let bulk = async |count| {
        host.post("/api/v1/approvals/bulk-resolve", &json!({"ids": ids(count), "decision": "APPROVED"})).await
    };
    assert_eq!((bulk(101).await.status, bulk(100).await.body["failed"].clone()), (400, json!(100)));
    assert_eq!(host.get("/api/v1/approvals/pending?size=201").await.status, 400);
    let (one, two) = (host.run("one").await, host.run("two").await);
    for (page, run) in [one, two].iter().enumerate() {
        let listed = host.get(&format!("/api/v1/approvals/pending?page={page}&size=1")).await.body;
        assert_eq!(
            (&listed["content"][0]["runId"], &listed["totalPages"]),
            (&run["runId"], &json!(2)),
            "oldest first"
        );
    }
}
