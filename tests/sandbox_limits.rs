//! Each limit has a guest that runs into it: the call ends with the limit's name, the model reads a sentence
//! without host detail, a good plugin beside it answers, and the plugin is as good as new afterwards.

use serde_json::{Value, json};

use crate::support::host::ONE_AGENT;
use crate::support::{Script, TestHost, calls, say};

/// Low limits, so that running into them takes no time.
const LIMITS: &str = r"
[plugins.hostile.limits]
cpu_ms = 300
wall_ms = 5000
memory_bytes = 16777216
output_bytes = 65536
host_calls = 1000
log_lines = 50
kv_bytes = 100000
kv_entries = 20
";

struct Row {
    tool: &'static str,
    arguments: Value,
    outcome: &'static str,
    /// What the model reads holds this.
    text: &'static str,
}

fn row(tool: &'static str, arguments: Value, outcome: &'static str, text: &'static str) -> Row {
    Row { tool, arguments, outcome, text }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_limit_stops_its_guest_and_nothing_else() {
    let table = [
        row("loop", json!({}), "limit", "CPU time"),
        row("sleep", json!({"ms": 600_000}), "limit", "wall time"),
        row("memory", json!({}), "limit", "memory"),
        row("stack", json!({}), "limit", "stack"),
        row("output", json!({"bytes": 10_000_000}), "limit", "output"),
        row("parts", json!({"count": 100_000}), "limit", "output"),
        row("host_calls", json!({"count": 100_000}), "limit", "host calls"),
        row("progress_flood", json!({"count": 100_000}), "limit", "host calls"),
        row("random", json!({"bytes": 4_000_000_000_u64}), "trap", ""),
        row("panic", json!({}), "trap", ""),
        row("trap", json!({}), "trap", ""),
        row("bad_json", json!({}), "invalid-output", "not valid"),
        row("fail", json!({"code": "on-purpose"}), "guest-failure", "on purpose"),
        row("tool_error", json!({}), "tool-error", "on purpose"),
        row("log_flood", json!({"lines": 900}), "ok", "logged"),
        row("stdout_flood", json!({"bytes": 5_000_000}), "ok", "printed"),
        row("kv_fill", json!({"entries": 100, "bytes": 10}), "ok", "stored 20, then Error::QuotaExceeded"),
        row("kv_fill", json!({"entries": 100, "bytes": 30_000}), "ok", "then Error::QuotaExceeded"),
        row("output", json!({"bytes": "many"}), "invalid-args", "/bytes"),
    ];
    for Row { tool, arguments, outcome, text } in table {
        let name = format!("hostile__{tool}");
        let both = [(name.as_str(), arguments), ("calculator__evaluate", json!({"expression": "6*7"}))];
        let host = TestHost::start(
            &["hostile", "calculator"],
            &format!("{ONE_AGENT}{LIMITS}"),
            Script::new([calls(both), say("done")]),
        )
        .await;
        // Twice: what the first call did to its instance is gone with it.
        for _ in 0..2 {
            let run = host.run("go").await;
            assert_eq!(run["status"], "COMPLETED", "{tool}: {run}");
            let (hostile, good) = (&run["tools"][0], &run["tools"][1]);
            assert_eq!(
                (&hostile["outcome"], &good["toolOutput"]),
                (&json!(outcome), &json!("42")),
                "{tool}: {run}"
            );
            assert_eq!(hostile["isError"], outcome != "ok", "{tool}");
            let read = hostile["toolOutput"].as_str().expect("a text");
            assert!(read.contains(text), "{tool}: {read}");
            assert_no_host_detail(read);
        }
    }
}

/// Nothing that a model reads tells how the host is built or where it is.
fn assert_no_host_detail(text: &str) {
    for detail in ["wasm", "0x", "/src/", ".rs", "backtrace", "panicked", "holdfast"] {
        assert!(!text.contains(detail), "{detail} in {text}");
    }
}

/// Cancelling ends a guest that would run for ever, and the blocked caller is answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_stops_its_guest() {
    let slow = format!("{ONE_AGENT}\n[plugins.hostile.limits]\ncpu_ms = 600000\nwall_ms = 600000\n");
    for (tool, arguments) in [("hostile__loop", json!({})), ("hostile__sleep", json!({"ms": 600_000}))] {
        let script = Script::new([calls([(tool, arguments)]), say("never said")]);
        let host = TestHost::start(&["hostile"], &slow, script.clone()).await;
        let (run, ()) = tokio::join!(host.run("go"), async {
            let id = host.running_call().await;
            assert_eq!(host.cancel(&json!({"runId": id})).await.status, 204);
        });
        assert_eq!((&run["status"], &run["content"]), (&json!("CANCELLED"), &json!("")), "{tool}");
        assert_eq!(run["tools"][0]["outcome"], "cancelled");
        assert_eq!(script.requests().len(), 1, "nothing follows a cancel");
    }
}

/// Dropped lines are counted, and the call is none the worse for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_log_lines_is_cut_and_counted() {
    let usage = usage_of("log_flood", json!({"lines": 1000}), "").await;
    let counted = [&usage["logLines"], &usage["logLinesDropped"], &usage["hostCalls"]];
    assert_eq!(counted, [&json!(200), &json!(800), &json!(1000)], "{usage}");
    let usage = usage_of("log_flood", json!({"lines": 60}), "log_lines = 50").await;
    assert_eq!([&usage["logLines"], &usage["logLinesDropped"]], [&json!(50), &json!(10)], "{usage}");
}

/// A line without an end takes no more of the host than a line may have.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_standard_output_is_a_line_per_stream() {
    let usage = usage_of("stdout_flood", json!({"bytes": 1 << 20}), "").await;
    assert_eq!([&usage["logLines"], &usage["logLinesDropped"]], [&json!(2), &json!(0)], "{usage}");
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_stays_below_its_limit() {
    let usage = usage_of("memory", json!({}), "memory_bytes = 8000000").await;
    let peak = usage["memoryBytes"].as_u64().expect("a number");
    assert!(peak > 4_000_000 && peak <= 8_000_000, "{peak}");
}

/// What the journal says that one call of the hostile plugin used.
async fn usage_of(tool: &str, arguments: Value, limits: &str) -> Value {
    let name = format!("hostile__{tool}");
    let model = Script::new([calls([(name.as_str(), arguments)]), say("done")]);
    let config = format!("{ONE_AGENT}[plugins.hostile.limits]\n{limits}\n");
    let host = TestHost::start(&["hostile"], &config, model).await;
    assert_eq!(host.run("go").await["status"], "COMPLETED");
    let events = host.texts("select body from run_events where kind = 'call_finished'").await;
    let event: Value = serde_json::from_str(&events[0]).expect("JSON");
    event["outcome"]["usage"].clone()
}

/// Guests in a loop keep no thread from another run.
#[tokio::test(flavor = "multi_thread")]
async fn loops_side_by_side_leave_room_for_another_run() {
    let looping = ("hostile__loop", json!({}));
    let model =
        Script::new([calls([looping.clone(), looping.clone(), looping.clone(), looping]), say("done")]);
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

/// Exactly as much as is allowed is allowed, and one more is not.
#[tokio::test(flavor = "multi_thread")]
async fn limits_are_where_they_say() {
    let limits = "[plugins.hostile.limits]\noutput_bytes = 5000\nhost_calls = 50\n";
    let model = Script::new([
        calls([
            ("hostile__output", json!({"bytes": 5000})),
            ("hostile__output", json!({"bytes": 5001})),
            ("hostile__host_calls", json!({"count": 50})),
            ("hostile__host_calls", json!({"count": 51})),
            ("hostile__parts", json!({"count": 1024})),
            ("hostile__parts", json!({"count": 1025})),
        ]),
        say("done"),
    ]);
    let host = TestHost::start(&["hostile"], &format!("{ONE_AGENT}{limits}"), model).await;
    let run = host.run("go").await;
    let outcomes: Vec<&Value> =
        run["tools"].as_array().expect("tools").iter().map(|tool| &tool["outcome"]).collect();
    assert_eq!(outcomes, ["ok", "limit", "ok", "limit", "ok", "limit"], "{run}");
}
