//! An answer with a schema is JSON that fits it, or the run fails and says why.

use std::sync::{Arc, Mutex};

use holdfast::model::{Model, ModelError, Request};
use holdfast::session::{Message, Reply, Tokens};
use serde_json::{Value, json};

use crate::support::host::ONE_AGENT;
use crate::support::openai::{self, OpenAi};
use crate::support::process::Process;
use crate::support::{TestHost, call, say};

/// Its n-th request gets the n-th reply; the last one repeats. (A script counts from the user's last message,
/// and a refusal is one.)
struct InOrder {
    replies: Vec<Reply>,
    requests: Mutex<Vec<Request>>,
}

impl InOrder {
    fn new(replies: impl IntoIterator<Item = Reply>) -> Arc<Self> {
        Arc::new(Self { replies: replies.into_iter().collect(), requests: Mutex::default() })
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no test panics in here").clone()
    }

    /// The last user's message of each request.
    fn questions(&self) -> Vec<String> {
        let question = |request: Request| {
            request.messages.into_iter().rev().find_map(|message| match message {
                Message::User { text, .. } => Some(text),
                Message::Assistant(_) | Message::Tool { .. } => None,
            })
        };
        self.requests().into_iter().filter_map(question).collect()
    }
}

#[async_trait::async_trait]
impl Model for InOrder {
    async fn reply(&self, request: &Request) -> Result<Reply, ModelError> {
        let mut requests = self.requests.lock().expect("no test panics in here");
        requests.push(request.clone());
        let index = requests.len() - 1;
        Ok(self.replies.get(index).or(self.replies.last()).expect("a reply").clone())
    }
}

fn city() -> Value {
    json!({"type": "object", "required": ["city"], "additionalProperties": false,
        "properties": {"city": {"type": "string"}, "people": {"type": "integer", "minimum": 0}}})
}

async fn run(host: &TestHost, schema: &Value) -> Value {
    let body = json!({"message": "Which city?", "options": {"responseSchema": schema}});
    let answer = host.post("/api/agents/agent/runs", &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

#[tokio::test]
async fn a_valid_answer_is_the_content_and_a_value() {
    let model = InOrder::new([say("{\"city\": \"Berlin\"}")]);
    let host = TestHost::with_probe(model.clone()).await;
    let run = run(&host, &city()).await;

    assert_eq!(run["status"], "COMPLETED");
    assert_eq!(run["content"], "{\"city\": \"Berlin\"}");
    assert_eq!(run["metadata"]["structured"], json!({"city": "Berlin"}));
    assert_eq!(run["metrics"]["llmCallCount"], 1);
    let asked = &model.requests()[0];
    assert!(asked.system.contains(&city().to_string()), "the model is told: {}", asked.system);
    assert_eq!(host.read(&run).await["metadata"]["structured"], json!({"city": "Berlin"}));
    assert_eq!(host.run("Hello").await["metadata"].get("structured"), None, "only where it was asked for");
}

#[tokio::test]
async fn fences_and_prose_around_it_are_taken_off() {
    let model = InOrder::new([say("Here you are:\n\n```json\n{\"city\": \"Bonn\"}\n```\nAnything else?")]);
    let host = TestHost::with_probe(model.clone()).await;
    let run = run(&host, &city()).await;
    assert_eq!((&run["status"], &run["content"]), (&json!("COMPLETED"), &json!("{\"city\": \"Bonn\"}")));
    assert_eq!(model.requests().len(), 1);
}

#[tokio::test]
async fn a_bad_answer_is_repaired_and_the_model_is_told_what_was_wrong() {
    let bad = say("{\"city\": 7, \"people\": -1}");
    let model = InOrder::new([say("Berlin!"), bad, say("{\"city\": \"Berlin\", \"people\": 4}")]);
    let host = TestHost::with_probe(model.clone()).await;
    let run = run(&host, &city()).await;

    assert_eq!(run["status"], "COMPLETED");
    assert_eq!(run["metadata"]["structured"], json!({"city": "Berlin", "people": 4}));
    assert_eq!(run["metrics"]["llmCallCount"], 3);
    assert_eq!(
        model.questions(),
        [
            "Which city?",
            "Your answer was not accepted: it is not valid JSON: expected value at line 1 column 1. Answer again, with one \
             JSON value that fits the schema and nothing else.",
            "Your answer was not accepted: it does not fit the schema: /city: 7 is not of type \"string\"; /people: -1 is \
             less than the minimum of 0. Answer again, with one JSON value that fits the schema and nothing else.",
        ]
    );
}

/// Three attempts; what the run had is kept.
#[tokio::test]
async fn an_answer_that_never_fits_fails_the_run() {
    let tokens = Tokens { input: Some(10), output: Some(2), reasoning: None };
    let with_tokens = |reply: Reply| Reply { tokens, ..reply };
    let model = InOrder::new([
        with_tokens(call("probe__echo", json!({"text": "hi"}))),
        with_tokens(say("[\"Berlin\"]")),
    ]);
    let host = TestHost::with_probe(model.clone()).await;
    let run = run(&host, &city()).await;

    assert_eq!((&run["status"], &run["content"]), (&json!("FAILED"), &json!("")));
    assert_eq!(run["metrics"]["errorType"], "model_error");
    assert_eq!(
        run["metrics"]["errorMessage"],
        "The model's answer does not fit the response schema, nor did it after 2 repairs: it does not fit the schema: top \
         level breaks /type.",
        "and nothing of the answer"
    );
    assert_eq!(model.requests().len(), 4, "one with the tool, then three answers");
    assert_eq!(run["tools"][0]["toolOutput"], "hi");
    assert_eq!(run["metrics"]["inputTokens"], 40);
    assert_eq!(run["metadata"].get("structured"), None);
}

#[tokio::test]
async fn repairs_count_as_steps() {
    let model = InOrder::new([say("no")]);
    let host = TestHost::with_probe(model.clone()).await;
    let body = json!({"message": "x", "options": {"responseSchema": city(), "maxSteps": 2}});
    let run = host.post("/api/agents/agent/runs", &body).await.body;
    assert_eq!(run["metrics"]["errorType"], "budget_exceeded", "{run}");
    assert_eq!(model.requests().len(), 2);
}

#[tokio::test]
async fn a_schema_that_cannot_be_used_is_a_400_before_any_model_call() {
    let model = InOrder::new([say("{}")]);
    let host = TestHost::with_probe(model.clone()).await;
    // Twice the one before, thirty times.
    let twice = |next: usize| json!({"allOf": [{"$ref": format!("#/$defs/{next}")}, {"$ref": format!("#/$defs/{next}")}]});
    let mut defs: serde_json::Map<String, Value> = (0..30).map(|n| (n.to_string(), twice(n + 1))).collect();
    defs.insert("30".to_owned(), json!({}));
    let bomb = json!({"$defs": defs, "$ref": "#/$defs/0"});
    for (schema, problem) in [
        (json!("object"), "must be a JSON object"),
        (json!({"type": "objekt"}), "is not a valid JSON Schema"),
        (json!({"$ref": "https://example.com/s.json"}), "only references into the schema itself"),
        (json!({"$ref": "file:///etc/passwd"}), "only references into the schema itself"),
        (json!({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}), "refers to itself"),
        (json!({"description": "x".repeat(70_000)}), "the most is 65536"),
        (json!({"pattern": "(?=a)"}), "is not a valid JSON Schema"),
        (json!({"pattern": "(\\w{500}){500}"}), "is not a valid JSON Schema"),
        (bomb, "is too large"),
    ] {
        let body = json!({"message": "x", "options": {"responseSchema": schema}});
        let answer = host.post("/api/agents/agent/runs", &body).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        let param = &answer.body["invalidParams"][0];
        assert_eq!(param["field"], "options.responseSchema");
        assert!(param["message"].as_str().is_some_and(|text| text.contains(problem)), "{problem}: {param}");
    }
    assert_eq!(model.requests().len(), 0);
}

/// The tools come first, a human between them, a restart in the pause; follow-ups come last.
#[tokio::test]
async fn tools_pauses_and_restarts_come_before_the_check() {
    let model = InOrder::new([
        call("probe__effect", json!({"key": "k"})),
        say("not yet"),
        say("{\"city\": \"Ulm\"}"),
        say("[\"And then?\"]"),
    ]);
    let mut host = TestHost::with_probe(model.clone()).await;
    let body = json!({"message": "x", "generateFollowups": true, "options": {"responseSchema": city(), "maxSteps": 3}});
    let paused = host.post("/api/agents/agent/runs", &body).await.body;
    assert_eq!(paused["status"], "PAUSED");
    host.restart().await;
    let done = host.resume(&paused, json!({"action": "APPROVE"})).await.body;

    assert_eq!(done["status"], "COMPLETED", "{done}");
    assert_eq!(done["metadata"]["structured"], json!({"city": "Ulm"}));
    assert_eq!(done["metadata"]["followups"], json!(["And then?"]));
    assert_eq!(host.effects("k").await, 1);
    let requests = model.requests();
    assert!(requests[..3].iter().all(|request| request.response_schema.is_some()));
    assert!(requests[3].response_schema.is_none(), "questions are not the answer");
}

/// Written in the agent's configuration, as a table or as text.
#[tokio::test]
async fn an_agent_can_have_a_schema_of_its_own() {
    for schema in
        ["{ type = \"object\", required = [\"city\"] }", "'{\"type\": \"object\", \"required\": [\"city\"]}'"]
    {
        let model = InOrder::new([say("{}"), say("{\"city\": \"Ulm\"}")]);
        let config =
            ONE_AGENT.replace("tools = [\"*\"]", &format!("tools = [\"*\"]\nresponse_schema = {schema}"));
        let host = TestHost::start(&["probe"], &config, model.clone()).await;
        let run = host.run("Which city?").await;
        assert_eq!(run["metadata"]["structured"], json!({"city": "Ulm"}), "{run}");
    }
}

#[tokio::test]
async fn a_bad_schema_in_the_configuration_is_told_with_its_agent() {
    use holdfast::config::{Config, ServerArgs};
    let text = "[[agents]]\nid = \"a\"\nmodel = \"demo\"\nresponse_schema = { \"$ref\" = \"http://x/y\" }";
    let error = Config::from_text(text, "holdfast.toml".as_ref(), &ServerArgs::default())
        .expect_err("the schema is refused")
        .to_string();
    assert!(error.contains("line 1: response_schema of agent `a` uses `$ref: http://x/y`"), "{error}");
}

/// A provider that can enforce a schema is asked to, where that does not keep it from calling tools.
#[tokio::test]
async fn the_schema_reaches_a_provider_that_enforces_it() {
    let server = OpenAi::start(|_| openai::text("{\"city\": \"Ulm\", \"people\": 1}")).await;
    let ask = json!({"message": "x", "options": {"responseSchema": city()}});
    let without_tools = Process::start(&[], &server.config()).await;
    let run = without_tools.post("/api/agents/agent/runs", &ask).await.expect("an answer").body;
    assert_eq!(run["metadata"]["structured"], json!({"city": "Ulm", "people": 1}), "{run}");
    let format = &server.asked()[0]["response_format"];
    assert_eq!(format["type"], "json_schema");
    assert_eq!(format["json_schema"]["schema"]["properties"]["city"], json!({"type": "string"}), "{format}");

    let with_tools = Process::start(&["probe"], &server.config()).await;
    with_tools.post("/api/agents/agent/runs", &ask).await.expect("an answer");
    let asked = &server.asked()[1];
    assert!(asked["tools"].is_array());
    assert_eq!(asked.get("response_format"), None, "a grammar of the answer has no tool calls in it");
    assert!(asked["messages"][0]["content"].as_str().is_some_and(|text| text.contains("JSON Schema")));
}

/// The built-in model cannot write to a schema, and says so; a tool's JSON that fits is an answer.
#[tokio::test]
async fn the_demo_model_fails_honestly() {
    let config = "[[agents]]\nid = \"agent\"\nmodel = \"demo\"\ntools = [\"*\"]\n";
    let host = TestHost::start(&["calculator"], config, InOrder::new([say("")])).await;
    let run = run(&host, &city()).await;
    assert_eq!((&run["status"], &run["metrics"]["errorType"]), (&json!("FAILED"), &json!("model_error")));
    assert_eq!(run["metrics"]["llmCallCount"], 3, "{run}");
}
