//! What `Models` does for every model: names, retries, clean-up.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::model::mock::{Answer, MockProvider, models, request};

/// Answers from a list; the last one is repeated.
struct Scripted {
    answers: Vec<Result<Reply, ModelError>>,
    calls: AtomicU32,
}

impl Scripted {
    fn new(answers: Vec<Result<Reply, ModelError>>) -> Arc<Self> {
        Arc::new(Self { answers, calls: AtomicU32::new(0) })
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }
}

#[async_trait::async_trait]
impl Model for Scripted {
    async fn reply(&self, _: &Request) -> Result<Reply, ModelError> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed) as usize;
        self.answers[call.min(self.answers.len() - 1)].clone()
    }
}

fn none() -> Models {
    Models::new(BTreeMap::new()).unwrap()
}

fn unavailable() -> ModelError {
    ModelError::Unavailable { message: "HTTP 500".to_owned(), retry_after_ms: None }
}

fn limited(retry_after_ms: u64) -> ModelError {
    ModelError::RateLimited { message: "HTTP 429".to_owned(), retry_after_ms: Some(retry_after_ms) }
}

fn said(text: &str) -> Reply {
    Reply { content: text.to_owned(), ..Reply::default() }
}

/// The outcome, how many attempts, and how long it took on the paused clock.
async fn ask(answers: Vec<Result<Reply, ModelError>>) -> (Result<Reply, ModelError>, u32, Duration) {
    let model = Scripted::new(answers);
    let models = none().with("mock", Arc::clone(&model) as _);
    let start = tokio::time::Instant::now();
    let result = models.reply(&request("hi")).await;
    (result, model.calls(), start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_failing_provider_is_asked_three_times() {
    let (result, calls, took) = ask(vec![Err(unavailable()), Err(unavailable()), Ok(said("ok"))]).await;
    assert_eq!((result, calls), (Ok(said("ok")), 3));
    assert!(took >= Duration::from_millis(1125) && took <= Duration::from_millis(1900), "{took:?}");

    let (result, calls, _) = ask(vec![Err(unavailable())]).await;
    let text = "the model provider failed: HTTP 500 (after 3 attempts)";
    assert_eq!((result.unwrap_err().to_string().as_str(), calls), (text, 3));
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_is_waited_out_five_times_and_not_for_ever() {
    let (result, calls, took) = ask(vec![Err(limited(20_000)), Ok(said("ok"))]).await;
    assert_eq!((result, calls), (Ok(said("ok")), 2));
    assert!(took >= Duration::from_secs(20) && took < Duration::from_millis(20_200), "{took:?}");

    let (result, calls, _) = ask(vec![Err(limited(10))]).await;
    assert!(matches!(result, Err(ModelError::RateLimited { .. })));
    assert_eq!(calls, 5);

    let (result, calls, took) = ask(vec![Err(limited(3_600_000))]).await;
    let text = result.unwrap_err().to_string();
    assert!(text.contains("asks for a wait of 3600 s"), "{text}");
    assert_eq!((calls, took), (1, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_get_better_is_asked_once() {
    for error in [ModelError::Refused("no".to_owned()), ModelError::ContextOverflow("long".to_owned())] {
        let (result, calls, _) = ask(vec![Err(error.clone())]).await;
        assert_eq!((result, calls), (Err(error), 1));
    }
}

#[tokio::test]
async fn retries_work_through_http_too() {
    let limited = Answer::error(429, &serde_json::json!({"error": {"message": "slow down"}}));
    let server = MockProvider::start([limited.with_header("retry-after-ms", "5"), Answer::text("ok")]).await;
    let reply = server.models().reply(&request("hi")).await.unwrap();
    assert_eq!((reply.content.as_str(), server.asked().len()), ("ok", 2));
}

#[tokio::test]
async fn replies_are_cleaned() {
    let server = MockProvider::start([Answer::text("<think>\nhm\n</think>\n\n42")]).await;
    let reply = server.models().reply(&request("hi")).await.unwrap();
    assert_eq!((reply.content.as_str(), reply.reasoning.as_deref()), ("42", Some("hm")));
}

#[tokio::test]
async fn a_missing_key_is_said_with_the_way_out() {
    let mut ask = request("hi");
    for (model, expected) in [
        (
            "openai::gpt-4o-mini",
            "No API key configured for provider openai: set OPENAI_API_KEY or providers.openai.api_key_env in \
             holdfast.toml",
        ),
        ("lab::x", "No API key configured for provider lab: set providers.lab.api_key_env in holdfast.toml"),
    ] {
        ask.model = model.parse().unwrap();
        let provider = Provider {
            base_url: Some("http://lab.example/v1".parse().unwrap()),
            api_key: Some("  ".to_owned()),
            ..Provider::default()
        };
        let error = models("lab", provider).reply(&ask).await.unwrap_err();
        let failure = Failure::from(error);
        assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::NoApiKey, expected));
    }
}

#[test]
fn names_are_checked_without_asking() {
    let models = none().with("mine", Scripted::new(Vec::new()));
    let name = |text: &str| text.parse::<ModelName>().unwrap();
    for known in ["demo", "openai::x", "anthropic::claude-sonnet-4-6", "mine::x"] {
        assert_eq!(models.check(&name(known)), Ok(()), "{known}");
    }
    let text = models.check(&name("opnai::gpt-4o")).unwrap_err().to_string();
    assert!(
        text.starts_with(
            "Unknown model provider `opnai` in `opnai::gpt-4o`. Configured: demo, mine. Known by name: "
        ) && text.contains(", openai, ")
            && !text.contains("bedrock"),
        "{text}"
    );
    let wrong = [("x".to_owned(), Provider::default())].into();
    assert!(matches!(Models::new(wrong), Err(ModelError::UnknownModel(_))));
}

#[test]
fn providers_are_listed_without_their_secrets() {
    let provider =
        Provider { api_key: Some("secret".to_owned()), vision: Some(false), ..Provider::default() };
    let models = models("openai", provider);
    let expected = serde_json::json!([
        {"provider": "demo", "hasKey": false, "needsKey": false},
        {"provider": "openai", "hasKey": true, "needsKey": true},
    ]);
    assert_eq!(serde_json::to_value(models.list()).unwrap(), expected);
    let reads = |name: &str| models.reads_images(&name.parse().unwrap());
    assert_eq!(
        [reads("demo"), reads("openai::gpt-4o"), reads("anthropic::claude-x"), reads("groq::qwen-coder")],
        [false, false, true, false]
    );
}

#[test]
fn failures_have_the_words_of_the_api() {
    for (error, kind) in [
        (limited(1), "model_rate_limited"),
        (unavailable(), "model_error"),
        (ModelError::ContextOverflow(String::new()), "context_overflow"),
        (ModelError::Malformed(String::new()), "model_error"),
    ] {
        assert_eq!(Failure::from(error).kind.as_str(), kind);
    }
}
