//! Bad requests get a problem document that says what to do, and tell nothing about the inside.

use std::fmt::Write as _;

use expect_test::expect;
use holdfast::key::Role;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::host::ONE_AGENT;
use crate::support::{Caller, Script, TestHost, call, say};

/// A second agent, on the built-in model, which reads no media.
const DEMO_AGENT: &str = "\n[[agents]]\nid = \"demo\"\nmodel = \"demo\"\n";

/// Everything about an answer that a caller can rely on, in one line.
async fn answer(host: &TestHost, request: reqwest::RequestBuilder) -> String {
    let answer = host.send(request.header("x-request-id", "r")).await;
    let content_type =
        answer.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    assert_eq!(content_type, "application/problem+json", "{answer:?}");
    assert_eq!(answer.body["status"], answer.status, "{answer:?}");
    assert_eq!(answer.body["requestId"], "r", "{answer:?}");
    let text = answer.body.to_string();
    for inside in [
        "Option<",
        "struct ",
        "RunRequest",
        "holdfast::",
        ".rs:",
        "/tmp",
        "sqlx",
        "serde",
        "f64",
        "i64",
        "u32",
    ] {
        assert!(!text.contains(inside), "{inside} in {text}");
    }
    let kind =
        answer.body["type"].as_str().and_then(|kind| kind.strip_prefix("urn:problem-type:")).expect("a type");
    let mut params = String::new();
    for param in answer.body["invalidParams"].as_array().into_iter().flatten() {
        let part = |name: &str| param[name].as_str().expect("a text");
        write!(params, " [{}] {}", part("field"), part("message")).expect("a string takes it");
    }
    if params.is_empty() {
        params = format!(" {}", answer.body["detail"].as_str().expect("a text"));
    }
    format!("{} {kind}{params}", answer.status)
}

async fn table(host: &TestHost, path: &str, bodies: &[Value]) -> String {
    let mut lines = String::new();
    for body in bodies {
        let said = answer(host, host.request(Method::POST, path).json(body)).await;
        writeln!(lines, "{body}\n    {said}").expect("a string takes it");
    }
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_runs() {
    let host = TestHost::start(&[], &format!("{ONE_AGENT}{DEMO_AGENT}"), Script::new([say("fine")])).await;
    let lines = table(
        &host,
        "/api/agents/agent/runs",
        &[
            json!({}),
            json!({"message": " \n"}),
            json!({"message": 7}),
            json!({"message": "x", "sessionId": "mine"}),
            json!({"message": "x", "session_id": 5}),
            json!({"message": "x", "userId": ""}),
            json!({"message": "x", "options": {"temperature": 3}}),
            json!({"message": "x", "options": {"temperature": "hot"}}),
            json!({"message": "x", "options": {"maxTokens": 1.5}}),
            json!({"message": "x", "options": {"topP": 0, "maxTokens": 0, "maxSteps": 101, "timeoutMs": -1}}),
            json!({"message": "x", "options": {"model": "gpt-4o"}}),
            json!({"message": "x", "options": 5}),
            json!({"message": "x", "generateFollowups": "yes"}),
            json!({"message": "x", "media": [{"type": "image/png"}]}),
            json!({"message": "x", "media": [5]}),
            json!({"message": "x", "media": [{"type": "picture", "data": "aGk="}, {"type": "image/png", "data": "!"}]}),
            json!({"message": "x", "media": [{"type": "image/png", "data": ""}]}),
        ],
    )
    .await;
    expect![[r#"
        {}
            400 invalid-request [message] is required
        {"message":" \n"}
            400 invalid-request [message] must not be blank
        {"message":7}
            400 invalid-request [message] invalid type: integer `7`, expected a string
        {"message":"x","sessionId":"mine"}
            400 invalid-request [sessionId] must be a UUID; leave it out to start a new session
        {"message":"x","session_id":5}
            400 invalid-request [session_id] invalid type: integer `5`, expected a string
        {"message":"x","userId":""}
            400 invalid-request [userId] must have 1 to 255 characters; leave it out for your own
        {"message":"x","options":{"temperature":3}}
            400 invalid-request [options.temperature] must be from 0 to 2
        {"message":"x","options":{"temperature":"hot"}}
            400 invalid-request [options.temperature] invalid type: string "hot", expected a number
        {"message":"x","options":{"maxTokens":1.5}}
            400 invalid-request [options.maxTokens] invalid type: floating point `1.5`, expected an integer
        {"message":"x","options":{"topP":0,"maxTokens":0,"maxSteps":101,"timeoutMs":-1}}
            400 invalid-request [options.maxTokens] must be from 1 to 10000000 [options.maxSteps] must be from 1 to 100 [options.timeoutMs] must be from 1 to 86400000 [options.topP] must be above 0 and at most 1
        {"message":"x","options":{"model":"gpt-4o"}}
            400 invalid-request [options.model] `gpt-4o` does not name a model: write provider::model, such as openai::gpt-4o-mini, or demo
        {"message":"x","options":5}
            400 invalid-request [options] invalid type: integer `5`, expected an object
        {"message":"x","generateFollowups":"yes"}
            400 invalid-request [generateFollowups] invalid type: string "yes", expected a boolean
        {"message":"x","media":[{"type":"image/png"}]}
            400 invalid-request [media[0].data] is required
        {"message":"x","media":[5]}
            400 invalid-request [media[0]] invalid type: integer `5`, expected an object with type and data
        {"message":"x","media":[{"type":"picture","data":"aGk="},{"type":"image/png","data":"!"}]}
            400 invalid-request [media[0].type] must be a media type that models read: image/…, audio/…, video/… or application/pdf [media[1].data] is neither base64 (standard alphabet, padded) nor an https URL
        {"message":"x","media":[{"type":"image/png","data":""}]}
            400 invalid-request [media[0].data] is empty
    "#]].assert_eq(&lines);
}

#[tokio::test(flavor = "multi_thread")]
async fn media_from_private_addresses_is_refused_in_every_spelling() {
    let host = TestHost::start(&[], &format!("{ONE_AGENT}{DEMO_AGENT}"), Script::new([say("fine")])).await;
    let urls = [
        "http://example.com/a.png",
        "ftp://example.com/a.png",
        "https://user:secret@example.com/a.png",
        "https://127.0.0.1/a.png",
        "https://127.1/a.png",
        "https://2130706433/a.png",
        "https://0x7f000001/a.png",
        "https://0177.0.0.1/a.png",
        "https://0/a.png",
        "https://[::1]/a.png",
        "https://[::ffff:127.0.0.1]/a.png",
        "https://[64:ff9b::7f00:1]/a.png",
        "https://10.0.0.1/a.png",
        "https://169.254.169.254/latest/meta-data",
        "https://localhost/a.png",
        "https://LOCALHOST./a.png",
    ];
    for url in urls {
        let body = json!({"message": "x", "media": [{"type": "image/png", "data": url}]});
        let said = answer(&host, host.request(Method::POST, "/api/agents/agent/runs").json(&body)).await;
        assert!(said.starts_with("400 invalid-request [media[0].data] must "), "{url}: {said}");
        assert!(!said.contains("secret"), "{said}");
    }
    let image = json!({"message": "x", "media": [{"type": "image/png", "data": "aGk="}]});
    let said = answer(&host, host.request(Method::POST, "/api/agents/demo/runs").json(&image)).await;
    assert!(said.starts_with("400 business-validation-error"), "{said}");
    let large = json!({"message": "x", "media": [{"type": "image/png", "data": "aGkh".repeat(4 << 20)}]});
    let said = answer(&host, host.request(Method::POST, "/api/agents/agent/runs").json(&large)).await;
    assert!(said.contains("is larger than 10485760 bytes"), "{said}");
    let many = json!({"message": "x", "media": vec![json!({"type": "image/png", "data": "aGk="}); 17]});
    let said = answer(&host, host.request(Method::POST, "/api/agents/agent/runs").json(&many)).await;
    assert!(said.contains("[media] may have 16 items at most"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_decisions() {
    let model = Script::new([call("probe__effect", json!({"key": "k"})), say("done")]);
    let host = TestHost::with_probe(model).await;
    let paused = host.run("go").await;
    let id = paused["runId"].as_str().expect("an id");
    let lines = table(
        &host,
        &format!("/api/agents/agent/runs/{id}/continue"),
        &[
            json!({}),
            json!({"action": "MAYBE"}),
            json!({"action": 1}),
            json!({"action": "RETRY"}),
            json!({"action": "RESULT"}),
            json!({"action": "REJECT", "arguments": {}}),
            json!({"action": "APPROVE", "output": "x"}),
            json!({"action": "APPROVE", "approvalId": "none"}),
            json!({"decisions": []}),
            json!({"decisions": [{"action": "APPROVE"}]}),
            json!({"decisions": [{"approvalId": "x", "action": "MAYBE"}]}),
            json!({"action": "APPROVE", "decisions": [{"approvalId": "x", "action": "APPROVE"}]}),
        ],
    )
    .await;
    expect![[r#"
        {}
            400 invalid-request [action] is required: write APPROVE or REJECT
        {"action":"MAYBE"}
            400 invalid-request [action] must be APPROVE or REJECT; of a call of unknown outcome RETRY, RESULT or FAIL
        {"action":1}
            400 invalid-request [action] invalid type: integer `1`, expected a string
        {"action":"RETRY"}
            400 invalid-request [action] must be APPROVE or REJECT: the call has not run yet
        {"action":"RESULT"}
            400 invalid-request [output] is required with RESULT: what the call came to
        {"action":"REJECT","arguments":{}}
            400 invalid-request [arguments] can only be given with APPROVE
        {"action":"APPROVE","output":"x"}
            400 invalid-request [output] can only be given with RESULT
        {"action":"APPROVE","approvalId":"none"}
            404 resource-not-found The run has no such approval. Its pending ones are in metadata.requiredActions.
        {"decisions":[]}
            400 invalid-request [decisions] must name at least one approval
        {"decisions":[{"action":"APPROVE"}]}
            400 invalid-request [decisions[0].approvalId] is required
        {"decisions":[{"approvalId":"x","action":"MAYBE"}]}
            400 invalid-request [decisions[0].action] must be APPROVE or REJECT; of a call of unknown outcome RETRY, RESULT or FAIL
        {"action":"APPROVE","decisions":[{"approvalId":"x","action":"APPROVE"}]}
            400 invalid-request [decisions] cannot be combined with action or approvalId
    "#]].assert_eq(&lines);
    assert_eq!(host.read(&paused).await["status"], "PAUSED");
    assert_eq!(host.effects("k").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_everything_else() {
    let config = format!("{ONE_AGENT}{DEMO_AGENT}\n[http]\nmax_body_bytes = 2000\n");
    let host = TestHost::start(&[], &config, Script::new([say("fine")])).await;
    let run = host.run("hello").await;
    let runs = "/api/agents/agent/runs";
    let foreign = format!("/api/agents/demo/runs/{}", run["runId"].as_str().expect("an id"));
    let post = |path: &str| host.request(Method::POST, path);
    let json =
        |path: &str, text: &str| post(path).header("content-type", "application/json").body(text.to_owned());
    let anonymous = |path: &str| reqwest::Client::new().get(format!("{}{path}", host.url));
    let requests = [
        ("no token", anonymous("/api/agents")),
        ("another scheme", anonymous("/api/agents").basic_auth("a", Some("b"))),
        ("an unknown token", anonymous("/api/agents").bearer_auth("hf_no")),
        ("no token for an unknown agent", anonymous("/api/agents/none")),
        ("no JSON", json(runs, "{\"message\": ")),
        ("an array", json(runs, "[]")),
        ("nothing", json(runs, "")),
        ("not UTF-8", post(runs).header("content-type", "application/json").body(vec![b'"', 0xff, b'"'])),
        ("no media type", post(runs).body("{}")),
        ("another media type", post(runs).header("content-type", "text/plain").body("{}")),
        ("too much", json(runs, &format!("{{\"message\": \"{}\"}}", "x".repeat(3000)))),
        ("an unknown agent", post("/api/agents/none/runs").json(&json!({"message": "x"}))),
        ("an agent that is not there", host.request(Method::GET, "/api/agents/none")),
        ("an unknown run", host.request(Method::GET, "/api/agents/agent/runs/none")),
        ("another agent's run", host.request(Method::GET, &foreign)),
        ("an unknown path", host.request(Method::GET, "/api/nothing")),
        ("another method", host.request(Method::PUT, "/api/agents")),
        ("a bad query", host.request(Method::GET, "/api/agents?includeInactive=7")),
        ("a bad path", host.request(Method::GET, "/api/agents/%ff")),
        ("an empty idempotency key", post(runs).header("idempotency-key", "").json(&json!({"message": "x"}))),
    ];
    let mut lines = String::new();
    for (what, request) in requests {
        writeln!(lines, "{what}\n    {}", answer(&host, request).await).expect("a string takes it");
    }
    expect![[r"
        no token
            401 unauthorized Send `Authorization: Bearer <token>`. `holdfast key create` makes a token.
        another scheme
            401 unauthorized Send `Authorization: Bearer <token>`. `holdfast key create` makes a token.
        an unknown token
            401 unauthorized The token is unknown or was revoked.
        no token for an unknown agent
            401 unauthorized Send `Authorization: Bearer <token>`. `holdfast key create` makes a token.
        no JSON
            400 malformed-request-body The body is not valid JSON: EOF while parsing a value at line 1 column 12.
        an array
            400 malformed-request-body The body must be a JSON object.
        nothing
            400 malformed-request-body The body is not valid JSON: EOF while parsing a value at line 1 column 0.
        not UTF-8
            400 malformed-request-body The body is not valid JSON: invalid unicode code point at line 1 column 2.
        no media type
            415 unsupported-media-type Send JSON with `Content-Type: application/json`.
        another media type
            415 unsupported-media-type Send JSON with `Content-Type: application/json`.
        too much
            413 payload-too-large The body may have 2000 bytes at most.
        an unknown agent
            404 resource-not-found There is no such agent.
        an agent that is not there
            404 resource-not-found There is no such agent.
        an unknown run
            404 resource-not-found There is no such run.
        another agent's run
            404 resource-not-found There is no such run.
        an unknown path
            404 not-found There is nothing at /api/nothing. /docs lists what is.
        another method
            405 method-not-allowed This path does not take PUT. The header Allow says what it takes.
        a bad query
            400 invalid-request [includeInactive] provided string was not `true` or `false`
        a bad path
            400 invalid-request The path cannot be read: percent-encode it as UTF-8.
        an empty idempotency key
            400 invalid-request [Idempotency-Key] must have 1 to 255 visible ASCII characters
    "]].assert_eq(&lines);
    // Unknown fields are ignored, and null is the same as absent.
    let lenient = json!({"message": "x", "stream": true, "sessionId": null, "userId": null, "orgId": null,
        "generateFollowups": null, "media": null, "options": null, "unknown": {"a": 1}});
    assert_eq!(host.post(runs, &lenient).await.status, 200);
    let unauthorized = host.send(anonymous("/api/agents")).await;
    assert_eq!(unauthorized.headers["www-authenticate"], "Bearer");
    let method = host.send(host.request(Method::PUT, "/api/agents")).await;
    assert!(method.headers["allow"].to_str().is_ok_and(|allow| allow.contains("GET")));
}

/// Over every route of the document, so that one that is added later is looked at as well: without a token,
/// too often, without the role, with a path that is no text, with a body that is no JSON or too large, with
/// another method. That the document says so is looked up for every answer (`support/document.rs`).
#[tokio::test(flavor = "multi_thread")]
async fn every_route_refuses_in_the_same_form() {
    let config = format!("[http]\nmax_body_bytes = 1000\n{ONE_AGENT}");
    let host = TestHost::start(&[], &config, Script::new([say("fine")])).await;
    let user = Caller::new(&host, Role::User, "acme", "joe").await;
    let config = format!("rate_limit = {{ requests_per_minute = 1, burst = 1 }}\n{ONE_AGENT}");
    let limited = TestHost::start(&[], &config, Script::new([say("fine")])).await;
    assert_eq!(limited.get("/api/agents").await.status, 200);
    let document = host.get("/openapi.json").await.body;
    let mut seen = 0;
    for (template, methods) in document["paths"].as_object().expect("paths") {
        let filled = |with: &str| {
            let parts = template.split('/').map(|part| if part.starts_with('{') { with } else { part });
            parts.collect::<Vec<_>>().join("/")
        };
        for (method, operation) in methods.as_object().expect("methods") {
            let what = format!("{method} {template}");
            let verb: Method = method.to_uppercase().parse().expect("a method");
            let public = operation["security"][0].as_object().is_some_and(serde_json::Map::is_empty);
            if !public {
                let url = format!("{}{}", host.url, filled("x"));
                let said = answer(&host, reqwest::Client::new().request(verb.clone(), url)).await;
                assert!(said.starts_with("401 unauthorized"), "{what}: {said}");
                let said = answer(&limited, limited.request(verb.clone(), &filled("x"))).await;
                assert!(said.starts_with("429 rate-limit-exceeded"), "{what}: {said}");
            }
            if operation["tags"][0] == "admin" {
                let body =
                    (!operation["requestBody"].is_null()).then(|| json!({"agentId": "x", "model": "demo"}));
                let answer = user.send(verb.clone(), &filled("x"), body.as_ref()).await;
                assert_eq!(answer.status, 403, "{what}: {answer:?}");
            }
            if template.contains('{') {
                let said = answer(&host, host.request(verb.clone(), &filled("%ff"))).await;
                assert!(said.starts_with("400 ") || said.starts_with("415 "), "{what}: {said}");
            }
            if !operation["requestBody"].is_null() {
                let path = filled("x");
                let large = "x".repeat(1001);
                let bodies = [
                    ("application/json", "{", "400 "),
                    ("application/json", "[]", "400 "),
                    ("application/json", &large, "413 "),
                    ("text/plain", "{}", "415 "),
                ];
                // A component is no JSON, and is refused for what it is not before its size is looked at.
                let is_json = operation["requestBody"]["content"]["application/json"].is_object();
                for (kind, body, start) in bodies {
                    let start = if is_json { start } else { "415 " };
                    let request = host.request(verb.clone(), &path).header("content-type", kind);
                    let said = answer(&host, request.body(body.to_owned())).await;
                    assert!(said.starts_with(start), "{what} {kind} {body}: {said}");
                }
            }
            seen += 1;
        }
        let said = answer(&host, host.request(Method::PATCH, &filled("x"))).await;
        assert!(said.starts_with("405 method-not-allowed"), "{template}: {said}");
    }
    assert!(seen > 30, "{seen}");
}
