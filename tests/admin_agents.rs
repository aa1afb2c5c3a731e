//! Admins make, change, delete and restore agents of their organisation, and runs under way do not notice.

use holdfast::key::Role;
use serde_json::{Value, json};

use crate::support::{Answer, Caller, Script, TestHost, call, say};

fn helper() -> Value {
    json!({
        "agentId": "helper", "name": "Helper", "description": "Helps.", "instructions": "Be brief.",
        "model": "script::v1", "tools": ["probe.*"], "temperature": 0.5, "maxTokens": 100, "maxSteps": 3,
        "approval": {"probe.effect_ungated": "ask"},
    })
}

fn kind(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.body["type"].as_str().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_made_seen_run_and_changed() {
    let model = Script::new([say("hello")]);
    let host = TestHost::with_probe(model.clone()).await;
    let ada = Caller::new(&host, Role::Admin, "acme", "ada").await;

    let made = ada.post("/api/admin/agents", &helper()).await;
    assert_eq!((made.status, &made.headers["location"]), (201, &"/api/admin/agents/helper".parse().unwrap()));
    insta::assert_json_snapshot!(made.body, @r#"
    {
      "id": "helper",
      "agentId": "helper",
      "name": "Helper",
      "description": "Helps.",
      "instructions": "Be brief.",
      "model": "script::v1",
      "tools": [
        "probe.*"
      ],
      "temperature": 0.5,
      "maxTokens": 100,
      "maxSteps": 3,
      "approval": {
        "probe.effect_ungated": "ask"
      },
      "budget": {
        "maxToolCalls": null,
        "maxInputTokens": null,
        "maxOutputTokens": null,
        "maxCost": null
      },
      "version": 1,
      "active": true,
      "readOnly": false,
      "createdAt": "2026-01-01T00:00:00.000Z",
      "updatedAt": "2026-01-01T00:00:00.000Z"
    }
    "#);
    assert_eq!(ada.get("/api/admin/agents/helper").await.body, made.body);

    let ann = Caller::new(&host, Role::User, "acme", "ann").await;
    insta::assert_json_snapshot!(ann.get("/api/agents/helper").await.body, @r#"
    {
      "id": "helper",
      "agentId": "helper",
      "name": "Helper",
      "description": "Helps.",
      "model": "script::v1",
      "tools": [
        "probe.*"
      ],
      "active": true,
      "isTeam": false,
      "is_team": false
    }
    "#);
    let run = ann.post("/api/agents/helper/runs", &json!({"message": "hi"})).await;
    assert_eq!((&run.body["content"], &run.body["metadata"]["agentVersion"]), (&json!("hello"), &json!(1)));
    assert_eq!(model.requests()[0].system, "Be brief.");

    let changed = json!({"model": "script::v1", "instructions": "Be long."});
    let answer = ada.put("/api/admin/agents/helper", &changed).await;
    assert_eq!(
        (answer.status, &answer.body["version"], &answer.body["name"]),
        (200, &json!(2), &json!("helper"))
    );
    let run = ann.post("/api/agents/helper/runs", &json!({"message": "hi"})).await;
    assert_eq!(run.body["metadata"]["agentVersion"], 2, "at once");
    assert_eq!(model.requests()[1].system, "Be long.");
}

/// What a paused run was approved for is what runs, whatever the agent has become meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_paused_run_keeps_the_version_it_started_with() {
    let model = Script::new([call("probe__effect", json!({"key": "k"})), say("done")]);
    let mut host = TestHost::with_probe(model.clone()).await;
    assert_eq!(host.post("/api/admin/agents", &helper()).await.status, 201);
    let paused = host.post("/api/agents/helper/runs", &json!({"message": "go"})).await.body;
    assert_eq!(paused["status"], "PAUSED");
    let change = json!({"model": "demo", "instructions": "Other.", "tools": []});
    let put = host.request(reqwest::Method::PUT, "/api/admin/agents/helper").json(&change);
    assert_eq!(host.send(put).await.body["version"], 2);
    host.restart().await;

    let path = format!("/api/agents/helper/runs/{}", paused["runId"].as_str().unwrap());
    let done = host.post(&format!("{path}/continue"), &json!({"action": "APPROVE"})).await.body;
    assert_eq!((&done["status"], &done["content"]), (&json!("COMPLETED"), &json!("done")));
    assert_eq!(done["metadata"]["agentVersion"], 1);
    assert_eq!((host.effects("k").await, model.requests()[1].system.as_str()), (1, "Be brief."));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_with_runs_under_way_cannot_be_deleted_and_a_deleted_one_comes_back() {
    let model = Script::new([call("probe__effect", json!({"key": "k"})), say("done")]);
    let host = TestHost::with_probe(model).await;
    let ada = Caller::new(&host, Role::Admin, "acme", "ada").await;
    ada.post("/api/admin/agents", &helper()).await;
    let paused = ada.post("/api/agents/helper/runs", &json!({"message": "go"})).await.body;

    let refused = ada.delete("/api/admin/agents/helper").await;
    assert_eq!(kind(&refused), (409, "urn:problem-type:agent-in-use"));
    ada.delete(&format!("/api/agents/helper/runs/{}", paused["runId"].as_str().unwrap())).await;
    assert_eq!(ada.delete("/api/admin/agents/helper").await.status, 204);
    assert_eq!(ada.delete("/api/admin/agents/helper").await.status, 204, "a repeat changes nothing");

    let run = ada.post("/api/agents/helper/runs", &json!({"message": "go"})).await;
    assert_eq!((run.status, ada.get("/api/agents/helper").await.status), (404, 404));
    let ids = |answer: Answer| -> Vec<String> {
        let rows = answer.body.as_array().unwrap().clone();
        rows.iter().map(|row| format!("{} {}", row["id"].as_str().unwrap(), row["active"])).collect()
    };
    assert_eq!(ids(ada.get("/api/agents").await), ["agent true"]);
    assert_eq!(ids(ada.get("/api/agents?includeInactive=true").await), ["agent true", "helper false"]);
    assert_eq!(ada.get("/api/admin/agents/helper").await.body["active"], false);
    assert_eq!(
        kind(&ada.put("/api/admin/agents/helper", &helper()).await),
        (409, "urn:problem-type:agent-deleted")
    );
    assert_eq!(kind(&ada.post("/api/admin/agents", &helper()).await), (409, "urn:problem-type:agent-exists"));

    let restored = ada.post("/api/admin/agents/helper/restore", &json!({})).await;
    assert_eq!(
        (restored.status, &restored.body["active"], &restored.body["version"]),
        (200, &json!(true), &json!(1))
    );
    assert_eq!(ids(ada.get("/api/agents").await), ["agent true", "helper true"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_belong_to_an_organisation_and_to_its_admins() {
    let host = TestHost::with_probe(Script::new([say("hi")])).await;
    let ada = Caller::new(&host, Role::Admin, "acme", "ada").await;
    let bob = Caller::new(&host, Role::Admin, "other", "bob").await;
    ada.post("/api/admin/agents", &helper()).await;

    for path in ["/api/admin/agents/helper", "/api/agents/helper"] {
        assert_eq!(kind(&bob.get(path).await), (404, "urn:problem-type:resource-not-found"), "{path}");
    }
    assert_eq!(bob.put("/api/admin/agents/helper", &helper()).await.status, 404);
    assert_eq!(bob.delete("/api/admin/agents/helper").await.status, 404);
    assert_eq!(bob.post("/api/admin/agents/helper/restore", &json!({})).await.status, 404);
    assert_eq!(bob.post("/api/agents/helper/runs", &json!({"message": "hi"})).await.status, 404);
    assert_eq!(bob.post("/api/admin/agents", &helper()).await.status, 201, "the id is free there");
    let mine = ada.get("/api/admin/agents?page=1&size=1").await.body;
    assert_eq!((&mine["content"][0]["id"], &mine["totalElements"]), (&json!("helper"), &json!(2)));

    let approver = Caller::new(&host, Role::Approver, "acme", "ann").await;
    for answer in [
        approver.get("/api/admin/agents").await,
        approver.get("/api/admin/agents/helper").await,
        approver.post("/api/admin/agents", &helper()).await,
        approver.put("/api/admin/agents/helper", &helper()).await,
        approver.delete("/api/admin/agents/helper").await,
        approver.post("/api/admin/agents/helper/restore", &json!({})).await,
    ] {
        assert_eq!(kind(&answer), (403, "urn:problem-type:forbidden"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_of_the_configuration_file_are_read_only_and_win() {
    let host = TestHost::with_probe(Script::new([say("hi")])).await;
    let agent = json!({"agentId": "agent", "model": "demo"});
    assert_eq!(kind(&host.post("/api/admin/agents", &agent).await), (409, "urn:problem-type:agent-exists"));
    let ada = Caller::new(&host, Role::Admin, "acme", "ada").await;
    for answer in [
        ada.put("/api/admin/agents/agent", &agent).await,
        ada.delete("/api/admin/agents/agent").await,
        ada.post("/api/admin/agents/agent/restore", &json!({})).await,
    ] {
        assert_eq!(kind(&answer), (409, "urn:problem-type:agent-read-only"));
    }
    let shown = ada.get("/api/admin/agents/agent").await.body;
    assert_eq!(
        (&shown["readOnly"], &shown["version"], &shown["createdAt"]),
        (&json!(true), &json!(0), &Value::Null)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_wrong_with_an_agent_is_told_by_field() {
    let host = TestHost::with_probe(Script::new([say("hi")])).await;
    let bad = json!({
        "agentId": "a b", "name": " ", "model": "nowhere::x", "tools": ["probe.*", "no tool"],
        "temperature": 3, "maxSteps": 0, "approval": {"probe.effect": "perhaps", "??": "ask"},
        "budget": {"maxCost": -1},
    });
    let answer = host.post("/api/admin/agents", &bad).await;
    assert_eq!(kind(&answer), (400, "urn:problem-type:invalid-request"));
    let params = answer.body["invalidParams"].as_array().unwrap();
    let fields: Vec<&str> = params.iter().map(|param| param["field"].as_str().unwrap()).collect();
    assert_eq!(
        fields,
        [
            "model",
            "tools[1]",
            "approval.probe.effect",
            "agentId",
            "name",
            "approval",
            "temperature",
            "maxSteps",
            "budget"
        ]
    );
    let unpriced = json!({"agentId": "x", "model": "script::v1", "budget": {"maxCost": 1}});
    let answer = host.post("/api/admin/agents", &unpriced).await;
    assert_eq!((answer.status, &answer.body["invalidParams"][0]["field"]), (400, &json!("model")));
    let answer = host.post("/api/admin/agents", &json!({"model": "demo"})).await;
    assert_eq!(answer.body["invalidParams"], json!([{"field": "agentId", "message": "is required"}]));
    let other = json!({"agentId": "y", "model": "demo"});
    assert_eq!(host.post("/api/admin/agents", &other).await.status, 201);
    let put = host.request(reqwest::Method::PUT, "/api/admin/agents/y").json(&helper());
    assert_eq!(host.send(put).await.body["invalidParams"][0]["field"], "agentId");
}

/// Of callers who make the same agent at once, one does.
#[tokio::test(flavor = "multi_thread")]
async fn racing_creations_and_updates_are_counted_once_each() {
    let host = TestHost::with_probe(Script::new([say("hi")])).await;
    let create = || async { host.post("/api/admin/agents", &helper()).await.status };
    let mut statuses = futures_util::future::join_all((0..16).map(|_| create())).await;
    statuses.sort_unstable();
    assert_eq!((statuses[0], &statuses[1..]), (201, &[409; 15][..]));
    let update = || async {
        let put = host.request(reqwest::Method::PUT, "/api/admin/agents/helper").json(&helper());
        host.send(put).await.body["version"].as_u64().unwrap()
    };
    let mut versions = futures_util::future::join_all((0..16).map(|_| update())).await;
    versions.sort_unstable();
    assert_eq!(versions, (2..18).collect::<Vec<_>>());
}

/// Whatever the order: no run of a deleted agent is under way.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_and_a_deletion_at_once_do_not_both_happen() {
    let model = Script::new([call("probe__effect", json!({"key": "k"})), say("done")]);
    let host = TestHost::with_probe(model).await;
    let ada = Caller::new(&host, Role::Admin, "acme", "ada").await;
    for round in 0..20 {
        let agent = json!({"agentId": format!("a{round}"), "model": "script::v1", "tools": ["*"]});
        assert_eq!(ada.post("/api/admin/agents", &agent).await.status, 201);
        let runs = format!("/api/agents/a{round}/runs");
        let go = json!({"message": "go"});
        let path = format!("/api/admin/agents/a{round}");
        let (one, deleted, two) = tokio::join!(ada.post(&runs, &go), ada.delete(&path), ada.post(&runs, &go));
        let paused = [&one, &two].into_iter().filter(|answer| answer.status == 200).count();
        let expected = if deleted.status == 204 { 0 } else { paused.max(1) };
        assert_eq!(paused, expected, "{deleted:?} {one:?} {two:?}");
        let listed = ada.get(&format!("/api/runs?agentId=a{round}&status=PAUSED")).await.body;
        assert_eq!(listed["totalElements"], paused);
    }
}

/// The bootstrap token runs the agents of the organisation that it names, and never one's agent for another.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_for_an_organisation_uses_that_organisations_agents() {
    let model = Script::new([say("hi")]);
    let host = TestHost::with_probe(model).await;
    let ada = Caller::new(&host, Role::Admin, "acme", "ada").await;
    ada.post("/api/admin/agents", &helper()).await;
    for (org, status) in [("acme", 200), ("other", 404), ("default", 404)] {
        let body = json!({"message": "hi", "orgId": org});
        assert_eq!(host.post("/api/agents/helper/runs", &body).await.status, status, "{org}");
    }
    let foreign = json!({"message": "hi", "orgId": "acme"});
    let bob = Caller::new(&host, Role::Admin, "other", "bob").await;
    assert_eq!(bob.post("/api/agents/helper/runs", &foreign).await.status, 404, "nothing is learnt");
}
