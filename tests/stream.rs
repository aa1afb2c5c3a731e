//! What a client of a streamed run sees, and what its leaving, lagging or erring does.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::support::sse::{Frame, Stream, events, lines};
use crate::support::teller::{Teller, Telling};
use crate::support::{TestHost, call, calls, say};
use holdfast::session::{Reply, Tokens};

async fn resume(host: &TestHost, run: &str, body: Value) -> Stream {
    let path = format!("/api/agents/agent/runs/{run}/continue/stream");
    Stream::open(host.request(Method::POST, &path).json(&body)).await
}

fn run_id(frames: &[Frame]) -> String {
    frames[0].json()["runId"].as_str().expect("a runId").to_owned()
}

/// The frames without those whose data is a whole run.
fn short(frames: &[Frame]) -> String {
    let mut frames = frames.to_vec();
    for frame in &mut frames {
        if ["STOP", "CANCELLED"].contains(&frame.event.as_str()) {
            frame.data = frame.json()["status"].to_string();
        }
    }
    lines(&frames)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_frame_comes_in_its_order() {
    let tokens = Tokens { input: Some(10), output: Some(3), reasoning: Some(1) };
    let model = Teller::new([
        Telling::of(Reply {
            tokens,
            ..calls([("probe__echo", json!({"text": "hi"})), ("probe__no", json!({}))])
        })
        .thinking(["I ", "look."])
        .saying(["Let me ", "see."]),
        Telling::of(call("probe__effect", json!({"key": "k"}))),
        Telling::of(Reply { model: Some("v1-0815".to_owned()), ..say("") }).saying(["All ", "done."]),
        Telling::default().saying([r#"["And now?"]"#]),
    ]);
    let host = TestHost::with_probe(model).await;
    let request = host.request(Method::POST, "/api/agents/agent/runs/stream");
    let body = json!({"message": "go", "generateFollowups": true, "stream": false});
    let frames = Stream::open(request.json(&body)).await.rest().await;
    insta::assert_snapshot!(lines(&frames), @r#"
    1 START {"runId":"019b76da-a800-7000-8000-000000000002","sessionId":"019b76da-a800-7000-8000-000000000001"}
    2.1 REASONING_DELTA I
    2.2 REASONING_DELTA  look.
    2.3 CONTENT_DELTA Let me 
    2.4 CONTENT_DELTA see.
    3.1 TOOL_START {"id":"call-2","name":"probe__no","toolName":"probe__no","arguments":"{}","input":"{}"}
    3 TOOL_ERROR {"id":"call-2","name":"probe__no","error":"There is no tool `probe__no`. You can call: probe__ask, probe__ask_gated, probe__ask_idempotent, probe__count, probe__echo, probe__effect, probe__effect_ungated, probe__env, probe__idempotent_effect, probe__recall, probe__remember, probe__slow, probe__slow_idempotent, probe__slow_read."}
    4 TOOL_START {"id":"call-1","name":"probe__echo","toolName":"probe__echo","arguments":"{\"text\":\"hi\"}","input":"{\"text\":\"hi\"}"}
    5 TOOL_END {"id":"call-1","name":"probe__echo","result":"hi","output":"hi","durationMs":0}
    7 PAUSED {"type":"TOOL_APPROVAL","approvalId":"019b76da-a800-7000-8000-000000000004","toolCallId":"019b76da-a800-7000-8000-000000000003","tool":"probe__effect","toolName":"probe__effect","args":"{\"key\":\"k\"}","message":"Agent wants to call probe__effect. Approve or reject this call.","expiresAt":"2026-01-02T00:00:00.000Z","runId":"019b76da-a800-7000-8000-000000000002","sessionId":"019b76da-a800-7000-8000-000000000001"}
    "#);

    let run = run_id(&frames);
    let frames = resume(&host, &run, json!({"action": "APPROVE"})).await.rest().await;
    insta::assert_snapshot!(short(&frames), @r#"
    9 TOOL_START {"id":"019b76da-a800-7000-8000-000000000003","name":"probe__effect","toolName":"probe__effect","arguments":"{\"key\":\"k\"}","input":"{\"key\":\"k\"}"}
    10 TOOL_END {"id":"019b76da-a800-7000-8000-000000000003","name":"probe__effect","result":"1","output":"1","durationMs":0}
    11.1 CONTENT_DELTA All 
    11.2 CONTENT_DELTA done.
    11 CONTENT_DONE 
    12 FOLLOWUP_SUGGESTION ["And now?"]
    13.1 METRICS {"inputTokens":10,"outputTokens":3,"reasoningTokens":1,"totalTokens":13,"llmCalls":4,"model":"v1-0815"}
    13 STOP "COMPLETED"
    "#);
    let stop = frames[frames.len() - 1].json();
    let stored = host.read(&stop).await;
    for field in ["content", "metadata", "tools", "reasoningSteps", "metrics"] {
        assert_eq!(stop[field], stored[field], "STOP has the whole response");
    }
    assert_eq!(stop["metadata"]["followups"], json!(["And now?"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_call_and_a_failure_are_told_with_their_ends() {
    let config =
        format!("{}\n", crate::support::host::ONE_AGENT).replace("tools =", "max_steps = 1\ntools =");
    let model = Teller::new([Telling::of(call("probe__effect", json!({"key": "k"})))]);
    let host = TestHost::start(&["probe"], &config, model).await;
    let run = run_id(&host.stream("go").await.rest().await);
    let frames = resume(&host, &run, json!({"action": "REJECT", "comment": "no"})).await.rest().await;
    insta::assert_snapshot!(short(&frames), @r#"
    4.1 TOOL_START {"id":"call-1","name":"probe__effect","toolName":"probe__effect","arguments":"{\"key\":\"k\"}","input":"{\"key\":\"k\"}"}
    4 TOOL_ERROR {"id":"call-1","name":"probe__effect","error":"A human rejected this call. It did not run. Their comment: no"}
    5.1 ERROR The run reached its limit maxSteps = 1 before it was done.
    5.2 CONTENT_DONE 
    5 STOP "FAILED"
    "#);
    assert_eq!(host.effects("k").await, 0);
}

/// One of two is decided: the body ends with what is still to be decided.
#[tokio::test(flavor = "multi_thread")]
async fn a_decision_on_one_of_two_ends_with_the_other() {
    let two = [("probe__effect", json!({"key": "a"})), ("probe__effect", json!({"key": "b"}))];
    let host =
        TestHost::with_probe(Teller::new([Telling::of(calls(two)), Telling::default().saying(["ok"])])).await;
    let frames = host.stream("go").await.rest().await;
    let run = run_id(&frames);
    let paused = host.read(&json!({"runId": run})).await;
    let ids: Vec<Value> =
        (0..2).map(|i| paused["metadata"]["requiredActions"][i]["approvalId"].clone()).collect();
    let body = |id: &Value| json!({"action": "APPROVE", "approvalId": id});
    let frames = resume(&host, &run, body(&ids[0])).await.rest().await;
    assert_eq!(events(&frames), ["PAUSED"]);
    assert_eq!(frames[0].json()["approvalId"], ids[1]);
    let second = resume(&host, &run, body(&ids[1])).await.rest().await;
    let ends = [
        "TOOL_START",
        "TOOL_END",
        "TOOL_START",
        "TOOL_END",
        "CONTENT_DELTA",
        "CONTENT_DONE",
        "METRICS",
        "STOP",
    ];
    assert_eq!(events(&second), ends);
    // Said again, long after: the same frames, and no third effect.
    assert_eq!(resume(&host, &run, body(&ids[1])).await.rest().await, second);
    assert_eq!((host.effects("a").await, host.effects("b").await), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_refused_before_the_first_frame() {
    let host = TestHost::with_probe(Teller::new([Telling::default().saying(["ok"])])).await;
    let stream = "/api/agents/agent/runs/stream";
    for (path, body, status, problem) in [
        (stream, json!({"message": " "}), 400, "invalid-request"),
        (stream, json!([]), 400, "malformed-request-body"),
        ("/api/agents/nobody/runs/stream", json!({"message": "go"}), 404, "resource-not-found"),
        ("/api/agents/agent/runs/stream?onDisconnect=x", json!({"message": "go"}), 400, "invalid-request"),
        (
            "/api/agents/agent/runs/none/continue/stream",
            json!({"action": "APPROVE"}),
            404,
            "resource-not-found",
        ),
    ] {
        let answer = host.post(path, &body).await;
        assert_eq!(answer.status, status, "{path} {answer:?}");
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert_eq!(answer.body["type"], format!("urn:problem-type:{problem}"));
    }
    let run = host.run("go").await;
    let path = format!("/api/agents/agent/runs/{}/continue/stream", run["runId"].as_str().expect("an id"));
    let answer = host.post(&path, &json!({"action": "APPROVE"})).await;
    assert_eq!((answer.status, &answer.body["currentStatus"]), (409, &json!("COMPLETED")));
    let anonymous =
        reqwest::Client::new().post(format!("{}{stream}", host.url)).json(&json!({"message": "go"}));
    assert_eq!(host.send(anonymous).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_idempotency_key_streams_the_original_run() {
    let host = TestHost::with_probe(Teller::new([Telling::default().saying(["o", "k"])])).await;
    let request = |message: &str| {
        let request =
            host.request(Method::POST, "/api/agents/agent/runs/stream").header("Idempotency-Key", "k1");
        request.json(&json!({"message": message}))
    };
    let first = Stream::open(request("go")).await.rest().await;
    assert_eq!(Stream::open(request("go")).await.rest().await, first);
    assert_eq!(host.send(request("other")).await.status, 422);
}

/// Leaving stops nothing, unless that was asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_cancels_only_what_it_asked_to_cancel() {
    for (query, end) in
        [("", "STOP"), ("?onDisconnect=continue", "STOP"), ("?onDisconnect=cancel", "CANCELLED")]
    {
        let gate = Arc::new(Semaphore::new(1));
        let host =
            TestHost::with_probe(Teller::gated([Telling::default().saying(["one ", "two"])], &gate)).await;
        let request = host.request(Method::POST, &format!("/api/agents/agent/runs/stream{query}"));
        let mut stream = Stream::open(request.json(&json!({"message": "go"}))).await;
        let frames = stream.until("CONTENT_DELTA").await;
        let other = host.events(&run_id(&frames), "").await;
        drop(stream);
        if end == "STOP" {
            gate.add_permits(1);
        }
        let all = other.rest().await;
        assert_eq!(all[all.len() - 1].event, end, "{query}");
        assert_eq!(all[1].data, "one ", "what was shown before a cancel stays: {all:?}");
        assert_eq!(host.events(&run_id(&frames), "").await.rest().await, all);
    }
}

/// Reading to the end is not leaving.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stays_to_a_pause_cancels_nothing() {
    let host =
        TestHost::with_probe(Teller::new([Telling::of(call("probe__effect", json!({"key": "k"})))])).await;
    let request = host.request(Method::POST, "/api/agents/agent/runs/stream?onDisconnect=cancel");
    let frames = Stream::open(request.json(&json!({"message": "go"}))).await.rest().await;
    assert_eq!(frames[frames.len() - 1].event, "PAUSED");
    assert_eq!(host.read(&json!({"runId": run_id(&frames)})).await["status"], "PAUSED");
}

/// 16 MB that nobody reads, far more than any socket holds: the run ends all the same, and the client that
/// comes late to its own stream has missed nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_slows_nobody() {
    let words: Vec<String> = (0..100).map(|n| format!("{n:09} ").repeat(16_000)).collect();
    let host = TestHost::with_probe(Teller::new([Telling::default().saying_all(words)])).await;
    let mut lazy = host.stream("go").await;
    let start = lazy.next().await.expect("START");
    let mut other = host.events(&run_id(&[start]), "").await;
    let frames = other.until("STOP").await;
    let late = lazy.rest().await;
    assert_eq!(late.len(), 103);
    assert!(late == frames[1..], "the same frames");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_stream_is_kept_alive() {
    let gate = Arc::new(Semaphore::new(0));
    let host = TestHost::with_probe(Teller::gated([Telling::default().saying(["at last"])], &gate)).await;
    let mut stream = host.stream("go").await;
    assert_eq!(stream.next().await.expect("a frame").event, "START");
    tokio::time::timeout(Duration::from_secs(15), stream.ping()).await.expect("a ping within 15 s");
    gate.add_permits(1);
    assert_eq!(events(&stream.rest().await), ["CONTENT_DELTA", "CONTENT_DONE", "METRICS", "STOP"]);
}
