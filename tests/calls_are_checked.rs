//! What the model asks for is checked before anything runs, and the model is told what to do instead.

use serde_json::{Value, json};

use crate::support::guests::guest;
use crate::support::host::ONE_AGENT;
use crate::support::{Script, TestHost, call, calls, say, until};
use holdfast::session::{Message, Reply};
use holdfast::tool::ToolCall;

/// One turn with this call; returns the call as the answer lists it.
async fn one(config: &str, name: &str, arguments: &str) -> Value {
    let call = ToolCall { id: "c".into(), name: name.to_owned(), arguments: arguments.to_owned() };
    let reply = Reply { tool_calls: vec![call], ..Reply::default() };
    let host = TestHost::start(&["probe"], config, Script::new([reply, say("done")])).await;
    let run = host.run("go").await;
    assert_eq!(run["status"], "COMPLETED", "{name} {arguments}: {run}");
    assert_eq!(host.effects("k").await, 0, "{name} {arguments}");
    run["tools"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_calls_do_not_run_and_ask_nobody() {
    let table = [
        ("nothing", "{}", "There is no tool `nothing`. You can call: probe__"),
        ("probe__nothing", "{}", "There is no tool `probe__nothing`"),
        ("probe__effect_ungated", "{\"key\":", "not valid JSON"),
        ("probe__effect_ungated", "[1]", "must be a JSON object"),
        ("probe__effect_ungated", "{\"key\": 7}", "/key"),
        ("probe__effect_ungated", "", "key"),
        // Nobody is asked to approve what cannot run.
        ("probe__effect", "{\"key\": 7}", "/key"),
    ];
    for (name, arguments, text) in table {
        let told = one(ONE_AGENT, name, arguments).await;
        assert_eq!((&told["outcome"], &told["isError"]), (&json!("invalid-args"), &json!(true)), "{told}");
        assert!(told["toolOutput"].as_str().is_some_and(|told| told.contains(text)), "{text}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_decides_before_the_call() {
    let with = |tools: &str, approval: &str| {
        ONE_AGENT.replace("tools = [\"*\"]", &format!("tools = {tools}\napproval = {approval}"))
    };
    let key = "{\"key\": \"k\"}";
    let denied =
        one(&with(r#"["*"]"#, r#"{ "probe.effect_ungated" = "deny" }"#), "probe__effect_ungated", key).await;
    assert_eq!(denied["outcome"], "denied");
    let not_granted = one(&with(r#"["probe.echo"]"#, "{}"), "probe__effect_ungated", key).await;
    assert_eq!(
        not_granted["toolOutput"],
        "There is no tool `probe__effect_ungated`. You can call: probe__echo."
    );

    let status = async |approval: &str, tool: &str| {
        let model = Script::new([call(tool, json!({"key": "k"})), say("done")]);
        let host = TestHost::start(&["probe"], &with(r#"["*"]"#, approval), model).await;
        host.run("go").await["status"].clone()
    };
    assert_eq!(status(r#"{ "probe.*" = "ask" }"#, "probe__effect_ungated").await, "PAUSED");
    let specific = r#"{ "probe.*" = "ask", "probe.effect_ungated" = "allow" }"#;
    assert_eq!(status(specific, "probe__effect_ungated").await, "COMPLETED", "the more specific rule wins");
    let loosened = r#"{ "probe.effect" = "allow" }"#;
    assert_eq!(status(loosened, "probe__effect").await, "PAUSED", "what a plugin asks for always asks");
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_a_model_repeats_are_made_unique() {
    let same = |key: &str| call("probe__effect_ungated", json!({"key": key}));
    let host = TestHost::with_probe(Script::new([same("a"), same("b"), say("done")])).await;
    let run = host.run("go").await;
    assert_ne!(run["tools"][0]["id"], run["tools"][1]["id"], "{run}");
    assert_eq!((host.effects("a").await, host.effects("b").await), (1, 1));
}

/// An approval is bound to the plugin's bytes: the call runs on them, although the folder has others by now.
#[tokio::test(flavor = "multi_thread")]
async fn an_approved_call_runs_on_the_version_that_somebody_was_asked_about() {
    let model = Script::new([call("probe__effect", json!({"key": "k"})), say("done")]);
    let mut host = TestHost::with_probe(model).await;
    let paused = host.run("go").await;
    host.stop().await;
    let file = host.folder().join("plugins/probe.wasm");
    let mut bytes = std::fs::read(&file).expect("the component");
    // A custom section named "x": the same code, and another digest.
    bytes.extend([0, 2, 1, b'x']);
    std::fs::write(&file, bytes).expect("it can be replaced");
    host.restart().await;
    let run = host.resume(&paused, json!({"action": "APPROVE"})).await.body;
    assert_eq!((&run["status"], &run["tools"][0]["outcome"]), (&json!("COMPLETED"), &json!("ok")), "{run}");
    assert_eq!(host.effects("k").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn effects_happen_in_the_models_order() {
    let three = ["1", "2", "3"].map(|n| ("probe__effect_ungated", json!({"key": n})));
    let host = TestHost::with_probe(Script::new([calls(three), say("done")])).await;
    host.run("go").await;
    let query = "select kind from run_events where kind like 'call%' order by seq";
    let kinds = crate::support::process::text(&host.folder().join("holdfast.db"), query).await;
    assert_eq!(kinds, ["call_started", "call_finished"].repeat(3), "one ends before the next begins");
}

/// The agent's policy tightens what a plugin says, by tool, by plugin, or for all; the human is asked once.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_by_policy_is_an_approval_like_any_other() {
    let config = ONE_AGENT.replace("tools = [\"*\"]", "tools = [\"*\"]\napproval = { \"*\" = \"ask\" }");
    let model = Script::new([call("probe__count", json!({"key": "k"})), say("done")]);
    let host = TestHost::start(&["probe"], &config, model).await;
    let paused = host.run("go").await;
    assert_eq!(paused["metadata"]["requiredAction"]["toolName"], "probe__count", "{paused}");
    let done = host.resume(&paused, json!({"action": "APPROVE"})).await.body;
    assert_eq!((&done["status"], &done["tools"][0]["toolOutput"]), (&json!("COMPLETED"), &json!("0")));
}

/// A bad call does not take the good ones of its turn with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_of_good_bad_and_gated_calls() {
    let turn = [
        ("probe__effect", json!({"key": "gated"})),
        ("probe__nothing", json!({})),
        ("probe__effect_ungated", json!({"key": 7})),
        ("probe__effect_ungated", json!({"key": "good"})),
    ];
    let model = Script::new([calls(turn), say("done")]);
    let host = TestHost::with_probe(model.clone()).await;
    let paused = host.run("go").await;
    assert_eq!(paused["metadata"]["requiredActions"].as_array().map(Vec::len), Some(1), "{paused}");
    assert_eq!((host.effects("gated").await, host.effects("good").await), (0, 1));
    let done = host.resume(&paused, json!({"action": "APPROVE"})).await.body;
    let outcomes = [0, 1, 2, 3].map(|index: usize| done["tools"][index]["outcome"].clone());
    assert_eq!(outcomes, ["ok", "invalid-args", "invalid-args", "ok"].map(|word| json!(word)));
    let answered = model.requests()[1].messages.iter().filter(|m| matches!(m, Message::Tool { .. })).count();
    assert_eq!(answered, 4, "the model gets one answer for each call");
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_of_one_turn_run_side_by_side() {
    let reads = ["a", "b", "c"].map(|key| ("probe__slow_read", json!({"ms": 1500, "key": key})));
    let host = TestHost::with_probe(Script::new([calls(reads), say("done")])).await;
    let waiting = host.begin("/api/agents/agent/runs", &json!({"message": "go"}));
    for key in ["a.started", "b.started", "c.started"] {
        until(key, async || host.effects(key).await == 1).await;
    }
    let run = waiting.await.expect("no panic").body;
    assert_eq!(run["status"], "COMPLETED", "{run}");
    let kinds = host.texts("select kind from run_events where kind like 'call%' order by seq").await;
    assert_eq!(kinds[..4], ["call_started", "call_started", "call_started", "call_finished"]);
    let tools = run["tools"].as_array().expect("tools");
    let keys: Vec<&str> = tools.iter().map(|tool| tool["toolInput"].as_str().expect("text")).collect();
    let places = ["\"a\"", "\"b\"", "\"c\""];
    assert!(
        keys.iter().zip(places).all(|(input, key)| input.contains(key)),
        "in the model's order: {keys:?}"
    );
}

/// Reads before an effect see the state before it, and those behind it the state after.
#[tokio::test(flavor = "multi_thread")]
async fn reads_do_not_overtake_effects() {
    let (read, effect) =
        (("probe__count", json!({"key": "k"})), ("probe__effect_ungated", json!({"key": "k"})));
    let turn = [read.clone(), read.clone(), effect.clone(), read.clone(), effect, read];
    let host = TestHost::with_probe(Script::new([calls(turn), say("done")])).await;
    let run = host.run("go").await;
    let tools = run["tools"].as_array().expect("tools");
    let outputs: Vec<&str> = tools.iter().map(|tool| tool["toolOutput"].as_str().expect("text")).collect();
    assert_eq!(outputs, ["0", "0", "1", "1", "2", "2"]);
}

/// Within a turn, too; and ids that no provider takes back are replaced.
#[tokio::test(flavor = "multi_thread")]
async fn ids_of_one_turn_are_unique_and_usable() {
    let ids = ["same", "same", "", "same", &"x".repeat(129)].map(str::to_owned);
    let tool_calls = ids.map(|id| ToolCall {
        id: id.as_str().into(),
        name: "probe__effect_ungated".to_owned(),
        arguments: json!({"key": "k"}).to_string(),
    });
    let model = Script::new([Reply { tool_calls: tool_calls.into(), ..Reply::default() }, say("done")]);
    let host = TestHost::with_probe(model.clone()).await;
    let run = host.run("go").await;
    let tools = run["tools"].as_array().expect("tools");
    let ids: Vec<&str> = tools.iter().map(|tool| tool["id"].as_str().expect("an id")).collect();
    assert_eq!(ids[0], "same", "one that is unique stays");
    let unique: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(unique.len(), 5, "{ids:?}");
    assert!(ids.iter().all(|id| (1..=128).contains(&id.len())), "{ids:?}");
    assert_eq!(host.effects("k").await, 5);
    let messages = &model.requests()[1].messages;
    let answered: Vec<&str> = messages
        .iter()
        .filter_map(|message| match message {
            Message::Tool { call, .. } => Some(call.as_str()),
            Message::User { .. } | Message::Assistant(_) => None,
        })
        .collect();
    assert_eq!(answered, ids, "each call is answered under its id");
}

/// Neither another plugin under the same name nor none at all inherits an approval: the one that was asked about
/// is still there for it, and checks an edit as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_was_replaced_or_removed_finishes_what_waits_on_it() {
    for with in [Some("hostile"), None] {
        let model = Script::new([call("probe__effect", json!({"key": "k"})), say("done")]);
        let mut host = TestHost::with_probe(model).await;
        let paused = host.run("go").await;
        host.stop().await;
        let file = host.folder().join("plugins/probe.wasm");
        match with {
            Some(other) => drop(std::fs::copy(guest(other), &file).expect("it can be replaced")),
            None => std::fs::remove_file(&file).expect("it can be removed"),
        }
        host.restart().await;
        let edit = json!({"action": "APPROVE", "arguments": {"key": 5}});
        assert_eq!(host.resume(&paused, edit).await.status, 400, "the old schema checks the edit");
        let run = host.resume(&paused, json!({"action": "APPROVE"})).await.body;
        assert_eq!(
            (&run["status"], &run["tools"][0]["outcome"]),
            (&json!("COMPLETED"), &json!("ok")),
            "{with:?}: {run}"
        );
        assert_eq!(host.effects("k").await, 1);
    }
}
