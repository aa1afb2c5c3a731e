//! The demo model's promises, as tables.

use serde_json::{Value, json};

use super::*;
use crate::tool::{Annotations, ToolSpec};

fn tool(name: &str, description: &str, required: &[&str], properties: &Value) -> ToolSpec {
    ToolSpec {
        name: name.parse().unwrap(),
        description: description.to_owned(),
        input_schema: json!({"type": "object", "properties": properties, "required": required}),
        output_schema: None,
        annotations: Annotations { destructive: name.ends_with("delete"), ..Annotations::default() },
    }
}

/// The sample plugins' tools, and two of tests.
fn tools() -> Vec<ToolSpec> {
    let text = || json!({"type": "string"});
    let date = || json!({"type": "string", "format": "date"});
    vec![
        tool(
            "calculator__evaluate",
            "Evaluates an arithmetic expression. Knows + - * / and parentheses.",
            &["expression"],
            &json!({"expression": text()}),
        ),
        tool(
            "clock__now",
            "The current date and time in a time zone.",
            &[],
            &json!({"timeZone": {"type": ["string", "null"]}}),
        ),
        tool(
            "clock__days-between",
            "Counts the days between two dates.",
            &["from", "to"],
            &json!({"to": date(), "from": date()}),
        ),
        tool("notes__add", "Keeps a note.", &["text"], &json!({"text": text()})),
        tool("notes__list", "Lists the notes.", &[], &json!({"limit": {"type": "integer"}})),
        tool("notes__search", "Finds notes that contain a text.", &["query"], &json!({"query": text()})),
        tool("notes__read", "Reads one note.", &["id"], &json!({"id": {"type": "integer"}})),
        tool("notes__delete", "Deletes a note for good.", &["id"], &json!({"id": text()})),
        tool(
            "probe__effect",
            "Does something once.",
            &["key"],
            &json!({"key": text(), "mode": {"enum": ["fast", "slow"]}, "dry_run": {"type": "boolean"}}),
        ),
    ]
}

fn user(text: &str) -> Message {
    Message::User { text: text.to_owned(), media: Vec::new() }
}

fn result(name: &str, text: &str, failed: bool) -> Message {
    Message::Tool { call: "c".into(), name: name.to_owned(), text: text.to_owned(), failed }
}

async fn ask(messages: Vec<Message>, tools: Vec<ToolSpec>) -> Reply {
    let request = Request { messages, tools, ..crate::model::mock::request("") };
    Demo.reply(&request).await.unwrap()
}

async fn calls_for(text: &str, tools: Vec<ToolSpec>) -> Vec<(String, Value)> {
    let reply = ask(vec![user(text)], tools).await;
    let calls = reply.tool_calls.into_iter();
    calls.map(|call| (call.name, serde_json::from_str(&call.arguments).unwrap())).collect()
}

/// Each line: a message, and the calls it must lead to.
#[tokio::test]
async fn messages_lead_to_calls() {
    let eval = |expression: &str| ("calculator__evaluate", json!({"expression": expression}));
    let now = |zone: &str| ("clock__now", json!({"timeZone": zone}));
    let days = |from: &str, to: &str| ("clock__days-between", json!({"from": from, "to": to}));
    let add = |text: &str| ("notes__add", json!({"text": text}));
    let search = |text: &str| ("notes__search", json!({"query": text}));
    let read = |id: i64| ("notes__read", json!({"id": id}));
    let delete = |id: &str| ("notes__delete", json!({"id": id}));
    let list = || ("notes__list", json!({}));
    let effect = |key: &str| ("probe__effect", json!({"key": key}));
    for (message, expected) in [
        ("What is 6*7?", vec![eval("6*7")]),
        ("what is 15% of 80", vec![eval("15/100*80")]),
        ("Please calculate (1 + 2) * 3.5.", vec![eval("(1 + 2) * 3.5")]),
        ("How much is 12 divided by 4?", vec![eval("12 / 4")]),
        ("Use calculator__evaluate with 6*7", vec![eval("6*7")]),
        ("compute 2+2 and 3*3", vec![eval("2+2"), eval("3*3")]),
        ("What is 1+1? And what is 2+2?", vec![eval("1+1"), eval("2+2")]),
        ("What time is it in Europe/Berlin?", vec![now("Europe/Berlin")]),
        ("What time is it?", vec![("clock__now", json!({}))]),
        ("time in UTC and in Asia/Tokyo", vec![now("UTC"), now("Asia/Tokyo")]),
        ("How many days between 2026-01-01 and 2026-03-01?", vec![days("2026-01-01", "2026-03-01")]),
        ("Days from 2026-01-01 to 2026-03-01", vec![days("2026-01-01", "2026-03-01")]),
        ("Add a note: buy milk", vec![add("buy milk")]),
        ("Add a note: buy milk, eggs and bread. Today.", vec![add("buy milk, eggs and bread. Today.")]),
        ("Add a note: buy milk and list eggs", vec![add("buy milk and list eggs")]),
        ("Add the note \"a and delete note 1\"", vec![add("a and delete note 1")]),
        ("Add a note: delete the old list", vec![add("delete the old list")]),
        ("Add a note: 6*7", vec![add("6*7")]),
        ("Compute: 6*7", vec![eval("6*7")]),
        ("please add buy milk to my notes", vec![add("buy milk")]),
        ("Add a note: buy milk and delete note 1", vec![add("buy milk"), delete("1")]),
        ("Remember a note saying the door code is 1234", vec![add("door code is 1234")]),
        ("List my notes", vec![list()]),
        ("show all my notes", vec![list()]),
        ("List notes with limit 5", vec![("notes__list", json!({"limit": 5}))]),
        ("Search notes for milk", vec![search("milk")]),
        ("Search notes for milk and eggs", vec![search("milk and eggs")]),
        ("find milk in my notes", vec![search("milk")]),
        ("Read note 1", vec![read(1)]),
        ("Show me note 2", vec![read(2)]),
        ("Delete note 1", vec![delete("1")]),
        ("Delete note groceries", vec![delete("groceries")]),
        ("Delete note 1 and delete note 2", vec![delete("1"), delete("2")]),
        ("delete notes 1 and 2", vec![delete("1"), delete("2")]),
        ("delete notes 1, 2 and 3, then list my notes", vec![delete("1"), delete("2"), delete("3"), list()]),
        ("notes__delete id=3", vec![delete("3")]),
        ("notes.delete id=3", vec![delete("3")]),
        ("Call `notes__delete` with id=3.", vec![delete("3")]),
        ("notes__delete id=1 and id=2", vec![delete("1"), delete("2")]),
        (r#"notes__add {"text": "a, b and c"}"#, vec![add("a, b and c")]),
        ("notes__add text=buy milk and eggs", vec![add("buy milk and eggs")]),
        ("notes__read id=7 then notes.delete id=8", vec![read(7), delete("8")]),
        ("Use probe__effect with key=a", vec![effect("a")]),
        ("Use probe__effect with key=a and then probe__effect with key=b", vec![effect("a"), effect("b")]),
        (
            "probe__effect key=a slow dryRun=yes",
            vec![("probe__effect", json!({"key": "a", "mode": "slow", "dry_run": true}))],
        ),
        ("Hello!", vec![]),
        ("Buy milk", vec![]),
        ("What can you do?", vec![]),
        ("Delete my notes", vec![]),
        ("What did I ask before?", vec![]),
        ("notes__purge id=1", vec![]),
    ] {
        let expected: Vec<_> = expected.into_iter().map(|(name, args)| (name.to_owned(), args)).collect();
        assert_eq!(calls_for(message, tools()).await, expected, "{message}");
    }
}

#[tokio::test]
async fn parameter_names_and_types_come_from_the_schema() {
    let zone = tool("clock__now", "The time.", &["time_zone"], &json!({"time_zone": {"type": "string"}}));
    let id =
        tool("notes__delete", "Deletes a note.", &["noteId"], &json!({"noteId": {"$ref": "#/$defs/id"}}));
    let ref_to_integer = ToolSpec {
        input_schema: json!({
            "properties": {"noteId": {"$ref": "#/$defs/id"}},
            "required": ["noteId"],
            "$defs": {"id": {"type": "integer"}},
        }),
        ..id
    };
    let tools = vec![zone, ref_to_integer];
    for (message, name, arguments) in [
        ("What time is it in Asia/Tokyo?", "clock__now", json!({"time_zone": "Asia/Tokyo"})),
        ("What time is it?", "clock__now", json!({"time_zone": "UTC"})),
        ("clock.now timezone=Asia/Tokyo", "clock__now", json!({"time_zone": "Asia/Tokyo"})),
        ("Delete note 1", "notes__delete", json!({"noteId": 1})),
        ("notes__delete note_id=x", "notes__delete", json!({"noteId": "x"})),
    ] {
        let expected = vec![(name.to_owned(), arguments)];
        assert_eq!(calls_for(message, tools.clone()).await, expected, "{message}");
    }
}

#[tokio::test]
async fn results_are_reported_and_calls_not_repeated() {
    let question = "What is 6*7 and what time is it?";
    let first = ask(vec![user(question)], tools()).await;
    let ids: Vec<&str> = first.tool_calls.iter().map(|call| call.id.as_str()).collect();
    assert_eq!(ids, ["demo-1-1", "demo-1-2"]);
    let turn = || vec![user(question), Message::Assistant(Box::new(first.clone()))];

    let mut messages = turn();
    messages.push(result("calculator__evaluate", "42", false));
    assert_eq!(ask(messages.clone(), tools()).await.content, "`calculator__evaluate` answered: 42");
    messages.push(result("clock__now", "A human rejected this call. It did not run.", true));
    let reply = ask(messages.clone(), tools()).await;
    let expected = "- `calculator__evaluate` answered: 42\n- I could not run `clock__now`: A human rejected this \
                    call. It did not run.";
    assert_eq!((reply.content.as_str(), reply.tool_calls.len()), (expected, 0));
    assert_eq!((reply.model.as_deref(), reply.tokens), (Some("demo"), crate::session::Tokens::default()));

    messages.push(Message::Assistant(Box::new(reply)));
    messages.push(user("Delete note 1"));
    let reply = ask(messages, tools()).await;
    assert_eq!(reply.tool_calls[0].id.as_str(), "demo-6-1", "an id of its own in a longer conversation");
}

#[tokio::test]
async fn what_it_cannot_do_it_says() {
    for (message, part) in [
        ("Hello!", "I am Holdfast's built-in demo model."),
        ("Hello!", "- `notes__delete`: Deletes a note for good (needs `id`)"),
        ("Delete my notes", "I would call `notes__delete`, but your message does not say `id`."),
        ("notes__purge id=1", "I cannot call `notes__purge`"),
        ("What did I ask before?", "This is the first message"),
    ] {
        let content = ask(vec![user(message)], tools()).await.content;
        assert!(content.contains(part), "{message}: {content}");
    }
    let content = ask(vec![user("What is 6*7?")], Vec::new()).await.content;
    assert!(content.ends_with("I am offered no tools here."), "{content}");
}

#[tokio::test]
async fn earlier_messages_can_be_asked_for() {
    let said =
        |text: &str| Message::Assistant(Box::new(Reply { content: text.to_owned(), ..Reply::default() }));
    let messages =
        vec![user("Hello"), said("hi"), user("What is 6*7?"), said("42"), user("What did I ask before?")];
    let content = ask(messages, tools()).await.content;
    assert_eq!(content, "Before this you asked:\n\n1. Hello\n2. What is 6*7?");
}

#[tokio::test]
async fn followups_are_three_questions_that_work() {
    let request = Request {
        system: "Suggest follow-up questions. Answer with a JSON array of strings only.".to_owned(),
        messages: vec![user("What is 6*7?")],
        tools: tools(),
        ..crate::model::mock::request("")
    };
    let content = Demo.reply(&request).await.unwrap().content;
    let questions: Vec<String> = serde_json::from_str(&content).unwrap();
    let expected = [
        "What is 12*7?",
        "What time is it in Europe/Berlin?",
        "How many days are there between 2026-01-01 and 2026-12-31?",
    ];
    assert_eq!(questions, expected);
    for spec in tools() {
        let question = Offer::new(&spec).example();
        let calls = calls_for(&question, tools()).await;
        assert_eq!(calls.len(), 1, "{question}");
        assert_eq!(calls[0].0, spec.name.to_string(), "{question}");
    }
    let none = Request { tools: Vec::new(), ..request };
    assert!(Demo.reply(&none).await.unwrap().content.starts_with(r#"["What can you do?","#));
}

/// What is quoted of an answer is no request to call anything.
#[tokio::test]
async fn a_refused_answer_leads_to_no_call() {
    assert_eq!(calls_for("What is 6*7?", tools()).await.len(), 1);
    let refusal = format!(
        "{REFUSAL}: it does not fit the schema: top level: \"What is 6*7?\" is not of type \"object\""
    );
    let reply = ask(vec![user("What is 6*7?"), user(&refusal)], tools()).await;
    assert_eq!(reply.tool_calls, []);
    assert!(reply.content.contains("cannot write JSON to a schema"), "{}", reply.content);
}

/// Whatever is said, there is an answer, and no panic on odd text.
#[tokio::test]
async fn odd_messages_are_survived() {
    for message in [
        "",
        " ",
        "\u{0}",
        "(((",
        "=",
        "a=",
        "🦀 = 🦀",
        "notes__",
        "İ notes__delete id=İ",
        "{\"a\": }",
        "%%% 1 - - 2",
    ] {
        let reply = ask(vec![user(message)], tools()).await;
        assert!(!reply.content.is_empty() || !reply.tool_calls.is_empty(), "{message:?}");
    }
    assert!(!ask(Vec::new(), tools()).await.content.is_empty());
    let long = format!("Add a note: {}", "milk, and then eggs. ".repeat(10_000));
    let calls = calls_for(&long, tools()).await;
    assert_eq!(calls, [("notes__add".to_owned(), json!({"text": long["Add a note: ".len()..].trim()}))]);
}
