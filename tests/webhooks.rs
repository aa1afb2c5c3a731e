//! What became of a run is told to every endpoint that wants to know, at least once, signed, and nowhere else.

use std::sync::Arc;
use std::time::Duration;

use axum::response::IntoResponse as _;
use holdfast::key::{ApiKey, Role, Token};
use holdfast::model::ModelError;
use holdfast::notice::NoticeKind;
use holdfast::session::Owner;
use holdfast::webhook::{Endpoint, Webhooks};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use crate::support::host::{ADMIN, ONE_AGENT};
use crate::support::receiver::{Receiver, SECRET, answer, answer_with};
use crate::support::server::Server;
use crate::support::{Script, TestHost, call, say};

const HOUR: Duration = Duration::from_hours(1);

fn gated() -> Arc<Script> {
    Script::new([call("probe__effect", json!({"key": "k"})), say("the answer")])
}

async fn host(model: Arc<Script>, endpoints: Vec<Endpoint>) -> TestHost {
    let webhooks = Webhooks { endpoints, expiring_before: None };
    TestHost::with_webhooks(&["probe"], ONE_AGENT, model, webhooks).await
}

/// The delivery log, oldest first, once it has this many entries: an attempt is logged after the endpoint has
/// its answer.
async fn log(host: &TestHost, filter: &str, entries: usize) -> Vec<Value> {
    for _ in 0..600 {
        let page = host.get(&format!("/api/admin/webhook-deliveries?size=200{filter}")).await.body;
        let mut content = page["content"].as_array().expect("a page").clone();
        if content.len() >= entries {
            content.reverse();
            assert_eq!(content.len(), entries, "{content:?}");
            return content;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the log did not get {entries} entries");
}

/// The body to the letter, without and with content, signed as the specification says.
#[tokio::test]
async fn events_are_signed_and_keep_what_was_said_to_themselves() {
    let (terse, open) = (Receiver::content().await, Receiver::content().await);
    let with_content = Endpoint { include_content: true, ..open.endpoint("open") };
    let host = host(gated(), vec![terse.endpoint("terse"), with_content]).await;
    let paused = host.run("a secret question").await;

    let first = terse.next().await;
    let body = first.verified();
    let (run, session) = (&paused["runId"], &paused["sessionId"]);
    let action = &paused["metadata"]["requiredAction"];
    let told = json!({
        "type": "TOOL_APPROVAL", "approvalId": action["approvalId"], "toolCallId": "call-1",
        "toolName": "probe__effect", "expiresAt": "2026-01-02T00:00:00.000Z", "runId": run, "sessionId": session,
    });
    assert_eq!(
        body,
        json!({
            "type": "run.paused", "timestamp": "2026-01-01T00:00:00.000Z",
            "data": {
                "runId": run, "sessionId": session, "agentId": "agent", "userId": "admin", "orgId": "default",
                "status": "PAUSED", "requiredAction": told, "requiredActions": [told],
            }
        })
    );
    assert_eq!(first.header("webhook-timestamp"), "1767225600");
    assert_eq!(first.header("content-type"), "application/json");
    assert!(!first.id().is_empty() && !first.id().contains('.'));
    let more = open.next().await.verified();
    assert_eq!(more["data"]["requiredAction"]["args"], "{\"key\":\"k\"}");

    host.resume(&paused, json!({"action": "APPROVE"})).await;
    let last = terse.next().await;
    assert_eq!(last.kind(), "run.completed");
    assert_ne!(last.id(), first.id());
    for delivered in [&first, &last] {
        for word in ["secret question", "the answer", "\"k\""] {
            assert!(!delivered.text.contains(word), "{}", delivered.text);
        }
    }
    let more = open.next().await.verified();
    assert_eq!(
        (&more["data"]["input"], &more["data"]["content"]),
        (&json!("a secret question"), &json!("the answer"))
    );
}

#[tokio::test]
async fn failures_and_cancellations_are_told_and_only_what_was_asked_for() {
    let (all, cancelled) = (Receiver::content().await, Receiver::content().await);
    let only = Endpoint { events: vec![NoticeKind::RunCancelled], ..cancelled.endpoint("cancelled") };
    let failing = Script::failing(ModelError::Refused("no".to_owned()));
    let failed = host(failing, vec![all.endpoint("all")]).await;
    failed.run("x").await;
    let data = all.next().await.verified()["data"].clone();
    assert_eq!((&data["status"], &data["errorType"]), (&json!("FAILED"), &json!("model_error")));
    assert_eq!(data["errorMessage"], "the model provider refused the request: no");

    let host = host(gated(), vec![all.endpoint("all"), only]).await;
    let paused = host.run("x").await;
    host.cancel(&paused).await;
    assert_eq!(cancelled.next().await.kind(), "run.cancelled", "not the pause before it");
    let mut kinds = [all.next().await.kind(), all.next().await.kind()];
    kinds.sort();
    assert_eq!(kinds, ["run.cancelled", "run.paused"]);
}

/// 500, then an answer that names its own wait, then 200: one id, three attempts, and a log of them.
#[tokio::test]
async fn a_failed_delivery_is_tried_again_under_the_same_id() {
    let receiver = Receiver::start(|number, _| match number {
        1 => answer(500),
        2 => answer_with(429, "retry-after", "600"),
        _ => answer(200),
    })
    .await;
    let host = host(Script::new([say("done")]), vec![receiver.endpoint("hook")]).await;
    host.run("x").await;

    let first = receiver.next().await;
    let logged = log(&host, "", 1).await;
    assert_eq!(logged[0]["nextAttemptAt"], "2026-01-01T00:00:05.000Z");
    host.clock.advance(Duration::from_secs(5));
    let second = receiver.next().await;
    let logged = log(&host, "", 2).await;
    assert_eq!(logged[1]["nextAttemptAt"], "2026-01-01T00:10:05.000Z", "longer than the 30 s that were due");
    host.clock.advance(Duration::from_secs(600));
    let third = receiver.next().await;

    assert_eq!((first.id(), first.id()), (second.id(), third.id()));
    assert_eq!((&first.text, &first.text), (&second.text, &third.text));
    assert_ne!(first.header("webhook-timestamp"), third.header("webhook-timestamp"));
    third.verified();
    let logged = log(&host, &format!("&endpoint=hook&eventId={}", first.id()), 3).await;
    let attempts: Vec<_> = logged.iter().map(|entry| (&entry["attempt"], &entry["statusCode"])).collect();
    assert_eq!(attempts, [(&json!(1), &json!(500)), (&json!(2), &json!(429)), (&json!(3), &json!(200))]);
    assert_eq!((&logged[2]["state"], &logged[2]["error"]), (&json!("DELIVERED"), &Value::Null));
    assert_eq!(log(&host, "&endpoint=other", 0).await, Vec::<Value>::new());
}

/// After the last wait an event is given up; by hand it is sent again, and with it all its retries.
#[tokio::test]
async fn what_was_given_up_can_be_delivered_by_hand() {
    let receiver = Receiver::start(|number, _| answer(if number <= 7 { 503 } else { 200 })).await;
    let host = host(Script::new([say("done")]), vec![receiver.endpoint("hook")]).await;
    host.run("x").await;
    let id = receiver.next().await.id().to_owned();
    for attempts in 1..7 {
        log(&host, "", attempts).await;
        host.clock.advance(6 * HOUR);
        assert_eq!(receiver.next().await.id(), id);
    }
    assert_eq!(log(&host, "", 7).await[6]["state"], "DEAD");

    let again = host.post(&format!("/api/admin/webhook-deliveries/{id}/redeliver"), &json!({})).await;
    assert_eq!((again.status, &again.body), (202, &json!({"eventId": id, "endpoints": ["hook"]})));
    assert_eq!(receiver.next().await.id(), id);
    assert_eq!(log(&host, "", 8).await[7]["state"], "DELIVERED");
    for unknown in ["evt_nothing/redeliver", &format!("{id}/redeliver?endpoint=other")] {
        let answer = host.post(&format!("/api/admin/webhook-deliveries/{unknown}"), &json!({})).await;
        assert_eq!(
            (answer.status, &answer.body["type"]),
            (404, &json!("urn:problem-type:resource-not-found"))
        );
    }
}

/// The process dies with the event committed and its delivery under way; the next one delivers it, to an
/// endpoint whose answer never ends.
#[tokio::test]
async fn an_event_outlives_kill_9() {
    let endless = Receiver::start(|_, _| {
        let body =
            axum::body::Body::from_stream(futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>());
        body.into_response()
    })
    .await;
    // Takes the connection and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/hook", silent.local_addr().expect("an address"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = |url: &str| {
        format!(
            "listen = \"127.0.0.1:0\"\ndatabase = \"sqlite://holdfast.db\"\n[[agents]]\nid = \"agent\"\nmodel = \"demo\"\n\
             [[webhooks]]\nid = \"hook\"\nurl = \"{url}\"\nsecret_env = \"HOOK_SECRET\"\nallow_private = true\n"
        )
    };
    let file = folder.path().join("holdfast.toml");
    std::fs::write(&file, config(&url)).expect("a configuration file");
    let environment = [("HOOK_SECRET", SECRET), ("HOLDFAST_ADMIN_TOKEN", ADMIN)];
    let mut server = Server::launch(folder.path(), &["serve"], &environment).await;
    let run: Value = reqwest::Client::new()
        .post(format!("{}/api/agents/agent/runs", server.url))
        .bearer_auth(ADMIN)
        .json(&json!({"message": "Hello"}))
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    assert_eq!(run["status"], "COMPLETED");
    let (mut connection, _) = silent.accept().await.expect("the first attempt");
    let mut request = String::new();
    while !request.contains("webhook-signature") {
        let mut bytes = [0; 4096];
        let read = connection.read(&mut bytes).await.expect("the first attempt's request");
        request.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    server.child.kill().await.expect("it can be killed");
    drop(connection);

    std::fs::write(&file, config(&endless.url)).expect("a configuration file");
    let _server = Server::launch(folder.path(), &["serve"], &environment).await;
    let delivered = endless.next().await;
    assert_eq!(delivered.verified()["data"]["runId"], run["runId"]);
    assert_eq!(delivered.kind(), "run.completed");
    assert!(request.contains(&format!("webhook-id: {}\r\n", delivered.id())), "the same id: {request}");
}

/// The deny twin of `allow_private`: a name that leads inside is not followed, whatever the file says.
#[tokio::test]
async fn a_private_address_gets_nothing_unless_it_is_allowed() {
    let receiver = Receiver::content().await;
    let allowed = receiver.endpoint("allowed");
    let port = allowed.url.port().expect("a port");
    let to =
        |url: String| Endpoint { url: url.parse().expect("a URL"), allow_private: false, ..allowed.clone() };
    let by_number = Endpoint { id: "number".to_owned(), ..to(format!("https://127.0.0.1:{port}/denied")) };
    let by_name = Endpoint { id: "name".to_owned(), ..to(format!("https://localhost:{port}/denied")) };
    let host = host(Script::new([say("done")]), vec![by_number, by_name, allowed]).await;
    host.run("x").await;

    assert_eq!(receiver.next().await.path, "/hook");
    for endpoint in ["number", "name"] {
        let logged = log(&host, &format!("&endpoint={endpoint}"), 1).await;
        assert_eq!(
            (&logged[0]["error"], &logged[0]["statusCode"]),
            (&json!("private-address"), &Value::Null)
        );
    }
    assert!(receiver.is_idle().await);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Receiver::content().await;
    let target = elsewhere.url.clone();
    let receiver = Receiver::start(move |_, _| answer_with(307, "location", &target)).await;
    let host = host(Script::new([say("done")]), vec![receiver.endpoint("hook")]).await;
    host.run("x").await;
    receiver.next().await;
    let logged = log(&host, "", 1).await;
    assert_eq!((&logged[0]["error"], &logged[0]["statusCode"]), (&json!("redirect"), &json!(307)));
    assert_eq!(logged[0]["state"], "PENDING");
    assert!(elsewhere.is_idle().await);
}

/// 410: nothing more until the server starts again; then what waited is tried.
#[tokio::test]
async fn an_endpoint_that_is_gone_is_left_alone_until_a_restart() {
    let gone = Receiver::start(|number, _| answer(if number == 1 { 410 } else { 200 })).await;
    let well = Receiver::content().await;
    let mut host = host(Script::new([say("done")]), vec![gone.endpoint("gone"), well.endpoint("well")]).await;
    host.run("x").await;
    let first = gone.next().await;
    log(&host, "&endpoint=gone", 1).await;
    host.clock.advance(HOUR);
    host.run("x").await;
    well.next().await;
    well.next().await;
    log(&host, "&endpoint=well", 2).await;
    assert_eq!(log(&host, "&endpoint=gone", 1).await[0]["statusCode"], 410);
    assert!(gone.is_idle().await);

    host.restart().await;
    let (second, third) = (gone.next().await, gone.next().await);
    assert!([second.id(), third.id()].contains(&first.id()));
    assert_ne!(second.id(), third.id());
}

#[tokio::test]
async fn an_endpoint_of_a_tenant_hears_of_that_tenant_only() {
    let (acme, all) = (Receiver::content().await, Receiver::content().await);
    let only = Endpoint { org: Some("acme".into()), ..acme.endpoint("acme") };
    let host = host(Script::new([say("done")]), vec![only, all.endpoint("all")]).await;
    host.run("x").await;
    all.next().await;
    let body = json!({"message": "x", "orgId": "acme", "userId": "ann"});
    let run = host.post("/api/agents/agent/runs", &body).await.body;
    assert_eq!(all.next().await.verified()["data"]["orgId"], "acme");
    assert_eq!(acme.next().await.verified()["data"]["runId"], run["runId"], "and nothing before it");
    log(&host, "", 3).await;
}

/// Once an hour before, once when it is over; both follow the server's clock.
#[tokio::test]
async fn approvals_are_announced_before_they_expire_and_when_they_have() {
    let receiver = Receiver::content().await;
    let host = host(gated(), vec![receiver.endpoint("hook")]).await;
    let paused = host.run("x").await;
    let approval = paused["metadata"]["requiredAction"]["approvalId"].clone();
    assert_eq!(receiver.next().await.kind(), "run.paused");

    host.clock.advance(23 * HOUR);
    let expiring = receiver.next().await;
    assert_eq!(expiring.kind(), "approval.expiring");
    let data = expiring.verified()["data"].clone();
    assert_eq!((&data["approvalId"], &data["runId"]), (&approval, &paused["runId"]));
    assert_eq!(
        (&data["toolName"], &data["expiresAt"]),
        (&json!("probe__effect"), &json!("2026-01-02T00:00:00.000Z"))
    );

    host.clock.advance(HOUR);
    let mut rest = [receiver.next().await, receiver.next().await];
    rest.sort_by_key(|delivered| delivered.kind());
    assert_eq!(rest[0].kind(), "approval.expired");
    assert_eq!(rest[0].verified()["data"]["approvalId"], approval);
    assert_eq!(rest[1].kind(), "run.completed");
    log(&host, "", 4).await;
    assert_eq!(host.effects("k").await, 0);
}

/// A decision in time leaves nothing to announce.
#[tokio::test]
async fn a_decided_approval_is_not_announced() {
    let receiver = Receiver::content().await;
    let host = host(gated(), vec![receiver.endpoint("hook")]).await;
    let decided = host.run("x").await;
    host.resume(&decided, json!({"action": "APPROVE"})).await;
    let waiting = host.run("x").await;
    host.clock.advance(23 * HOUR);
    let mut kinds = Vec::new();
    for _ in 0..4 {
        let delivered = receiver.next().await;
        kinds.push((delivered.kind(), delivered.verified()["data"]["runId"].clone()));
    }
    let expiring: Vec<_> = kinds.iter().filter(|(kind, _)| kind == "approval.expiring").collect();
    assert_eq!(expiring, [&("approval.expiring".to_owned(), waiting["runId"].clone())]);
}

#[tokio::test]
async fn the_delivery_log_is_for_admins_and_shows_their_organisation() {
    let receiver = Receiver::content().await;
    let host = host(Script::new([say("done")]), vec![receiver.endpoint("hook")]).await;
    host.run("x").await;
    let id = receiver.next().await.id().to_owned();
    log(&host, "", 1).await;
    let path = "/api/admin/webhook-deliveries";
    let user = key(&host, "default", Role::User).await;
    let admin = key(&host, "default", Role::Admin).await;
    let foreign = key(&host, "acme", Role::Admin).await;
    let as_caller = |token: String, method: reqwest::Method, path: String| {
        host.send(reqwest::Client::new().request(method, format!("{}{path}", host.url)).bearer_auth(token))
    };
    let read = |token: &String| as_caller(token.clone(), reqwest::Method::GET, path.to_owned());
    assert_eq!(read(&user).await.status, 403);
    assert_eq!(read(&admin).await.body["totalElements"], 1);
    assert_eq!(read(&foreign).await.body["totalElements"], 0);
    let again =
        |token: &String| as_caller(token.clone(), reqwest::Method::POST, format!("{path}/{id}/redeliver"));
    assert_eq!(again(&user).await.status, 403);
    assert_eq!(again(&foreign).await.status, 404);
    assert_eq!(again(&admin).await.status, 202);
    assert_eq!(receiver.next().await.id(), id);
    let large = host.get(&format!("{path}?size=201")).await;
    assert_eq!((large.status, &large.body["invalidParams"][0]["field"]), (400, &json!("size")));
}

/// A token of a new key.
async fn key(host: &TestHost, org: &str, role: Role) -> String {
    let url = format!("sqlite://{}/holdfast.db", host.folder().display());
    let store = holdfast::store::open_shared(&url).await.expect("keys can be made beside a server");
    let token = Token::generate().expect("randomness");
    let key = ApiKey {
        id: Token::hash(token.as_str()).as_str().into(),
        role,
        owner: Owner { org: org.into(), user: "somebody".into() },
        label: String::new(),
        created_at: host.clock.now(),
        revoked_at: None,
    };
    store.add_key(&key, &Token::hash(token.as_str())).await.expect("it is stored");
    store.close().await;
    token.as_str().to_owned()
}

/// A server without its secrets does not start, and says which one it wants; keys can be made all the same.
#[tokio::test]
async fn a_missing_secret_stops_the_server_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config =
        "[[webhooks]]\nid = \"ops\"\nurl = \"https://example.com\"\nsecret_env = \"NO_SUCH_SECRET\"\n";
    std::fs::write(folder.path().join("holdfast.toml"), config).expect("a configuration file");
    let run = async |args: &[&str]| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_holdfast"));
        command
            .args(args)
            .current_dir(folder.path())
            .env_remove("NO_SUCH_SECRET")
            .env_remove("HOLDFAST_CONFIG");
        command.output().await.expect("the program runs")
    };
    let served = run(&["serve"]).await;
    let said = String::from_utf8_lossy(&served.stderr).into_owned();
    assert!(!served.status.success());
    assert!(
        said.contains(
            "webhook `ops`: the environment variable NO_SUCH_SECRET that secret_env names is not set"
        ),
        "{said}"
    );
    std::fs::create_dir(folder.path().join("plugins")).expect("a folder for plugins");
    for offline in [&["key", "create", "--user", "ada"][..], &["plugin", "list", "--plugins", "plugins"]] {
        let output = run(offline).await;
        assert!(output.status.success(), "{offline:?} {output:?}");
    }
}
