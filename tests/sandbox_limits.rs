//! Each limit has a guest that runs into it: the call ends with the limit's name, the model reads a sentence
//! without host detail, a good plugin beside it answers, and the plugin is as good as new afterwards.

use serde_json::{Value, json};

use crate::support::host::ONE_AGENT;
use crate::support::{Script, TestHost, calls, say};

/// Low limits, so that running into them takes no time.
const LIMITS: &str = r"
[plugins.hostile.limits]
cpu_ms = 300
wall_ms = 2000
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
        row("suspend", json!({}), "invalid-output", "ask a human"),
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
