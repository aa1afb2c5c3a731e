//! What this server offers, as whole bodies: a field that comes, goes or changes its name is seen here.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use crate::support::guests::guest;
use crate::support::{Script, TestHost, say};

const CONFIG: &str = r#"
[[agents]]
id = "helper"
name = "Helper"
description = "Helps."
model = "script::v1"
instructions = "Be brief."
tools = ["calculator.*", "notes.read", "notes.delete"]
[[agents]]
id = "plain"
model = "demo"
[[agents]]
id = "reader"
model = "remote::gpt-3.5-turbo"
[providers.remote]
base_url = "https://models.example.com/v1"
api_key_env = "HOLDFAST_TEST_NO_SUCH_KEY"
[plugins.notes.grants]
kv = true
[plugins.notes.limits]
wall_ms = 1234
"#;

async fn host() -> TestHost {
    TestHost::start(&["calculator", "notes"], CONFIG, Script::new([say("fine")])).await
}

async fn body(host: &TestHost, path: &str) -> Value {
    let answer = host.get(path).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.headers["content-type"], "application/json");
    answer.body
}

fn is(body: &Value, expected: &Expect) {
    expected.assert_eq(&format!("{body:#}\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn agents() {
    let host = host().await;
    is(
        &body(&host, "/api/agents/helper").await,
        &expect![[r#"
        {
          "id": "helper",
          "agentId": "helper",
          "name": "Helper",
          "description": "Helps.",
          "model": "script::v1",
          "tools": [
            "calculator.*",
            "notes.read",
            "notes.delete"
          ],
          "active": true,
          "isTeam": false,
          "is_team": false,
          "instructions": "Be brief."
        }
    "#]],
    );
    let all = body(&host, "/api/agents?includeInactive=true").await;
    let ids: Vec<&Value> = all.as_array().expect("an array").iter().map(|agent| &agent["id"]).collect();
    assert_eq!(ids, ["helper", "plain", "reader"]);
    assert_eq!(all, body(&host, "/api/agents").await, "agents of the file are always active");
    assert_eq!(all[0], body(&host, "/api/agents/helper").await, "one is as it is in the list");
    is(
        &all[1],
        &expect![[r#"
        {
          "id": "plain",
          "agentId": "plain",
          "name": "plain",
          "description": "",
          "model": "demo",
          "tools": [],
          "active": true,
          "isTeam": false,
          "is_team": false,
          "instructions": ""
        }
    "#]],
    );
}

/// `id` is what a run's `toolName` says; schemas are as the plugin wrote them.
#[tokio::test(flavor = "multi_thread")]
async fn tools() {
    let host = host().await;
    let mut tools = body(&host, "/api/tools").await;
    let list = tools.as_array_mut().expect("an array");
    let ids: Vec<&str> = list.iter().filter_map(|tool| tool["id"].as_str()).collect();
    assert_eq!(
        ids,
        [
            "calculator__evaluate",
            "notes__add",
            "notes__delete",
            "notes__list",
            "notes__read",
            "notes__search"
        ]
    );
    for tool in list.iter_mut() {
        // The plugins' own prose is theirs to change.
        assert!(tool["desc"].as_str().is_some_and(|text| !text.is_empty()));
        tool["desc"] = json!("…");
        assert_eq!(tool["inputSchema"]["type"], "object");
    }
    is(
        &tools[2],
        &expect![[r#"
        {
          "id": "notes__delete",
          "label": "Delete note",
          "desc": "…",
          "category": "notes",
          "plugin": "notes",
          "requiresApproval": true,
          "inputSchema": {
            "properties": {
              "id": {
                "description": "The note's number, as `list` and `search` show it.",
                "minimum": 0,
                "type": "integer"
              }
            },
            "required": [
              "id"
            ],
            "type": "object"
          }
        }
    "#]],
    );
    let gated: Vec<&Value> = tools
        .as_array()
        .expect("an array")
        .iter()
        .filter(|tool| tool["requiresApproval"] == true)
        .map(|tool| &tool["id"])
        .collect();
    assert_eq!(gated, ["notes__delete"]);
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "the whole of an answer is one picture")]
async fn plugins() {
    let folder = tempfile::tempdir().expect("a folder");
    let broken = folder.path().join("broken.wasm");
    std::fs::write(&broken, "not WebAssembly").expect("a file");
    let host = TestHost::with_files(&[guest("notes"), broken], CONFIG, Script::new([say("fine")])).await;
    let mut plugins = body(&host, "/api/plugins").await;
    let digest = plugins[1]["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:"));
    let digest = digest.expect("a digest").to_owned();
    let bytes = std::fs::read(guest("notes")).expect("the component");
    assert_eq!(digest, sha256(&bytes), "it is the file's");
    plugins[1]["digest"] = json!("sha256:…");
    is(
        &plugins,
        &expect![[r#"
            [
              {
                "id": "broken",
                "state": "failed",
                "error": "this is not a WebAssembly component: it does not begin as WebAssembly files do",
                "digest": null,
                "version": null,
                "signature": null,
                "imports": [],
                "tools": [],
                "requested": null,
                "open": [],
                "grants": null,
                "limits": null,
                "breaker": null,
                "calls": 0,
                "failures": 0,
                "running": 0,
                "waiting": null
              },
              {
                "id": "notes",
                "state": "loaded",
                "error": null,
                "digest": "sha256:…",
                "version": "0.1.0",
                "signature": null,
                "imports": [
                  "holdfast:plugin/kv@0.1.0"
                ],
                "tools": [
                  "notes__add",
                  "notes__list",
                  "notes__search",
                  "notes__read",
                  "notes__delete"
                ],
                "requested": {
                  "kv": {
                    "scopes": [
                      "user"
                    ],
                    "reason": "to keep each user's notes"
                  },
                  "http": [],
                  "secrets": []
                },
                "open": [],
                "grants": {
                  "kv": {
                    "scopes": [
                      "user"
                    ],
                    "reason": "to keep each user's notes"
                  },
                  "http": [],
                  "secrets": []
                },
                "limits": {
                  "memoryBytes": 67108864,
                  "wallMs": 1234,
                  "cpuMs": 10000,
                  "outputBytes": 1048576,
                  "stateBytes": 65536,
                  "hostCalls": 10000,
                  "hostCallBytes": 1048576,
                  "logLines": 200,
                  "logLineBytes": 4096,
                  "tableElements": 100000,
                  "resources": 1000,
                  "concurrentCalls": 16,
                  "httpRequests": 50,
                  "httpRequestBytes": 1048576,
                  "httpResponseBytes": 8388608,
                  "httpHeaderBytes": 32768,
                  "httpIdleMs": 10000,
                  "kvBytes": 1048576,
                  "kvEntries": 1000,
                  "componentBytes": 67108864,
                  "breakerFailures": 10,
                  "breakerWindowMs": 60000,
                  "breakerCooldownMs": 30000
                },
                "breaker": "closed",
                "calls": 0,
                "failures": 0,
                "running": 0,
                "waiting": null
              }
            ]
        "#]],
    );
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    holdfast::tool::hex(&sha2::Sha256::digest(bytes))
}

#[tokio::test(flavor = "multi_thread")]
async fn models() {
    let host = host().await;
    is(
        &body(&host, "/api/models").await,
        &expect![[r#"
        [
          {
            "id": "demo",
            "provider": "demo",
            "model": "",
            "vision": false,
            "ready": true
          },
          {
            "id": "remote::gpt-3.5-turbo",
            "provider": "remote",
            "model": "gpt-3.5-turbo",
            "vision": false,
            "ready": false
          },
          {
            "id": "script::v1",
            "provider": "script",
            "model": "v1",
            "vision": true,
            "ready": true
          }
        ]
    "#]],
    );
}

/// Without a token: whoever watches the server has none.
#[tokio::test(flavor = "multi_thread")]
async fn health() {
    let host = host().await;
    let anonymous = async |path: &str| {
        let answer = host.send(reqwest::Client::new().get(format!("{}{path}", host.url))).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    };
    is(
        &anonymous("/api/v1/health").await,
        &expect![[r#"
        {
          "status": "UP"
        }
    "#]],
    );
    is(
        &anonymous("/api/v1/health/ready").await,
        &expect![[r#"
            {
              "status": "UP",
              "database": "UP",
              "plugins": "UP",
              "epochTicker": "UP",
              "compiler": "UP",
              "intake": "UP"
            }
        "#]],
    );
}

/// All the keys of an answer, those without a value included.
#[tokio::test(flavor = "multi_thread")]
async fn a_run() {
    let host = host().await;
    let session = "6b2a5a3e-2f0e-4a3c-9d0e-000000000001";
    let answer = host.post("/api/agents/helper/runs", &json!({"message": "x", "sessionId": session})).await;
    let mut run = answer.body;
    assert_eq!(answer.status, 200, "{run}");
    let id = run["runId"].clone();
    run["runId"] = json!("…");
    is(
        &run,
        &expect![[r#"
        {
          "runId": "…",
          "sessionId": "6b2a5a3e-2f0e-4a3c-9d0e-000000000001",
          "status": "COMPLETED",
          "content": "fine",
          "metadata": {
            "model": "script::v1",
            "agentVersion": 0,
            "usage": {
              "inputTokens": null,
              "outputTokens": null,
              "totalTokens": null,
              "cost": null
            }
          },
          "tools": [],
          "reasoningSteps": [],
          "metrics": {
            "inputTokens": null,
            "outputTokens": null,
            "reasoningTokens": null,
            "llmCallCount": 1,
            "toolCallCount": 0,
            "errorCount": 0,
            "durationMs": 0,
            "model": "script::v1",
            "errorType": null,
            "errorMessage": null
          }
        }
    "#]],
    );
    let id = id.as_str().expect("an id");
    let mut read = body(&host, &format!("/api/agents/helper/runs/{id}")).await;
    assert_eq!((&read["id"], &read["runId"]), (&json!(id), &json!(id)));
    let details = read.as_object_mut().expect("an object");
    for (key, value) in run.as_object().expect("an object") {
        let same = details.remove(key).expect("a run that is read has all of the answer's fields");
        assert!(key == "runId" || same == *value, "{key}");
    }
    details.remove("id");
    is(
        &read,
        &expect![[r#"
        {
          "updatedAt": "2026-01-01T00:00:00.000Z",
          "completedAt": "2026-01-01T00:00:00.000Z",
          "startedAt": "2026-01-01T00:00:00.000Z",
          "createdAt": "2026-01-01T00:00:00.000Z",
          "requiredAction": null,
          "output": "fine",
          "input": "x",
          "orgId": "default",
          "userId": "admin",
          "agentId": "helper"
        }
    "#]],
    );
}
