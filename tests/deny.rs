//! What a guest does not get: the machine, and other people's values.

use serde_json::{Value, json};

use crate::support::host::ONE_AGENT;
use crate::support::{Script, TestHost, call, say};

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_sees_nothing_of_the_machine() {
    let host = TestHost::with_probe(Script::new([call("probe__env", json!({})), say("done")])).await;
    let run = host.run("look").await;
    let text = run["tools"][0]["toolOutput"].as_str().expect("a text");
    let seen: Value = serde_json::from_str(text).expect("JSON");
    assert_eq!((&seen["variables"], &seen["args"]), (&json!([]), &json!([])), "{seen}");
    // Every field that is a text says how an attempt ended.
    let attempts = seen.as_object().expect("an object").iter().filter(|(_, value)| value.is_string());
    let mut count = 0;
    for (attempt, ended) in attempts {
        assert!(ended.as_str().is_some_and(|ended| ended.starts_with("refused: ")), "{attempt}: {ended}");
        count += 1;
    }
    assert!(count >= 4, "{seen}");
}

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
