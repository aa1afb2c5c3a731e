//! A question outlives `kill -9`, its answer is carried out once, and a call that was under way with its answer is in
//! doubt like any other.

use serde_json::{Value, json};

use crate::support::openai::{self, OpenAi};
use crate::support::process::{Process, text};

const PATH: &str = "/api/agents/agent/runs";

/// Where the process is to die (`store/kill.rs`).
const KILL: &str = "HOLDFAST_TEST_KILL";

async fn model(tool: &'static str, ms: u64) -> OpenAi {
    OpenAi::start(move |body| match openai::replied(body) {
        0 => openai::tool_calls(&[("call_1", tool, json!({"key": "apples", "ms": ms}))]),
        _ => openai::text("done"),
    })
    .await
}

fn answer() -> Value {
    json!({"action": "APPROVE", "answer": {"count": 5}})
}

async fn counts(host: &Process) -> [u64; 3] {
    [
        host.effects("apples.asked").await,
        host.effects("apples.resumed").await,
        host.effects("apples.finished").await,
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_answered_after_a_kill() {
    let model = model("probe__ask", 0).await;
    let mut host = Process::start(&["probe"], &model.config()).await;
    let paused = host.run("go").await;
    let run = paused["runId"].as_str().expect("an id");
    host.restart().await;

    let read = host.get(&format!("{PATH}/{run}")).await.body;
    assert_eq!(read["metadata"]["requiredActions"], paused["metadata"]["requiredActions"]);
    let done = host.resume(run, None, &answer()).await.body;
    assert_eq!(
        (&done["status"], &done["tools"][0]["toolOutput"]),
        (&json!("COMPLETED"), &json!("5 apples, attempt 1")),
        "{done}"
    );
    host.restart().await;
    let repeat = json!({"approvalId": paused["metadata"]["requiredAction"]["approvalId"], "action": "APPROVE",
        "answer": {"count": 5}});
    assert_eq!(host.resume(run, None, &repeat).await.status, 200);
    assert_eq!((counts(&host).await, model.asked().len()), ([1, 1, 1], 2));
}

/// The process dies while the call goes on. One that is safe to repeat goes on again, with the same answer and the
/// same key; it is not begun again.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeatable_call_goes_on_again() {
    let model = model("probe__ask_idempotent", 60_000).await;
    let mut host = Process::start(&["probe"], &model.config()).await;
    let run = host.run("go").await["runId"].as_str().expect("an id").to_owned();
    let _lost = host.begin(&format!("{PATH}/{run}/continue"), &answer());
    host.wait_for_effects("apples.resumed", 1).await;
    host.restart().await;
    let done = host.wait_for(&run, &["COMPLETED"]).await;
    assert_eq!(done["tools"][0]["toolOutput"], "5 apples, attempt 2", "{done}");
    assert_eq!((counts(&host).await, done["tools"].as_array().map(Vec::len)), ([1, 2, 1], Some(1)));
}

/// Of any other a human says what became of it; RETRY goes on again, and does not ask again.
#[tokio::test(flavor = "multi_thread")]
async fn any_other_call_is_a_question_of_its_outcome() {
    let retry = json!({"action": "RETRY"});
    let result = json!({"action": "RESULT", "output": "it had worked"});
    let fail = json!({"action": "FAIL"});
    for (decision, outcome, said, resumed) in [
        (retry, "ok", "5 apples, attempt 2", 2),
        (result, "ok", "it had worked", 1),
        (fail, "interrupted", "", 1),
    ] {
        let model = model("probe__ask", 60_000).await;
        let mut host = Process::start(&["probe"], &model.config()).await;
        let run = host.run("go").await["runId"].as_str().expect("an id").to_owned();
        let _lost = host.begin(&format!("{PATH}/{run}/continue"), &answer());
        host.wait_for_effects("apples.resumed", 1).await;
        host.restart().await;
        let paused = host.wait_for(&run, &["PAUSED"]).await;
        let action = &paused["metadata"]["requiredAction"];
        assert_eq!(
            (&action["type"], &action["answerSchema"]),
            (&json!("TOOL_OUTCOME_UNKNOWN"), &Value::Null)
        );
        let done = host.resume(&run, None, &decision).await.body;
        let tool = &done["tools"][0];
        assert_eq!((&done["status"], &tool["outcome"]), (&json!("COMPLETED"), &json!(outcome)), "{done}");
        assert!(tool["toolOutput"].as_str().is_some_and(|text| text.contains(said)), "{done}");
        assert_eq!(counts(&host).await, [1, resumed, u64::from(resumed == 2)], "{decision}");
    }
}

/// Starts, answers, and lives until the run has ended or the process is gone. True: it lived.
async fn live(host: &Process) -> bool {
    let Ok(run) = host.post(PATH, &json!({"message": "go"})).await else { return false };
    let path = format!("{PATH}/{}/continue", run.body["runId"].as_str().expect("an id"));
    host.post(&path, &answer()).await.is_ok_and(|done| done.body["status"] == "COMPLETED")
}

/// The process is killed at every event that such a run writes, before and after its commit.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_repeated_at_any_event() {
    for tool in ["probe__ask", "probe__ask_idempotent"] {
        for moment in ["before", "after"] {
            let mut points = 0;
            for event in 1.. {
                let point = format!("{tool} {moment}:{event}");
                let model = model(tool, 0).await;
                let kill = format!("{moment}:{event}");
                let mut host = Process::start_with(&["probe"], &model.config(), &[(KILL, &kill)]).await;
                if live(&host).await {
                    break;
                }
                points += 1;
                host.restart().await;
                let runs = host.runs().await;
                let Some(run) = runs.first() else {
                    assert_eq!(kill, "before:1", "only a run that was not stored is gone");
                    continue;
                };
                bring_to_an_end(&host, run, &point).await;
            }
            // Created, replied, call started, suspended, paused, decided, resumed, finished, replied with completed.
            assert!(points >= 9, "{tool} {moment}: {points} points");
        }
    }
}

async fn bring_to_an_end(host: &Process, run: &str, point: &str) {
    let mut state = host.wait_for(run, &["PAUSED", "COMPLETED"]).await;
    let mut in_doubt = false;
    while state["status"] == "PAUSED" {
        let decision = match state["metadata"]["requiredAction"]["type"].as_str() {
            Some("TOOL_INPUT") => answer(),
            Some("TOOL_OUTCOME_UNKNOWN") => {
                in_doubt = true;
                json!({"action": "RETRY"})
            }
            other => panic!("{point}: {other:?}"),
        };
        state = host.resume(run, None, &decision).await.body;
    }
    assert_eq!(
        (&state["status"], &state["tools"][0]["outcome"]),
        (&json!("COMPLETED"), &json!("ok")),
        "{point}"
    );
    let [asked, resumed, finished] = counts(host).await;
    // A start whose end was not written is in doubt, and a human (or the tool's word) lets it happen again; nothing
    // else happens twice.
    let repeatable = point.contains("idempotent");
    let most = if in_doubt || repeatable { 3 } else { 2 };
    assert!(asked >= 1 && resumed >= 1 && asked + resumed <= most, "{point}: {asked} {resumed}");
    assert_eq!(resumed, finished, "{point}");
    let database = host.folder.path().join("holdfast.db");
    let gaps = "select cast(max(seq) - count(*) as text) from run_events group by run_id";
    assert_eq!(text(&database, gaps).await, ["0"], "{point}: the journal has no gaps");
}
