//! What a guest does not get: other people's values. The machine is in the hostile corpus.

use holdfast::key::Role;
use serde_json::json;

use crate::support::host::ONE_AGENT;
use crate::support::{Caller, Script, TestHost, call, say};

/// The same plugin with the grant stores values; without it, it does not load (`load_refusals`). With it,
/// a user's values are that user's alone.
#[tokio::test(flavor = "multi_thread")]
async fn notes_are_their_users_alone() {
    let model = Script::new([call("notes__add", json!({"text": "mine"})), say("done")]);
    let host = TestHost::start(&["notes"], ONE_AGENT, model).await;
    let as_user = async |user: &str, org: Option<&str>| {
        let body = json!({"message": "note", "userId": user, "orgId": org});
        let answer = host.post("/api/agents/agent/runs", &body).await;
        let output = answer.body["tools"][0]["toolOutput"].as_str();
        output.map_or_else(|| panic!("{answer:?}"), str::to_owned)
    };
    assert_eq!(as_user("ann", None).await, "Saved as note 1.");
    assert_eq!(as_user("ann", None).await, "Saved as note 2.");
    assert_eq!(as_user("bob", None).await, "Saved as note 1.", "another user starts from nothing");
    assert_eq!(as_user("ann", Some("other")).await, "Saved as note 1.", "so does the same name elsewhere");
}

/// The deny twin of every test that uses kv: what was not granted is refused by name.
#[tokio::test(flavor = "multi_thread")]
async fn kv_without_a_grant_is_not_there() {
    let config = ONE_AGENT.replace("[plugins.probe.grants]\nkv = true", "[plugins.probe.grants]\nkv = false");
    assert_ne!(config, ONE_AGENT);
    let host = TestHost::start(&["probe"], &config, Script::new([say("done")])).await;
    let plugins = host.get("/api/plugins").await.body;
    assert_eq!(plugins[0]["state"], "waiting");
    let hint = "it imports `holdfast:plugin/kv@0.1.0`: grant it with `holdfast plugin grant probe`, \
                or `kv = true` in [plugins.probe.grants]";
    assert_eq!(plugins[0]["error"], hint);
    assert_eq!(host.get("/api/tools").await.body, json!([]));
}

/// Each row keeps a value under the same key; who reads it there, and who reads nothing.
#[tokio::test(flavor = "multi_thread")]
async fn each_scope_ends_where_it_says() {
    let host = TestHost::start(&["probe"], &demo(), Script::new([say("unused")])).await;
    let [ann, bob, eve] = [
        Caller::new(&host, Role::User, "acme", "ann").await,
        Caller::new(&host, Role::User, "acme", "bob").await,
        Caller::new(&host, Role::User, "other", "eve").await,
    ];
    let (one, two) = (Some(SESSIONS[0]), Some(SESSIONS[1]));
    // The scope; and whether bob, eve, and ann in another session read what ann kept in the first one.
    for (scope, [by_bob, by_eve, by_ann]) in
        [("plugin", [true, false, true]), ("user", [false, false, true]), ("session", [false, false, false])]
    {
        ask(&ann, &format!("probe__remember scope={scope} key=k value=kept-by-{scope}"), one).await;
        let recall = format!("probe__recall scope={scope} key=k");
        let read = async |caller: &Caller<'_>, session| {
            let text = ask(caller, &recall, session).await;
            assert!(text == "nothing" || text == format!("kept-by-{scope}"), "{text}");
            text != "nothing"
        };
        assert!(read(&ann, one).await, "{scope}: she herself");
        assert_eq!(read(&ann, two).await, by_ann, "{scope}: in another session");
        assert_eq!(read(&bob, None).await, by_bob, "{scope}: another user");
        assert_eq!(read(&eve, None).await, by_eve, "{scope}: another organisation");
    }
    let body = json!({"message": "probe__recall scope=session key=k", "sessionId": SESSIONS[0]});
    for stranger in [&bob, &eve] {
        let answer = stranger.post("/api/agents/agent/runs", &body).await;
        assert_eq!(answer.status, 404, "another's session: {answer:?}");
    }
}

/// The same user name in another organisation is another user.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_means_somebody_else_in_another_organisation() {
    let host = TestHost::start(&["probe"], &demo(), Script::new([say("unused")])).await;
    let as_ann_of = async |org: &str, message: &str| {
        let body = json!({"message": message, "userId": "ann", "orgId": org});
        let answer = host.post("/api/agents/agent/runs", &body).await;
        answer.body["tools"][0]["toolOutput"].as_str().expect("a text").to_owned()
    };
    as_ann_of("acme", "probe__remember scope=user key=k value=secret").await;
    assert_eq!(as_ann_of("acme", "probe__recall scope=user key=k").await, "secret");
    assert_eq!(as_ann_of("other", "probe__recall scope=user key=k").await, "nothing");
}

const SESSIONS: [&str; 2] = ["6b2a5a3e-2f0e-4a3c-9d0e-000000000001", "6b2a5a3e-2f0e-4a3c-9d0e-000000000002"];

/// The built-in model: it calls the tool that a message names, with the values in it.
fn demo() -> String {
    ONE_AGENT.replace("script::v1", "demo")
}

/// What the one tool answered that the message names.
async fn ask(caller: &Caller<'_>, message: &str, session: Option<&str>) -> String {
    let body = json!({"message": message, "sessionId": session});
    let answer = caller.post("/api/agents/agent/runs", &body).await;
    assert_eq!((answer.status, &answer.body["status"]), (200, &json!("COMPLETED")), "{answer:?}");
    assert_eq!(answer.body["tools"].as_array().map(Vec::len), Some(1), "{answer:?}");
    answer.body["tools"][0]["toolOutput"].as_str().expect("a text").to_owned()
}
