//! Whatever a guest does, the run completes, the model reads one harmless sentence, a plugin beside it
//! works, and the guest itself can be called again.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::host::ONE_AGENT;
use crate::support::{Script, TestHost, calls, process, say};

/// One way to misbehave.
struct Row {
    tool: &'static str,
    arguments: Value,
    /// `[plugins.hostile.limits]`; low, where a default would take long to reach.
    limits: &'static str,
    outcome: &'static str,
    /// All that the model reads.
    text: &'static str,
}

fn row(tool: &'static str, arguments: Value, limits: &'static str, ended: [&'static str; 2]) -> Row {
    Row { tool, arguments, limits, outcome: ended[0], text: ended[1] }
}

const CRASHED: [&str; 2] = ["trap", "The tool crashed."];
const INVALID: [&str; 2] =
    ["invalid-output", "The tool gave an answer that is not valid, and it was dropped."];

fn rows() -> Vec<Row> {
    let nothing = || json!({});
    vec![
        row("loop", nothing(), "cpu_ms = 100", limit("The tool was stopped because it reached a limit: CPU time.")),
        row(
            "sleep",
            json!({"ms": 3_600_000}),
            "wall_ms = 300",
            limit("The tool was stopped because it reached a limit: wall time."),
        ),
        row("memory", nothing(), "", limit("The tool was stopped because it reached a limit: memory.")),
        row("stack", nothing(), "", limit("The tool was stopped because it reached a limit: stack.")),
        row(
            "output",
            json!({"bytes": (1 << 20) + 1}),
            "",
            limit("The tool was stopped because it reached a limit: output size."),
        ),
        row(
            "output",
            json!({"bytes": 32 << 20}),
            "",
            limit("The tool was stopped because it reached a limit: output size."),
        ),
        row(
            "parts",
            json!({"count": 1025}),
            "",
            limit("The tool was stopped because it reached a limit: output size."),
        ),
        row(
            "parts",
            json!({"count": 500_000}),
            "",
            limit("The tool was stopped because it reached a limit: output size."),
        ),
        row(
            "host_calls",
            json!({"count": 10_001}),
            "",
            limit("The tool was stopped because it reached a limit: number of host calls."),
        ),
        row(
            "progress_flood",
            json!({"count": 1_000_000}),
            "",
            limit("The tool was stopped because it reached a limit: number of host calls."),
        ),
        row("random", json!({"bytes": 4_000_000_000_u64}), "", CRASHED),
        row("panic", nothing(), "", CRASHED),
        row("trap", nothing(), "", CRASHED),
        row("bad_json", nothing(), "", INVALID),
        row(
            "suspend",
            nothing(),
            "",
            [
                "invalid-output",
                "The tool wants to ask a human, which this version of the host does not offer.",
            ],
        ),
        row(
            "fail",
            json!({"code": "no-luck"}),
            "",
            ["guest-failure", "It failed on purpose. (It may work again after 10 ms.)"],
        ),
        row("tool_error", nothing(), "", ["tool-error", "This went wrong on purpose."]),
        row(
            "kv_fill",
            json!({"entries": 21, "bytes": 1}),
            "kv_entries = 20",
            ["ok", "stored 20, then Error::QuotaExceeded(\"this scope holds at most 20 entries\")"],
        ),
        row(
            "kv_fill",
            json!({"entries": 20, "bytes": 1000}),
            "kv_bytes = 10000",
            [
                "ok",
                "stored 9, then Error::QuotaExceeded(\"keys and values may take at most 10000 bytes in this scope\")",
            ],
        ),
        row("log_flood", json!({"lines": 1000}), "", ["ok", "logged"]),
        row("stdout_flood", json!({"bytes": 8 << 20}), "", ["ok", "printed"]),
    ]
}

fn limit(text: &'static str) -> [&'static str; 2] {
    ["limit", text]
}

/// The hostile call and a good one in one turn, then an ordinary call of the hostile plugin.
fn script(row: &Row) -> std::sync::Arc<Script> {
    let hostile = format!("hostile__{}", row.tool);
    Script::new([
        calls([(&hostile, row.arguments.clone()), ("calculator__evaluate", json!({"expression": "6*7"}))]),
        calls([("hostile__output", json!({"bytes": 3}))]),
        say("done"),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn every_misbehaviour_ends_as_one_harmless_sentence() {
    for row in rows() {
        let what = format!("{} {} {}", row.tool, row.arguments, row.limits);
        let config = format!("{ONE_AGENT}[plugins.hostile.limits]\n{}\n", row.limits);
        let model = script(&row);
        let mut host = TestHost::start(&["hostile", "calculator"], &config, model.clone()).await;

        let started = Instant::now();
        let run = host.run("go").await;
        assert!(started.elapsed() < Duration::from_secs(60), "{what}: took {:?}", started.elapsed());

        assert_eq!((&run["status"], &run["content"]), (&json!("COMPLETED"), &json!("done")), "{what}");
        let tools = run["tools"].as_array().expect("tools");
        assert_eq!(tools.len(), 3, "{what}");
        let hostile = &tools[0];
        assert_eq!(hostile["outcome"], row.outcome, "{what}: {hostile}");
        assert_eq!(hostile["toolOutput"], row.text, "{what}");
        assert_eq!(hostile["isError"], row.outcome != "ok", "{what}");
        assert_eq!(
            (&tools[1]["outcome"], tools[1]["toolOutput"].as_str().map(|text| text.contains("42"))),
            (&json!("ok"), Some(true)),
            "{what}: the plugin beside it"
        );
        assert_eq!(
            (&tools[2]["outcome"], &tools[2]["toolOutput"]),
            (&json!("ok"), &json!("xxx")),
            "{what}: the same plugin, afterwards"
        );
        let errors = u64::from(row.outcome != "ok");
        assert_eq!(run["metrics"]["errorCount"], errors, "{what}");
        // What the model was sent, as it was sent.
        let sent = format!("{:?}", model.requests().last().expect("a request").messages);
        no_host_detail(&sent, &what);
        host.stop().await;
    }
}

fn no_host_detail(text: &str, what: &str) {
    let text = text.to_lowercase();
    for word in ["wasmtime", "wasm", "0x", "backtrace", "/home", "/root", "/work", "/tmp", ".rs", "cranelift"] {
        assert!(!text.contains(word), "{what}: the model reads `{word}` in {text}");
    }
}

/// Dropped lines are counted, and the call is none the worse for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_log_lines_is_cut_and_counted() {
    let model = Script::new([calls([("hostile__log_flood", json!({"lines": 1000}))]), say("done")]);
    let host = TestHost::start(&["hostile"], ONE_AGENT, model).await;
    assert_eq!(host.run("go").await["status"], "COMPLETED");

    let usage = usage(&host).await;
    assert_eq!((&usage["logLines"], &usage["logLinesDropped"]), (&json!(200), &json!(800)), "{usage}");
    assert_eq!(usage["hostCalls"], 1000);
}

/// A line without an end takes no more memory of the host than a line may have.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_standard_output_is_a_line_per_stream() {
    let model = Script::new([calls([("hostile__stdout_flood", json!({"bytes": 1 << 20}))]), say("done")]);
    let host = TestHost::start(&["hostile"], ONE_AGENT, model).await;
    assert_eq!(host.run("go").await["status"], "COMPLETED");

    let usage = usage(&host).await;
    assert_eq!((&usage["logLines"], &usage["logLinesDropped"]), (&json!(2), &json!(0)), "{usage}");
}

/// A plugin that uses up its memory is measured at no more than its limit.
#[tokio::test(flavor = "multi_thread")]
async fn memory_never_exceeds_its_limit() {
    let model = Script::new([calls([("hostile__memory", json!({}))]), say("done")]);
    let config = format!("{ONE_AGENT}[plugins.hostile.limits]\nmemory_bytes = 8000000\n");
    let host = TestHost::start(&["hostile"], &config, model).await;
    let run = host.run("go").await;
    assert_eq!(run["tools"][0]["outcome"], "limit");

    let peak = usage(&host).await["memoryBytes"].as_u64().expect("a number");
    assert!(peak > 4_000_000 && peak <= 8_000_000, "{peak}");
}

/// A guest in a loop keeps no thread from another run.
#[tokio::test(flavor = "multi_thread")]
async fn loops_side_by_side_leave_room_for_others() {
    let looping = ("hostile__loop", json!({}));
    let model = Script::new([calls([looping.clone(), looping.clone(), looping.clone(), looping]), say("done")]);
    let config = format!("{ONE_AGENT}[plugins.hostile.limits]\ncpu_ms = 500\n");
    let host = TestHost::start(&["hostile", "calculator"], &config, model).await;
    let good = json!({"message": "What is 6*7?", "options": {"model": "demo"}});

    let (bad, good) = tokio::join!(host.run("go"), host.post("/api/agents/agent/runs", &good));

    assert_eq!(bad["status"], "COMPLETED");
    for call in bad["tools"].as_array().expect("tools") {
        assert_eq!(call["outcome"], "limit", "{call}");
    }
    assert_eq!(good.body["status"], "COMPLETED", "{good:?}");
    assert!(good.body["content"].as_str().is_some_and(|text| text.contains("42")), "{good:?}");
}

/// What the journal says the one call used.
async fn usage(host: &TestHost) -> Value {
    let events = process::text(
        &host.folder().join("holdfast.db"),
        "select body from run_events where kind = 'call_finished' order by seq",
    )
    .await;
    let event: Value = serde_json::from_str(&events[0]).expect("JSON");
    event["outcome"]["usage"].clone()
}
