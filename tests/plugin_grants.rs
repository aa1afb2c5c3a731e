//! What a plugin may reach is the operator's word about one version of it. An update that asks for more waits, and
//! the version before it serves on.

use expect_test::expect;
use holdfast::key::Role;
use serde_json::{Value, json};

use crate::support::process::Process;
use crate::support::versions::{digest, version};
use crate::support::{Caller, Script, TestHost, call, say};

/// Without a grant in the configuration.
const AGENT: &str = "[[agents]]\nid = \"agent\"\nmodel = \"script::v1\"\ntools = [\"*\"]\n";

const USER: &str = "kv = { scopes = [\"user\"], reason = \"to remember your towns\" }";
const ALL: &str = "kv = { scopes = [\"plugin\", \"user\", \"session\"], reason = \"to share them\" }";

fn probe(number: &str, requests: &str) -> Vec<u8> {
    version("probe", "probe", number, requests)
}

/// `remember` in the scope `user`, whether it may.
async fn remembers(host: &TestHost) -> Value {
    host.run("go").await["tools"][0]["outcome"].clone()
}

async fn host() -> TestHost {
    let what = json!({"scope": "user", "key": "k", "value": "v"});
    TestHost::start(&[], AGENT, Script::new([call("probe__remember", what), say("done")])).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_plugin_waits_and_an_update_that_asks_for_more_does_while_the_old_one_serves() {
    let mut host = host().await;
    let first = probe("1.0.0", USER);
    let answer = host.install("probe", first.clone()).await;
    assert_eq!((answer.status, &answer.body["state"]), (201, &json!("waiting")), "{answer:?}");
    assert_eq!((&answer.body["digest"], host.get("/api/tools").await.body), (&Value::Null, json!([])));

    let grant = json!({"digest": digest(&first)});
    let granted = host.post("/api/admin/plugins/probe/grants", &grant).await;
    assert_eq!((granted.status, &granted.body["state"]), (200, &json!("loaded")), "{granted:?}");
    assert_eq!(remembers(&host).await, "ok");

    // Asks for no more: the decision holds for it, too.
    let second = probe("1.0.1", USER);
    let answer = host.install("probe", second.clone()).await;
    assert_eq!((answer.status, &answer.body["state"]), (200, &json!("loaded")), "{answer:?}");
    assert_eq!(answer.body["digest"], digest(&second));
    assert_eq!(remembers(&host).await, "ok");

    // Asks for more.
    let third = probe("2.0.0", ALL);
    host.drop_in("probe", &third);
    let waits = host.plugin_once("probe", |plugin| plugin["state"] == "waiting").await;
    assert_eq!(
        (&waits["digest"], &waits["waiting"]["digest"]),
        (&json!(digest(&second)), &json!(digest(&third)))
    );
    expect![[r#"it waits for your decision, because it wants to keep values that all users of an organisation share (kv, scope plugin), "to share them"; keep values of each session (kv, scope session), "to share them". `holdfast plugin grant probe` shows what it asks for and grants it; so does [plugins.probe.grants] in the configuration"#]].assert_eq(waits["error"].as_str().expect("words"));
    let words = json!({"already": waits["already"], "added": waits["added"], "dropped": waits["dropped"]});
    expect![[r#"
        {
          "already": [
            "keep values of each user (kv, scope user), \"to share them\""
          ],
          "added": [
            "keep values that all users of an organisation share (kv, scope plugin), \"to share them\"",
            "keep values of each session (kv, scope session), \"to share them\""
          ],
          "dropped": []
        }"#]]
    .assert_eq(&format!("{words:#}"));
    assert_eq!(remembers(&host).await, "ok", "the version before serves");
    host.restart().await;
    assert_eq!(host.plugin("probe").await["digest"], digest(&second), "after a restart, too");
    assert_eq!(remembers(&host).await, "ok");

    // A decision names what it is about.
    let about_the_old =
        host.post("/api/admin/plugins/probe/grants", &json!({"digest": digest(&second)})).await;
    assert_eq!(
        (about_the_old.status, &about_the_old.body["type"]),
        (409, &json!("urn:problem-type:plugin-changed"))
    );
    let only = json!({"digest": digest(&third), "only": ["kv:session"]});
    let granted = host.post("/api/admin/plugins/probe/grants", &only).await.body;
    assert_eq!(
        (&granted["state"], &granted["digest"]),
        (&json!("loaded"), &json!(digest(&third))),
        "{granted}"
    );
    assert_eq!(
        granted["grants"]["kv"]["scopes"],
        json!(["user", "session"]),
        "what it had and what was named"
    );

    // What was refused is not asked for again and again.
    let fourth = probe("2.0.1", ALL);
    let answer = host.install("probe", fourth.clone()).await.body;
    assert_eq!(
        (&answer["state"], &answer["grants"]["kv"]["scopes"]),
        (&json!("loaded"), &json!(["user", "session"]))
    );
    let log = host.get("/api/admin/audit-logs?objectType=plugin&size=50").await.body;
    let rows: Vec<String> = log["content"]
        .as_array()
        .expect("rows")
        .iter()
        .rev()
        .map(|row| {
            format!(
                "{} {}",
                row["userId"].as_str().unwrap_or_default(),
                row["action"].as_str().unwrap_or_default()
            )
        })
        .collect();
    expect![[r"
        admin plugin.installed
        admin plugin.granted
        admin plugin.installed
        system plugin.granted
        admin plugin.granted
        admin plugin.installed
        system plugin.granted"]]
    .assert_eq(&rows.join("\n"));

    // Taken back: it waits, and nothing serves in its place.
    let grant = format!("/api/admin/plugins/probe/grants/{}", digest(&fourth));
    assert_eq!(host.delete(&grant).await.status, 204);
    assert_eq!(host.delete(&grant).await.status, 404);
    let after = host.plugin("probe").await;
    assert_eq!((&after["state"], &after["digest"]), (&json!("waiting"), &Value::Null), "{after}");
    host.restart().await;
    assert_eq!(host.plugin("probe").await["digest"], Value::Null);
}

/// Nothing but an admin of the installation can decide, and bad requests change nothing.
#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_decide_and_what_is_no_decision() {
    let host = host().await;
    let bytes = probe("1.0.0", USER);
    host.install("probe", bytes.clone()).await;
    let path = "/api/admin/plugins/probe/grants";
    let grant = json!({"digest": digest(&bytes)});
    for (role, org) in [(Role::User, "default"), (Role::Approver, "default"), (Role::Admin, "acme")] {
        let caller = Caller::new(&host, role, org, &format!("{role:?}-{org}").to_lowercase()).await;
        assert_eq!(caller.post(path, &grant).await.status, 403, "{role:?} of {org}");
        assert_eq!(caller.get("/api/admin/plugins/probe").await.status, 403, "{role:?} of {org}");
    }
    let table = [
        (json!({"digest": "sha256:12"}), 400, "digest"),
        (json!({"digest": digest(&bytes), "only": ["kv:plugin"]}), 400, "kv:user"),
        (json!({}), 400, "digest"),
        (json!({"digest": digest(b"another")}), 409, "installed"),
    ];
    for (body, status, word) in table {
        let answer = host.post(path, &body).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.body.to_string().contains(word), "{answer:?}");
    }
    assert_eq!(host.post("/api/admin/plugins/nobody/grants", &grant).await.status, 404);
    assert_eq!(host.plugin("probe").await["state"], "waiting");
    let admin = Caller::new(&host, Role::Admin, "default", "root").await;
    assert_eq!(admin.post(path, &grant).await.status, 200);
}

/// The command line beside a running server, and what an operator reads there.
#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_shows_the_difference_and_a_running_server_takes_it_up() {
    let mut process =
        Process::start(&[], "[[agents]]\nid = \"agent\"\nmodel = \"demo\"\ntools = [\"*\"]\n").await;
    let file = process.folder.path().join("build.wasm");
    let first = probe("1.0.0", USER);
    std::fs::write(&file, &first).expect("a file");
    let (told, _) = process.holdfast(&["plugin", "install", "build.wasm"]).await;
    assert!(told.contains("It waits until you grant"), "{told}");
    let (_, refused) = process.holdfast(&["plugin", "install", "build.wasm"]).await;
    assert!(refused.contains("--replace"), "{refused}");
    let state = async |process: &Process| process.get("/api/admin/plugins/probe").await.body["state"].clone();
    crate::support::until("it waits", async || state(&process).await == "waiting").await;

    let (shown, refused) = process.holdfast(&["plugin", "grant", "probe"]).await;
    assert!(refused.contains("say --yes"), "nobody can be asked: {refused}");
    expect![[r#"
        probe 1.0.0
        sha256:…

        It asks to, in addition:
          + keep values of each user (kv, scope user), "to remember your towns"

        What stands in quotes is what its author says.
    "#]]
    .assert_eq(&shown.replace(&digest(&first), "sha256:…"));
    assert_eq!(state(&process).await, "waiting", "nothing was granted");
    process.holdfast(&["plugin", "grant", "probe", "--yes"]).await;
    crate::support::until("it serves", async || state(&process).await == "loaded").await;

    let next = probe(
        "2.0.0",
        "kv = [\"session\"]\nhttp = [{ host = \"api.example\", reason = \"to \\u001b[31mlie\" }]",
    );
    std::fs::write(&file, &next).expect("a file");
    process.holdfast(&["plugin", "install", "build.wasm", "--replace"]).await;
    let (shown, _) = process.holdfast(&["plugin", "grant", "probe", "--only", "kv", "--yes"]).await;
    expect![[r#"
        probe 2.0.0
        sha256:…

        It asks to, in addition:
          + keep values of each session (kv, scope session)
          + send GET, HEAD requests to https://api.example, "to \u{1b}[31mlie"

        It does not ask any more to:
          - keep values of each user (kv, scope user), "to remember your towns"

        What stands in quotes is what its author says.
        Granted. A running server takes it up within a second or two.
    "#]]
    .assert_eq(&shown.replace(&digest(&next), "sha256:…"));
    let (list, _) = process.holdfast(&["plugin", "list"]).await;
    let lines: Vec<&str> = list
        .lines()
        .take_while(|line| !line.is_empty())
        .map(|line| line.split("  effect").next().unwrap_or(line))
        .collect();
    expect![[r"
        probe            loaded   …  2.0.0
                         may keep values of each session (kv, scope session)
                         limits: 64 MiB of memory, 30000 ms, of which 10000 ms of CPU, 16 calls at once"]]
    .assert_eq(&lines.join("\n").replace(&digest(&next)[7..19], "…"));

    let (told, _) = process.holdfast(&["plugin", "revoke", "probe", "--reason", "it phones home"]).await;
    assert!(told.contains("Revoked probe"), "{told}");
    crate::support::until("it is stopped", async || state(&process).await == "revoked").await;
    let (_, refused) = process.holdfast(&["plugin", "grant", "probe", "--yes"]).await;
    assert!(refused.contains("revoked"), "{refused}");
    process.kill().await;
    process.restart().await;
    assert_eq!(state(&process).await, "revoked");
    let (told, _) = process.holdfast(&["plugin", "remove", "probe"]).await;
    assert!(told.contains("Removed probe"), "{told}");
    let list = async || process.get("/api/plugins").await.body;
    crate::support::until("it is gone", async || list().await == json!([])).await;
}
