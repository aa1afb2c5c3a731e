//! What became of a run is told to every endpoint that wants to know, at least once, signed, and nowhere else.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use axum::response::IntoResponse as _;
use holdfast::key::Role;
use holdfast::model::ModelError;
use holdfast::notice::NoticeKind;
use holdfast::webhook::Endpoint;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use crate::support::host::{ADMIN, until};
use crate::support::process::{HOOK_SECRET, Process, text};
use crate::support::receiver::{Delivered, Receiver, answer, answer_with};
use crate::support::script::Speaker;
use crate::support::server::Server;
use crate::support::{Caller, Script, TestHost, call, say};

const HOUR: Duration = Duration::from_hours(1);

const LOG: &str = "/api/admin/webhook-deliveries";

fn gated() -> Arc<Script> {
    Script::new([call("probe__effect", json!({"key": "k"})), say("the answer")])
}

async fn host(model: Arc<Script>, endpoints: Vec<Endpoint>) -> TestHost {
    TestHost::with_webhooks(model, endpoints).await
}

/// The configuration of one agent with the demo model, and of a webhook.
fn file(url: &str) -> String {
    format!(
        "[[agents]]\nid = \"agent\"\nmodel = \"demo\"\n[[webhooks]]\nid = \"hook\"\nurl = \"{url}\"\n\
         secret_env = \"HOOK_SECRET\"\nallow_private = true\n"
    )
}

/// The delivery log, oldest first, once it has this many entries: an attempt is logged after the endpoint has
/// its answer.
async fn log(host: &TestHost, filter: &str, entries: usize) -> Vec<Value> {
    for _ in 0..600 {
        let page = host.get(&format!("{LOG}?size=200{filter}")).await.body;
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
    let failing = Speaker::new(|_| Err(ModelError::Refused("no".to_owned())));
    let open = Receiver::content().await;
    let with_content = Endpoint { include_content: true, ..open.endpoint("open") };
    let failed = TestHost::with_webhooks(failing, vec![all.endpoint("all"), with_content]).await;
    failed.run("x").await;
    let told = all.next().await;
    let data = told.verified()["data"].clone();
    assert_eq!((told.kind().as_str(), &data["status"]), ("run.failed", &json!("FAILED")));
    assert_eq!((&data["errorType"], &data["errorMessage"]), (&json!("model_error"), &Value::Null));
    let data = open.next().await.verified()["data"].clone();
    assert_eq!(data["errorMessage"], "the model provider refused the request: no");

    let host = host(gated(), vec![all.endpoint("all"), only]).await;
    let paused = host.run("x").await;
    host.cancel(&paused).await;
    let told = cancelled.next().await.verified();
    assert_eq!(told["type"], "run.cancelled", "not the pause before it");
    assert_eq!(
        (&told["data"]["status"], &told["data"]["cancelledBy"], &told["data"]["runId"]),
        (&json!("CANCELLED"), &json!("admin"), &paused["runId"])
    );
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
    host.clock.advance(Duration::from_mins(10));
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

    let again = host.post(&format!("{LOG}/{id}/redeliver"), &json!({})).await;
    assert_eq!((again.status, &again.body), (202, &json!({"eventId": id, "endpoints": ["hook"]})));
    assert_eq!(receiver.next().await.id(), id);
    assert_eq!(log(&host, "", 8).await[7]["state"], "DELIVERED");
    for unknown in ["evt_nothing/redeliver", &format!("{id}/redeliver?endpoint=other")] {
        let answer = host.post(&format!("{LOG}/{unknown}"), &json!({})).await;
        assert_eq!(
            (answer.status, &answer.body["type"]),
            (404, &json!("urn:problem-type:resource-not-found"))
        );
    }
}

/// The process dies right after the commit of a run's last event, before anybody can have read the outbox: the
/// receiver, which is there all the time, hears of it once, from the next process.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_before_kill_9_is_told_after_it() {
    let receiver = Receiver::content().await;
    let mut host = Process::start(&[], &file(&receiver.url)).await;
    host.run("Hello").await;
    assert_eq!(receiver.next().await.kind(), "run.completed");
    let database = host.folder.path().join("holdfast.db");
    let events = text(&database, "select cast(count(*) as text) from run_events").await.remove(0);
    delivered(&host, 1).await;

    host.restart_with(&[("HOLDFAST_TEST_KILL", &format!("after:{events}"))]).await;
    let body = json!({"message": "Hello again"});
    assert!(host.post("/api/agents/agent/runs", &body).await.is_err(), "it died before it answered");
    let waiting = "select event_id || ' ' || attempts from webhook_outbox where state = 'PENDING'";
    let [told] = &text(&database, waiting).await[..] else { panic!("one event is committed") };
    assert!(receiver.is_idle().await, "and not sent");

    host.restart().await;
    let delivery = receiver.next().await;
    assert_eq!(&format!("{} 0", delivery.id()), told);
    assert_eq!(delivery.kind(), "run.completed");
    assert_eq!(host.wait_for(&host.runs().await[1], &["COMPLETED"]).await["runId"], delivery.run());
    delivered(&host, 2).await;
    assert!(receiver.is_idle().await, "once");
}

/// The process dies while it waits to try again; the next one keeps the id, the count and the time.
#[tokio::test(flavor = "multi_thread")]
async fn a_wait_for_the_next_attempt_survives_kill_9() {
    let receiver = Receiver::start(|number, _| answer(if number == 1 { 503 } else { 200 })).await;
    let mut host = Process::start(&[], &file(&receiver.url)).await;
    host.run("Hello").await;
    let first = receiver.next().await;
    until("the failed attempt is logged", async || host.get(LOG).await.body["totalElements"] == 1).await;
    host.kill().await;
    assert!(receiver.is_idle().await);

    host.restart().await;
    let second = receiver.next().await;
    assert_eq!((second.id(), &second.text), (first.id(), &first.text));
    assert!(second.timestamp() >= first.timestamp() + 4, "the back-off is not cut short");
    second.verified();
    delivered(&host, 2).await;
    let log = host.get(LOG).await.body;
    assert_eq!((&log["content"][0]["attempt"], &log["content"][0]["statusCode"]), (&json!(2), &json!(200)));
}

/// Waits until so many attempts are logged and the last one succeeded.
async fn delivered(host: &Process, attempts: u64) {
    let logged = async || {
        let log = host.get(LOG).await.body;
        log["totalElements"] == attempts && log["content"][0]["state"] == "DELIVERED"
    };
    until("the delivery is logged", logged).await;
}

/// The process dies while a request is under way; the next one delivers the event, to an endpoint whose answer
/// never ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_kill_9_cut_off_is_sent_again() {
    let endless = Receiver::start(|_, _| {
        let body =
            axum::body::Body::from_stream(futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>());
        body.into_response()
    })
    .await;
    // Takes the connection and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/hook", silent.local_addr().expect("an address"));
    let mut host = Process::start(&[], &file(&url)).await;
    let run = host.run("Hello").await;
    let (mut connection, _) = silent.accept().await.expect("the first attempt");
    let mut request = String::new();
    while !request.contains("webhook-signature") {
        let mut bytes = [0; 4096];
        let read = connection.read(&mut bytes).await.expect("the first attempt's request");
        request.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    host.kill().await;
    drop(connection);

    let config = host.folder.path().join("holdfast.toml");
    let text = std::fs::read_to_string(&config).expect("the configuration file").replace(&url, &endless.url);
    std::fs::write(&config, text).expect("a configuration file");
    host.restart().await;
    let delivery = endless.next().await;
    assert_eq!((&delivery.run(), delivery.kind().as_str()), (&run["runId"], "run.completed"));
    assert!(request.contains(&format!("webhook-id: {}\r\n", delivery.id())), "the same id: {request}");
    delivered(&host, 1).await;
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

/// 410: nothing more is sent, and the log says so, until an admin wants it to be or the server starts again.
#[tokio::test]
async fn an_endpoint_that_is_gone_is_sent_nothing_until_somebody_asks_for_it() {
    let gone = Receiver::start(|number, _| answer(if number <= 2 { 410 } else { 200 })).await;
    let well = Receiver::content().await;
    let mut host = host(Script::new([say("done")]), vec![gone.endpoint("gone"), well.endpoint("well")]).await;
    host.run("first").await;
    let first = gone.next().await.id().to_owned();
    let logged = log(&host, "&endpoint=gone", 1).await;
    assert_eq!(
        (&logged[0]["statusCode"], &logged[0]["error"], &logged[0]["state"]),
        (&json!(410), &json!("gone"), &json!("DEAD"))
    );
    host.run("second").await;
    let logged = log(&host, "&endpoint=gone", 2).await;
    let withheld = &logged.iter().find(|entry| entry["eventId"] != first).expect("the second event");
    assert_eq!(
        (&withheld["statusCode"], &withheld["error"], &withheld["state"]),
        (&Value::Null, &json!("gone"), &json!("DEAD"))
    );
    assert!(gone.is_idle().await);
    well.next().await;
    well.next().await;

    host.restart().await;
    host.run("third").await;
    assert_ne!(gone.next().await.id(), first, "it is asked once more");
    log(&host, "&endpoint=gone", 3).await;
    let again = host.post(&format!("{LOG}/{first}/redeliver?endpoint=gone"), &json!({})).await;
    assert_eq!((again.status, &again.body["endpoints"]), (202, &json!(["gone"])));
    assert_eq!(gone.next().await.id(), first);
    log(&host, "&endpoint=gone", 4).await;
    host.run("fourth").await;
    gone.next().await;
    let logged = log(&host, "&endpoint=gone", 5).await;
    assert_eq!(logged.iter().filter(|entry| entry["state"] == "DELIVERED").count(), 3, "{logged:?}");
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
    rest.sort_by_key(Delivered::kind);
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
    let user = Caller::new(&host, Role::User, "default", "uwe").await;
    let admin = Caller::new(&host, Role::Admin, "default", "ada").await;
    let foreign = Caller::new(&host, Role::Admin, "acme", "olaf").await;
    assert_eq!(user.get(LOG).await.status, 403);
    assert_eq!(admin.get(LOG).await.body["totalElements"], 1);
    assert_eq!(foreign.get(LOG).await.body["totalElements"], 0);
    let path = format!("{LOG}/{id}/redeliver");
    assert_eq!(user.post(&path, &json!({})).await.status, 403);
    assert_eq!(foreign.post(&path, &json!({})).await.status, 404);
    assert_eq!(admin.post(&path, &json!({})).await.status, 202);
    assert_eq!(receiver.next().await.id(), id);
    let audited = admin.get("/api/admin/audit-logs?action=webhook.redelivered").await.body;
    assert_eq!(audited["totalElements"], 1, "who was refused did nothing: {audited}");
    let row = &audited["content"][0];
    assert_eq!(
        (&row["userId"], &row["objectType"], &row["objectId"], &row["details"]),
        (&json!("ada"), &json!("webhook"), &json!(id), &json!({"endpoints": ["hook"]}))
    );
    let large = host.get(&format!("{LOG}?size=201")).await;
    assert_eq!((large.status, &large.body["invalidParams"][0]["field"]), (400, &json!("size")));
}

/// Old events go with their log; what waits for an endpoint is never too old.
#[tokio::test]
async fn deliveries_are_forgotten_after_seven_days() {
    let (receiver, down) = (Receiver::content().await, Receiver::start(|_, _| answer(503)).await);
    let mut host =
        host(Script::new([say("done")]), vec![receiver.endpoint("hook"), down.endpoint("down")]).await;
    host.run("x").await;
    let id = receiver.next().await.id().to_owned();
    down.next().await;
    log(&host, "", 2).await;
    host.stop().await;
    host.clock.advance(7 * 24 * HOUR);
    host.restart().await;
    assert_eq!(down.next().await.id(), id);
    log(&host, "&endpoint=hook", 1).await;

    host.stop().await;
    host.clock.advance(HOUR);
    host.restart().await;
    down.next().await;
    until("it is forgotten", async || {
        host.get(&format!("{LOG}?endpoint=hook")).await.body["totalElements"] == 0
    })
    .await;
    log(&host, "&endpoint=down", 3).await;
    let again = host.post(&format!("{LOG}/{id}/redeliver?endpoint=hook"), &json!({})).await;
    assert_eq!(again.status, 404);
}

/// The secret, and what the URL has behind its host, are in no log line, no answer and no dump of the settings.
#[tokio::test(flavor = "multi_thread")]
async fn secrets_stay_where_they_are() {
    let receiver = Receiver::start(|number, _| answer(if number == 1 { 500 } else { 410 })).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = format!("{}?token=do-not-tell", receiver.url);
    let config = format!("listen = \"127.0.0.1:0\"\ndatabase = \"sqlite://holdfast.db\"\n{}", file(&url));
    std::fs::write(folder.path().join("holdfast.toml"), config).expect("a configuration file");
    let log = std::fs::File::create(folder.path().join("log")).expect("a file");
    let environment =
        [("HOOK_SECRET", HOOK_SECRET), ("HOLDFAST_ADMIN_TOKEN", ADMIN), ("HOLDFAST_LOG", "trace")];
    let server = Server::launch_logging(folder.path(), &["serve"], &environment, Stdio::from(log)).await;
    let client = reqwest::Client::new();
    let path = "/api/agents/agent/runs";
    let run = client.post(format!("{}{path}", server.url)).bearer_auth(ADMIN).json(&json!({"message": "Hi"}));
    for _ in 0..2 {
        run.try_clone().expect("no stream").send().await.expect("an answer");
        receiver.next().await;
    }
    let mut said = format!("{:?}", receiver.endpoint("hook").secret);
    for path in [LOG, "/api/admin/audit-logs", "/openapi.json"] {
        let answer = client.get(format!("{}{path}", server.url)).bearer_auth(ADMIN).send().await;
        said.push_str(&answer.expect("an answer").text().await.expect("text"));
    }
    drop(server);
    said.push_str(&std::fs::read_to_string(folder.path().join("log")).expect("the log"));
    assert!(said.contains("webhook.id") && said.contains("statusCode"), "{said}");
    let secret = HOOK_SECRET.trim_start_matches("whsec_");
    for word in [secret, "do-not-tell"] {
        assert!(!said.contains(word), "{word}");
    }
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
