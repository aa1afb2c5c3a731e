//! Names that could mean somebody else's tool.

use std::time::Duration;

use futures_util::FutureExt as _;
use serde_json::json;

use super::bench::{Bench, Fixture, Row};
use super::loads;
use super::stage::{self, Stage, ended};
use crate::support::versions::version;
use crate::support::wat_guest::Guest;
use crate::support::{Script, calls, say};

const OBJECT: &str = r#"{"type":"object"}"#;

pub(super) fn rows() -> Vec<Row> {
    let mut rows: Vec<Row> = ["a__b", "_a", "a_", "__", "_", "A", "a.b", "a b", "", "\u{430}ct", "a\u{0}"]
        .into_iter()
        .map(|tool| {
            let component = Guest::new().describing(&[(tool, OBJECT)]).bytes();
            loads::row(&format!("tool \"{}\"", tool.escape_default()), component, "is not a legal name")
        })
        .collect();
    // What stands in the reason is guest-controlled, and goes to terminals.
    let forged = Guest::new().describing(&[("a\n\u{1b}[2J\u{202e}", OBJECT)]).bytes();
    rows.push(loads::row("tool of control characters", forged, "`a\\n\\u{1b}[2J\\u{202e}` is not"));
    let long = "A".repeat(50_000);
    let long = Guest::new().describing(&[(&long, OBJECT)]).bytes();
    rows.push(loads::row("tool of 50,000 letters", long, "(49872 bytes cut)` is not"));
    let twice = Guest::new().describing(&[("a", OBJECT), ("a", OBJECT)]).bytes();
    rows.push(loads::row("one tool twice", twice, "twice"));
    rows.extend(["a__b", "_a", "a_", "A", "a.b", "../a", ""].map(plugin));
    rows.push(stage::row("two plugins with one tool name", "COMPLETED trap ok invalid-args", two));
    rows.push(stage::row(
        "a plugin under another one's id",
        "422: The component was not installed: its manifest is for the plugin `one`",
        another,
    ));
    rows
}

/// A good component under a bad id.
fn plugin(id: &'static str) -> Row {
    Row {
        name: format!("plugin \"{id}\""),
        fixture: Fixture::Scene(Box::new(move |bench: &Bench| {
            async move { bench.refusal(id, Guest::new().bytes()).await.replace(&format!("`{id}`"), "it") }
                .boxed_local()
        })),
        outcome: "the plugin's id: it is not a legal name",
        within: Duration::from_secs(20),
        peak_mib: 96,
    }
}

/// Each name means the tool of its own plugin, of which one traps; and two names together mean nobody's.
async fn two(stage: Stage) -> String {
    let named = ["one__act", "two__act", "one__two__act"].map(|name| (name, json!({"n": 1})));
    let host = stage.host("probe", "", Script::new([calls(named), say("done")])).await;
    for (id, body) in [("one", "(unreachable)"), ("two", "(call $done)")] {
        let answer = host.install(id, Guest::new().call(body).bytes()).await;
        assert_eq!(answer.body["state"], "loaded", "{answer:?}");
    }
    let said = ended(&host.run("go").await);
    stage.watch.stop().await;
    said
}

async fn another(stage: Stage) -> String {
    let host = stage.host("probe", "", Script::new([say("unused")])).await;
    let answer = host.install("two", version("calculator", "one", "1.0.0", "")).await;
    stage.watch.stop().await;
    format!("{}: {}", answer.status, answer.body["detail"].as_str().unwrap_or_default())
}
