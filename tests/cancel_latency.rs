//! Cancelling takes effect at once in every state: the caller who waits is answered, and nothing executes
//! afterwards. The promise is 100 ms; what was measured is printed, and only a generous bound is asserted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use holdfast::key::Role;
use serde_json::{Value, json};

use crate::support::host::ONE_AGENT;
use crate::support::{Caller, Script, TestHost, call, say};

/// Limits that end nothing by themselves.
const PATIENT: &str = "\n[plugins.hostile.limits]\ncpu_ms = 600000\nwall_ms = 600000\n";

/// Cancels `run` and waits until `answered` resolves. How long that took is printed.
async fn cancel(host: &TestHost, what: &str, run: &Value, answered: impl Future<Output = Value>) {
    let started = Instant::now();
    let (cancelled, run) = tokio::join!(host.cancel(run), answered);
    let took = started.elapsed();
    assert_eq!((cancelled.status, &run["status"]), (204, &json!("CANCELLED")), "{what}: {run}");
    eprintln!("cancelled {what} after {took:?}");
    assert!(took < Duration::from_secs(2), "{what}: {took:?}");
    let first = run["completedAt"].clone();
    assert_eq!(host.cancel(&run).await.status, 204, "{what}: again");
    assert_eq!(host.read(&run).await["status"], "CANCELLED", "{what}: {first}");
}

/// A run in the background, once `ready` says that it is where it should be.
async fn background(host: &TestHost) -> Value {
    let answer = host.post("/api/agents/agent/runs/background", &json!({"message": "go"})).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_in_a_call_of_the_model() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let model = Script::gated([say("never")], &gate);
    let host = TestHost::with_probe(model.clone()).await;
    let run = background(&host).await;
    while model.requests().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cancel(&host, "in a call of the model", &run, host.settled(&run)).await;
    gate.add_permits(10);
    assert_eq!(host.read(&run).await["content"], "", "an answer that comes later is nobody's");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_in_a_guest_and_in_a_host_call() {
    for (what, tool, arguments) in [
        ("in a guest's loop", "hostile__loop", json!({})),
        ("in a guest's host call", "hostile__sleep", json!({"ms": 600_000})),
    ] {
        let model = Script::new([call(tool, arguments), say("never")]);
        let host = TestHost::start(&["hostile"], &format!("{ONE_AGENT}{PATIENT}"), model.clone()).await;
        let run = background(&host).await;
        host.running_call().await;
        cancel(&host, what, &run, host.settled(&run)).await;
        assert_eq!(model.requests().len(), 1, "{what}: nothing follows");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_paused() {
    let model = Script::new([call("probe__effect", json!({"key": "k"})), say("done")]);
    let host = TestHost::with_probe(model.clone()).await;
    let paused = host.run("go").await;
    cancel(&host, "while it is paused", &paused, host.settled(&paused)).await;
    assert_eq!(host.resume(&paused, json!({"action": "APPROVE"})).await.status, 409);
    assert_eq!(host.effects("k").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_in_the_queue() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let model = Script::gated([say("slow")], &gate);
    let config = format!("{ONE_AGENT}\n[background]\nworkers = 1\n");
    let host = TestHost::start(&["probe"], &config, model.clone()).await;
    let first = background(&host).await;
    while model.requests().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let queued = background(&host).await;
    assert_eq!(host.read(&queued).await["status"], "QUEUED");
    cancel(&host, "in the queue", &queued, host.settled(&queued)).await;
    gate.add_permits(10);
    assert_eq!(host.settled(&first).await["status"], "COMPLETED");
    assert_eq!(model.requests().len(), 1, "the model never heard of it");
}

/// Who cancelled first is who cancelled.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_reason_is_kept() {
    let host = TestHost::with_probe(Script::new([call("probe__effect", json!({"key": "k"}))])).await;
    let ann = Caller::new(&host, Role::User, "default", "ann").await;
    let paused = ann.post("/api/agents/agent/runs", &json!({"message": "go"})).await.body;
    let path = format!("/api/agents/agent/runs/{}", paused["runId"].as_str().expect("an id"));
    assert_eq!(ann.delete(&path).await.status, 204);
    let first = host.read(&paused).await;
    host.clock.advance(Duration::from_secs(1));
    assert_eq!(host.cancel(&paused).await.status, 204, "the admin, later");
    assert_eq!(host.read(&paused).await, first);
    let by = "select json_extract(body, '$.by') from run_events where kind = 'cancelled'";
    assert_eq!(host.texts(by).await, ["ann"]);
    assert_eq!(host.texts("select resolved_by from approvals").await, ["ann"]);
}
