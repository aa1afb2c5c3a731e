//! What the model asks for is checked before anything runs, and the model is told what to do instead.

use serde_json::{Value, json};

use crate::support::host::ONE_AGENT;
use crate::support::{Script, TestHost, call, calls, say};
use holdfast::session::Reply;
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

/// An approval is bound to the plugin's bytes: another plugin of the same name does not inherit it.
#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_changed_after_the_approval_was_asked_for_does_not_run() {
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
    assert_eq!(
        (&run["status"], &run["tools"][0]["outcome"]),
        (&json!("COMPLETED"), &json!("unavailable")),
        "{run}"
    );
    assert_eq!(host.effects("k").await, 0);
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
