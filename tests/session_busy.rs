//! Two runs of one session never run side by side.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::gated::{Gated, messages};
use crate::support::host::ONE_AGENT;
use crate::support::{Answer, Script, TestHost, call, say};

const SESSION: &str = "0192b3c4-0000-7000-8000-000000000001";

/// A message in the one session.
async fn send(host: &TestHost, path: &str, message: &str) -> Answer {
    host.post(&format!("/api/agents/agent/runs{path}"), &json!({"message": message, "sessionId": SESSION}))
        .await
}

async fn status(host: &TestHost, run: &Value, status: &str) {
    while host.read(run).await["status"] != status {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The k-th request holds the k-1 turns before it, in order, and all of them were there.
fn assert_conversation(requests: &[Vec<String>]) {
    let mut history: Vec<String> = Vec::new();
    for request in requests {
        let (message, before) = request.split_last().expect("a message");
        assert_eq!(before, history, "each sees what was said before it");
        history.extend([message.clone(), format!("re: {message}")]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn six_runs_at_once_take_turns_and_each_sees_the_ones_before() {
    let (model, mut arrivals) = Gated::new();
    let host = TestHost::start(&[], ONE_AGENT, model.clone()).await;
    let texts: Vec<String> = (0..6).map(|number| format!("m{number}")).collect();
    let sends = futures_util::future::join_all(texts.iter().map(|text| send(&host, "", text)));
    let watch = async {
        let mut requests = Vec::new();
        for _ in 0..6 {
            requests.push(messages(&arrivals.next_request().await));
            // All six are there before any is answered.
            while host.run_count().await < 6 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert!(arrivals.is_empty(), "nobody else is at work");
            model.answer(1);
        }
        requests
    };
    let (answers, requests) = tokio::join!(sends, watch);

    for (answer, text) in answers.iter().zip(&texts) {
        assert_eq!((answer.status, &answer.body["status"]), (200, &json!("COMPLETED")), "{answer:?}");
        assert_eq!(answer.body["content"], format!("re: {text}"), "everybody gets the answer to their own");
    }
    assert_conversation(&requests);
    assert_eq!(model.peak(), 1);
}

/// In the background, and with a restart in the middle.
#[tokio::test(flavor = "multi_thread")]
async fn turns_are_kept_across_a_restart() {
    let (model, mut arrivals) = Gated::new();
    let mut host = TestHost::start(&[], ONE_AGENT, model.clone()).await;
    let mut runs = Vec::new();
    for text in ["m0", "m1", "m2", "m3"] {
        runs.push(send(&host, "/background", text).await.body);
    }
    let mut requests = vec![messages(&arrivals.next_request().await)];
    model.answer(1);
    assert_eq!(messages(&arrivals.next_request().await), ["m0", "re: m0", "m1"]);

    host.restart().await;
    // The second one was asked for in vain, and is asked again.
    for _ in 0..3 {
        requests.push(messages(&arrivals.next_request().await));
        model.answer(1);
    }
    for run in &runs {
        status(&host, run, "COMPLETED").await;
    }
    assert_conversation(&requests);
    assert_eq!(model.peak(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_busy_reject_lets_one_of_six_in() {
    let (model, mut arrivals) = Gated::new();
    let host = TestHost::start(&[], ONE_AGENT, model.clone()).await;
    let (refused, mut refusals) = tokio::sync::mpsc::unbounded_channel();
    let sends = (0..6).map(|number| {
        let path = if number % 2 == 0 { "?onBusy=reject" } else { "/background?onBusy=reject" };
        let (host, refused) = (&host, refused.clone());
        async move {
            let answer = send(host, path, "hello").await;
            if answer.status == 409 {
                refused.send(answer).expect("the test listens");
                return 0;
            }
            assert!([200, 202].contains(&answer.status), "{answer:?}");
            1
        }
    });
    let (let_in, ()) = tokio::join!(futures_util::future::join_all(sends), async {
        assert_eq!(arrivals.next().await, "hello");
        let first = host.texts("select id from runs").await;
        for _ in 0..5 {
            let answer = refusals.recv().await.expect("a refusal");
            assert_eq!(answer.body["type"], "urn:problem-type:session-busy");
            assert_eq!(answer.body["runId"], first[0], "it names the run in the way");
        }
        model.answer_all();
    });
    assert_eq!(let_in.iter().sum::<usize>(), 1);
    assert_eq!(host.run_count().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn words_that_are_none_are_refused() {
    let host = TestHost::start(&[], ONE_AGENT, Script::new([say("hi")])).await;
    for (query, allowed) in
        [("onBusy=wait", ["enqueue", "reject"]), ("onPaused=Cancel", ["reject", "supersede"])]
    {
        for path in ["", "/background"] {
            let answer = send(&host, &format!("{path}?{query}"), "hello").await;
            assert_eq!(answer.status, 400, "{answer:?}");
            let param = &answer.body["invalidParams"][0];
            assert_eq!(param["field"], query.split('=').next().expect("a name"));
            let message = param["message"].as_str().expect("a message");
            assert!(allowed.iter().all(|word| message.contains(word)), "{message}");
        }
    }
    assert_eq!(host.run_count().await, 0);
}

async fn paused_host() -> (TestHost, Value) {
    let model = Script::new([call("probe__effect", json!({"key": "k"})), say("done")]);
    let host = TestHost::with_probe(model).await;
    let paused = send(&host, "", "pause").await.body;
    assert_eq!(paused["status"], "PAUSED");
    (host, paused)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_run_holds_its_session_until_it_is_superseded() {
    let (host, paused) = paused_host().await;
    for path in ["", "/background", "?onPaused=reject", "?onBusy=reject"] {
        let refused = send(&host, path, "next").await;
        assert_eq!(refused.status, 409, "{refused:?}");
        assert_eq!(refused.body["type"], "urn:problem-type:session-paused");
        assert_eq!(refused.body["runId"], paused["runId"]);
    }
    assert_eq!(host.run_count().await, 1);

    // The new run asks for the same call, and pauses too: it is another one.
    let next = send(&host, "?onPaused=supersede", "next").await.body;
    assert_eq!(next["status"], "PAUSED");
    assert_eq!(host.read(&paused).await["status"], "CANCELLED");
    let late = host.resume(&paused, json!({"action": "APPROVE"})).await;
    assert_eq!((late.status, &late.body["currentStatus"]), (409, &json!("CANCELLED")));
    assert_eq!(host.effects("k").await, 0, "what was superseded never runs");
    assert_eq!(
        host.texts("select status from approvals order by created_at, id").await,
        ["CANCELLED", "PENDING"]
    );
    assert_eq!(host.resume(&next, json!({"action": "APPROVE"})).await.body["status"], "COMPLETED");
    assert_eq!(host.effects("k").await, 1);
}

/// A decision and a message that supersedes race: the call runs or the run is cancelled, never both.
#[tokio::test(flavor = "multi_thread")]
async fn superseding_races_with_a_decision() {
    for _ in 0..8 {
        let (host, paused) = paused_host().await;
        let decide = host.resume(&paused, json!({"action": "APPROVE"}));
        let (decision, next) = tokio::join!(decide, send(&host, "?onPaused=supersede", "next"));
        assert_eq!(next.body["status"], "PAUSED", "{next:?}");
        let first = host.read(&paused).await["status"].clone();
        let approved = decision.status == 200 && first == "COMPLETED";
        let cancelled = decision.status == 409 && first == "CANCELLED";
        assert!(approved || cancelled, "{decision:?} {first}");
        assert_eq!(host.effects("k").await, u64::from(approved));
    }
}

/// Nobody holds the line for a human: a caller whose run waits behind one that paused is told so, and the run
/// starts by itself after the decision.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_behind_a_run_that_pauses_is_answered() {
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let model = Script::gated([call("probe__effect", json!({"key": "k"})), say("done")], &gate);
    let host = TestHost::with_probe(model).await;
    let first = send(&host, "/background", "first").await.body;
    status(&host, &first, "RUNNING").await;
    let (second, ()) = tokio::join!(send(&host, "", "second"), async {
        while host.run_count().await < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        gate.add_permits(1);
    });
    assert_eq!((second.status, &second.body["status"]), (200, &json!("QUEUED")), "{second:?}");
    assert!(second.body["metadata"]["message"].as_str().expect("a message").contains("starts by itself"));

    gate.add_permits(10);
    assert_eq!(host.resume(&first, json!({"action": "REJECT"})).await.body["status"], "COMPLETED");
    status(&host, &second.body, "PAUSED").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_caller_hears_of_a_cancellation() {
    let (model, mut arrivals) = Gated::new();
    let host = TestHost::start(&[], ONE_AGENT, model.clone()).await;
    let first = send(&host, "/background", "first").await.body;
    assert_eq!(arrivals.next().await, "first");
    let (second, ()) = tokio::join!(send(&host, "", "second"), async {
        while host.run_count().await < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let ids = host.texts("select id from runs where status = 'QUEUED'").await;
        assert_eq!(host.cancel(&json!({"runId": ids[0]})).await.status, 204);
    });
    assert_eq!((second.status, &second.body["status"]), (200, &json!("CANCELLED")));
    model.answer_all();
    status(&host, &first, "COMPLETED").await;
}

/// A repeat of a call that waited when the server was restarted waits for the same run.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_waits_for_the_run_that_is_queued() {
    let (model, mut arrivals) = Gated::new();
    let mut host = TestHost::start(&[], ONE_AGENT, model.clone()).await;
    let keyed = |host: &TestHost| {
        let request =
            host.request(reqwest::Method::POST, "/api/agents/agent/runs").header("Idempotency-Key", "k");
        request.json(&json!({"message": "second", "sessionId": SESSION}))
    };
    send(&host, "/background", "first").await;
    assert_eq!(arrivals.next().await, "first");
    let request = keyed(&host).send();
    let waiting = tokio::spawn(request);
    while host.run_count().await < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    host.restart().await;
    let left: Value = waiting.await.expect("no panic").expect("an answer").json().await.expect("JSON");
    assert_eq!(left["status"], "QUEUED", "a server that stops sends its callers home");

    assert_eq!(arrivals.next().await, "first");
    let repeat = host.send(keyed(&host));
    let (repeat, ()) = tokio::join!(repeat, async { model.answer_all() });
    assert_eq!((&repeat.body["runId"], &repeat.body["status"]), (&left["runId"], &json!("COMPLETED")));
    assert_eq!(host.run_count().await, 2);
}
