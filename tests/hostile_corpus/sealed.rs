//! What a suspended call left with the host, changed by somebody who can write into the database, and answers that
//! come when or where they must not. The guest sees none of it.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::bench::Row;
use super::stage::{Stage, ended, row};
use crate::support::process::{edit_event, text};
use crate::support::versions::{digest, version};
use crate::support::{Script, TestHost, call, say};

/// What somebody does with the sealed part of a question.
type Edit = fn(&mut Value);

pub(super) fn rows() -> Vec<Row> {
    const NOT_INTACT: &str = "COMPLETED denied, 0 resumed: the sealed state does not open";
    let edits: [(&str, Edit); 8] = [
        ("suspension as it was left", |_| ()),
        ("suspension, a byte of the nonce flipped", |s| s["state"] = flipped(&s["state"], 3)),
        ("suspension, a byte of the state flipped", |s| s["state"] = flipped(&s["state"], 30)),
        ("suspension, its last byte flipped", |s| s["state"] = flipped(&s["state"], usize::MAX)),
        ("suspension, cut off", |s| s["state"] = json!("AAAA")),
        ("suspension, another prompt", |s| s["prompt"] = json!("What is your password?")),
        ("suspension, another schema", |s| s["answer_schema"] = json!({})),
        ("suspension, a later expiry", |s| {
            s["expires_at"] = json!(s["expires_at"].as_i64().expect("a time") + 1);
        }),
    ];
    let mut rows: Vec<Row> = edits
        .into_iter()
        .map(|(name, edit)| {
            let outcome = if name.ends_with("left") { "COMPLETED ok, 1 resumed" } else { NOT_INTACT };
            row(name, outcome, move |stage| edited(stage, edit))
        })
        .collect();
    rows.push(row("suspension, another run's state", NOT_INTACT, |stage| {
        moved(stage, |to, from| to["state"] = from["state"].clone())
    }));
    rows.push(row("suspension, another run's question", NOT_INTACT, |stage| moved(stage, Value::clone_from)));
    rows.push(row("suspension of another digest", NOT_INTACT, of_another_digest));
    rows.push(row(
        "suspension, a question loosened",
        "COMPLETED denied, 0 resumed: the recorded answer does not fit its schema",
        loosened,
    ));
    rows.push(row(
        "suspension expired, and the journal edited",
        "COMPLETED denied, 0 resumed: the answer was recorded after the question had expired",
        expired,
    ));
    rows.push(row("suspension, an earlier question's state", NOT_INTACT, of_an_earlier_question));
    rows.push(row("suspension answered twice", "409, 1 resumed", answered_twice));
    rows
}

fn flipped(state: &Value, at: usize) -> Value {
    let mut bytes = STANDARD.decode(state.as_str().expect("text")).expect("base64");
    let at = at.min(bytes.len() - 1);
    bytes[at] ^= 1;
    json!(STANDARD.encode(bytes))
}

fn answer() -> Value {
    json!({"action": "APPROVE", "answer": {"count": 5}})
}

fn database(host: &TestHost) -> PathBuf {
    host.folder().join("holdfast.db")
}

async fn asking(stage: &Stage) -> TestHost {
    let model = Script::new([call("probe__ask", json!({"key": "k"})), say("done")]);
    stage.host("probe", "", model).await
}

async fn edit(host: &TestHost, run: &Value, edit: impl FnOnce(&mut Value)) {
    let id = run["runId"].as_str().expect("an id");
    edit_event(&database(host), id, "call_suspended", |event| edit(&mut event["suspension"])).await;
}

/// The sealed part of the latest question.
async fn suspension(host: &TestHost) -> Value {
    let query = "select body from run_events where kind = 'call_suspended' order by rowid desc limit 1";
    serde_json::from_str::<Value>(&text(&database(host), query).await[0]).expect("JSON")["suspension"].clone()
}

/// Answers, and says what came of it.
async fn resumed(stage: &Stage, host: &TestHost, run: &Value, answer: Value) -> String {
    let tool = run["metadata"]["requiredAction"]["toolName"].as_str().unwrap_or_default();
    stage.log.forget();
    let done = host.resume(run, answer).await;
    let how = if done.status == 200 { ended(&done.body) } else { done.status.to_string() };
    let mut said = format!("{how}, {} resumed", host.effects("k.resumed").await);
    for line in stage.log.of(tool) {
        said = format!("{said}: {line}");
    }
    stage.watch.stop().await;
    said
}

async fn edited(stage: Stage, change: Edit) -> String {
    let host = asking(&stage).await;
    let run = host.run("go").await;
    let before = suspension(&host).await;
    let mut after = before.clone();
    change(&mut after);
    if after != before {
        edit(&host, &run, |suspension| *suspension = after).await;
    }
    resumed(&stage, &host, &run, answer()).await
}

async fn moved(stage: Stage, change: fn(&mut Value, &Value)) -> String {
    let host = asking(&stage).await;
    host.run("another").await;
    let other = suspension(&host).await;
    let run = host.run("go").await;
    edit(&host, &run, |suspension| change(suspension, &other)).await;
    resumed(&stage, &host, &run, answer()).await
}

/// A newer version of the plugin is there, and would take the answer.
async fn of_another_digest(stage: Stage) -> String {
    let host = asking(&stage).await;
    let run = host.run("go").await;
    let newer = version("probe", "probe", "2.0.0", "kv = [\"plugin\"]");
    let named = digest(&newer).replace("sha256:", "");
    assert_eq!(host.install("probe", newer).await.body["state"], "loaded");
    edit(&host, &run, |suspension| suspension["digest"] = json!(named)).await;
    resumed(&stage, &host, &run, answer()).await
}

async fn loosened(stage: Stage) -> String {
    let host = asking(&stage).await;
    let run = host.run("go").await;
    edit_event(&database(&host), run["runId"].as_str().expect("an id"), "paused", |event| {
        event["approvals"][0]["inquiry"]["answer_schema"] = json!({});
    })
    .await;
    resumed(&stage, &host, &run, json!({"action": "APPROVE", "answer": {"count": 1000}})).await
}

async fn expired(stage: Stage) -> String {
    let host = asking(&stage).await;
    let run = host.run("go").await;
    edit_event(&database(&host), run["runId"].as_str().expect("an id"), "paused", |event| {
        event["approvals"][0]["expires_at"] = json!(i64::MAX / 2);
    })
    .await;
    host.clock.advance(Duration::from_hours(25));
    resumed(&stage, &host, &run, answer()).await
}

/// The same call asked before.
async fn of_an_earlier_question(stage: Stage) -> String {
    let model = Script::new([call("booking__book", json!({"item": "3 chairs"})), say("done")]);
    let host = stage.host("booking", "[plugins.booking.grants]\nkv = true\n", model).await;
    let date = |date: &str| json!({"action": "APPROVE", "answer": {"date": date}});
    let run = host.run("go").await;
    let first = suspension(&host).await;
    let again = host.resume(&run, date("2026-02-30")).await.body;
    assert_eq!(again["status"], "PAUSED", "{again}");
    edit(&host, &run, |suspension| suspension["state"] = first["state"].clone()).await;
    resumed(&stage, &host, &run, date("2026-12-24")).await
}

async fn answered_twice(stage: Stage) -> String {
    let host = asking(&stage).await;
    let run = host.run("go").await;
    let first = host.resume(&run, answer()).await;
    assert_eq!(first.body["status"], "COMPLETED", "{first:?}");
    resumed(&stage, &host, &run, answer()).await
}
