//! The process is killed at every event that a run writes, before and after its commit; whatever the moment,
//! the run ends, each effect happens once, and no answer that was journaled is bought twice.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::openai::{self, OpenAi};
use crate::support::process::{Process, text};

const PATH: &str = "/api/agents/agent/runs";

/// Where the process is to die (`store/kill.rs`).
const KILL: &str = "HOLDFAST_TEST_KILL";

/// Two model calls with an idempotent, a plain and a gated effect between them.
async fn model() -> OpenAi {
    OpenAi::start(|body| match openai::replied(body) {
        0 => openai::tool_calls(&[
            ("call_i", "probe__idempotent_effect", json!({"key": "idempotent"})),
            ("call_p", "probe__effect_ungated", json!({"key": "plain"})),
            ("call_g", "probe__effect", json!({"key": "gated"})),
        ]),
        _ => openai::text("done"),
    })
    .await
}

/// Runs and approves until the run has ended or the process is gone. True: it lived.
async fn live(host: &Process) -> bool {
    let Ok(answer) = host.post(PATH, &json!({"message": "go"})).await else { return false };
    let path = format!("{PATH}/{}/continue", answer.body["runId"].as_str().expect("an id"));
    host.post(&path, &json!({"action": "APPROVE"}))
        .await
        .is_ok_and(|answer| answer.body["status"] == "COMPLETED")
}

/// Answers what the run asks for until it has ended: of a call in doubt, what its effect says. None: the process
/// was gone first.
async fn bring_to_an_end(host: &Process, run: &str) -> Option<Value> {
    let mut state = at_rest(host, run).await?;
    while state["status"] == "PAUSED" {
        let action = &state["metadata"]["requiredAction"];
        let args: Value = serde_json::from_str(action["args"].as_str().expect("args")).expect("JSON");
        let happened = host.effects(args["key"].as_str().expect("a key")).await == 1;
        let decision = match (action["type"].as_str(), happened) {
            (Some("TOOL_APPROVAL"), _) => json!({"action": "APPROVE", "approvalId": action["approvalId"]}),
            (_, true) => json!({"action": "RESULT", "output": "1", "approvalId": action["approvalId"]}),
            (_, false) => json!({"action": "RETRY", "approvalId": action["approvalId"]}),
        };
        let answer = host.post(&format!("{PATH}/{run}/continue"), &decision).await.ok()?;
        assert_eq!(answer.status, 200, "{answer:?}");
        state = answer.body;
    }
    Some(state)
}

/// The run, once it is paused or has ended; none if the process is gone first.
async fn at_rest(host: &Process, run: &str) -> Option<Value> {
    let mut state = host.try_get(&format!("{PATH}/{run}")).await.ok()?.body;
    while state["status"] == "RUNNING" {
        tokio::time::sleep(Duration::from_millis(10)).await;
        state = host.try_get(&format!("{PATH}/{run}")).await.ok()?.body;
    }
    Some(state)
}

/// What must hold however often and wherever the process died: each effect once, no gap, nothing broken.
async fn check(host: &Process, run: &Value, point: &str) {
    assert_eq!((&run["status"], &run["content"]), (&json!("COMPLETED"), &json!("done")), "{point}: {run}");
    for effect in ["idempotent", "plain", "gated"] {
        assert_eq!(host.effects(effect).await, 1, "{point}: {effect}");
    }
    let database = host.folder.path().join("holdfast.db");
    let gaps = "select cast(max(seq) - count(*) as text) from run_events group by run_id";
    assert_eq!(text(&database, gaps).await, ["0"], "{point}: the journal has no gaps");
    assert_eq!(text(&database, "pragma integrity_check").await, ["ok"], "{point}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_repeated_at_any_event() {
    for moment in ["before", "after"] {
        let mut points = 0;
        for event in 1.. {
            let point = format!("{moment}:{event}");
            let model = model().await;
            let kill = [(KILL, point.as_str())];
            let mut host = Process::start_with(&["probe"], &model.config(), &kill).await;
            if live(&host).await {
                break;
            }
            points += 1;
            host.restart().await;
            let runs = host.runs().await;
            if runs.is_empty() {
                assert_eq!(point, "before:1", "only a run that was not stored is gone");
                continue;
            }
            let run = bring_to_an_end(&host, &runs[0]).await.expect("nothing kills it now");
            check(&host, &run, &point).await;
            let bought = model.asked().len();
            let lost_in_flight = usize::from(moment == "before");
            assert!(
                (2..=2 + lost_in_flight).contains(&bought),
                "{point}: the model was asked {bought} times"
            );
        }
        // Created, replied, three calls with start and end, paused, decided, replied with completed.
        assert!(points >= 11, "{moment}: {points} points");
    }
}

/// The process that takes the run up is killed as well, a few events later; then the next one.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_repeated_where_the_recovery_is_killed_too() {
    let mut deaths = 0;
    for event in 1.. {
        let model = model().await;
        let first = format!("after:{event}");
        let mut host = Process::start_with(&["probe"], &model.config(), &[(KILL, &first)]).await;
        if live(&host).await {
            break;
        }
        let mut point = first;
        let runs = {
            let second = format!("before:{}", 1 + event % 4);
            host.restart_with(&[(KILL, &second)]).await;
            point = format!("{point}, {second}");
            host.runs().await
        };
        if bring_to_an_end(&host, &runs[0]).await.is_none() {
            deaths += 1;
            let third = format!("after:{}", 1 + event % 3);
            host.restart_with(&[(KILL, &third)]).await;
            point = format!("{point}, {third}");
            deaths += u32::from(bring_to_an_end(&host, &runs[0]).await.is_none());
        }
        host.restart().await;
        let run = bring_to_an_end(&host, &runs[0]).await.expect("nothing kills it now");
        check(&host, &run, &point).await;
        let replies = "select cast(count(*) as text) from run_events where kind = 'replied'";
        assert_eq!(text(&host.folder.path().join("holdfast.db"), replies).await, ["2"], "{point}");
        eprintln!("killed at {point}: asked the model {} times", model.asked().len());
    }
    assert!(deaths >= 10, "the recovery was killed {deaths} times");
}
