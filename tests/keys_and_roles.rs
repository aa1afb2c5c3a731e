//! Who may do what: keys from the command line, roles, tenants.

use std::path::Path;
use std::process::{Command, Output};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::host::ONE_AGENT;
use crate::support::{Answer, Script, TestHost, call, say};

/// `holdfast ARGS` with this database.
fn holdfast(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_holdfast"))
        .args(args)
        .current_dir(folder)
        .env("HOLDFAST_DATABASE_URL", "sqlite://holdfast.db")
        .env_remove("HOLDFAST_ADMIN_TOKEN")
        .output()
        .expect("it runs")
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn key(host: &TestHost, role: &str, user: &str, org: &str) -> String {
    text(&holdfast(
        host.folder(),
        &["key", "create", "--role", role, "--user", user, "--org", org, "--label", "a test's"],
    ))
}

async fn ask(host: &TestHost, token: &str, method: Method, path: &str, body: &Value) -> Answer {
    let request = reqwest::Client::new().request(method, format!("{}{path}", host.url)).bearer_auth(token);
    host.send(if body.is_null() { request } else { request.json(body) }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_made_listed_and_revoked_beside_a_running_server() {
    let host = TestHost::start(&[], ONE_AGENT, Script::new([say("hello")])).await;
    let token = key(&host, "user", "ann", "acme");
    assert!(token.starts_with("hf_") && token.len() > 40, "{token}");
    let run = ask(&host, &token, Method::POST, "/api/agents/agent/runs", &json!({"message": "x"})).await;
    assert_eq!(run.status, 200, "{run:?}");
    let path = format!("/api/agents/agent/runs/{}", run.body["runId"].as_str().expect("an id"));
    let read = ask(&host, &token, Method::GET, &path, &Value::Null).await.body;
    assert_eq!((&read["userId"], &read["orgId"]), (&json!("ann"), &json!("acme")));

    let list = text(&holdfast(host.folder(), &["key", "list"]));
    assert!(
        list.contains("ann") && list.contains("acme") && list.contains("a test's") && !list.contains(&token),
        "{list}"
    );
    let stored = std::fs::read(host.folder().join("holdfast.db")).expect("the database");
    let journal = std::fs::read(host.folder().join("holdfast.db-wal")).unwrap_or_default();
    for bytes in [stored, journal] {
        assert!(
            !bytes.windows(token.len()).any(|window| window == token.as_bytes()),
            "tokens are hashed at rest"
        );
    }
    let id = list.lines().nth(1).and_then(|line| line.split_whitespace().next()).expect("an id");
    text(&holdfast(host.folder(), &["key", "revoke", id]));
    assert_eq!(ask(&host, &token, Method::GET, &path, &Value::Null).await.status, 401, "at once");
    assert!(!holdfast(host.folder(), &["key", "revoke", id]).status.success(), "twice is said to be twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_and_tenants() {
    let model = Script::new([call("probe__effect", json!({"key": "k"})), say("done")]);
    let host = TestHost::with_probe(model).await;
    let [ann, bob, boss, admin, other] = [
        key(&host, "user", "ann", "acme"),
        key(&host, "user", "bob", "acme"),
        key(&host, "approver", "boss", "acme"),
        key(&host, "admin", "root", "acme"),
        key(&host, "admin", "root", "other"),
    ];
    let runs = "/api/agents/agent/runs";
    let run = async |token: &str, body: Value| ask(&host, token, Method::POST, runs, &body).await;
    // Naming oneself is no privilege; naming somebody else is.
    assert_eq!(run(&ann, json!({"message": "x", "userId": "ann", "orgId": "acme"})).await.status, 200);
    assert_eq!(run(&ann, json!({"message": "x", "userId": "bob"})).await.status, 403);
    assert_eq!(run(&boss, json!({"message": "x", "userId": "bob"})).await.status, 403);
    assert_eq!(run(&admin, json!({"message": "x", "userId": "bob"})).await.status, 200);
    assert_eq!(run(&admin, json!({"message": "x", "orgId": "other"})).await.status, 403);
    assert_eq!(
        run(crate::support::host::ADMIN, json!({"message": "x", "orgId": "other", "userId": "z"}))
            .await
            .status,
        200
    );

    let paused = run(&ann, json!({"message": "x"})).await.body;
    let one = format!("{runs}/{}", paused["runId"].as_str().expect("an id"));
    let resume = format!("{one}/continue");
    let approve = json!({"action": "APPROVE"});
    let nothing = Value::Null;
    let table = [
        (&bob, Method::GET, &one, &nothing, 404),
        (&other, Method::GET, &one, &nothing, 404),
        (&boss, Method::GET, &one, &nothing, 200),
        (&ann, Method::GET, &one, &nothing, 200),
        (&bob, Method::POST, &resume, &approve, 403),
        (&other, Method::POST, &resume, &approve, 404),
        (&bob, Method::DELETE, &one, &nothing, 403),
        (&boss, Method::DELETE, &one, &nothing, 403),
        (&other, Method::DELETE, &one, &nothing, 404),
        (&boss, Method::POST, &resume, &approve, 200),
        (&ann, Method::DELETE, &one, &nothing, 204),
    ];
    for (index, (token, method, path, body, status)) in table.into_iter().enumerate() {
        let answer = ask(&host, token, method, path, body).await;
        assert_eq!(answer.status, status, "row {index}: {answer:?}");
    }
    assert_eq!(host.effects("k").await, 1);

    let agent = "/api/agents/agent";
    assert!(ask(&host, &ann, Method::GET, agent, &nothing).await.body["instructions"].is_null());
    assert!(ask(&host, &admin, Method::GET, agent, &nothing).await.body["instructions"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_door_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = holdfast(folder.path(), &["serve", "--listen", "0.0.0.0:0"]);
    assert!(!open.status.success());
    let said = String::from_utf8_lossy(&open.stderr).into_owned();
    assert!(
        said.contains("refusing to listen on 0.0.0.0:0") && said.contains("holdfast key create"),
        "{said}"
    );
    let weak = Command::new(env!("CARGO_BIN_EXE_holdfast"))
        .args(["serve", "--listen", "127.0.0.1:0"])
        .current_dir(folder.path())
        .env("HOLDFAST_ADMIN_TOKEN", "short")
        .output()
        .expect("it runs");
    assert!(
        !weak.status.success() && String::from_utf8_lossy(&weak.stderr).contains("16 characters"),
        "{weak:?}"
    );
}

/// With a token or a key there is no open door, and the server may listen where others can reach it.
#[tokio::test(flavor = "multi_thread")]
async fn a_locked_door_may_face_the_street() {
    let folder = tempfile::tempdir().expect("a folder");
    let args = ["serve", "--listen", "0.0.0.0:0", "--database", "sqlite://holdfast.db"];
    let token = ("HOLDFAST_ADMIN_TOKEN", "sixteen-letters-and-more");
    let server = crate::support::server::Server::launch(folder.path(), &args, &[token]).await;
    let url = server.url.replace("0.0.0.0", "127.0.0.1");
    let status = async |token: &str| {
        let request = reqwest::Client::new().get(format!("{url}/api/agents")).bearer_auth(token);
        request.send().await.expect("an answer").status().as_u16()
    };
    assert_eq!(status(token.1).await, 200);
    assert_eq!(status("sixteen-letters-and-mor").await, 401);
    drop(server);

    let key = text(&holdfast(folder.path(), &["key", "create", "--user", "ann"]));
    let server = crate::support::server::Server::launch(folder.path(), &args, &[]).await;
    let url = server.url.replace("0.0.0.0", "127.0.0.1");
    let request = reqwest::Client::new().get(format!("{url}/api/agents")).bearer_auth(&key);
    assert_eq!(request.send().await.expect("an answer").status(), 200, "a key is a lock, too");

    drop(server);
    let list = text(&holdfast(folder.path(), &["key", "list"]));
    let id = list.lines().nth(1).and_then(|line| line.split_whitespace().next()).expect("an id");
    text(&holdfast(folder.path(), &["key", "revoke", id]));
    let open = holdfast(folder.path(), &["serve", "--listen", "[::]:0"]);
    assert!(String::from_utf8_lossy(&open.stderr).contains("refusing to listen on [::]:0"), "{open:?}");
}
