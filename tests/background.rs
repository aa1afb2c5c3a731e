//! A run that was accepted in the background runs, whatever happens to the process; the queue has a bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::response::IntoResponse as _;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::gated::Gated;
use crate::support::host::ONE_AGENT;
use crate::support::openai::{self, OpenAi};
use crate::support::process::Process;
use crate::support::{Answer, TestHost};

const BACKGROUND: &str = "/api/agents/agent/runs/background";

fn settings(background: &str) -> String {
    format!("[background]\n{background}\n{ONE_AGENT}")
}

async fn queue(host: &TestHost, message: &str) -> Value {
    let answer = host.post(BACKGROUND, &json!({"message": message})).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.body
}

/// Reads the run until it has ended.
async fn ended(host: &TestHost, run: &Value) -> Value {
    loop {
        let body = host.read(run).await;
        let status = body["status"].as_str().expect("a status");
        if !["QUEUED", "RUNNING"].contains(&status) {
            return body;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn path(run: &Value, suffix: &str) -> String {
    format!("/api/agents/agent/runs/{}{suffix}", run["runId"].as_str().expect("a runId"))
}

async fn queue_as(host: &TestHost, key: &str, path: &str, message: &str) -> Answer {
    let request = host.request(Method::POST, path).header("Idempotency-Key", key);
    host.send(request.json(&json!({"message": message}))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queued_run_is_answered_at_once_and_runs_by_itself() {
    let (model, mut arrivals) = Gated::new();
    let host = TestHost::start(&[], ONE_AGENT, model.clone()).await;
    let answer = host.post(BACKGROUND, &json!({"message": "hello"})).await;

    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(answer.body["status"], "QUEUED");
    assert_eq!(answer.body.as_object().expect("an object").len(), 3);
    let location = answer.headers["location"].to_str().expect("text").to_owned();
    assert_eq!(location, path(&answer.body, ""));
    assert_eq!(arrivals.next().await, "hello");
    let running = host.get(&location).await.body;
    assert_eq!((&running["status"], &running["sessionId"]), (&json!("RUNNING"), &answer.body["sessionId"]));
    model.answer_all();
    let run = ended(&host, &answer.body).await;
    assert_eq!((&run["status"], &run["content"]), (&json!("COMPLETED"), &json!("re: hello")));
    assert_eq!(host.get(&path(&answer.body, "/status")).await.body, run, "an alias");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_runs_are_read_at_once() {
    let (model, _arrivals) = Gated::new();
    model.answer_all();
    let host = TestHost::start(&[], ONE_AGENT, model).await;
    let (first, second) = (host.run("one").await, host.run("two").await);
    let [a, b] = [&first, &second].map(|run| run["runId"].as_str().expect("a runId"));
    let statuses = async |ids: &str| host.get(&format!("/api/agents/agent/runs/status?runIds={ids}")).await;

    let both = statuses(&format!("{b},unknown,{a},{a}")).await;
    assert_eq!(both.body, json!([host.read(&second).await, host.read(&first).await]));
    let elsewhere = host.get(&format!("/api/agents/other/runs/status?runIds={a}")).await;
    assert_eq!((elsewhere.status, elsewhere.body), (200, json!([])), "another agent's runs look absent");
    let many = |count: usize| (0..count).map(|id| id.to_string()).collect::<Vec<_>>().join(",");
    assert_eq!(statuses(&many(100)).await.status, 200);
    for wrong in [many(101), String::new()] {
        let answer = statuses(&wrong).await;
        assert_eq!((answer.status, &answer.body["invalidParams"][0]["field"]), (400, &json!("runIds")));
    }
}

/// One worker; the run it has and those in the queue all survive SIGKILL, and each call happens once.
#[tokio::test(flavor = "multi_thread")]
async fn queued_runs_survive_a_kill_and_start_by_themselves() {
    let stuck = Arc::new(AtomicBool::new(true));
    let model = OpenAi::start({
        let stuck = stuck.clone();
        move |body| match (stuck.load(Ordering::SeqCst), openai::replied(body)) {
            // Its headers come, and nothing else ever.
            (true, _) => axum::body::Body::from_stream(futures_util::stream::pending::<
                Result<axum::body::Bytes, std::io::Error>,
            >())
            .into_response(),
            (false, 0) => {
                let messages = body["messages"].as_array().expect("messages");
                let key =
                    messages.iter().rfind(|m| m["role"] == "user").expect("a message")["content"].clone();
                openai::tool_calls(&[("call_1", "probe__effect_ungated", json!({"key": key}))])
            }
            (false, _) => openai::text("done"),
        }
    })
    .await;
    let config = format!("[background]\nworkers = 1\n{}", model.config());
    let mut process = Process::start(&["probe"], &config).await;
    let mut runs = Vec::new();
    for key in ["k0", "k1", "k2"] {
        let answer = process.post(BACKGROUND, &json!({"message": key})).await.expect("an answer");
        assert_eq!(answer.status, 202, "{answer:?}");
        runs.push(answer.body["runId"].as_str().expect("a runId").to_owned());
    }
    process.wait_for(&runs[0], &["RUNNING"]).await;
    for run in &runs[1..] {
        process.wait_for(run, &["QUEUED"]).await;
    }

    process.kill().await;
    stuck.store(false, Ordering::SeqCst);
    process.restart().await;

    for (run, key) in runs.iter().zip(["k0", "k1", "k2"]) {
        let run = process.wait_for(run, &["COMPLETED", "FAILED"]).await;
        assert_eq!(run["status"], "COMPLETED", "{run}");
        assert_eq!(process.effects(key).await, 1);
    }
    assert_eq!(process.runs().await, runs, "no run is there twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_a_429_and_cancelling_frees_a_place() {
    let (model, mut arrivals) = Gated::new();
    let host = TestHost::start(&[], &settings("workers = 1\nmax_queued = 2"), model.clone()).await;
    let at_work = queue(&host, "at work").await;
    assert_eq!(arrivals.next().await, "at work");
    let waiting = [queue(&host, "first").await, queue(&host, "second").await];

    let refused = host.post(BACKGROUND, &json!({"message": "third"})).await;
    assert_eq!(refused.status, 429, "{refused:?}");
    assert_eq!(refused.body["type"], "urn:problem-type:rate-limit-exceeded");
    let seconds: u64 = refused.headers["retry-after"].to_str().expect("text").parse().expect("seconds");
    assert!(seconds > 0);
    assert_eq!(host.run_count().await, 3, "a refused run leaves nothing");
    // It would have to wait for its session, and that is a place in the same queue.
    let body = json!({"message": "fourth", "sessionId": at_work["sessionId"]});
    assert_eq!(host.post("/api/agents/agent/runs", &body).await.status, 429);

    assert_eq!(host.cancel(&waiting[0]).await.status, 204);
    queue(&host, "third").await;
    model.answer_all();
    assert_eq!(arrivals.next().await, "second");
    assert_eq!(arrivals.next().await, "third");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_cancelled_in_the_queue_never_starts() {
    let (model, mut arrivals) = Gated::new();
    let host = TestHost::start(&[], &settings("workers = 1"), model.clone()).await;
    queue(&host, "at work").await;
    assert_eq!(arrivals.next().await, "at work");
    let runs = [queue(&host, "one").await, queue(&host, "two").await, queue(&host, "last").await];

    assert_eq!(host.cancel(&runs[0]).await.status, 204);
    let id = runs[1]["runId"].as_str().expect("a runId");
    assert_eq!(host.post(&format!("/api/v1/runs/{id}/cancel"), &json!({})).await.status, 204);
    assert_eq!(host.post("/api/v1/runs/unknown/cancel", &json!({})).await.status, 204);
    model.answer_all();

    assert_eq!(arrivals.next().await, "last", "the others were passed over");
    assert_eq!(ended(&host, &runs[2]).await["status"], "COMPLETED");
    for run in &runs[..2] {
        let run = host.read(run).await;
        assert_eq!((&run["status"], &run["startedAt"]), (&json!("CANCELLED"), &Value::Null));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_idempotency_key_is_one_queued_run() {
    let (model, mut arrivals) = Gated::new();
    let mut host = TestHost::start(&[], &settings("workers = 1"), model.clone()).await;
    queue(&host, "at work").await;
    assert_eq!(arrivals.next().await, "at work");

    let answers =
        futures_util::future::join_all((0..16).map(|_| queue_as(&host, "k", BACKGROUND, "once"))).await;
    for answer in &answers {
        assert_eq!((answer.status, &answer.body), (202, &answers[0].body), "{answer:?}");
    }
    assert_eq!(host.run_count().await, 2);
    assert_eq!(queue_as(&host, "k", BACKGROUND, "other").await.status, 422);
    assert_eq!(queue_as(&host, "k", "/api/agents/agent/runs", "once").await.status, 422);

    host.restart().await;
    let repeat = queue_as(&host, "k", BACKGROUND, "once").await;
    assert_eq!((repeat.status, &repeat.body), (202, &answers[0].body));
    model.answer_all();
    assert_eq!(ended(&host, &answers[0].body).await["status"], "COMPLETED");
    assert_eq!(queue_as(&host, "k", BACKGROUND, "once").await.body, answers[0].body, "long after, too");

    host.clock.advance(Duration::from_hours(24));
    let new = queue_as(&host, "k", BACKGROUND, "other").await;
    assert_eq!(new.status, 202, "after 24 hours the key is free: {new:?}");
    assert_ne!(new.body["runId"], answers[0].body["runId"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_idempotency_keys_are_forgotten() {
    let (model, _arrivals) = Gated::new();
    model.answer_all();
    let mut host = TestHost::start(&[], ONE_AGENT, model).await;
    assert_eq!(queue_as(&host, "old", "/api/agents/agent/runs", "hello").await.status, 200);
    host.clock.advance(Duration::from_hours(23));
    assert_eq!(queue_as(&host, "young", "/api/agents/agent/runs", "hello").await.status, 200);
    assert_eq!(host.texts("select key from idempotency_keys order by key").await, ["old", "young"]);

    host.clock.advance(Duration::from_hours(1));
    host.restart().await;
    while host.texts("select key from idempotency_keys").await != ["young"] {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Of an agent, of an agent that says itself, and of a model.
#[tokio::test(flavor = "multi_thread")]
async fn no_more_run_at_once_than_may() {
    let agent = |id: &str, more: &str| format!("[[agents]]\nid = \"{id}\"\nmodel = \"script::v1\"\n{more}\n");
    let per_agent = settings("workers = 8\nper_agent = 2");
    let own = format!("[background]\nworkers = 8\n{}", agent("agent", "max_concurrent = 2"));
    let per_model =
        format!("[background]\nworkers = 8\nper_model = 2\n{}{}", agent("agent", ""), agent("other", ""));
    let workers = settings("workers = 2");
    for config in [per_agent, own, per_model, workers] {
        let (model, mut arrivals) = Gated::new();
        let host = TestHost::start(&[], &config, model.clone()).await;
        let mut runs = Vec::new();
        for number in 0..6 {
            let agent = if config.contains("other") && number % 2 == 1 { "other" } else { "agent" };
            let path = format!("/api/agents/{agent}/runs/background");
            let answer = host.post(&path, &json!({"message": number.to_string()})).await;
            runs.push((agent, answer.body["runId"].as_str().expect("a runId").to_owned()));
        }
        for _ in 0..6 {
            arrivals.next().await;
            model.answer(1);
        }
        for (agent, run) in runs {
            let path = format!("/api/agents/{agent}/runs/{run}");
            while host.get(&path).await.body["status"] != "COMPLETED" {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        assert!(model.peak() <= 2, "{} at once with {config}", model.peak());
    }
}

/// A server that shuts down takes nothing from the queue, and loses nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_draining_server_leaves_the_queue_to_the_next() {
    let (model, mut arrivals) = Gated::new();
    let mut host = TestHost::start(&[], &settings("workers = 1"), model.clone()).await;
    let runs = [queue(&host, "one").await, queue(&host, "two").await];
    assert_eq!(arrivals.next().await, "one");

    host.stop().await;
    let status = host.texts("select status from runs order by created_at, id").await;
    assert_eq!(status, ["RUNNING", "QUEUED"]);
    assert!(arrivals.is_empty());

    model.answer_all();
    host.restart().await;
    for run in &runs {
        assert_eq!(ended(&host, run).await["status"], "COMPLETED");
    }
}
