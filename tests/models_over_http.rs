//! What an OpenAI-compatible server may do to a client, seen through the API.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use crate::support::host::ONE_AGENT;
use crate::support::openai::{self, OpenAi};
use crate::support::server::Server;
use crate::support::{Script, TestHost, say};

/// One way for a server to answer.
type Trouble = fn() -> Response;

/// A host whose agent asks this server.
async fn host(model: &OpenAi) -> TestHost {
    TestHost::start(&["probe"], &model.config(), Script::new([say("unused")])).await
}

/// What comes of one run when the server gives these answers in turn (the last one for ever), and how often
/// it was asked.
async fn run(answers: Vec<Trouble>) -> (Value, usize) {
    let count = AtomicUsize::new(0);
    let model = OpenAi::start(move |_| {
        let index = count.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
        answers[index]()
    })
    .await;
    let host = host(&model).await;
    let run = host.run("hello").await;
    (run, model.asked().len())
}

fn limited(after: &str) -> Response {
    let mut response = openai::error(429, "slow down");
    response.headers_mut().insert("retry-after", after.parse().expect("a header"));
    response
}

fn raw(body: &'static str) -> Response {
    ([("content-type", "application/json")], body).into_response()
}

#[tokio::test(flavor = "multi_thread")]
async fn passing_trouble_is_waited_out() {
    let fine: Trouble = || openai::text("fine");
    let troubles: [Trouble; 4] =
        [|| limited("0"), || openai::error(500, "oops"), || raw("not JSON"), || raw(r#"{"choices": []}"#)];
    for trouble in troubles {
        let (run, asked) = run(vec![trouble, fine]).await;
        assert_eq!(
            (&run["status"], &run["content"], asked),
            (&json!("COMPLETED"), &json!("fine"), 2),
            "{run}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lasting_trouble_fails_the_run_with_its_name() {
    let table: [(Trouble, &str, usize); 7] = [
        (|| limited("0"), "model_rate_limited", 5),
        (|| limited("3600"), "model_rate_limited", 1),
        (|| openai::error(500, "oops"), "model_error", 3),
        (|| openai::error(401, "wrong key"), "model_error", 1),
        (|| openai::error(400, "This model's maximum context length is 8 tokens"), "context_overflow", 1),
        (|| raw("not JSON"), "model_error", 3),
        (|| raw(r#"{"error": {"message": "inside a 200"}}"#), "model_error", 3),
    ];
    for (trouble, kind, most) in table {
        let (run, asked) = run(vec![trouble]).await;
        assert_eq!((&run["status"], &run["content"]), (&json!("FAILED"), &json!("")), "{run}");
        assert_eq!(run["metrics"]["errorType"], kind, "{run}");
        assert!((1..=most).contains(&asked), "{kind}: asked {asked} times");
        assert_eq!(run["metadata"]["message"], run["metrics"]["errorMessage"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_side_by_side_and_one_after_another() {
    let model = OpenAi::start(|body| match openai::replied(body) {
        0 => openai::tool_calls(&[
            ("call_a", "probe__echo", json!({"text": "one"})),
            ("call_b", "probe__echo", json!({"text": "two"})),
        ]),
        1 => openai::tool_calls(&[("call_c", "probe__echo", json!({"text": "three"}))]),
        _ => openai::text("<think>that was easy</think>\n\nAll done."),
    })
    .await;
    let host = host(&model).await;
    let options = json!({"temperature": 0.5, "maxTokens": 77, "topP": 0.9, "systemPrompt": "Be brief.", "model": "mock::m2"});
    let body = json!({"message": "go", "options": options});
    let run = host.post("/api/agents/agent/runs", &body).await.body;

    assert_eq!((&run["status"], &run["content"]), (&json!("COMPLETED"), &json!("All done.")), "{run}");
    assert_eq!(run["reasoningSteps"], json!(["that was easy"]));
    let ids: Vec<&Value> = run["tools"].as_array().expect("tools").iter().map(|tool| &tool["id"]).collect();
    assert_eq!(ids, ["call_a", "call_b", "call_c"]);
    let metrics = &run["metrics"];
    assert_eq!((&metrics["inputTokens"], &metrics["outputTokens"]), (&json!(30), &json!(15)));
    assert_eq!((&metrics["llmCallCount"], &metrics["toolCallCount"]), (&json!(3), &json!(3)));

    let asked = model.asked();
    let first = &asked[0];
    assert_eq!(
        (&first["model"], &first["temperature"], &first["top_p"]),
        (&json!("m2"), &json!(0.5), &json!(0.9))
    );
    assert_eq!(first["messages"][0], json!({"role": "system", "content": "Be brief."}));
    assert!(first["max_tokens"] == 77 || first["max_completion_tokens"] == 77, "{first}");
    let names: Vec<&Value> =
        first["tools"].as_array().expect("tools").iter().map(|tool| &tool["function"]["name"]).collect();
    assert!(names.contains(&&json!("probe__echo")), "{names:?}");
    let told: Vec<(&Value, &Value)> = asked[1]["messages"]
        .as_array()
        .expect("messages")
        .iter()
        .filter(|message| message["role"] == "tool")
        .map(|message| (&message["tool_call_id"], &message["content"]))
        .collect();
    assert_eq!(told, [(&json!("call_a"), &json!("one")), (&json!("call_b"), &json!("two"))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_was_cut_off_does_not_run() {
    let cut = json!({"role": "assistant", "content": null, "tool_calls": [{"id": "c", "type": "function",
        "function": {"name": "probe__effect_ungated", "arguments": "{\"key\": \"k"}}]});
    let model = OpenAi::start(move |body| match openai::replied(body) {
        0 => openai::completion(&cut, "length"),
        _ => openai::text("sorry"),
    })
    .await;
    let host = host(&model).await;
    let run = host.run("go").await;
    assert_eq!(
        (&run["content"], &run["tools"][0]["outcome"]),
        (&json!("sorry"), &json!("invalid-args")),
        "{run}"
    );
    assert_eq!(host.effects("k").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_reaches_the_model() {
    let model = OpenAi::start(|_| openai::text("a cat")).await;
    let host = host(&model).await;
    let media = json!([{"type": "image/png", "data": "aGVsbG8="}]);
    let run =
        host.post("/api/agents/agent/runs", &json!({"message": "what is it?", "media": media})).await.body;
    assert_eq!(run["content"], "a cat", "{run}");
    let sent = model.asked()[0].to_string();
    assert!(sent.contains("data:image/png;base64,aGVsbG8="), "{sent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_key_is_a_failed_run() {
    // Whatever this machine's environment has for the provider.
    let config = format!("{ONE_AGENT}[providers.anthropic]\napi_key_env = \"HOLDFAST_NO_SUCH_KEY\"\n");
    let host = TestHost::start(&[], &config, Script::new([say("unused")])).await;
    let body = json!({"message": "x", "options": {"model": "anthropic::claude-sonnet-4-5"}});
    let answer = host.post("/api/agents/agent/runs", &body).await;
    assert_eq!((answer.status, &answer.body["status"]), (200, &json!("FAILED")), "{answer:?}");
    assert_eq!(answer.body["metrics"]["errorType"], "no_api_key");
    let message = answer.body["metrics"]["errorMessage"].as_str().expect("a message");
    assert!(message.starts_with("No API key configured for provider anthropic"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn follow_up_questions_never_fail_a_run() {
    let answers: [(Trouble, Value); 3] = [
        (|| openai::text(r#"["And then?", "Why?"]"#), json!(["And then?", "Why?"])),
        (|| openai::text("I have none."), json!([])),
        (|| openai::error(400, "no"), json!([])),
    ];
    for (followups, expected) in answers {
        let model = OpenAi::start(move |body| {
            if body.to_string().contains("follow-up questions") { followups() } else { openai::text("fine") }
        })
        .await;
        let host = host(&model).await;
        let run = host
            .post("/api/agents/agent/runs", &json!({"message": "x", "generateFollowups": true}))
            .await
            .body;
        assert_eq!((&run["status"], &run["content"]), (&json!("COMPLETED"), &json!("fine")), "{run}");
        assert_eq!(run["metadata"]["followups"], expected);
        assert_eq!(run["metadata"]["followUpSuggestions"], json!(expected.to_string()));
    }
}

/// Cancelling drops the request to the model, and the blocked caller is answered at once.
#[tokio::test(flavor = "multi_thread")]
async fn cancelling_drops_the_request_to_the_model() {
    let model = OpenAi::start(|_| openai::text("too late")).await;
    model.delay(Duration::from_secs(8));
    let host = host(&model).await;
    let started = std::time::Instant::now();
    let (run, ()) = tokio::join!(host.run("go"), async {
        while model.asked().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let runs =
            crate::support::process::text(&host.folder().join("holdfast.db"), "select id from runs").await;
        assert_eq!(host.cancel(&json!({"runId": runs[0]})).await.status, 204);
    });
    assert_eq!(run["status"], "CANCELLED", "{run}");
    assert!(
        started.elapsed() < Duration::from_secs(6),
        "nobody waits for the model: {:?}",
        started.elapsed()
    );
}

/// A provider that does not answer is given up on after its `timeout_ms`, each time it is asked.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_provider_fails_the_run() {
    let model = OpenAi::start(|_| openai::text("too late")).await;
    model.delay(Duration::from_mins(10));
    let config = model.config().replace("adapter =", "timeout_ms = 200\nadapter =");
    let host = TestHost::start(&[], &config, Script::new([say("unused")])).await;
    let run = host.run("hello").await;
    assert_eq!((&run["status"], &run["metrics"]["errorType"]), (&json!("FAILED"), &json!("model_error")));
    let message = run["metrics"]["errorMessage"].as_str().expect("a message");
    assert!(message.contains("no answer within 200 ms"), "{message}");
    assert_eq!(model.asked().len(), 3);
}

/// What the provider does not say is null, and never 0.
#[tokio::test(flavor = "multi_thread")]
async fn usage_is_what_the_provider_says() {
    let metrics = async |usage: Value| {
        let model = OpenAi::start(move |_| {
            let message = json!({"role": "assistant", "content": "fine"});
            let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
            axum::Json(json!({"model": "m1-2026", "choices": [choice], "usage": usage})).into_response()
        })
        .await;
        let run = host(&model).await.run("hello").await;
        assert_eq!(
            (&run["metadata"]["model"], &run["metrics"]["model"]),
            (&json!("m1-2026"), &json!("m1-2026"))
        );
        let metrics = &run["metrics"];
        let usage = &run["metadata"]["usage"];
        assert_eq!(usage["inputTokens"], metrics["inputTokens"]);
        json!([
            metrics["inputTokens"],
            metrics["outputTokens"],
            metrics["reasoningTokens"],
            usage["totalTokens"]
        ])
    };
    assert_eq!(metrics(Value::Null).await, json!([null, null, null, null]));
    let some = json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15});
    assert_eq!(metrics(some.clone()).await, json!([10, 5, null, 15]));
    let mut all = some;
    all["completion_tokens_details"] = json!({"reasoning_tokens": 3});
    all["prompt_tokens_details"] = json!({"cached_tokens": 8});
    assert_eq!(metrics(all).await, json!([10, 5, 3, 15]));
}

/// `OPENAI_BASE_URL` leads the provider `openai` elsewhere, as it does in other programs; a local server
/// needs no key, and one that is given is not sent anywhere else.
#[tokio::test(flavor = "multi_thread")]
async fn the_environment_says_where_openai_is() {
    let model = OpenAi::start(|_| openai::text("from the mock")).await;
    let folder = tempfile::tempdir().expect("a folder");
    let text = "listen = \"127.0.0.1:0\"\n[[agents]]\nid = \"agent\"\nmodel = \"openai::gpt-4o-mini\"\n";
    std::fs::write(folder.path().join("holdfast.toml"), text).expect("a file");
    let run = async |environment: &[(&str, &str)]| {
        let token = ("HOLDFAST_ADMIN_TOKEN", crate::support::host::ADMIN);
        let environment: Vec<(&str, &str)> = environment.iter().copied().chain([token]).collect();
        let server = Server::launch(folder.path(), &["serve"], &environment).await;
        let request = reqwest::Client::new()
            .post(format!("{}/api/agents/agent/runs", server.url))
            .bearer_auth(token.1)
            .json(&json!({"message": "hello"}));
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        response.json::<Value>().await.expect("JSON")
    };
    let here = run(&[("OPENAI_BASE_URL", &model.url), ("OPENAI_API_KEY", "sk-test")]).await;
    assert_eq!(here["content"], "from the mock", "{here}");
    assert_eq!(model.asked()[0]["model"], "gpt-4o-mini");

    let without = run(&[]).await;
    assert_eq!((&without["status"], &without["content"]), (&json!("FAILED"), &json!("")));
    assert_eq!(without["metrics"]["errorType"], "no_api_key");
    let message = without["metrics"]["errorMessage"].as_str().expect("a message");
    let start = "No API key configured for provider openai";
    assert!(message.starts_with(start) && message.contains("OPENAI_API_KEY"), "{message}");
    assert_eq!(without["metadata"]["message"], message);
}
