//! Every change is in the audit log with who made it, and the log is never changed.

use holdfast::key::Role;
use serde_json::{Value, json};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;

use crate::support::{Caller, Script, TestHost, call, caller, say};

/// Newest first: action, object, who, with which key.
async fn log(caller: &Caller<'_>, query: &str) -> Vec<String> {
    let page = caller.get(&format!("/api/admin/audit-logs{query}")).await;
    assert_eq!(page.status, 200, "{page:?}");
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let row = |row: &Value| {
        let fields = ["action", "objectType", "objectId", "userId", "keyId"];
        fields.map(|field| word(&row[field])).join(" ")
    };
    page.body["content"].as_array().unwrap().iter().map(row).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_leaves_a_row_with_the_key() {
    let model = Script::new([call("probe__effect", json!({"key": "k"})), say("done")]);
    let host = TestHost::with_probe(model).await;
    let ada = Caller::new(&host, Role::Admin, "acme", "ada").await;
    let agent = json!({"agentId": "helper", "model": "script::v1", "tools": ["*"]});
    ada.post("/api/admin/agents", &agent).await;
    ada.put("/api/admin/agents/helper", &agent).await;
    let run = || async { ada.post("/api/agents/helper/runs", &json!({"message": "go"})).await.body };
    let path = |run: &Value| format!("/api/agents/helper/runs/{}", run["runId"].as_str().unwrap());
    let (approved, cancelled) = (run().await, run().await);
    let body = json!({"action": "APPROVE", "comment": "fine"});
    ada.post(&format!("{}/continue", path(&approved)), &body).await;
    ada.delete(&path(&cancelled)).await;
    ada.delete(&path(&cancelled)).await;
    ada.delete("/api/admin/agents/helper").await;
    ada.delete("/api/admin/agents/helper").await;
    ada.post("/api/admin/agents/helper/restore", &json!({})).await;
    ada.post("/api/admin/agents/helper/restore", &json!({})).await;
    Caller::new(&host, Role::User, "acme", "eve").await;
    caller::revoke(&host, "eve@acme#2").await;

    let approval = approved["metadata"]["requiredAction"]["approvalId"].as_str().unwrap();
    let expected = [
        "key.revoked key eve@acme#2 command-line -".to_owned(),
        "key.created key eve@acme#2 command-line -".to_owned(),
        "agent.restored agent helper ada ada@acme#1".to_owned(),
        "agent.deleted agent helper ada ada@acme#1".to_owned(),
        format!("run.cancelled run {} ada ada@acme#1", cancelled["runId"].as_str().unwrap()),
        format!("approval.decided approval {approval} ada ada@acme#1"),
        "agent.updated agent helper ada ada@acme#1".to_owned(),
        "agent.created agent helper ada ada@acme#1".to_owned(),
        "key.created key ada@acme#1 command-line -".to_owned(),
    ];
    assert_eq!(log(&ada, "").await, expected);
    assert_eq!(log(&ada, "?action=agent.updated").await, expected[6..7]);
    assert_eq!(log(&ada, "?objectType=run").await, expected[4..5]);
    assert_eq!(log(&ada, "?objectId=helper&page=1&size=3").await, expected[7..8]);
    assert_eq!(log(&ada, "?userId=command-line&size=2").await, expected[..2]);
    let decided = ada.get("/api/admin/audit-logs?action=approval.decided").await.body;
    insta::assert_json_snapshot!(decided["content"][0], @r#"
    {
      "id": "4",
      "createdAt": "2026-01-01T00:00:00.000Z",
      "orgId": "acme",
      "userId": "ada",
      "keyId": "ada@acme#1",
      "action": "approval.decided",
      "objectType": "approval",
      "objectId": "019b76da-a800-7000-8000-000000000003",
      "details": {
        "runId": "019b76da-a800-7000-8000-000000000002",
        "agentId": "helper",
        "toolName": "probe__effect",
        "decision": "APPROVE",
        "comment": "fine",
        "editedArguments": false
      }
    }
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_that_changes_nothing_leaves_no_row_and_expiry_is_the_systems() {
    let model = Script::new([call("probe__effect", json!({"key": "k"})), say("done")]);
    let host = TestHost::with_probe(model).await;
    let paused = host.run("go").await;
    let id = &paused["metadata"]["requiredAction"]["approvalId"];
    let decide = || host.resume(&paused, json!({"action": "REJECT", "approvalId": id}));
    futures_util::future::join_all((0..8).map(|_| decide())).await;
    let late = host.run("go").await;
    host.clock.advance(std::time::Duration::from_hours(25));
    assert_eq!(
        host.resume(
            &late,
            json!({"action": "APPROVE", "approvalId": late["metadata"]["requiredAction"]["approvalId"]})
        )
        .await
        .status,
        410
    );
    let rows = host.get("/api/admin/audit-logs?action=approval.decided").await.body;
    let who = |index: usize| {
        (rows["content"][index]["userId"].clone(), rows["content"][index]["details"]["decision"].clone())
    };
    assert_eq!(rows["totalElements"], 2);
    assert_eq!((who(0), who(1)), ((json!("system"), json!("EXPIRE")), (json!("admin"), json!("REJECT"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_for_admins_and_each_sees_their_own_organisation() {
    let host = TestHost::with_probe(Script::new([say("hi")])).await;
    let ada = Caller::new(&host, Role::Admin, "acme", "ada").await;
    let bob = Caller::new(&host, Role::Admin, "other", "bob").await;
    assert_eq!(log(&bob, "").await, ["key.created key bob@other#2 command-line -"]);
    assert_eq!(log(&ada, "?objectId=bob@other#2").await, [""; 0]);
    assert_eq!(
        host.get("/api/admin/audit-logs").await.body["totalElements"],
        2,
        "the bootstrap token sees all"
    );
    let ann = Caller::new(&host, Role::Approver, "acme", "ann").await;
    assert_eq!(ann.get("/api/admin/audit-logs").await.status, 403);
    let bad = ada.get("/api/admin/audit-logs?action=agent.painted").await;
    insta::assert_json_snapshot!(bad.body["invalidParams"], @r#"
    [
      {
        "field": "action",
        "message": "must be one of agent.created, agent.updated, agent.deleted, agent.restored, run.cancelled, approval.decided, key.created, key.revoked, webhook.redelivered, plugin.installed, plugin.removed, plugin.granted, plugin.grant-withdrawn, plugin.revoked"
      }
    ]
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_row_can_be_changed_or_removed() {
    let host = TestHost::with_probe(Script::new([say("hi")])).await;
    Caller::new(&host, Role::Admin, "acme", "ada").await;
    let file = host.folder().join("holdfast.db");
    let mut database = SqliteConnectOptions::new().filename(file).connect().await.unwrap();
    for statement in ["update audit_log set user_id = 'nobody'", "delete from audit_log"] {
        let error = sqlx::query(statement).execute(&mut database).await.unwrap_err();
        assert!(error.to_string().contains("append-only"), "{error}");
    }
    for method in [reqwest::Method::DELETE, reqwest::Method::PUT, reqwest::Method::POST] {
        assert_eq!(host.send(host.request(method, "/api/admin/audit-logs")).await.status, 405);
    }
}
