//! A run that was under way at a `kill -9` is taken up from its journal: what was answered is not asked
//! again, what finished is not run again, and what nobody knows is a question to a human.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::openai::{self, OpenAi};
use crate::support::process::Process;

/// A model that calls `tool` with these arguments, then says it is done.
async fn calling(tool: &'static str, arguments: Value) -> OpenAi {
    OpenAi::start(move |body| match openai::replied(body) {
        0 => openai::tool_calls(&[("call_1", tool, arguments.clone())]),
        _ => openai::text("done"),
    })
    .await
}

/// Starts a run that nobody waits for, and returns its id once `until` holds.
async fn start(host: &Process, until: impl AsyncFn(&Process) -> bool) -> String {
    let (url, folder) = (host.url.clone(), host.folder.path().to_owned());
    let post = reqwest::Client::new().post(format!("{url}/api/agents/agent/runs"));
    let request = post.bearer_auth(crate::support::host::ADMIN).json(&json!({"message": "go"}));
    tokio::spawn(async move { request.send().await.map(drop) });
    for _ in 0..600 {
        if until(host).await {
            return host.runs().await.pop().expect("a run");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the run in {} did not come so far", folder.display());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_to_the_model_is_asked_again() {
    let model = OpenAi::start(|_| openai::text("done")).await;
    model.delay(Duration::from_mins(1));
    let mut host = Process::start(&["probe"], &model.config()).await;
    let asked = async |_: &Process| !model.asked().is_empty();
    let run = start(&host, asked).await;
    host.kill().await;
    model.delay(Duration::ZERO);
    host.restart().await;
    let run = host.wait_for(&run, &["COMPLETED"]).await;
    assert_eq!((&run["content"], model.asked().len()), (&json!("done"), 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_in_doubt_is_a_question_to_a_human() {
    let retry = json!({"action": "RETRY"});
    let result = json!({"action": "RESULT", "output": "it had worked"});
    let fail = json!({"action": "FAIL", "comment": "checked by hand"});
    for (decision, outcome, started) in [(retry, "ok", 2), (result, "ok", 1), (fail, "interrupted", 1)] {
        let model = calling("probe__slow", json!({"ms": 1500, "key": "k"})).await;
        let mut host = Process::start(&["probe"], &model.config()).await;
        let run = start(&host, async |host: &Process| host.effects("k.started").await == 1).await;
        host.restart().await;

        let paused = host.wait_for(&run, &["PAUSED"]).await;
        let action = &paused["metadata"]["requiredAction"];
        assert_eq!(
            (&action["type"], &action["tool"]),
            (&json!("TOOL_OUTCOME_UNKNOWN"), &json!("probe__slow"))
        );
        let path = format!("/api/agents/agent/runs/{run}/continue");
        let wrong = host.post(&path, &json!({"action": "APPROVE"})).await.expect("an answer");
        assert_eq!(wrong.status, 400, "{wrong:?}");
        let done = host.post(&path, &decision).await.expect("an answer").body;
        assert_eq!(
            (&done["status"], &done["tools"][0]["outcome"]),
            (&json!("COMPLETED"), &json!(outcome)),
            "{done}"
        );
        assert_eq!(host.effects("k.started").await, started, "{decision}");
        assert_eq!(model.asked().len(), 2, "no answer is bought twice");
    }
}

/// A call that is safe to repeat is repeated without asking, under the same idempotency key.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeatable_call_in_doubt_runs_again() {
    let model = calling("probe__slow_idempotent", json!({"ms": 60_000, "key": "k"})).await;
    let mut host = Process::start(&["probe"], &model.config()).await;
    let run = start(&host, async |host: &Process| host.effects("k.started").await == 1).await;
    host.restart().await;
    let done = host.wait_for(&run, &["COMPLETED"]).await;
    assert_eq!(host.effects("k.finished").await, 1);
    assert_eq!(done["tools"][0]["toolOutput"], "attempt 2, the same key", "{done}");
}

/// The process dies at random moments of runs that pause; whatever happens, an approved effect happens at
/// most once, and in the end every run has ended.
#[tokio::test(flavor = "multi_thread")]
async fn random_kills_lose_nothing_and_repeat_nothing() {
    let model = OpenAi::start(|body| match openai::replied(body) {
        0 => openai::tool_calls(&[("call_1", "probe__count", json!({"key": "x"}))]),
        1 => {
            openai::tool_calls(&[("call_2", "probe__effect", json!({"key": body["messages"][0]["content"]}))])
        }
        _ => openai::text("done"),
    })
    .await;
    let mut host = Process::start(&["probe"], &model.config()).await;
    // A linear congruential generator: the moments are the same in every run of this test.
    let mut seed = 20_261_124_u64;
    for round in 0..15 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let moment = Duration::from_micros((seed >> 33) % 60_000);
        let message = format!("round-{round}");
        let body = json!({"message": message});
        let life = async {
            let paused = host.post("/api/agents/agent/runs", &body).await?.body;
            let path =
                format!("/api/agents/agent/runs/{}/continue", paused["runId"].as_str().unwrap_or_default());
            host.post(&path, &json!({"action": "APPROVE"})).await.map(drop)
        };
        // An error means that the server was killed before it answered.
        let _ = tokio::time::timeout(moment, life).await;
        host.restart().await;
        for run in host.runs().await {
            let mut state = host.wait_for(&run, &["PAUSED", "COMPLETED", "FAILED"]).await;
            while state["status"] == "PAUSED" {
                let action = &state["metadata"]["requiredAction"];
                let args: Value = serde_json::from_str(action["args"].as_str().expect("args")).expect("JSON");
                let happened = host.effects(args["key"].as_str().expect("a key")).await == 1;
                let decision = match (action["type"].as_str(), happened) {
                    (Some("TOOL_APPROVAL"), _) => json!({"action": "APPROVE"}),
                    (_, true) => json!({"action": "RESULT", "output": "1"}),
                    (_, false) => json!({"action": "RETRY"}),
                };
                let path = format!("/api/agents/agent/runs/{run}/continue");
                state = host.post(&path, &decision).await.expect("an answer").body;
            }
            assert_eq!(state["status"], "COMPLETED", "round {round}: {state}");
        }
    }
    let runs = host.runs().await;
    let mut effects = 0;
    for round in 0..15 {
        let count = host.effects(&format!("round-{round}")).await;
        assert!(count <= 1, "round {round}: {count}");
        effects += usize::try_from(count).expect("0 or 1");
    }
    assert_eq!(effects, runs.len(), "each run that was admitted had its effect once");
    let check =
        crate::support::process::text(&host.folder.path().join("holdfast.db"), "pragma integrity_check")
            .await;
    assert_eq!(check, ["ok"]);
}
