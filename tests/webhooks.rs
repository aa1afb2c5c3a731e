//! Webhooks: signed, told at least once and under the same id, to nobody inside unless the operator says so.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holdfast::key::Role;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::openai::{self, OpenAi};
use crate::support::process::{HOOK_SECRET, Process};
use crate::support::{Caller, Script, TestHost, call, say};

#[derive(Clone)]
struct Told {
    headers: HeaderMap,
    body: String,
}

impl Told {
    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().expect("text")
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }
}

/// Answers with these statuses, the last one from then on; a redirect leads back to it.
struct Receiver {
    url: String,
    told: Arc<Mutex<Vec<Told>>>,
}

impl Receiver {
    async fn start(statuses: &'static [u16]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Self::on(listener, statuses)
    }

    fn on(listener: tokio::net::TcpListener, statuses: &'static [u16]) -> Self {
        let port = listener.local_addr().expect("an address").port();
        let told: Arc<Mutex<Vec<Told>>> = Arc::default();
        let seen = Arc::clone(&told);
        let router = Router::new().fallback(async move |headers: HeaderMap, body: Bytes| {
            let mut seen = seen.lock().expect("no test panics in here");
            let body = String::from_utf8(body.to_vec()).expect("UTF-8");
            seen.push(Told { headers, body });
            let status = *statuses.get(seen.len() - 1).or(statuses.last()).expect("a status");
            (StatusCode::from_u16(status).expect("a status"), [("location", "/elsewhere")]).into_response()
        });
        tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        Self { url: format!("http://127.0.0.1:{port}/hook"), told }
    }

    fn told(&self) -> Vec<Told> {
        self.told.lock().expect("no test panics in here").clone()
    }

    async fn wait(&self, count: usize) -> Vec<Told> {
        for _ in 0..600 {
            if self.told().len() >= count {
                return self.told();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("told {} times, not {count}", self.told().len());
    }

    fn types(&self) -> Vec<String> {
        self.told().iter().map(|told| told.json()["type"].as_str().expect("a type").to_owned()).collect()
    }
}

fn hook(url: &str, more: &str) -> String {
    format!("\n[[webhooks]]\nid = \"hook\"\nurl = \"{url}\"\nsecret_env = \"HOOK_SECRET\"\n{more}\n")
}

async fn host(config: &str, script: Arc<Script>) -> TestHost {
    TestHost::start(&["probe"], &format!("{}{config}", crate::support::host::ONE_AGENT), script).await
}

fn gated() -> Arc<Script> {
    Script::new([call("probe__effect", json!({"key": "k"})), say("secret words")])
}

async fn wait_for_log(host: &TestHost, status: &str, attempts: u64) -> Value {
    for _ in 0..600 {
        let log = host.get("/api/admin/webhook-deliveries").await.body;
        let row = &log["content"][0];
        if row["status"] == status && row["attempts"] == attempts {
            return row.clone();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no delivery became {status}");
}

/// RFC 2104 by hand: what the server uses does not check itself.
fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let pad = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

fn check_signature(told: &Told) {
    let key = STANDARD.decode(HOOK_SECRET.strip_prefix("whsec_").expect("a secret")).expect("base64");
    let signed = format!("{}.{}.{}", told.header("webhook-id"), told.header("webhook-timestamp"), told.body);
    let expected = format!("v1,{}", STANDARD.encode(hmac(&key, signed.as_bytes())));
    assert_eq!(told.header("webhook-signature"), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_and_an_end_are_told_signed_and_without_contents() {
    let receiver = Receiver::start(&[204]).await;
    let host = host(&hook(&receiver.url, "allow_private = true"), gated()).await;
    let paused = host.run("do the hidden thing").await;
    receiver.wait(1).await;
    host.resume(&paused, json!({"action": "APPROVE"})).await;
    let told = receiver.wait(2).await;
    told.iter().for_each(check_signature);
    assert_eq!(receiver.types(), ["run.paused", "run.completed"]);
    let pause = told[0].json();
    assert_eq!(pause["timestamp"], "2026-01-01T00:00:00.000Z");
    assert_eq!((&pause["data"]["runId"], &pause["data"]["status"]), (&paused["runId"], &json!("PAUSED")));
    let action = &paused["metadata"]["requiredAction"];
    assert_eq!(pause["data"]["requiredActions"][0]["approvalId"], action["approvalId"]);
    for told in &told {
        assert!(!told.body.contains("hidden") && !told.body.contains("secret words"), "{}", told.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_delivery_is_repeated_under_its_id_when_its_time_comes() {
    let receiver = Receiver::start(&[500, 200]).await;
    let host = host(&hook(&receiver.url, "allow_private = true"), Script::new([say("hi")])).await;
    host.run("hello").await;
    let row = wait_for_log(&host, "PENDING", 1).await;
    assert_eq!(
        (&row["lastStatus"], &row["nextAttemptAt"]),
        (&json!(500), &json!("2026-01-01T00:00:05.000Z"))
    );
    host.clock.advance(Duration::from_secs(5));
    let row = wait_for_log(&host, "DELIVERED", 2).await;
    assert_eq!(
        (&row["lastStatus"], &row["type"], &row["endpoint"]),
        (&json!(200), &json!("run.completed"), &json!("hook"))
    );
    let told = receiver.told();
    assert_eq!(told.len(), 2);
    assert_eq!(told[0].header("webhook-id"), told[1].header("webhook-id"));
    assert_eq!(row["eventId"], told[0].header("webhook-id"));
    assert_ne!(told[0].header("webhook-timestamp"), told[1].header("webhook-timestamp"));
    told.iter().for_each(check_signature);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_dies_after_its_last_attempt_and_redirects_are_not_followed() {
    let receiver = Receiver::start(&[302]).await;
    let host = host(&hook(&receiver.url, "allow_private = true"), Script::new([say("hi")])).await;
    host.run("hello").await;
    for (attempt, wait) in (1..).zip([5, 30, 120, 600, 3600, 21_600]) {
        assert_eq!(wait_for_log(&host, "PENDING", attempt).await["lastStatus"], 302);
        host.clock.advance(Duration::from_secs(wait));
    }
    wait_for_log(&host, "DEAD", 7).await;
    assert_eq!(receiver.told().len(), 7, "one request an attempt");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_that_expires_is_told_once_before_and_once_then() {
    let receiver = Receiver::start(&[200]).await;
    let more = "allow_private = true\nevents = [\"approval.expiring\", \"approval.expired\"]";
    let host = host(&hook(&receiver.url, more), gated()).await;
    let paused = host.run("go").await;
    host.clock.advance(Duration::from_hours(23));
    let warned = receiver.wait(1).await[0].json();
    let action = &paused["metadata"]["requiredAction"];
    assert_eq!(warned["data"]["approvalId"], action["approvalId"]);
    assert_eq!(
        (&warned["data"]["toolName"], &warned["data"]["status"]),
        (&json!("probe__effect"), &json!("PAUSED"))
    );
    host.clock.advance(Duration::from_hours(1));
    let told = receiver.wait(2).await;
    assert_eq!(receiver.types(), ["approval.expiring", "approval.expired"]);
    assert_eq!(told[1].json()["data"]["approvalId"], action["approvalId"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_and_an_admin_see_their_own_organisation() {
    let (own, foreign) = (Receiver::start(&[200]).await, Receiver::start(&[200]).await);
    let other =
        hook(&foreign.url, "allow_private = true\norg = \"other\"").replace("\"hook\"", "\"foreign\"");
    let config = format!("{}{other}", hook(&own.url, "allow_private = true\norg = \"acme\""));
    let host = host(&config, Script::new([say("hi")])).await;
    let caller = Caller::new(&host, Role::Admin, "acme", "ann").await;
    let stranger = Caller::new(&host, Role::Admin, "other", "olaf").await;
    let user = Caller::new(&host, Role::User, "acme", "uwe").await;
    caller.post("/api/agents/agent/runs", &json!({"message": "hello"})).await;
    assert_eq!(own.wait(1).await[0].json()["data"]["orgId"], "acme");
    let path = "/api/admin/webhook-deliveries";
    assert_eq!(caller.get(path).await.body["totalElements"], 1);
    assert_eq!(stranger.get(path).await.body["totalElements"], 0);
    assert_eq!(user.get(path).await.status, 403);
    assert!(foreign.told().is_empty(), "no row was written for it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_before_a_kill_is_told_after_it() {
    let model = OpenAi::start(|_| openai::text("done")).await;
    // Bound, but nobody answers yet.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let config = format!("{}{}", model.config(), hook(&url, "allow_private = true"));
    let mut host = Process::start(&["probe"], &config).await;
    let run = host.run("go").await;
    host.kill().await;
    let receiver = Receiver::on(listener, &[200]);
    host.restart().await;
    let told = receiver.wait(1).await;
    assert_eq!(told[0].json()["data"]["runId"], run["runId"]);
    told.iter().for_each(check_signature);
}

#[test]
fn mistakes_are_found_at_the_start() {
    let refused = |text: &str| {
        let file = std::path::Path::new("holdfast.toml");
        holdfast::config::Config::from_text(text, file, &holdfast::config::ServerArgs::default())
            .expect_err("it is refused")
            .to_string()
    };
    let table = [
        (hook("https://127.0.0.1/", ""), "must not point to a private address"),
        (hook("http://example.com/", ""), "must be an https URL"),
        (hook("nonsense", ""), "url"),
        (
            hook("https://example.com/", "").replace("HOOK_SECRET", "NOBODY_SETS_THIS"),
            "NOBODY_SETS_THIS is not set",
        ),
        (hook("https://example.com/", "events = [\"run.started\"]"), "unknown variant `run.started`"),
        (hook("https://example.com/", "").replace("HOOK_SECRET", "PATH"), "PATH must be whsec_"),
    ];
    for (text, expected) in table {
        let found = refused(&text);
        assert!(found.contains(expected), "{text}: {found}");
    }
}
