//! What a guest cannot reach: the machine, and what others keep.

use expect_test::expect;
use serde_json::{Value, json};

use crate::support::host::ONE_AGENT;
use crate::support::{Caller, Script, TestHost, call, say};

/// The server has an environment, arguments, files and a network; the guest sees none of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_sees_nothing_of_the_machine() {
    let model = Script::new([call("probe__env", json!({})), say("done")]);
    let host = TestHost::with_probe(model).await;
    let run = host.run("go").await;
    assert_eq!(run["tools"][0]["outcome"], "ok");
    let text = run["tools"][0]["toolOutput"].as_str().expect("a text");
    let seen: Value = serde_json::from_str(text).expect("JSON");
    expect![[r#"
        {
          "args": [],
          "connect": "refused: access-denied",
          "lookup": "refused: permanent-resolver-failure",
          "read_root": "refused: Capabilities insufficient (os error 76)",
          "variables": [],
          "write_file": "refused: Capabilities insufficient (os error 76)"
        }"#]].assert_eq(&format!("{seen:#}"));
}

/// The twin of every test here that uses kv: what was not granted is not linked.
#[tokio::test(flavor = "multi_thread")]
async fn kv_without_a_grant_is_refused_by_name() {
    let config = ONE_AGENT.replace("[plugins.probe.grants]\nkv = true", "[plugins.probe.grants]\nkv = false");
    assert_ne!(config, ONE_AGENT);
    let host = TestHost::start(&["probe"], &config, Script::new([say("done")])).await;
    let plugins = host.get("/api/plugins").await.body;
    assert_eq!(plugins[0]["state"], "failed");
    assert_eq!(
        plugins[0]["error"],
        "it imports `holdfast:plugin/kv@0.1.0`: grant it with `kv = true` in [plugins.probe.grants]"
    );
    assert_eq!(host.get("/api/tools").await.body, json!([]));
}

/// Two users and another organisation keep a value under one key; each reads its own.
#[tokio::test(flavor = "multi_thread")]
async fn users_and_organisations_keep_their_values_apart() {
    let host = TestHost::start(&["probe", "notes"], &demo(), Script::new([say("unused")])).await;
    let ann = Caller::create(&host, "user", "ann", "default").await;
    let bob = Caller::create(&host, "user", "bob", "default").await;
    let other_ann = Caller::create(&host, "user", "ann", "elsewhere").await;
    let recall = "probe__recall scope=user key=k";
    for (caller, value) in [(&ann, "of-ann"), (&bob, "of-bob"), (&other_ann, "of-the-other-ann")] {
        assert!(answer(caller, recall, None).await.contains("nothing"), "{value}: nobody else's");
        answer(caller, &format!("probe__remember scope=user key=k value={value}"), None).await;
    }
    for (caller, value) in [(&ann, "of-ann"), (&bob, "of-bob"), (&other_ann, "of-the-other-ann")] {
        let read = answer(caller, recall, None).await;
        assert!(read.ends_with(&format!(": {value}")), "{read}");
    }

    answer(&ann, "Add a note: the door code is 1234", None).await;
    assert!(answer(&ann, "List my notes", None).await.contains("1234"));
    for stranger in [&bob, &other_ann] {
        assert!(!answer(stranger, "List my notes", None).await.contains("1234"));
        assert!(!answer(stranger, "Search notes for door", None).await.contains("1234"));
        assert!(!answer(stranger, "Read note 1", None).await.contains("1234"));
    }
}

/// What a plugin shares among users it shares inside one organisation only.
#[tokio::test(flavor = "multi_thread")]
async fn the_plugin_scope_ends_at_the_organisation() {
    let host = TestHost::start(&["probe"], &demo(), Script::new([say("unused")])).await;
    let ann = Caller::create(&host, "user", "ann", "default").await;
    let bob = Caller::create(&host, "user", "bob", "default").await;
    let stranger = Caller::create(&host, "user", "ann", "elsewhere").await;
    answer(&ann, "probe__remember scope=plugin key=k value=shared", None).await;
    let recall = "probe__recall scope=plugin key=k";
    assert!(answer(&bob, recall, None).await.ends_with(": shared"));
    assert!(answer(&stranger, recall, None).await.ends_with(": nothing"));
}

/// A value of a session is for that session, of the same user.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_keep_their_values_apart() {
    let host = TestHost::start(&["probe"], &demo(), Script::new([say("unused")])).await;
    let ann = Caller::create(&host, "user", "ann", "default").await;
    let (first, second) = ("6b2a5a3e-2f0e-4a3c-9d0e-000000000001", "6b2a5a3e-2f0e-4a3c-9d0e-000000000002");
    answer(&ann, "probe__remember scope=session key=k value=here", Some(first)).await;
    let recall = "probe__recall scope=session key=k";
    assert!(answer(&ann, recall, Some(first)).await.ends_with(": here"));
    assert!(answer(&ann, recall, Some(second)).await.ends_with(": nothing"));
    assert!(answer(&ann, "probe__recall scope=user key=k", Some(first)).await.ends_with(": nothing"));

    let bob = Caller::create(&host, "user", "bob", "default").await;
    let foreign = bob.post("/api/agents/agent/runs", json!({"message": recall, "sessionId": first})).await;
    assert_eq!(foreign.status, 404, "{foreign:?}");
}

/// The demo model: it calls what a message names, with the values in it.
fn demo() -> String {
    ONE_AGENT.replace("script::v1", "demo")
}

async fn answer(caller: &Caller, message: &str, session: Option<&str>) -> String {
    let body = json!({"message": message, "sessionId": session});
    let answer = caller.post("/api/agents/agent/runs", body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.body["status"], "COMPLETED", "{answer:?}");
    assert_eq!(answer.body["tools"].as_array().map(Vec::len), Some(1), "{answer:?}");
    answer.body["content"].as_str().expect("a text").to_owned()
}
