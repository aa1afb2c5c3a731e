//! Streams of real bytes from a provider: what it sends is seen when it sends it, and what goes wrong is
//! said.

use std::sync::Mutex;

use serde_json::json;
use tokio::sync::mpsc;

use crate::support::TestHost;
use crate::support::openai::{self, OpenAi, delta, line, sse_body, sse_text, stop};
use crate::support::script::Script;
use crate::support::sse::{events, lines};

/// A host whose model is this server.
async fn host(model: &OpenAi) -> TestHost {
    TestHost::start(&["probe"], &model.config(), Script::new([])).await
}

/// A provider that sends what a test says, to one request.
async fn told() -> (OpenAi, mpsc::UnboundedSender<std::io::Result<String>>) {
    let (say, said) = mpsc::unbounded_channel();
    let said = Mutex::new(Some(said));
    let model = OpenAi::start(move |_| match said.lock().expect("no panic").take() {
        Some(said) => sse_body(said),
        None => openai::error(400, "asked twice"),
    })
    .await;
    (model, say)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_word_is_seen_before_the_next_is_sent() {
    let (model, provider) = told().await;
    let host = host(&model).await;
    let mut stream = host.stream("go").await;
    assert_eq!(stream.next().await.expect("a frame").event, "START");
    let say = |text: String| provider.send(Ok(text)).expect("the provider was asked");

    say(": a comment\n\n".to_owned());
    say(line(&json!({"role": "assistant", "content": null}), None));
    say(line(&json!({"reasoning_content": "Hm. "}), None));
    say(line(&json!({"reasoning_content": "Well."}), None));
    let mut frames = stream.until("REASONING_DELTA").await;
    frames.extend(stream.until("REASONING_DELTA").await);
    for word in ["<thi", "nk>a</think>", "One ", "two", " thr", "ee"] {
        say(delta(word));
        if !word.starts_with('<') {
            frames.push(stream.next().await.expect("the word, while the provider waits"));
        } else if word.ends_with('>') {
            frames.push(stream.next().await.expect("the thought"));
        }
    }
    say(stop("stop"));
    frames.extend(stream.until("CONTENT_DONE").await);
    let rest = stream.rest().await;
    insta::assert_snapshot!(lines(&frames), @r"
    2.1 REASONING_DELTA Hm.
    2.2 REASONING_DELTA  Well.
    2.3 REASONING_DELTA 

    a
    2.4 CONTENT_DELTA One
    2.5 CONTENT_DELTA  two
    2.6 CONTENT_DELTA  thr
    2.7 CONTENT_DELTA ee
    2 CONTENT_DONE
    ");
    assert_eq!(events(&rest), ["METRICS", "STOP"]);
    let (metrics, stop) = (rest[0].json(), rest[1].json());
    assert_eq!(metrics["totalTokens"], 15, "the usage line has no choices, and is read");
    assert_eq!((&metrics["model"], &stop["content"]), (&json!("m1"), &json!("One two three")));
    assert_eq!(stop["reasoningSteps"], json!(["Hm. Well.\n\na"]));
    let asked = model.asked();
    assert_eq!((asked.len(), &asked[0]["stream"]), (1, &json!(true)));
    assert_eq!(asked[0]["stream_options"], json!({"include_usage": true}));
}

/// Calls come in pieces; the reply's last line may be missing; and only who streams asks for a stream.
#[tokio::test(flavor = "multi_thread")]
async fn calls_in_pieces_are_put_together_and_a_missing_done_is_no_harm() {
    let model = OpenAi::start(|body| match (openai::replied(body), body["stream"] == json!(true)) {
        (0, true) => {
            let first = json!([{"index": 0, "id": "c1", "type": "function", "function": {"name": "probe__echo", "arguments": "{"}}]);
            let later = json!([{"index": 0, "function": {"arguments": "\"text\":\"x\"}"}}]);
            let second = json!([{"index": 1, "id": "c2", "type": "function", "function": {"name": "probe__echo", "arguments": "{\"te"}}]);
            let calls = [first, later, second].map(|calls| line(&json!({"tool_calls": calls}), None));
            sse_text(&format!("{}{}", calls.concat(), line(&json!({}), Some("length"))))
        }
        (0, false) => openai::tool_calls(&[("c1", "probe__echo", json!({"text": "x"}))]),
        (_, true) => sse_text(&format!("{}{}", delta("Done."), line(&json!({}), Some("stop")))),
        (_, false) => openai::text("Done."),
    })
    .await;
    let host = host(&model).await;
    let frames = host.stream("go").await.rest().await;
    assert_eq!(
        events(&frames),
        [
            "START",
            "TOOL_START",
            "TOOL_ERROR",
            "TOOL_START",
            "TOOL_END",
            "CONTENT_DELTA",
            "CONTENT_DONE",
            "METRICS",
            "STOP"
        ]
    );
    assert!(frames[2].data.contains("did not run"), "cut-off arguments run nothing: {}", frames[2].data);
    assert_eq!((&frames[4].json()["id"], &frames[4].json()["output"]), (&json!("c1"), &json!("x")));

    let run = host.run("go").await;
    assert_eq!(run["content"], "Done.");
    let streams: Vec<_> = model.asked().iter().map(|body| body["stream"] == json!(true)).collect();
    assert_eq!(streams, [true, true, false, false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_off_fails_the_run_and_keeps_what_was_shown() {
    for breaking in [
        Err(std::io::Error::other("the provider died")),
        Ok("data: {\"error\":{\"message\":\"out of memory\",\"code\":500}}\n\n".to_owned()),
        Ok("data: nonsense\n\n".to_owned()),
    ] {
        let (model, provider) = told().await;
        let host = host(&model).await;
        let mut stream = host.stream("go").await;
        provider.send(Ok(delta("Half an"))).expect("the provider was asked");
        let mut frames = stream.until("CONTENT_DELTA").await;
        provider.send(breaking).expect("the provider was asked");
        drop(provider);
        frames.extend(stream.rest().await);
        assert_eq!(events(&frames), ["START", "CONTENT_DELTA", "ERROR", "CONTENT_DONE", "STOP"]);
        assert!(frames[2].data.starts_with("the model provider"), "{}", frames[2].data);
        let stop = frames[4].json();
        assert_eq!((&stop["status"], &stop["content"]), (&json!("FAILED"), &json!("")));
        assert_eq!((&stop["metrics"]["errorType"], model.asked().len()), (&json!("model_error"), 1));
        let run = stop["runId"].as_str().expect("a runId");
        assert_eq!(host.events(run, "").await.rest().await, frames, "the journal has what was shown");
    }
}

/// Before the first word a failure is nothing that anybody saw.
#[tokio::test(flavor = "multi_thread")]
async fn before_the_first_word_a_stream_is_asked_for_again() {
    let first = Mutex::new(true);
    let model = OpenAi::start(move |_| {
        if std::mem::take(&mut *first.lock().expect("no panic")) {
            sse_text("data: {\"error\":{\"message\":\"warming up\",\"code\":503}}\n\n")
        } else {
            sse_text(&format!("{}{}", delta("Ready."), stop("stop")))
        }
    })
    .await;
    let host = host(&model).await;
    let frames = host.stream("go").await.rest().await;
    assert_eq!(events(&frames), ["START", "CONTENT_DELTA", "CONTENT_DONE", "METRICS", "STOP"]);
    assert_eq!(model.asked().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_cannot_stream_is_asked_for_the_whole_or_says_no() {
    let model = OpenAi::start(|_| openai::text("All at once.")).await;
    let frames = host(&model).await.stream("go").await.rest().await;
    assert_eq!(events(&frames), ["START", "CONTENT_DELTA", "CONTENT_DONE", "METRICS", "STOP"]);
    assert_eq!(frames[1].data, "All at once.");
    let asked: Vec<_> = model.asked().iter().map(|body| body["stream"].clone()).collect();
    assert_eq!(asked, [json!(true), json!(false)]);

    let model = OpenAi::start(|_| openai::error(400, "stream is not supported here")).await;
    let frames = host(&model).await.stream("go").await.rest().await;
    assert_eq!(events(&frames), ["START", "ERROR", "CONTENT_DONE", "STOP"]);
    assert!(frames[1].data.contains("HTTP 400: stream is not supported here"), "{}", frames[1].data);
}

/// A provider that falls silent between two words is given up after its time limit.
#[tokio::test(flavor = "multi_thread")]
async fn silence_between_two_words_has_a_limit() {
    let (model, provider) = told().await;
    let config = model.config().replace("adapter =", "timeout_ms = 300\nadapter =");
    let host = TestHost::start(&["probe"], &config, Script::new([])).await;
    let mut stream = host.stream("go").await;
    stream.next().await.expect("START");
    provider.send(Ok(delta("Half an"))).expect("the provider was asked");
    let frames = stream.rest().await;
    assert_eq!(events(&frames), ["CONTENT_DELTA", "ERROR", "CONTENT_DONE", "STOP"]);
    assert_eq!(frames[1].data, "the model provider failed: no answer within 300 ms");
}
