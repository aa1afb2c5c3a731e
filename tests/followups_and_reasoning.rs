//! What comes with an answer: next questions, which never cost the answer; what the model thought, which never
//! stays in it; and figures, which are null where nobody knows them.

use holdfast::model::{ModelError, Request};
use holdfast::session::{Reply, Tokens};
use serde_json::{Value, json};

use crate::support::{Speaker, TestHost, call, replied, say};

const RUNS: &str = "/api/agents/agent/runs";

fn is_follow_up(request: &Request) -> bool {
    request.system.contains("follow-up questions")
}

async fn run(followups: Result<Reply, ModelError>) -> (Value, Vec<Request>) {
    let model = Speaker::new(move |request| match (is_follow_up(request), replied(request)) {
        (true, _) => followups.clone(),
        (false, 0) => Ok(call("probe__echo", json!({"text": "hello"}))),
        (false, _) => Ok(say("The answer.")),
    });
    let host = TestHost::with_probe(model.clone()).await;
    let body = json!({"message": "go", "generateFollowups": true});
    let answer = host.post(RUNS, &body).await;
    assert_eq!((answer.status, &answer.body["status"]), (200, &json!("COMPLETED")), "{answer:?}");
    assert_eq!(answer.body["content"], "The answer.");
    assert_eq!(host.read(&answer.body).await["metadata"], answer.body["metadata"], "it is stored");
    (answer.body, model.requests())
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_come_as_a_list_and_as_text() {
    let (run, requests) = run(Ok(say("[\"Who?\", \"Why?\"]"))).await;
    assert_eq!(run["metadata"]["followups"], json!(["Who?", "Why?"]));
    assert_eq!(run["metadata"]["followUpSuggestions"], r#"["Who?","Why?"]"#);
    assert_eq!(run["metrics"]["llmCallCount"], 3, "the question about questions is counted");
    let last = requests.last().expect("a request");
    assert!(is_follow_up(last) && last.tools.is_empty(), "nothing can be called there");
    assert_eq!(requests.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_costs_the_questions_and_not_the_answer() {
    let failures =
        [Err(ModelError::Refused("no".to_owned())), Ok(say("I would rather not.")), Ok(Reply::default())];
    for failure in failures {
        let (run, _) = run(failure).await;
        assert_eq!(run["metadata"]["followups"], json!([]));
        assert_eq!(run["metadata"]["followUpSuggestions"], "[]");
        assert_eq!((&run["metrics"]["errorType"], &run["metrics"]["errorCount"]), (&Value::Null, &json!(0)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_asked_for_questions_that_nobody_wants() {
    let model = Speaker::new(|_| Ok(say("The answer.")));
    let host = TestHost::with_probe(model.clone()).await;
    for wanted in [json!({"message": "go"}), json!({"message": "go", "generateFollowups": null})] {
        let metadata = host.post(RUNS, &wanted).await.body["metadata"].clone();
        assert!(metadata.get("followups").is_none() && metadata.get("followUpSuggestions").is_none());
    }
    assert_eq!(model.requests().len(), 2);
    let wrong = host.post(RUNS, &json!({"message": "go", "generateFollowups": "yes"})).await;
    assert_eq!((wrong.status, &wrong.body["invalidParams"][0]["field"]), (400, &json!("generateFollowups")));
}

/// The fields of providers and the blocks of open models, in one place; a tag in the text stays text.
#[tokio::test(flavor = "multi_thread")]
async fn thoughts_are_kept_apart_from_answers() {
    let model = Speaker::new(|request| {
        Ok(match replied(request) {
            0 => Reply {
                reasoning: Some("I should echo.".to_owned()),
                content: "<think>Or not.</think>Let me see.".to_owned(),
                ..call("probe__echo", json!({"text": "hello"}))
            },
            1 => call("probe__echo", json!({"text": "again"})),
            _ => say("<thinking>\nDone, then.\n</thinking>\n\nIt says <think> in the manual."),
        })
    });
    let host = TestHost::with_probe(model.clone()).await;
    let run = host.run("go").await;
    assert_eq!(run["reasoningSteps"], json!(["I should echo.\n\nOr not.", "Done, then."]));
    assert_eq!(run["content"], "It says <think> in the manual.");
    let journal = host.texts("select body from run_events where kind = 'replied' order by seq").await;
    assert!(journal[0].contains("Let me see.") && !journal[0].contains("</think>"), "{}", journal[0]);
}

/// All figures are always there; unknown is null and never 0, and what is known adds up.
#[tokio::test(flavor = "multi_thread")]
async fn figures_are_sums_of_what_is_known() {
    let tokens = |input, output, reasoning| Tokens { input, output, reasoning };
    let table = [
        ([tokens(None, None, None), tokens(None, None, None)], [Value::Null, Value::Null, Value::Null]),
        (
            [tokens(Some(10), Some(5), None), tokens(Some(20), Some(7), None)],
            [json!(30), json!(12), Value::Null],
        ),
        ([tokens(Some(10), None, Some(3)), tokens(None, Some(0), Some(4))], [json!(10), json!(0), json!(7)]),
    ];
    for (turns, [input, output, reasoning]) in table {
        let model = Speaker::new(move |request| {
            let reply = match replied(request) {
                0 => call("probe__echo", json!({"text": 7})),
                _ => say("done"),
            };
            Ok(Reply {
                tokens: turns[replied(request)],
                model: Some("named-by-the-provider".to_owned()),
                ..reply
            })
        });
        let host = TestHost::with_probe(model).await;
        let run = host.run("go").await;
        let metrics = json!({
            "inputTokens": input, "outputTokens": output, "reasoningTokens": reasoning,
            "llmCallCount": 2, "toolCallCount": 1, "errorCount": 1, "durationMs": 0,
            "model": "named-by-the-provider", "errorType": null, "errorMessage": null,
        });
        assert_eq!(run["metrics"], metrics, "{run}");
        let total = input.as_u64().zip(output.as_u64()).map(|(input, output)| input + output);
        assert_eq!(
            (&run["metadata"]["usage"]["inputTokens"], &run["metadata"]["usage"]["totalTokens"]),
            (&input, &json!(total))
        );
    }
}
