//! What a run, an agent and an organisation's day may use: checked before each call, and a run that ends by
//! it shows what it had so far.

use std::time::Duration;

use holdfast::config::{Config, ServerArgs};
use holdfast::key::Role;
use holdfast::server::Server;
use holdfast::session::{Reply, Tokens};
use serde_json::{Value, json};

use crate::support::host::ONE_AGENT;
use crate::support::{Caller, Script, TestHost, call, calls, say};

const PRICES: &str = "[prices.\"script::v1\"]\ninput_per_million = 100.0\noutput_per_million = 1000\n";

fn used(reply: Reply) -> Reply {
    Reply { tokens: Tokens { input: Some(100), output: Some(10), reasoning: None }, ..reply }
}

/// A model that counts up and never ends, 100 tokens in and 10 out each time: 0.02 by the prices.
fn counting() -> std::sync::Arc<Script> {
    Script::new([used(call("probe__effect_ungated", json!({"key": "k"})))])
}

async fn host(budget: &str) -> TestHost {
    let agent = ONE_AGENT.replace("tools = [\"*\"]", &format!("tools = [\"*\"]\nbudget = {{ {budget} }}"));
    TestHost::start(&["probe"], &format!("{agent}\n{PRICES}"), counting()).await
}

/// Why it failed, and what it had: calls of tools, of the model, tokens, cost.
fn end(run: &Value) -> (String, usize, u64, Value, Value) {
    assert_eq!((&run["status"], &run["content"]), (&json!("FAILED"), &json!("")), "{run}");
    assert_eq!(run["metrics"]["errorType"], "budget_exceeded");
    let message = run["metrics"]["errorMessage"].as_str().unwrap();
    let limit = message.strip_prefix("The run reached its limit ").unwrap();
    let limit = limit.strip_suffix(" before it was done.").unwrap().to_owned();
    let usage = &run["metadata"]["usage"];
    let tools = run["tools"].as_array().unwrap().len();
    (
        limit,
        tools,
        run["metrics"]["llmCallCount"].as_u64().unwrap(),
        usage["totalTokens"].clone(),
        usage["cost"].clone(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn each_limit_of_an_agent_ends_its_run_with_what_it_had() {
    let table = [
        ("max_tool_calls = 2", "maxToolCalls = 2", 2, 3, 330, 0.06),
        ("max_tool_calls = 0", "maxToolCalls = 0", 0, 1, 110, 0.02),
        ("max_input_tokens = 200", "maxInputTokens = 200", 1, 2, 220, 0.04),
        ("max_output_tokens = 25", "maxOutputTokens = 25", 2, 3, 330, 0.06),
        ("max_cost = 0.05", "maxCost = 0.05", 2, 3, 330, 0.06),
    ];
    for (budget, limit, tools, model_calls, tokens, cost) in table {
        let host = host(budget).await;
        let run = host.run("go").await;
        assert_eq!(end(&run), (limit.to_owned(), tools, model_calls, json!(tokens), json!(cost)), "{budget}");
        assert_eq!(host.effects("k").await, tools as u64, "{budget}");
        let row = host.get("/api/runs").await.body["content"][0].clone();
        assert_eq!((&row["metadata"], &row["metrics"]), (&run["metadata"], &run["metrics"]), "{budget}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_are_a_budget_too() {
    let host = TestHost::start(&["probe"], &format!("{ONE_AGENT}\n{PRICES}"), counting()).await;
    let body = json!({"message": "go", "options": {"maxSteps": 2}});
    let run = host.post("/api/agents/agent/runs", &body).await.body;
    assert_eq!(end(&run), ("maxSteps = 2".to_owned(), 2, 2, json!(220), json!(0.04)));
}

/// A turn that asks for more calls than are left gets as many as are left.
#[tokio::test(flavor = "multi_thread")]
async fn calls_side_by_side_stop_at_the_limit() {
    let echo = |text| ("probe__echo", json!({"text": text}));
    let model = Script::new([calls([echo("1"), echo("2"), echo("3")]), say("done")]);
    let agent = ONE_AGENT.replace("tools = [\"*\"]", "tools = [\"*\"]\nbudget = { max_tool_calls = 2 }");
    let host = TestHost::start(&["probe"], &agent, model).await;
    let run = host.run("go").await;
    let outputs: Vec<&Value> =
        run["tools"].as_array().unwrap().iter().map(|tool| &tool["toolOutput"]).collect();
    assert_eq!(outputs, [&json!("1"), &json!("2")]);
    assert_eq!(end(&run).0, "maxToolCalls = 2");
    assert_eq!(run["metadata"]["usage"]["cost"], Value::Null, "without a price it is not known");
}

/// Nobody is asked to approve what could not run.
#[tokio::test(flavor = "multi_thread")]
async fn no_human_is_asked_about_a_call_beyond_the_limit() {
    let model = Script::new([call("probe__effect", json!({"key": "k"}))]);
    let agent = ONE_AGENT.replace("tools = [\"*\"]", "tools = [\"*\"]\nbudget = { max_tool_calls = 1 }");
    let host = TestHost::start(&["probe"], &agent, model).await;
    let paused = host.run("go").await;
    let run = host.resume(&paused, json!({"action": "APPROVE"})).await.body;
    assert_eq!(end(&run).0, "maxToolCalls = 1");
    assert_eq!(host.effects("k").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn follow_ups_are_left_out_when_nothing_is_left_for_them() {
    let agent = ONE_AGENT.replace("tools = [\"*\"]", "budget = { max_input_tokens = 100 }");
    let host = TestHost::start(&[], &agent, Script::new([used(say("done"))])).await;
    let body = json!({"message": "go", "generateFollowups": true});
    let run = host.post("/api/agents/agent/runs", &body).await.body;
    assert_eq!((&run["status"], &run["content"]), (&json!("COMPLETED"), &json!("done")));
    assert_eq!((&run["metadata"]["followups"], &run["metrics"]["llmCallCount"]), (&json!([]), &json!(1)));
}

fn day(limits: &str) -> String {
    format!("{ONE_AGENT}\n{PRICES}\n[budgets.org_day]\n{limits}\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organisations_day_ends_at_midnight_and_is_its_own() {
    let config = day("max_input_tokens = 250");
    let mut host = TestHost::start(&["probe"], &config, Script::new([used(say("hi"))])).await;
    for _ in 0..3 {
        assert_eq!(host.run("go").await["status"], "COMPLETED");
    }
    let spent = ("orgDay.maxInputTokens = 250".to_owned(), 0, 0, Value::Null, Value::Null);
    assert_eq!(end(&host.run("go").await), spent);
    host.restart().await;
    assert_eq!(end(&host.run("go").await), spent, "a restart gives nothing back");
    let bob = Caller::new(&host, Role::User, "other", "bob").await;
    assert_eq!(
        bob.post("/api/agents/agent/runs", &json!({"message": "go"})).await.body["status"],
        "COMPLETED"
    );
    host.clock.advance(Duration::from_millis(86_400_000 - 1));
    assert_eq!(end(&host.run("go").await), spent);
    host.clock.advance(Duration::from_millis(1));
    assert_eq!(host.run("go").await["status"], "COMPLETED");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_limit_of_a_day_counts_across_runs() {
    for (limits, limit) in [
        ("max_runs = 2", "orgDay.maxRuns = 2"),
        ("max_output_tokens = 20", "orgDay.maxOutputTokens = 20"),
        ("max_cost = 0.04", "orgDay.maxCost = 0.04"),
    ] {
        let host = TestHost::start(&["probe"], &day(limits), Script::new([used(say("hi"))])).await;
        assert_eq!(host.run("1").await["status"], "COMPLETED", "{limits}");
        assert_eq!(host.run("2").await["status"], "COMPLETED", "{limits}");
        assert_eq!(end(&host.run("3").await).0, limit);
    }
}

/// A run that waits over midnight uses the day it goes on in, and is stopped by what that day has left.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_uses_counts_on_the_day_it_is_used() {
    let model = Script::new([used(call("probe__effect", json!({"key": "k"}))), used(say("done"))]);
    let host = TestHost::start(&["probe"], &day("max_input_tokens = 150"), model).await;
    let limit = "orgDay.maxInputTokens = 150";
    let paused = host.run("go").await;
    assert_eq!(paused["status"], "PAUSED");
    assert_eq!(end(&host.run("go").await).0, limit);
    host.clock.advance(Duration::from_hours(23));
    let spent = host.resume(&paused, json!({"action": "APPROVE"})).await.body;
    assert_eq!(end(&spent).0, limit, "the same day");
    assert_eq!(host.effects("k").await, 0);

    host.clock.advance(Duration::from_hours(13));
    let paused = host.run("go").await;
    host.clock.advance(Duration::from_hours(12));
    let done = host.resume(&paused, json!({"action": "APPROVE"})).await.body;
    assert_eq!((&done["status"], host.effects("k").await), (&json!("COMPLETED"), 1), "the next day");
    assert_eq!(end(&host.run("go").await).0, limit, "of which it used a part");
}

/// Of runs at once, as many start as the day allows.
#[tokio::test(flavor = "multi_thread")]
async fn racing_runs_are_counted_one_by_one() {
    let host = TestHost::start(&["probe"], &day("max_runs = 5"), Script::new([used(say("hi"))])).await;
    let runs = futures_util::future::join_all((0..16).map(|_| host.run("go"))).await;
    assert_eq!(runs.iter().filter(|run| run["status"] == "COMPLETED").count(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organisation_can_have_limits_of_its_own_and_needs_prices_for_them() {
    let config = format!(
        "{ONE_AGENT}\n[budgets.org_day]\nmax_runs = 0\n[budgets.orgs.rich]\n[budgets.orgs.acme]\nmax_cost = 1.0\n"
    );
    let host = TestHost::start(&[], &config, Script::new([say("hi")])).await;
    let rich = Caller::new(&host, Role::User, "rich", "rita").await;
    let go = json!({"message": "go"});
    assert_eq!(rich.post("/api/agents/agent/runs", &go).await.body["status"], "COMPLETED");
    assert_eq!(end(&host.run("go").await).0, "orgDay.maxRuns = 0");
    let ann = Caller::new(&host, Role::User, "acme", "ann").await;
    let mut refused = ann.post("/api/agents/agent/runs", &go).await;
    assert!(refused.body["requestId"].take().is_string());
    insta::assert_json_snapshot!(refused.body, @r#"
    {
      "type": "urn:problem-type:business-validation-error",
      "title": "The request cannot be carried out",
      "status": 400,
      "detail": "The run was refused: the organisation's day has a max_cost, and the model `script::v1` has no price: add [prices.\"script::v1\"] to the configuration file, or choose a model that has one.",
      "instance": "/api/agents/agent/runs",
      "requestId": null
    }
    "#);
    let body = json!({"message": "go", "options": {"model": "demo"}});
    let refused = ann.post("/api/agents/agent/runs", &body).await;
    assert_eq!((refused.status, &refused.body["invalidParams"][0]["field"]), (400, &json!("options.model")));
}

/// What cannot be counted is refused at the start, in words.
#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_whose_limits_mean_nothing_is_refused() {
    let agent = "[[agents]]\nid = \"a\"\nmodel = \"demo\"\n";
    let unpriced = "and the model `demo` has no price";
    for (text, problem) in [
        (
            format!("{agent}budget = {{ max_cost = 1.0 }}"),
            format!("agent `a`: the agent has a max_cost, {unpriced}"),
        ),
        (
            format!("{agent}[budgets.org_day]\nmax_cost = 1.0"),
            format!("agent `a`: the organisation's day has a max_cost, {unpriced}"),
        ),
        (
            format!("{agent}budget = {{ max_cost = -1.0 }}"),
            "line 1: budget of agent `a` is not valid: max_cost must be from 0".to_owned(),
        ),
        (
            "[prices.x]\ninput_per_million = 1\noutput_per_million = 1".to_owned(),
            "[prices.\"x\"]: `x` does not name a model".to_owned(),
        ),
        (
            "[prices.demo]\ninput_per_million = -1\noutput_per_million = 1".to_owned(),
            "[prices.\"demo\"]: input_per_million must be from 0".to_owned(),
        ),
        (
            "[budgets.orgs.acme]\nmax_cost = nan".to_owned(),
            "[budgets.orgs.acme]: max_cost must be from 0".to_owned(),
        ),
        ("[rate_limit]\nrequests_per_minute = 0".to_owned(), "nonzero".to_owned()),
        ("[budgets.org_day]\nmax_rums = 1".to_owned(), "unknown field `max_rums`".to_owned()),
    ] {
        let error = start(&text).await.expect_err(&text);
        assert!(error.contains(&problem), "{text}: {error}");
    }
    let priced = format!(
        "{agent}budget = {{ max_cost = 1.0 }}\n[prices.demo]\ninput_per_million = 0\noutput_per_million = 0"
    );
    start(&priced).await.expect("a model may be free");
}

async fn start(text: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("holdfast.toml");
    let config = Config::from_text(text, &file, &ServerArgs::default()).map_err(|error| error.to_string())?;
    Server::open(&config).await.map(drop).map_err(|error| format!("{error:#}"))
}
