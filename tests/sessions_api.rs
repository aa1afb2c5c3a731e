//! Sessions are listed, read and deleted by those who may, and by nobody else.

use std::time::Duration;

use holdfast::key::Role;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::gated::Gated;
use crate::support::host::ONE_AGENT;
use crate::support::{Caller, Script, TestHost, call, say};

fn id(run: &Value) -> String {
    run["sessionId"].as_str().expect("a sessionId").to_owned()
}

/// Runs for a user in an organisation, as the super-admin.
async fn run_for(host: &TestHost, org: &str, user: &str, message: &str) -> Value {
    host.clock.advance(Duration::from_secs(1));
    let body = json!({"message": message, "orgId": org, "userId": user});
    let answer = host.post("/api/agents/agent/runs", &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

fn titles(page: &Value) -> Vec<&str> {
    page["content"]
        .as_array()
        .expect("a page")
        .iter()
        .map(|s| s["title"].as_str().expect("a title"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_come_in_pages_the_last_used_first() {
    let host = TestHost::start(&[], ONE_AGENT, Script::new([say("hi")])).await;
    let mut runs = Vec::new();
    for number in 0..23 {
        runs.push(run_for(&host, "default", "ann", &format!("s{number}")).await);
    }
    // Used again, the first is the newest.
    host.clock.advance(Duration::from_secs(1));
    let again = json!({"message": "again", "sessionId": runs[0]["sessionId"], "userId": "ann"});
    assert_eq!(host.post("/api/agents/agent/runs", &again).await.status, 200);

    let first = host.get("/api/sessions").await.body;
    assert_eq!((titles(&first)[0], titles(&first)[1], titles(&first).len()), ("s0", "s22", 20));
    assert_eq!(first["page"], json!({"size": 20, "number": 0, "totalElements": 23, "totalPages": 2}));
    for (flat, nested) in [("size", "size"), ("number", "number"), ("totalElements", "totalElements")] {
        assert_eq!(first[flat], first["page"][nested]);
    }
    assert_eq!(first["totalPages"], 2);
    let last = host.get("/api/sessions?page=1").await.body;
    assert_eq!(titles(&last), ["s3", "s2", "s1"]);
    let beyond = host.get("/api/sessions?page=7&size=200").await.body;
    assert_eq!((titles(&beyond).len(), &beyond["totalElements"]), (0, &json!(23)));
    for query in ["size=201", "size=0", "page=-1", "page=x"] {
        let answer = host.get(&format!("/api/sessions?{query}")).await;
        assert_eq!(answer.status, 400, "{query}: {answer:?}");
        let field = query.split('=').next().expect("a name");
        assert_eq!(answer.body["invalidParams"][0]["field"], field);
    }
    for (query, total) in [("agentId=agent", 23), ("agentId=other", 0), ("userId=ann", 23), ("userId=bob", 0)]
    {
        assert_eq!(host.get(&format!("/api/sessions?{query}")).await.body["totalElements"], total, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_read_with_its_messages_and_runs() {
    let model = Script::new([call("probe__effect", json!({"key": "k"})), say("done")]);
    let host = TestHost::with_probe(model).await;
    let first = host.run("one").await;
    assert_eq!(host.resume(&first, json!({"action": "APPROVE"})).await.body["status"], "COMPLETED");
    host.clock.advance(Duration::from_mins(1));
    let body = json!({"message": "two", "sessionId": first["sessionId"]});
    let second = host.post("/api/agents/agent/runs", &body).await.body;
    assert_eq!(second["status"], "PAUSED");

    let session = host.get(&format!("/api/sessions/{}", id(&first))).await.body;
    let expected = json!({
        "id": first["sessionId"], "sessionId": first["sessionId"], "agentId": "agent", "userId": "admin",
        "title": "one", "createdAt": "2026-01-01T00:00:00.000Z", "updatedAt": "2026-01-01T00:01:00.000Z",
        "messages": [
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "done"},
            {"role": "user", "content": "two"},
        ],
    });
    assert_eq!(session, expected);

    let runs = host.get(&format!("/api/sessions/{}/runs", id(&first))).await.body;
    assert_eq!(runs.as_array().map(Vec::len), Some(2));
    for (row, run) in [(&runs[0], &first), (&runs[1], &second)] {
        // What a row says is what the run itself says, but for what only its journal knows.
        let mut whole = host.read(run).await;
        whole["tools"] = json!([]);
        assert_eq!(*row, whole);
    }
    assert!(runs[1]["requiredAction"].as_str().is_some_and(|action| action.contains("TOOL_APPROVAL")));
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_sees_their_own_and_approvers_their_organisations() {
    let host = TestHost::start(&[], ONE_AGENT, Script::new([say("hi")])).await;
    let anns = run_for(&host, "acme", "ann", "ann's").await;
    let bobs = run_for(&host, "acme", "bob", "bob's").await;
    let theirs = run_for(&host, "other", "ann", "theirs").await;
    let ann = Caller::new(&host, Role::User, "acme", "ann").await;
    let approver = Caller::new(&host, Role::Approver, "acme", "boss").await;
    let root = Caller::new(&host, Role::Admin, "acme", "root").await;

    assert_eq!(titles(&ann.get("/api/sessions").await.body), ["ann's"]);
    assert_eq!(ann.get("/api/sessions?userId=bob").await.body["totalElements"], 0);
    for person in [&approver, &root] {
        assert_eq!(titles(&person.get("/api/sessions").await.body), ["bob's", "ann's"]);
        assert_eq!(titles(&person.get("/api/sessions?userId=bob&agentId=agent").await.body), ["bob's"]);
        assert_eq!(person.get("/api/sessions?orgId=other").await.status, 403);
    }
    assert_eq!(titles(&host.get("/api/sessions?orgId=other").await.body), ["theirs"], "the super-admin may");

    let run_path =
        |run: &Value| format!("/api/agents/agent/runs/{}/status", run["runId"].as_str().expect("a runId"));
    for (person, run, status) in [
        (&ann, &anns, 200),
        (&ann, &bobs, 404),
        (&ann, &theirs, 404),
        (&approver, &bobs, 200),
        (&approver, &theirs, 404),
        (&root, &theirs, 404),
    ] {
        let paths =
            [format!("/api/sessions/{}", id(run)), format!("/api/sessions/{}/runs", id(run)), run_path(run)];
        for path in paths {
            assert_eq!(person.get(&path).await.status, status, "{path}");
        }
    }
    assert_eq!(ann.get("/api/sessions/unknown").await.status, 404);
    let ids = [&anns, &bobs, &theirs].map(|run| run["runId"].as_str().expect("a runId")).join(",");
    let seen = ann.get(&format!("/api/agents/agent/runs/status?runIds={ids}")).await.body;
    assert_eq!(seen.as_array().map(Vec::len), Some(1));
    for (person, run, status) in
        [(&ann, &bobs, 404), (&approver, &bobs, 403), (&root, &theirs, 404), (&root, &bobs, 204)]
    {
        assert_eq!(person.delete(&format!("/api/sessions/{}", id(run))).await.status, status);
    }
    let cancel = |run: &Value| format!("/api/v1/runs/{}/cancel", run["runId"].as_str().expect("a runId"));
    assert_eq!(ann.post(&cancel(&theirs), &json!({})).await.status, 404);
    assert_eq!(approver.post(&cancel(&anns), &json!({})).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_session_deletes_all_of_it_and_nothing_that_is_under_way() {
    let (model, mut arrivals) = Gated::new();
    let host = TestHost::start(&[], ONE_AGENT, model.clone()).await;
    let delete = async |path: &str| host.send(host.request(Method::DELETE, path)).await;
    let queued = host.post("/api/agents/agent/runs/background", &json!({"message": "hello"})).await.body;
    assert_eq!(arrivals.next().await, "hello");
    let path = format!("/api/sessions/{}", id(&queued));

    let busy = delete(&path).await;
    assert_eq!((busy.status, &busy.body["runId"]), (409, &queued["runId"]), "{busy:?}");
    assert_eq!(busy.body["type"], "urn:problem-type:session-busy");
    model.answer_all();
    while host.read(&queued).await["status"] != "COMPLETED" {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let other = host.run("other").await;
    assert_eq!(delete(&path).await.status, 204);
    assert_eq!(delete(&path).await.status, 404);
    assert_eq!(host.get(&path).await.status, 404);
    assert_eq!(host.get(&format!("{path}/runs")).await.status, 404);
    assert_eq!(host.read(&queued).await["status"], 404, "a problem, not a run");
    for table in ["select session_id from runs", "select id from sessions"] {
        assert_eq!(host.texts(table).await, [id(&other)], "{table}");
    }
    assert_eq!(
        host.texts("select distinct run_id from run_events").await,
        [other["runId"].as_str().expect("an id")]
    );
    // The id is free for anybody, and remembers nothing.
    let again = json!({"message": "again", "sessionId": queued["sessionId"], "userId": "bob"});
    assert_eq!(host.post("/api/agents/agent/runs", &again).await.status, 200);
    let messages = host.get(&path).await.body["messages"].clone();
    assert_eq!(messages.as_array().map(Vec::len), Some(2));
}

/// A paused session is not under way: it can be deleted, and its call never runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_paused_session_can_be_deleted() {
    let model = Script::new([call("probe__effect", json!({"key": "k"})), say("done")]);
    let host = TestHost::with_probe(model).await;
    let paused = host.run("go").await;
    let deleted = host.send(host.request(Method::DELETE, &format!("/api/sessions/{}", id(&paused)))).await;
    assert_eq!(deleted.status, 204);
    assert_eq!(host.resume(&paused, json!({"action": "APPROVE"})).await.status, 404);
    assert_eq!(host.effects("k").await, 0);
    assert!(host.texts("select id from approvals").await.is_empty());
}
