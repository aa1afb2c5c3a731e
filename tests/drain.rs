//! SIGTERM: no new runs, a grace period for the ones under way, and their state is what the journal says.

use std::time::Duration;

use serde_json::json;

use crate::support::openai::{self, OpenAi};
use crate::support::process::Process;

async fn slow(ms: u64) -> OpenAi {
    OpenAi::start(move |body| match openai::replied(body) {
        0 => openai::tool_calls(&[("call_1", "probe__slow_idempotent", json!({"ms": ms, "key": "k"}))]),
        _ => openai::text("done"),
    })
    .await
}

/// Sends a run that nobody waits for yet, once its call is under way.
async fn under_way(host: &Process) -> tokio::task::JoinHandle<reqwest::Result<serde_json::Value>> {
    let post = reqwest::Client::new().post(format!("{}/api/agents/agent/runs", host.url));
    let request = post.bearer_auth(crate::support::host::ADMIN).json(&json!({"message": "go"}));
    let answer = tokio::spawn(async move { request.send().await?.json().await });
    while host.effects("k.started").await == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_under_way_ends_within_the_grace_period() {
    let model = slow(1500).await;
    let mut host = Process::start(&["probe"], &model.config()).await;
    let answer = under_way(&host).await;
    let url = format!("{}/api/agents/agent/runs", host.url);
    let (status, refused) = tokio::join!(host.terminate(), async {
        // The signal takes a moment; until then runs are admitted.
        loop {
            let post = reqwest::Client::new().post(&url).bearer_auth(crate::support::host::ADMIN);
            // An unknown model is a 400 before the signal, and nothing starts.
            let request = post.json(&json!({"message": "x"}));
            match request.send().await {
                Ok(response) if response.status() == 503 => {
                    return response.headers().contains_key("retry-after");
                }
                Ok(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                Err(_) => return false,
            }
        }
    });
    assert!(status.success(), "{status}");
    assert!(refused, "new work is refused with Retry-After");
    let run = answer.await.expect("no panic").expect("an answer");
    assert_eq!((&run["status"], &run["content"]), (&json!("COMPLETED"), &json!("done")), "{run}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_the_same_database_is_refused() {
    let model = slow(1).await;
    let host = Process::start(&["probe"], &model.config()).await;
    let second = tokio::process::Command::new(env!("CARGO_BIN_EXE_holdfast"))
        .arg("serve")
        .current_dir(host.folder.path())
        .env("HOLDFAST_ADMIN_TOKEN", crate::support::host::ADMIN)
        .output()
        .await
        .expect("it runs");
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("another holdfast process is using this database"), "{said}");
    assert_eq!(host.run("go").await["status"], "COMPLETED", "the first is not disturbed");
}

/// A call that nobody may repeat is a question at the next start; who waits for the run is told where it is.
#[tokio::test(flavor = "multi_thread")]
async fn what_takes_longer_and_cannot_be_repeated_is_a_question_at_the_next_start() {
    let model = OpenAi::start(|body| match openai::replied(body) {
        0 => openai::tool_calls(&[("call_1", "probe__slow", json!({"ms": 60_000, "key": "k"}))]),
        _ => openai::text("done"),
    })
    .await;
    let config = format!("shutdown_grace_ms = 200\n{}", model.config());
    let mut host = Process::start(&["probe"], &config).await;
    let answer = under_way(&host).await;
    assert!(host.terminate().await.success());
    let told = answer.await.expect("no panic").expect("an answer");
    assert_eq!(told["status"], "RUNNING", "{told}");

    host.restart().await;

    let run = told["runId"].as_str().expect("an id");
    let paused = host.wait_for(run, &["PAUSED"]).await;
    assert_eq!(paused["metadata"]["requiredAction"]["type"], "TOOL_OUTCOME_UNKNOWN", "{paused}");
    assert_eq!((host.effects("k.started").await, host.effects("k.finished").await), (1, 0));
    let done = host.resume(run, None, &json!({"action": "FAIL"})).await.body;
    assert_eq!((&done["status"], model.asked().len()), (&json!("COMPLETED"), 2));
}

/// A decision that comes too late changes nothing, and is taken at the next start.
#[tokio::test(flavor = "multi_thread")]
async fn decisions_are_refused_while_the_server_stops() {
    let model = OpenAi::start(|body| {
        let gated = body["messages"].to_string().contains("pause");
        match openai::replied(body) {
            0 if gated => openai::tool_calls(&[("call_1", "probe__effect", json!({"key": "gated"}))]),
            0 => openai::tool_calls(&[("call_1", "probe__slow", json!({"ms": 1500, "key": "k"}))]),
            _ => openai::text("done"),
        }
    })
    .await;
    let mut host = Process::start(&["probe"], &model.config()).await;
    let paused = host.run("pause").await;
    let answer = under_way(&host).await;
    let path =
        format!("{}/api/agents/agent/runs/{}/continue", host.url, paused["runId"].as_str().expect("an id"));
    let (status, refused) = tokio::join!(host.terminate(), async {
        // The signal takes a moment; until then this is the answer of a server that knows the run.
        loop {
            let post = reqwest::Client::new().post(&path).bearer_auth(crate::support::host::ADMIN);
            let body = json!({"action": "APPROVE", "approvalId": "none"});
            let response = post.json(&body).send().await.expect("it answers while it drains");
            match response.status().as_u16() {
                404 => tokio::time::sleep(Duration::from_millis(10)).await,
                status => return (status, response.headers().contains_key("retry-after")),
            }
        }
    });
    assert!(status.success(), "{status}");
    assert_eq!(refused, (503, true));
    assert_eq!(answer.await.expect("no panic").expect("an answer")["status"], "COMPLETED");

    host.restart().await;
    let run = paused["runId"].as_str().expect("an id");
    assert_eq!(host.resume(run, None, &json!({"action": "APPROVE"})).await.body["status"], "COMPLETED");
    assert_eq!(host.effects("gated").await, 1);
}
