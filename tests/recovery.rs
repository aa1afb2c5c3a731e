//! A run that was under way at a `kill -9` is taken up from its journal: what was answered is not asked
//! again, what finished is not run again, and what nobody knows is a question to a human.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::guests::guest;
use crate::support::openai::{self, OpenAi};
use crate::support::process::Process;
use crate::support::until;

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

/// What only reads may be read again; the calls of the turn that had finished are not.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_in_doubt_runs_again_and_what_finished_does_not() {
    let model = OpenAi::start(|body| match openai::replied(body) {
        0 => openai::tool_calls(&[
            ("call_1", "probe__effect_ungated", json!({"key": "before"})),
            ("call_2", "probe__slow_read", json!({"ms": 60_000, "key": "k"})),
            ("call_3", "probe__effect_ungated", json!({"key": "after"})),
        ]),
        _ => openai::text("done"),
    })
    .await;
    let mut host = Process::start(&["probe"], &model.config()).await;
    let run = start(&host, async |host: &Process| host.effects("k.started").await == 1).await;
    assert_eq!(host.effects("after").await, 0, "its turn has not come");

    host.restart().await;

    let done = host.wait_for(&run, &["COMPLETED"]).await;
    let outputs: Vec<&Value> =
        done["tools"].as_array().expect("tools").iter().map(|tool| &tool["toolOutput"]).collect();
    assert_eq!(outputs, [&json!("1"), &json!("attempt 2, the same key"), &json!("1")]);
    assert_eq!((host.effects("before").await, host.effects("after").await), (1, 1));
    assert_eq!(model.asked().len(), 2);
}

/// Two approved calls; the process dies in the first.
async fn killed_in_the_first_of_two_approved_calls(tool: &'static str) -> (OpenAi, Process, String, Value) {
    let model = OpenAi::start(move |body| match openai::replied(body) {
        0 => openai::tool_calls(&[
            ("call_1", tool, json!({"ms": 60_000, "key": "k"})),
            ("call_2", "probe__effect", json!({"key": "second"})),
        ]),
        _ => openai::text("done"),
    })
    .await;
    let ask = format!("tools = [\"*\"]\napproval = {{ \"{}\" = \"ask\" }}", tool.replace("__", "."));
    let mut host = Process::start(&["probe"], &model.config().replace("tools = [\"*\"]", &ask)).await;
    let paused = host.run("go").await;
    let run = paused["runId"].as_str().expect("an id").to_owned();
    let actions = paused["metadata"]["requiredActions"].as_array().expect("actions");
    assert_eq!(actions.len(), 2);
    let decision = |action: &Value| json!({"approvalId": action["approvalId"], "action": "APPROVE"});
    let decisions = json!({"decisions": actions.iter().map(decision).collect::<Vec<_>>()});
    drop(host.begin(&format!("/api/agents/agent/runs/{run}/continue"), &decisions));
    host.wait_for_effects("k.started", 1).await;
    host.kill().await;
    (model, host, run, decisions)
}

/// What was approved stays approved: what can be repeated is, and what had not begun happens once.
#[tokio::test(flavor = "multi_thread")]
async fn approved_calls_go_on_after_a_kill() {
    let (model, mut host, run, decisions) =
        killed_in_the_first_of_two_approved_calls("probe__slow_idempotent").await;
    assert_eq!(host.effects("second").await, 0);

    host.restart().await;

    // A client whose connection broke says it again, and gets the answer.
    let again = host.resume(&run, None, &decisions).await;
    assert_eq!((again.status, &again.body["status"]), (200, &json!("COMPLETED")), "{again:?}");
    assert_eq!(again.body["tools"][0]["toolOutput"], "attempt 2, the same key");
    assert_eq!((host.effects("k.finished").await, host.effects("second").await), (1, 1));
    assert_eq!(model.asked().len(), 2);
}

/// A plugin that changed meanwhile inherits neither the repeat nor the approval that was not used yet: both are the
/// version's that was approved.
#[tokio::test(flavor = "multi_thread")]
async fn approved_calls_go_on_with_the_version_that_was_approved() {
    let (_model, mut host, run, decisions) =
        killed_in_the_first_of_two_approved_calls("probe__slow_idempotent").await;
    let file = host.folder.path().join("plugins/probe.wasm");
    // It has none of the probe's tools.
    std::fs::copy(guest("calculator"), &file).expect("it can be replaced");

    host.restart().await;

    let done = host.resume(&run, None, &decisions).await.body;
    assert_eq!(done["status"], "COMPLETED", "{done}");
    assert_eq!(done["tools"][0]["toolOutput"], "attempt 2, the same key");
    assert_eq!((host.effects("k.finished").await, host.effects("second").await), (1, 1));
}

/// Nobody may be told that a call did not run when it may have, least of all because its tool is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_in_doubt_whose_plugin_is_gone_is_a_question_too() {
    let model = calling("probe__slow", json!({"ms": 60_000, "key": "k"})).await;
    let mut host = Process::start(&["probe"], &model.config()).await;
    let run = start(&host, async |host: &Process| host.effects("k.started").await == 1).await;
    host.kill().await;
    std::fs::remove_file(host.folder.path().join("plugins/probe.wasm")).expect("it was there");
    host.restart().await;

    let paused = host.wait_for(&run, &["PAUSED", "COMPLETED", "FAILED"]).await;

    let action = &paused["metadata"]["requiredAction"];
    assert_eq!(
        (&action["type"], &action["tool"]),
        (&json!("TOOL_OUTCOME_UNKNOWN"), &json!("probe__slow")),
        "{paused}"
    );
    let retried = host.resume(&run, None, &json!({"action": "RETRY"})).await.body;
    assert_eq!(
        (&retried["status"], &retried["tools"][0]["outcome"]),
        (&json!("COMPLETED"), &json!("interrupted")),
        "{retried}"
    );
    let told = retried["tools"][0]["toolOutput"].as_str().expect("an output");
    assert!(told.contains("Whether it took effect is not known"), "{told}");
}

/// A retry is one attempt: killed in it, the run asks anew, and the old answer does not count for the new
/// question.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_is_killed_asks_again() {
    let model = calling("probe__slow", json!({"ms": 60_000, "key": "k"})).await;
    let mut host = Process::start(&["probe"], &model.config()).await;
    let run = start(&host, async |host: &Process| host.effects("k.started").await == 1).await;
    host.restart().await;
    let first = host.wait_for(&run, &["PAUSED"]).await["metadata"]["requiredAction"]["approvalId"].clone();
    let retry = json!({"action": "RETRY", "approvalId": first});
    drop(host.begin(&format!("/api/agents/agent/runs/{run}/continue"), &retry));
    host.wait_for_effects("k.started", 2).await;

    host.restart().await;

    let second = host.wait_for(&run, &["PAUSED"]).await["metadata"]["requiredAction"]["approvalId"].clone();
    assert_ne!(first, second);
    let repeat = host.resume(&run, None, &retry).await;
    assert_eq!((repeat.status, &repeat.body["status"]), (200, &json!("PAUSED")), "{repeat:?}");
    let done = host.resume(&run, None, &json!({"action": "FAIL"})).await.body;
    assert_eq!(done["status"], "COMPLETED", "{done}");
    assert_eq!((host.effects("k.started").await, host.effects("k.finished").await), (2, 0));
}

/// A call in doubt and a gated one of the same turn: two questions of two kinds, each answered in its words.
#[tokio::test(flavor = "multi_thread")]
async fn questions_of_both_kinds_are_answered_together() {
    let model = OpenAi::start(|body| match openai::replied(body) {
        0 => openai::tool_calls(&[
            ("call_1", "probe__slow", json!({"ms": 60_000, "key": "k"})),
            ("call_2", "probe__effect", json!({"key": "gated"})),
        ]),
        _ => openai::text("done"),
    })
    .await;
    let mut host = Process::start(&["probe"], &model.config()).await;
    let run = start(&host, async |host: &Process| host.effects("k.started").await == 1).await;
    host.restart().await;
    let paused = host.wait_for(&run, &["PAUSED"]).await;
    let actions = &paused["metadata"]["requiredActions"];
    assert_eq!(
        (&actions[0]["type"], &actions[1]["type"]),
        (&json!("TOOL_OUTCOME_UNKNOWN"), &json!("TOOL_APPROVAL")),
        "{paused}"
    );

    for word in ["APPROVE", "REJECT", "RETRY", "FAIL"] {
        let answer = host.resume(&run, None, &json!({"action": word})).await;
        assert_eq!(answer.status, 400, "{word} does not answer both: {answer:?}");
    }
    let decisions = json!({"decisions": [
        {"approvalId": actions[0]["approvalId"], "action": "RESULT", "output": "seen"},
        {"approvalId": actions[1]["approvalId"], "action": "APPROVE"},
    ]});
    let done = host.resume(&run, None, &decisions).await.body;
    assert_eq!(done["status"], "COMPLETED", "{done}");
    assert_eq!((host.effects("k.started").await, host.effects("gated").await), (1, 1));
}

/// The answer is there; only the question about next questions is asked again.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_not_bought_again_for_its_follow_ups() {
    let model = OpenAi::start(|body| {
        if body.to_string().contains("follow-up questions") {
            openai::text("[\"And now?\"]")
        } else {
            openai::text("The answer.")
        }
    })
    .await;
    let mut host = Process::start(&["probe"], &model.config()).await;
    model.delay_from(2, Duration::from_mins(1));
    drop(host.begin("/api/agents/agent/runs", &json!({"message": "go", "generateFollowups": true})));
    until("the second question", async || model.asked().len() == 2).await;
    host.kill().await;
    model.delay_from(2, Duration::ZERO);
    host.restart().await;
    let run = host.runs().await.pop().expect("a run");
    let done = host.wait_for(&run, &["COMPLETED"]).await;
    assert_eq!(
        (&done["content"], &done["metadata"]["followups"]),
        (&json!("The answer."), &json!(["And now?"]))
    );
    let follow_ups = |body: &&Value| body.to_string().contains("follow-up questions");
    assert_eq!((model.asked().len(), model.asked().iter().filter(follow_ups).count()), (3, 2));
}
