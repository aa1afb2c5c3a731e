//! Lists of runs: newest first, in pages, filtered, and only what the caller may see.

use holdfast::key::Role;
use holdfast::session::{Reply, Tokens};
use serde_json::{Value, json};

use crate::support::{Caller, Script, TestHost, call, say};

async fn inputs(caller: &Caller<'_>, query: &str) -> Vec<String> {
    let page = caller.get(&format!("/api/runs{query}")).await;
    assert_eq!(page.status, 200, "{page:?}");
    let rows = page.body["content"].as_array().unwrap();
    rows.iter().map(|row| row["input"].as_str().unwrap().to_owned()).collect()
}

/// The row says what the run says, without its journal.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_is_the_run_without_what_only_its_journal_knows() {
    let tokens = Tokens { input: Some(10), output: Some(5), reasoning: None };
    let model = Script::new([
        Reply { tokens, ..call("probe__echo", json!({"text": 1})) },
        Reply { tokens, ..call("probe__echo", json!({"text": "x"})) },
        Reply { tokens, ..say("done") },
    ]);
    let host = TestHost::with_probe(model).await;
    let run = host.run("go").await;
    let listed = host.get("/api/runs").await.body;
    insta::assert_json_snapshot!(listed, @r#"
    {
      "content": [
        {
          "runId": "019b76da-a800-7000-8000-000000000002",
          "sessionId": "019b76da-a800-7000-8000-000000000001",
          "status": "COMPLETED",
          "content": "done",
          "metadata": {
            "model": "script::v1",
            "agentVersion": 0,
            "usage": {
              "inputTokens": 30,
              "outputTokens": 15,
              "totalTokens": 45,
              "cost": null
            }
          },
          "tools": [],
          "reasoningSteps": [],
          "metrics": {
            "inputTokens": 30,
            "outputTokens": 15,
            "reasoningTokens": null,
            "llmCallCount": 3,
            "toolCallCount": 2,
            "errorCount": 1,
            "durationMs": 0,
            "model": "script::v1",
            "errorType": null,
            "errorMessage": null
          },
          "id": "019b76da-a800-7000-8000-000000000002",
          "agentId": "agent",
          "userId": "admin",
          "orgId": "default",
          "input": "go",
          "output": "done",
          "requiredAction": null,
          "createdAt": "2026-01-01T00:00:00.000Z",
          "startedAt": "2026-01-01T00:00:00.000Z",
          "completedAt": "2026-01-01T00:00:00.000Z",
          "updatedAt": "2026-01-01T00:00:00.000Z"
        }
      ],
      "page": {
        "size": 20,
        "number": 0,
        "totalElements": 1,
        "totalPages": 1
      },
      "totalElements": 1,
      "totalPages": 1,
      "size": 20,
      "number": 0
    }
    "#);
    let mut read = host.read(&run).await;
    for field in ["tools", "reasoningSteps"] {
        read[field] = json!([]);
    }
    assert_eq!(listed["content"][0], read);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_and_filters() {
    let model = Script::new([call("probe__effect", json!({"key": "k"})), say("done")]);
    let host = TestHost::with_probe(model).await;
    let ann = Caller::new(&host, Role::User, "acme", "ann").await;
    let mut runs = Vec::new();
    for index in 0..5 {
        host.clock.advance(std::time::Duration::from_millis(1));
        let answer = ann.post("/api/agents/agent/runs", &json!({"message": format!("run {index}")})).await;
        runs.push(answer.body);
    }
    let path = |run: &Value| format!("/api/agents/agent/runs/{}", run["runId"].as_str().unwrap());
    ann.post(&format!("{}/continue", path(&runs[1])), &json!({"action": "APPROVE"})).await;
    ann.delete(&path(&runs[3])).await;

    assert_eq!(inputs(&ann, "").await, ["run 4", "run 3", "run 2", "run 1", "run 0"]);
    assert_eq!(inputs(&ann, "?size=2&page=1").await, ["run 2", "run 1"]);
    assert_eq!(inputs(&ann, "?page=9").await, [""; 0]);
    assert_eq!(inputs(&ann, "?status=PAUSED").await, ["run 4", "run 2", "run 0"]);
    assert_eq!(inputs(&ann, "?status=completed").await, ["run 1"]);
    assert_eq!(inputs(&ann, "?status=CANCELLED&agentId=agent").await, ["run 3"]);
    assert_eq!(inputs(&ann, "?agentId=other").await, [""; 0]);
    let session = format!("?sessionId={}", runs[2]["sessionId"].as_str().unwrap());
    assert_eq!(inputs(&ann, &session).await, ["run 2"]);
    let page = ann.get("/api/runs?size=2&status=PAUSED").await.body;
    assert_eq!(page["page"], json!({"size": 2, "number": 0, "totalElements": 3, "totalPages": 2}));
    let unknown = ann.get("/api/runs?status=DONE").await;
    insta::assert_json_snapshot!((unknown.status, &unknown.body["invalidParams"]), @r#"
    [
      400,
      [
        {
          "field": "status",
          "message": "must be one of QUEUED, RUNNING, PAUSED, COMPLETED, FAILED, CANCELLED"
        }
      ]
    ]
    "#);
    assert_eq!(ann.get("/api/runs?size=201").await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn users_see_their_own_runs_and_approvers_their_organisations() {
    let host = TestHost::with_probe(Script::new([say("hi")])).await;
    let ann = Caller::new(&host, Role::User, "acme", "ann").await;
    let joe = Caller::new(&host, Role::Approver, "acme", "joe").await;
    let bob = Caller::new(&host, Role::Admin, "other", "bob").await;
    for (caller, message) in [(&ann, "ann's"), (&joe, "joe's"), (&bob, "bob's")] {
        host.clock.advance(std::time::Duration::from_millis(1));
        caller.post("/api/agents/agent/runs", &json!({"message": message})).await;
    }
    assert_eq!(inputs(&ann, "").await, ["ann's"]);
    assert_eq!(inputs(&ann, "?userId=ann").await, ["ann's"]);
    assert_eq!(ann.get("/api/runs?userId=joe").await.status, 403);
    assert_eq!(inputs(&joe, "").await, ["joe's", "ann's"]);
    assert_eq!(inputs(&joe, "?userId=ann").await, ["ann's"]);
    assert_eq!(inputs(&bob, "?userId=ann").await, [""; 0]);
    assert_eq!(host.get("/api/runs").await.body["totalElements"], 3, "the bootstrap token sees all");
}
