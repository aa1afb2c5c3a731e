//! A plugin that keeps crashing is left alone for a while, and its neighbours do not notice.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::host::ONE_AGENT;
use crate::support::process::Process;
use crate::support::{Speaker, TestHost, asked, call, replied, say};

async fn outcome(host: &TestHost, message: &str) -> (String, String) {
    let run = host.run(message).await;
    let text = |field: &str| run["tools"][0][field].as_str().unwrap_or_default().to_owned();
    (text("outcome"), text("toolOutput"))
}

async fn breaker(host: &TestHost) -> Value {
    let plugins = host.get("/api/plugins").await.body;
    plugins.as_array().and_then(|all| all.iter().find(|it| it["id"] == "hostile")).expect("it is listed")["breaker"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_traps_is_stopped_for_now_and_one_call_finds_out() {
    let model = Speaker::new(|request| {
        let (plugin, tool) = match asked(request).as_str() {
            "neighbour" => ("calculator", "evaluate"),
            "trap" => ("hostile", "trap"),
            _ => ("hostile", "tool_error"),
        };
        let arguments = if plugin == "calculator" { json!({"expression": "6*7"}) } else { json!({}) };
        Ok(if replied(request) == 0 { call(&format!("{plugin}__{tool}"), arguments) } else { say("done") })
    });
    let config = format!(
        "{ONE_AGENT}[plugins.hostile.limits]\nbreaker_failures = 5\nbreaker_window_ms = 60000\nbreaker_cooldown_ms = 30000\n"
    );
    let host = TestHost::start(&["hostile", "calculator"], &config, model).await;
    for _ in 0..20 {
        // What a tool says about itself does not count.
        assert_eq!(outcome(&host, "error").await.0, "tool-error");
    }
    for call in 0..10 {
        let (kind, text) = outcome(&host, "trap").await;
        let expected = if call < 5 { "trap" } else { "unavailable" };
        assert_eq!(kind, expected, "call {call}: {text}");
        assert_eq!(text.contains("stopped for now"), call >= 5, "{text}");
        assert_eq!(outcome(&host, "neighbour").await.0, "ok");
    }
    assert_eq!(breaker(&host).await, "open");
    host.clock.advance(Duration::from_secs(30));
    assert_eq!(outcome(&host, "trap").await.0, "trap", "one tries");
    assert_eq!(
        (outcome(&host, "error").await.0.as_str(), breaker(&host).await),
        ("unavailable", json!("open"))
    );
    host.clock.advance(Duration::from_secs(30));
    assert_eq!(outcome(&host, "error").await.0, "tool-error", "this one works");
    assert_eq!((outcome(&host, "trap").await.0.as_str(), breaker(&host).await), ("trap", json!("closed")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_reads_it_in_the_list() {
    let config = "[[agents]]\nid = \"agent\"\nmodel = \"demo\"\ntools = [\"*\"]\n\
                  [plugins.calculator.limits]\noutput_bytes = 1\nbreaker_failures = 1\n";
    let mut process = Process::start(&["calculator", "clock"], config).await;
    for expected in ["limit", "unavailable"] {
        assert_eq!(process.run("What is 6*7?").await["tools"][0]["outcome"], expected);
    }
    let address = process.url.trim_start_matches("http://").to_owned();
    let counted = async |args: &[&str]| -> Vec<String> {
        let (list, error) = process.holdfast(&[&["plugin", "list"], args].concat()).await;
        assert_eq!(error, "");
        let words = ["serves", "Calls"];
        let lines = list.lines().filter(|line| words.iter().any(|word| line.trim().starts_with(word)));
        lines.map(|line| line.trim().to_owned()).collect()
    };
    let lines = counted(&["--listen", &address]).await;
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].ends_with(": 2 calls, 1 failed, 0 running, breaker open"), "{lines:?}");
    assert!(lines[1].ends_with(": 0 calls, 0 failed, 0 running, breaker closed"), "{lines:?}");
    // The configuration says port 0: it is not there.
    assert!(counted(&[]).await[0].contains("say with --listen where it listens"));

    process.kill().await;
    let (list, _) = process.holdfast(&["plugin", "list", "--listen", &address]).await;
    assert!(list.contains("none is running on this database"), "{list}");
}
