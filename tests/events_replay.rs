//! However often a client loses its stream, it gets the exact rest: live, after the end, after a restart,
//! after a `kill -9`.

use std::sync::Mutex;

use reqwest::Method;
use serde_json::json;
use tokio::sync::mpsc;

use crate::support::host::ADMIN;
use crate::support::openai::{self, OpenAi, sse_body};
use crate::support::process::Process;
use crate::support::sse::{Frame, Stream, bytes, events};
use crate::support::teller::{Teller, Telling};
use crate::support::{TestHost, call, calls};

/// Thinks, calls a tool, one that does not exist and a gated one, and answers in four pieces.
fn script() -> [Telling; 4] {
    [
        Telling::of(calls([("probe__echo", json!({"text": "hi"})), ("probe__nothing", json!({}))]))
            .thinking(["I ", "look."])
            .saying(["Let ", "me ", "see."]),
        Telling::of(call("probe__effect", json!({"key": "k"}))),
        Telling::default().thinking(["So."]).saying(["It ", "is ", "dö", "ne.\n"]),
        Telling::default(),
    ]
}

async fn host() -> TestHost {
    let model = Teller::new(script());
    let host = TestHost::with_probe(model.clone()).await;
    model.moves(&host.clock);
    host
}

fn run_id(frame: &Frame) -> String {
    assert_eq!(frame.event, "START");
    frame.json()["runId"].as_str().expect("a runId").to_owned()
}

/// Approves what the run waits for.
async fn approve(host: &TestHost, run: &str) {
    let path = format!("/api/agents/agent/runs/{run}/continue/stream");
    drop(Stream::open(host.request(Method::POST, &path).json(&json!({"action": "APPROVE"}))).await);
}

/// Reads a stream, and approves what it pauses for.
async fn follow(host: &TestHost, run: &str, mut stream: Stream) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some(frame) = stream.next().await {
        if frame.event == "PAUSED" {
            approve(host, run).await;
        }
        frames.push(frame);
    }
    frames
}

/// A client that loses its stream behind `count` frames and comes back, beside one that never does.
async fn cut(host: &TestHost, count: usize) -> Vec<Frame> {
    let mut stream = host.stream("go").await;
    let mut frames = vec![stream.next().await.expect("START")];
    let run = run_id(&frames[0]);
    let whole = async { follow(host, &run, host.events(&run, "").await).await };
    let torn = async {
        while frames.len() < count {
            match stream.next().await {
                Some(frame) => frames.push(frame),
                None => stream = host.events(&run, &frames[frames.len() - 1].id).await,
            }
        }
        drop(stream);
        frames.extend(host.events(&run, &frames[frames.len() - 1].id).await.rest().await);
        frames
    };
    let (whole, torn) = tokio::join!(whole, torn);
    assert_eq!(bytes(&torn), bytes(&whole), "cut behind {count} frames");
    whole
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_cut_behind_any_frame_goes_on_where_it_was() {
    let host = host().await;
    let frames = cut(&host, 1).await;
    assert!(events(&frames).contains(&"PAUSED") && frames.len() > 20, "{frames:#?}");
    for count in 2..=frames.len() {
        let same = cut(&host, count).await;
        assert_eq!(events(&same), events(&frames));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_place_of_an_ended_run_can_be_asked_for_again() {
    let host = host().await;
    let frames = cut(&host, 1).await;
    let run = run_id(&frames[0]);
    assert_eq!(bytes(&host.events(&run, "").await.rest().await), bytes(&frames));
    assert_eq!(bytes(&host.events(&run, "0").await.rest().await), bytes(&frames));
    let ids: std::collections::BTreeSet<&str> = frames.iter().map(|frame| frame.id.as_str()).collect();
    assert_eq!(ids.len(), frames.len(), "no two frames have one id");
    for (index, frame) in frames.iter().enumerate() {
        let rest = host.events(&run, &frame.id).await.rest().await;
        assert_eq!(bytes(&rest), bytes(&frames[index + 1..]), "after {}", frame.id);
    }
    // A browser that reconnects says it in a header, to the address it began with.
    let path = format!("/api/agents/agent/runs/{run}/events?after=1");
    let request = host.request(Method::GET, &path).header("Last-Event-ID", &frames[7].id);
    assert_eq!(bytes(&Stream::open(request).await.rest().await), bytes(&frames[8..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_across_a_pause_and_a_restart() {
    let mut host = host().await;
    let mut frames = host.stream("go").await.rest().await;
    let run = run_id(&frames[0]);
    assert_eq!(frames[frames.len() - 1].event, "PAUSED", "the body ends there");

    // A follower stays through the pause, and the server does not wait for it when it stops.
    let waiting = host.events(&run, &frames[frames.len() - 1].id).await;
    host.restart().await;
    assert_eq!(waiting.rest().await, []);

    let rest = host.events(&run, &frames[frames.len() - 1].id).await;
    approve(&host, &run).await;
    frames.extend(rest.rest().await);
    assert_eq!(frames[frames.len() - 1].event, "STOP");
    assert_eq!(bytes(&host.events(&run, "").await.rest().await), bytes(&frames));
    host.restart().await;
    assert_eq!(bytes(&host.events(&run, "").await.rest().await), bytes(&frames));
    assert_eq!(host.effects("k").await, 1);
}

/// A sync run has no pieces: its replies come as wholes.
#[tokio::test(flavor = "multi_thread")]
async fn runs_that_nobody_streamed_can_be_read_as_streams_too() {
    let host =
        TestHost::with_probe(Teller::new([Telling::default().thinking(["a", "b"]).saying(["c ", "d"])]))
            .await;
    let run = host.run("go").await;
    let frames = host.events(run["runId"].as_str().expect("a runId"), "").await.rest().await;
    assert_eq!(
        events(&frames),
        ["START", "REASONING_DELTA", "CONTENT_DELTA", "CONTENT_DONE", "METRICS", "STOP"]
    );
    assert_eq!((frames[1].data.as_str(), frames[2].data.as_str()), ("ab", "c d"));
    assert_eq!(frames[5].json(), run, "STOP has what the blocking call answers");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_place_in_the_run_is_refused() {
    let host = host().await;
    let frames = host.stream("go").await.rest().await;
    let run = run_id(&frames[0]);
    for after in ["x", "1.0", "-1", "", "999", "999.1"] {
        let answer = host.get(&format!("/api/agents/agent/runs/{run}/events?after={after}")).await;
        assert_eq!(
            (answer.status, &answer.body["invalidParams"][0]["field"]),
            (400, &json!("after")),
            "{after}"
        );
    }
    let answer = host.get("/api/agents/agent/runs/none/events").await;
    assert_eq!(answer.status, 404);
    let request = host.request(Method::GET, &format!("/api/agents/agent/runs/{run}/events"));
    assert_eq!(host.send(request.header("Last-Event-ID", "x")).await.status, 400);
}

/// Dies between two words; the next process asks anew, and the client is told to forget the half.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_in_mid_reply_the_client_is_told_to_drop_it() {
    let (words, said) = mpsc::unbounded_channel::<Result<String, std::io::Error>>();
    let said = Mutex::new(Some(said));
    let model = OpenAi::start(move |body| match said.lock().expect("no panic").take() {
        Some(said) => sse_body(said),
        None => openai::text(if body["stream"] == json!(true) { "?" } else { "Anew." }),
    })
    .await;
    let mut host = Process::start(&["probe"], &model.config()).await;
    let path = format!("{}/api/agents/agent/runs/stream", host.url);
    let request = reqwest::Client::new().post(path).bearer_auth(ADMIN).json(&json!({"message": "go"}));
    let mut stream = Stream::open(request).await;
    let run = run_id(&stream.next().await.expect("START"));
    let mut shown = Vec::new();
    for word in ["Half ", "an "] {
        words.send(Ok(openai::delta(word))).expect("the provider is asked");
        shown.push(stream.next().await.expect("a word"));
    }
    assert_eq!(crate::support::sse::lines(&shown), "2.1 CONTENT_DELTA Half \n2.2 CONTENT_DELTA an ");
    host.restart().await;
    assert_eq!(stream.rest().await, []);

    host.wait_for(&run, &["COMPLETED"]).await;
    for (after, expected) in [("2.1", true), ("2.2", true), ("1", false)] {
        let path = format!("{}/api/agents/agent/runs/{run}/events?after={after}", host.url);
        let frames = Stream::open(reqwest::Client::new().get(path).bearer_auth(ADMIN)).await.rest().await;
        let (discarded, rest) = frames.split_at(usize::from(expected));
        assert!(discarded.iter().all(|frame| frame.event == "CONTENT_DISCARDED"), "{frames:?}");
        assert!(discarded.iter().all(|frame| frame.json() == json!({"reason": "interrupted"})));
        assert_eq!(events(rest), ["CONTENT_DELTA", "CONTENT_DONE", "METRICS", "STOP"]);
        assert_eq!((rest[0].data.as_str(), rest[0].id.as_str()), ("Anew.", "3.1"));
        // Behind the notice, too, the stream can be cut.
        for frame in discarded {
            let path = format!("{}/api/agents/agent/runs/{run}/events?after={}", host.url, frame.id);
            let again = Stream::open(reqwest::Client::new().get(path).bearer_auth(ADMIN)).await;
            assert_eq!(bytes(&again.rest().await), bytes(rest));
        }
    }
}
