//! An approval may change the arguments: the edit is checked, executed, and both versions are kept.

use serde_json::{Value, json};

use crate::support::process::text;
use crate::support::{Script, TestHost, call, calls, say};

#[tokio::test(flavor = "multi_thread")]
async fn the_edit_is_executed_and_both_versions_are_kept() {
    let model = Script::new([call("probe__effect", json!({"key": "model"})), say("done")]);
    let host = TestHost::with_probe(model.clone()).await;
    let paused = host.run("go").await;

    let answer = host.resume(&paused, json!({"action": "APPROVE", "arguments": {"key": "human"}})).await;

    assert_eq!((answer.status, &answer.body["status"]), (200, &json!("COMPLETED")), "{answer:?}");
    assert_eq!((host.effects("model").await, host.effects("human").await), (0, 1));
    assert_eq!(answer.body["tools"][0]["toolInput"], r#"{"key":"human"}"#);
    let seen = format!("{:?}", model.requests()[1].messages);
    assert!(
        seen.contains("human") && !seen.contains(r#"\"model\""#),
        "the model sees what was executed: {seen}"
    );
    let database = host.folder().join("holdfast.db");
    let row = "select arguments || ' -> ' || edited_arguments || ' by ' || resolved_by from approvals";
    assert_eq!(text(&database, row).await, [r#"{"key":"model"} -> {"key":"human"} by admin"#]);
    let replied =
        text(&database, "select body from run_events where kind = 'replied' order by seq limit 1").await;
    assert!(replied[0].contains("model"), "the journal keeps what the model wrote: {replied:?}");
}

/// Who writes the call's own arguments into the approval approves the call, and says the same as who does not.
#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_changes_nothing_is_an_approval() {
    let host =
        TestHost::with_probe(Script::new([call("probe__effect", json!({"key": "k"})), say("done")])).await;
    for round in 1..=2 {
        let paused = host.run("go").await;
        let id = &paused["metadata"]["requiredAction"]["approvalId"];
        let plain = json!({"action": "APPROVE", "approvalId": id});
        let same = json!({"action": "APPROVE", "approvalId": id, "arguments": {"key": "k"}});
        let ways = if round == 1 { [&same, &plain, &same] } else { [&plain, &same, &plain] };
        for way in ways {
            let answer = host.resume(&paused, way.clone()).await;
            assert_eq!((answer.status, &answer.body["status"]), (200, &json!("COMPLETED")), "{answer:?}");
        }
        let other = json!({"action": "APPROVE", "approvalId": id, "arguments": {"key": "other"}});
        assert_eq!(host.resume(&paused, other).await.status, 409);
        assert_eq!(host.effects("k").await, round);
    }
    let edits = "select edited_arguments from approvals";
    assert_eq!(host.texts(edits).await, ["", ""], "nothing was edited");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_edit_is_refused_and_nothing_is_lost() {
    let model = Script::new([call("probe__effect", json!({"key": "k"})), say("done")]);
    let host = TestHost::with_probe(model).await;
    let paused = host.run("go").await;
    for arguments in [json!({}), json!({"key": 7}), json!([]), json!("k"), Value::from(1)] {
        let answer = host.resume(&paused, json!({"action": "APPROVE", "arguments": arguments})).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        assert_eq!(answer.body["invalidParams"][0]["field"], "arguments");
    }
    assert_eq!(host.read(&paused).await["status"], "PAUSED");
    assert_eq!(host.effects("k").await, 0);
    assert_eq!(host.resume(&paused, json!({"action": "APPROVE"})).await.body["status"], "COMPLETED");
    assert_eq!(host.effects("k").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_names_its_call_when_several_are_pending() {
    let two = [("probe__effect", json!({"key": "a"})), ("probe__effect", json!({"key": "b"}))];
    let host = TestHost::with_probe(Script::new([calls(two), say("done")])).await;
    let paused = host.run("go").await;
    let answer = host.resume(&paused, json!({"action": "APPROVE", "arguments": {"key": "c"}})).await;
    assert_eq!(answer.status, 400, "{answer:?}");
    let approval = paused["metadata"]["requiredActions"][1]["approvalId"].clone();
    let named = json!({"action": "APPROVE", "approvalId": approval, "arguments": {"key": "c"}});
    assert_eq!(host.resume(&paused, named).await.body["status"], "PAUSED");
    assert_eq!(host.resume(&paused, json!({"action": "APPROVE"})).await.body["status"], "COMPLETED");
    let counts = (host.effects("a").await, host.effects("b").await, host.effects("c").await);
    assert_eq!(counts, (1, 0, 1));
}

/// Of two edits one is executed: a repeat of it is the same decision, and anything else is told.
#[tokio::test(flavor = "multi_thread")]
async fn an_edit_is_decided_once() {
    let model = Script::new([call("probe__effect", json!({"key": "model"})), say("done")]);
    let host = TestHost::with_probe(model).await;
    let paused = host.run("go").await;
    let approval = paused["metadata"]["requiredAction"]["approvalId"].clone();
    let edit = |key: &str| json!({"action": "APPROVE", "approvalId": approval, "arguments": {"key": key}});

    let edits = ["a", "b"].repeat(8);
    let answers =
        futures_util::future::join_all(edits.iter().map(|key| host.resume(&paused, edit(key)))).await;

    let won = if host.effects("a").await == 1 { "a" } else { "b" };
    let lost = if won == "a" { "b" } else { "a" };
    assert_eq!((host.effects(won).await, host.effects(lost).await, host.effects("model").await), (1, 0, 0));
    for (key, answer) in edits.iter().zip(answers) {
        assert_eq!(answer.status, if *key == won { 200 } else { 409 }, "{key}: {answer:?}");
    }
    let plain = host.resume(&paused, json!({"action": "APPROVE", "approvalId": approval})).await;
    assert_eq!(plain.status, 409, "the model's own arguments were not approved");
}

/// An edit changes the arguments, not the tool: the plugin is the one that the human was asked about.
#[tokio::test(flavor = "multi_thread")]
async fn an_edit_runs_on_the_plugin_that_the_human_was_asked_about() {
    let model = Script::new([call("probe__effect", json!({"key": "model"})), say("done")]);
    let mut host = TestHost::with_probe(model).await;
    let paused = host.run("go").await;
    host.stop().await;
    let file = host.folder().join("plugins/probe.wasm");
    let mut bytes = std::fs::read(&file).expect("the component");
    // A custom section named "x": the same code, and another digest.
    bytes.extend([0, 2, 1, b'x']);
    std::fs::write(&file, bytes).expect("it can be replaced");
    host.restart().await;

    let run = host.resume(&paused, json!({"action": "APPROVE", "arguments": {"key": "human"}})).await.body;

    assert_eq!((&run["status"], &run["tools"][0]["outcome"]), (&json!("COMPLETED"), &json!("ok")), "{run}");
    assert_eq!((host.effects("model").await, host.effects("human").await), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_belong_to_an_approval() {
    let two = [("probe__effect", json!({"key": "a"})), ("probe__effect", json!({"key": "b"}))];
    let host = TestHost::with_probe(Script::new([calls(two), say("done")])).await;
    let paused = host.run("go").await;
    let ids = [0, 1].map(|index: usize| paused["metadata"]["requiredActions"][index]["approvalId"].clone());
    let reject =
        json!({"decisions": [{"approvalId": ids[0], "action": "REJECT", "arguments": {"key": "x"}}]});
    let refused = host.resume(&paused, reject).await;
    assert_eq!(
        (refused.status, &refused.body["invalidParams"][0]["field"]),
        (400, &json!("decisions[0].arguments"))
    );
    // One bad edit, and the good one beside it is not taken either.
    let mixed = json!({"decisions": [
        {"approvalId": ids[0], "action": "APPROVE", "arguments": {"key": "edited"}},
        {"approvalId": ids[1], "action": "APPROVE", "arguments": {"key": 7}},
    ]});
    assert_eq!(host.resume(&paused, mixed).await.status, 400);
    let pending = host.read(&paused).await["metadata"]["requiredActions"].as_array().map(Vec::len);
    assert_eq!(pending, Some(2), "all or nothing");
    let good = json!({"decisions": [
        {"approvalId": ids[0], "action": "APPROVE", "arguments": {"key": "edited"}},
        {"approvalId": ids[1], "action": "APPROVE"},
    ]});
    assert_eq!(host.resume(&paused, good).await.body["status"], "COMPLETED");
    let keys = ["a", "b", "edited"];
    let counts = futures_util::future::join_all(keys.map(|key| host.effects(key))).await;
    assert_eq!(counts, [0, 1, 1]);
}
