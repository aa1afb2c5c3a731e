//! A newcomer's first ten minutes: the sample configuration, the sample plugins, the built-in model.

use serde_json::{Value, json};

use crate::support::{Script, TestHost, say};

/// The sample as it is shipped, with this host's plugin folder.
async fn host() -> TestHost {
    let ours: Vec<&str> =
        holdfast::config::SAMPLE.lines().filter(|line| !line.starts_with("plugin_dir")).collect();
    TestHost::start(
        &["booking", "calculator", "clock", "http", "notes"],
        &ours.join("\n"),
        Script::new([say("unused")]),
    )
    .await
}

async fn ask(host: &TestHost, agent: &str, message: &str) -> Value {
    let answer = host.post(&format!("/api/agents/{agent}/runs"), &json!({"message": message})).await;
    assert_eq!(answer.status, 200, "{message}: {answer:?}");
    answer.body
}

async fn decide(host: &TestHost, agent: &str, run: &Value, action: &str) -> Value {
    let id = run["runId"].as_str().expect("an id");
    let path = format!("/api/agents/{agent}/runs/{id}/continue");
    let answer = host.post(&path, &json!({"action": action})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

/// Each message leads to its tool, and the answer holds what it should.
#[tokio::test(flavor = "multi_thread")]
async fn the_messages_of_the_tour_work() {
    let host = host().await;
    // The test's clock stands at 2026-01-01T00:00:00Z.
    for (message, tool, part) in [
        ("What is 6*7?", "calculator__evaluate", "42"),
        ("Add a note: buy milk", "notes__add", "1"),
        ("List my notes", "notes__list", "buy milk"),
        ("What time is it in Europe/Berlin?", "clock__now", "2026-01-01"),
        ("What time is it in Europe/Berlin?", "clock__now", "01:00"),
        ("How many days between 2026-01-01 and 2026-03-01?", "clock__days_between", "59"),
    ] {
        let run = ask(&host, "assistant", message).await;
        assert_eq!(run["status"], "COMPLETED", "{message}: {run}");
        let tools = run["tools"].as_array().expect("tools");
        assert_eq!(tools.len(), 1, "{message}: {run}");
        assert_eq!(
            (&tools[0]["toolName"], &tools[0]["outcome"]),
            (&json!(tool), &json!("ok")),
            "{message}: {run}"
        );
        assert!(run["content"].as_str().is_some_and(|text| text.contains(part)), "{message}: {run}");
    }

    let paused = ask(&host, "assistant", "Delete note 1").await;
    assert_eq!((&paused["status"], &paused["tools"]), (&json!("PAUSED"), &json!([])), "{paused}");
    let action = &paused["metadata"]["requiredAction"];
    assert_eq!(
        (&action["toolName"], &action["args"]),
        (&json!("notes__delete"), &json!("{\"id\":1}")),
        "{action}"
    );
    assert!(ask(&host, "assistant", "List my notes").await["content"].to_string().contains("buy milk"));

    let done = decide(&host, "assistant", &paused, "APPROVE").await;
    assert_eq!(
        (&done["status"], &done["tools"][0]["outcome"]),
        (&json!("COMPLETED"), &json!("ok")),
        "{done}"
    );
    assert!(!ask(&host, "assistant", "List my notes").await["content"].to_string().contains("buy milk"));
}

/// The tool asks, and the answer goes into what it books.
#[tokio::test(flavor = "multi_thread")]
async fn a_booking_asks_when() {
    let host = host().await;
    let paused = ask(&host, "assistant", "Book 3 chairs").await;
    let action = &paused["metadata"]["requiredAction"];
    assert_eq!((&action["type"], &action["args"]), (&json!("TOOL_INPUT"), &json!("{\"item\":\"3 chairs\"}")));
    let id = paused["runId"].as_str().expect("an id");
    let answer = json!({"action": "APPROVE", "answer": {"date": "2026-12-24"}});
    let done = host.post(&format!("/api/agents/assistant/runs/{id}/continue"), &answer).await.body;
    assert!(done["content"].to_string().contains("Booked 3 chairs for delivery on 2026-12-24."), "{done}");
    let listed = ask(&host, "assistant", "List my bookings").await;
    assert!(listed["content"].to_string().contains("2026-12-24: 3 chairs"), "{listed}");
}

/// The other answer: the note stays, and the agent says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_deletion_leaves_the_note() {
    let host = host().await;
    ask(&host, "assistant", "Add a note: buy milk").await;
    let paused = ask(&host, "assistant", "Delete note 1").await;
    let done = decide(&host, "assistant", &paused, "REJECT").await;
    assert_eq!((&done["status"], &done["tools"][0]["outcome"]), (&json!("COMPLETED"), &json!("rejected")));
    assert!(ask(&host, "assistant", "List my notes").await["content"].to_string().contains("buy milk"));
}

/// The second agent of the sample has a policy of its own.
#[tokio::test(flavor = "multi_thread")]
async fn the_careful_agent_asks_for_notes_and_never_deletes() {
    let host = host().await;
    let paused = ask(&host, "careful", "Add a note: buy milk").await;
    assert_eq!(paused["status"], "PAUSED", "{paused}");
    assert!(!ask(&host, "careful", "List my notes").await["content"].to_string().contains("buy milk"));
    assert_eq!(decide(&host, "careful", &paused, "APPROVE").await["status"], "COMPLETED");
    assert!(ask(&host, "careful", "List my notes").await["content"].to_string().contains("buy milk"));

    let denied = ask(&host, "careful", "Delete note 1").await;
    assert_eq!(denied["status"], "COMPLETED", "nobody is asked: {denied}");
    assert!(ask(&host, "careful", "List my notes").await["content"].to_string().contains("buy milk"));
}

/// A message that fits no tool is answered with what can be asked.
#[tokio::test(flavor = "multi_thread")]
async fn small_talk_lists_the_tools() {
    let host = host().await;
    let run = ask(&host, "assistant", "Hello!").await;
    assert_eq!((&run["status"], &run["tools"]), (&json!("COMPLETED"), &json!([])));
    let text = run["content"].as_str().expect("a text");
    for part in ["demo model", "calculator__evaluate", "clock__now", "notes__add", "For example"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(run["metrics"]["inputTokens"], Value::Null, "unknown is null, not 0");
}
