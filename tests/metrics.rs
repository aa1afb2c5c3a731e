//! What the operator's monitoring reads: everything that happens is counted, and nobody who is not in
//! charge makes up a label.

use serde_json::{Value, json};

use crate::support::egress::{API, Sender};
use crate::support::host::ONE_AGENT;
use crate::support::web::ok;
use crate::support::{Script, TestHost, call, calls, say, until};

/// The numbers, without a token.
async fn numbers(host: &TestHost) -> String {
    let response = reqwest::get(format!("{}/metrics", host.url)).await.expect("an answer");
    assert_eq!(response.status(), 200);
    let kind = response.headers()["content-type"].to_str().expect("a text").to_owned();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    response.text().await.expect("a text")
}

/// The value of a series.
fn value(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
    line.and_then(|line| line.rsplit(' ').next()).and_then(|number| number.parse().ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_models_tools_and_requests_are_counted() {
    let model = Script::new([
        calls([
            ("calculator__evaluate", json!({"expression": "6*7"})),
            ("hostile__trap", json!({})),
            ("hostile__loop", json!({})),
            ("hostile__log_flood", json!({"lines": 210})),
        ]),
        say("done"),
    ]);
    let config = format!("{ONE_AGENT}[plugins.hostile.limits]\ncpu_ms = 50\nconcurrent_calls = 3\n");
    let host = TestHost::start(&["hostile", "calculator"], &config, model).await;
    assert_eq!(host.run("go").await["status"], "COMPLETED");
    assert_eq!(host.get("/no/such/path").await.status, 404);

    let text = numbers(&host).await;
    let version = env!("CARGO_PKG_VERSION");
    for (series, expected) in [
        (format!("holdfast_build_info{{version=\"{version}\"}}").as_str(), 1.0),
        ("holdfast_runs_started_total", 1.0),
        ("holdfast_runs_ended_total{status=\"COMPLETED\",failure=\"\"}", 1.0),
        ("holdfast_runs{status=\"RUNNING\"}", 0.0),
        ("holdfast_runs{status=\"QUEUED\"}", 0.0),
        ("holdfast_approvals_pending", 0.0),
        ("holdfast_model_calls_total{model=\"script::v1\",outcome=\"ok\"}", 2.0),
        ("holdfast_model_call_seconds_count{model=\"script::v1\"}", 2.0),
        (
            "holdfast_tool_calls_total{plugin=\"calculator\",tool=\"evaluate\",outcome=\"ok\",detail=\"\"}",
            1.0,
        ),
        (
            "holdfast_tool_calls_total{plugin=\"hostile\",tool=\"trap\",outcome=\"trap\",detail=\"unreachable\"}",
            1.0,
        ),
        ("holdfast_tool_calls_total{plugin=\"hostile\",tool=\"loop\",outcome=\"limit\",detail=\"cpu\"}", 1.0),
        ("holdfast_tool_call_seconds_count{plugin=\"hostile\",tool=\"loop\"}", 1.0),
        ("holdfast_plugin_calls_total{plugin=\"hostile\"}", 3.0),
        ("holdfast_plugin_failures_total{plugin=\"hostile\"}", 2.0),
        ("holdfast_plugin_limits_total{plugin=\"hostile\",limit=\"cpu\"}", 1.0),
        ("holdfast_plugin_log_lines_dropped_total{plugin=\"hostile\"}", 10.0),
        ("holdfast_plugin_calls_running{plugin=\"hostile\"}", 0.0),
        ("holdfast_plugin_calls_limit{plugin=\"hostile\"}", 3.0),
        ("holdfast_plugins{state=\"loaded\"}", 2.0),
        (
            "holdfast_http_requests_total{route=\"/api/agents/{agentId}/runs\",method=\"POST\",status=\"200\"}",
            1.0,
        ),
        ("holdfast_http_requests_total{route=\"other\",method=\"GET\",status=\"404\"}", 1.0),
        ("holdfast_up{part=\"epoch_ticker\"}", 1.0),
        ("holdfast_up{part=\"compiler\"}", 1.0),
        ("holdfast_up{part=\"database\"}", 1.0),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series}\n{text}");
    }
    assert!(value(&text, "holdfast_store_write_seconds_count").is_some_and(|count| count >= 4.0), "{text}");
    assert!(text.ends_with("# EOF\n"));

    let plugins = host.get("/api/plugins").await.body;
    let hostile = plugins.as_array().expect("plugins").iter().find(|plugin| plugin["id"] == "hostile");
    let hostile = hostile.expect("it is listed");
    assert_eq!(
        [&hostile["calls"], &hostile["failures"], &hostile["running"], &hostile["limits"]["concurrentCalls"]],
        [&json!(3), &json!(2), &json!(0), &json!(3)],
        "{hostile}"
    );
}

/// Whatever the guest makes of it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_guest_is_denied_is_counted_even_if_it_copes() {
    let sender = Sender::new(API, |_| ok("never")).await;
    for cope in [false, true, true] {
        let sent = sender.send(json!({"authority": "other.test", "cope": cope})).await;
        assert_eq!(sent.outcome, if cope { "ok" } else { "denied" });
        assert_eq!(sent.usage["denials"], json!({"http": 1}));
    }
    let text = numbers(&sender.host).await;
    let series = "holdfast_plugin_denials_total{plugin=\"egress\",capability=\"http\"}";
    assert_eq!(value(&text, series), Some(3.0), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_is_seen() {
    let slow = format!("{ONE_AGENT}\n[plugins.hostile.limits]\ncpu_ms = 600000\nwall_ms = 600000\n");
    let model = Script::new([call("hostile__loop", json!({})), say("never said")]);
    let host = TestHost::start(&["hostile"], &slow, model).await;
    let waiting = host.begin("/api/agents/agent/runs", &json!({"message": "go"}));
    let id = host.running_call().await;
    until("the call holds a place", async || {
        value(&numbers(&host).await, "holdfast_plugin_calls_running{plugin=\"hostile\"}") == Some(1.0)
    })
    .await;
    assert_eq!(value(&numbers(&host).await, "holdfast_runs{status=\"RUNNING\"}"), Some(1.0));
    assert_eq!(host.cancel(&json!({"runId": id})).await.status, 204);
    assert_eq!(waiting.await.expect("an answer").body["status"], "CANCELLED");
    let text = numbers(&host).await;
    assert_eq!(value(&text, "holdfast_runs_ended_total{status=\"CANCELLED\",failure=\"\"}"), Some(1.0));
    assert_eq!(value(&text, "holdfast_runs{status=\"RUNNING\"}"), Some(0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_is_counted_while_it_waits() {
    let config = format!("{ONE_AGENT}\n")
        .replace("tools = [\"*\"]\n", "tools = [\"*\"]\n[agents.approval]\n\"calculator.*\" = \"ask\"\n");
    let model = Script::new([call("calculator__evaluate", json!({"expression": "1"})), say("done")]);
    let host = TestHost::start(&["calculator"], &config, model).await;
    assert_eq!(host.run("go").await["status"], "PAUSED");
    let text = numbers(&host).await;
    assert_eq!(value(&text, "holdfast_approvals_pending"), Some(1.0), "{text}");
    assert_eq!(value(&text, "holdfast_approvals_asked_total"), Some(1.0));
    assert_eq!(value(&text, "holdfast_runs{status=\"PAUSED\"}"), Some(1.0));
}

/// A guest's code, a model's invention, a caller's model and a client's path or method: none of them makes
/// a series.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_makes_up_a_label() {
    let fails = |code: &str| ("hostile__fail", json!({"code": code}));
    let model = Script::new([
        calls([
            fails("guest-word-1"),
            fails("guest\"} 1\nguest_word 2"),
            ("hostile__invented", json!({})),
            ("invented\"} 1\n", json!({})),
        ]),
        say("done"),
    ]);
    let host = TestHost::start(&["hostile"], ONE_AGENT, model).await;
    assert_eq!(host.run("go").await["tools"][0]["outcome"], "guest-failure");
    for model in ["invented::model", "script::\"} 1\ninvented 1"] {
        let body = json!({"message": "go", "options": {"model": model}});
        host.post("/api/agents/agent/runs", &body).await;
    }
    let path = host.request(reqwest::Method::GET, "/api/agents/invented/runs/invented");
    host.send(path).await;
    let method = reqwest::Method::from_bytes(b"INVENTED").expect("a method");
    host.send(host.request(method, "/api/tools")).await;

    let text = numbers(&host).await;
    assert!(!text.contains("invented") && !text.contains("INVENTED"), "{text}");
    assert!(!text.contains("guest-word") && !text.contains("guest_word"), "{text}");
    let failed =
        "holdfast_tool_calls_total{plugin=\"hostile\",tool=\"fail\",outcome=\"guest-failure\",detail=\"\"}";
    // The caller's odd model is the scripted one under another name: it ran as well.
    assert_eq!(value(&text, failed), Some(4.0), "{text}");
    let unknown =
        "holdfast_tool_calls_total{plugin=\"other\",tool=\"other\",outcome=\"invalid-args\",detail=\"\"}";
    assert_eq!(value(&text, unknown), Some(4.0), "{text}");
    let kept: Vec<Value> = host.get("/api/plugins").await.body.as_array().expect("plugins").clone();
    assert_eq!(kept[0]["failures"], 4);
}
