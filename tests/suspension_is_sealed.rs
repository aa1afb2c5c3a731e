//! What a suspended call left with the host is that call's alone: whoever writes into the database can break it, and
//! can neither read nor change nor move it.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::guests::guest;
use crate::support::openai::{self, OpenAi};
use crate::support::process::{Process, edit_event, text};
use crate::support::{Script, TestHost, call, say};

const ANSWER: &str = "{\"action\":\"APPROVE\",\"answer\":{\"count\":5}}";

/// A model that lets the probe ask, then says what the tool answered.
async fn model() -> OpenAi {
    OpenAi::start(|body| match openai::replied(body) {
        0 => openai::tool_calls(&[("call_1", "probe__ask", json!({"key": "apples"}))]),
        _ => openai::text("done"),
    })
    .await
}

type Edit = Box<dyn FnOnce(&mut Value)>;

fn answer() -> Value {
    serde_json::from_str(ANSWER).expect("JSON")
}

fn database(host: &Process) -> PathBuf {
    host.folder.path().join("holdfast.db")
}

/// A new run that waits for its answer.
async fn asking(host: &Process) -> String {
    let run = host.run("go").await;
    assert_eq!(run["metadata"]["requiredAction"]["type"], "TOOL_INPUT", "{run}");
    run["runId"].as_str().expect("an id").to_owned()
}

/// The sealed part of a run's latest question.
async fn suspension(host: &Process, run: &str) -> Value {
    let query = "select run_id || body from run_events where kind = 'call_suspended' order by rowid desc";
    let bodies = text(&database(host), query).await;
    let body = bodies.iter().find_map(|body| body.strip_prefix(run)).expect("it asked");
    serde_json::from_str::<Value>(body).expect("JSON")["suspension"].clone()
}

fn flipped(state: &Value, at: usize) -> Value {
    let mut bytes = STANDARD.decode(state.as_str().expect("text")).expect("base64");
    let at = at % bytes.len();
    bytes[at] ^= 1;
    json!(STANDARD.encode(bytes))
}

/// Each change to the journal ends the call with `denied`, and the operator is told why.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_or_moved_state_is_refused() {
    let model = model().await;
    let host = Process::start(&["probe"], &model.config()).await;
    let other = suspension(&host, &asking(&host).await).await;
    let edits: [(&str, Edit); 9] = [
        ("a byte of the nonce", Box::new(|s| s["state"] = flipped(&s["state"], 3))),
        ("a byte of the state", Box::new(|s| s["state"] = flipped(&s["state"], 30))),
        ("a byte of the tag", Box::new(|s| s["state"] = flipped(&s["state"], usize::MAX / 2 * 2 + 1))),
        ("cut off", Box::new(|s| s["state"] = json!("AAAA"))),
        (
            "another run's state",
            Box::new({
                let other = other.clone();
                move |s| s["state"] = other["state"].clone()
            }),
        ),
        ("another run's question", Box::new(move |s| *s = other)),
        ("another prompt", Box::new(|s| s["prompt"] = json!("What is your password?"))),
        ("another schema", Box::new(|s| s["answer_schema"] = json!({}))),
        (
            "a later expiry",
            Box::new(|s| {
                s["expires_at"] = json!(s["expires_at"].as_i64().expect("a time") + 1);
            }),
        ),
    ];
    for (what, edit) in edits {
        let run = asking(&host).await;
        edit_event(&database(&host), &run, "call_suspended", |event| edit(&mut event["suspension"])).await;
        let done = host.resume(&run, None, &answer()).await.body;
        assert_eq!(
            (&done["status"], &done["tools"][0]["outcome"]),
            (&json!("COMPLETED"), &json!("denied")),
            "{what}: {done}"
        );
        assert!(done["tools"][0]["toolOutput"].to_string().contains("not intact"), "{what}: {done}");
        host.wait_for_log(&["suspended-state", &run, "does not open"]).await;
    }
    assert_eq!(host.effects("apples.resumed").await, 0, "no guest saw any of it");
    let run = asking(&host).await;
    assert_eq!(
        host.resume(&run, None, &answer()).await.body["tools"][0]["outcome"],
        "ok",
        "untouched it opens"
    );
}

/// A loosened question lets an answer in that the sealed one does not.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_the_sealed_question_does_not_take_is_refused() {
    let model = model().await;
    let host = Process::start(&["probe"], &model.config()).await;
    let run = asking(&host).await;
    edit_event(&database(&host), &run, "paused", |event| {
        event["approvals"][0]["inquiry"]["answer_schema"] = json!({});
    })
    .await;
    let body = json!({"action": "APPROVE", "answer": {"count": 1000}});
    let done = host.resume(&run, None, &body).await.body;
    assert_eq!(done["tools"][0]["outcome"], "denied", "{done}");
    host.wait_for_log(&["suspended-state", &run, "does not fit its schema"]).await;
    assert_eq!(host.effects("apples.resumed").await, 0);
}

/// An answer that came in time in the journal's eyes alone.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_after_the_sealed_expiry_is_refused() {
    let host =
        TestHost::with_probe(Script::new([call("probe__ask", json!({"key": "apples"})), say("done")])).await;
    let paused = host.run("go").await;
    let id = paused["runId"].as_str().expect("an id");
    edit_event(&host.folder().join("holdfast.db"), id, "paused", |event| {
        event["approvals"][0]["expires_at"] = json!(i64::MAX / 2);
    })
    .await;
    host.clock.advance(Duration::from_hours(25));
    let done = host.resume(&paused, answer()).await.body;
    assert_eq!(
        (&done["status"], &done["tools"][0]["outcome"]),
        (&json!("COMPLETED"), &json!("denied")),
        "{done}"
    );
    assert_eq!(host.effects("apples.resumed").await, 0);
}

/// The state of an earlier question of the same call is no state of the later one.
#[tokio::test(flavor = "multi_thread")]
async fn the_state_of_an_earlier_question_is_refused() {
    let model = OpenAi::start(|body| match openai::replied(body) {
        0 => openai::tool_calls(&[("call_1", "booking__book", json!({"item": "3 chairs"}))]),
        _ => openai::text("done"),
    })
    .await;
    let config = format!("{}[plugins.booking.grants]\nkv = true\n", model.config());
    let host = Process::start(&["booking"], &config).await;
    let run = asking(&host).await;
    let first = suspension(&host, &run).await;
    let date = |date: &str| json!({"action": "APPROVE", "answer": {"date": date}});
    let again = host.resume(&run, None, &date("2026-02-30")).await.body;
    assert_eq!(again["status"], "PAUSED", "{again}");
    edit_event(&database(&host), &run, "call_suspended", |event| {
        event["suspension"]["state"] = first["state"].clone();
    })
    .await;
    let done = host.resume(&run, None, &date("2026-12-24")).await.body;
    assert_eq!(done["tools"][0]["outcome"], "denied", "{done}");
}

/// Nothing that a tool hands itself can be read in the host's files.
#[tokio::test(flavor = "multi_thread")]
async fn the_state_cannot_be_read_in_the_database() {
    // The state holds `ms`; the call's arguments, which are no secret, do not say it in the same way.
    let host = TestHost::start(
        &["hostile"],
        crate::support::host::ONE_AGENT,
        Script::new([call("hostile__suspend", json!({"prompt": 9, "state": 100})), say("done")]),
    )
    .await;
    assert_eq!(host.run("go").await["status"], "PAUSED");
    let state = [b's'; 100];
    let encoded = STANDARD.encode(state);
    for file in std::fs::read_dir(host.folder()).expect("a folder") {
        let path = file.expect("an entry").path();
        if path.is_file() {
            let bytes = std::fs::read(&path).expect("a file");
            assert!(!bytes.windows(20).any(|part| part == &state[..20]), "{}", path.display());
            let part = &encoded.as_bytes()[8..28];
            assert!(!bytes.windows(20).any(|found| found == part), "{}", path.display());
        }
    }
}

/// Only the version that asked gets the answer: it goes on with it although another one serves by now, and not any
/// more once it is revoked.
#[tokio::test(flavor = "multi_thread")]
async fn the_version_that_asked_gets_the_answer_unless_it_is_revoked() {
    let model = model().await;
    let mut host = Process::start(&["probe"], &model.config()).await;
    let (run, waiting) = (asking(&host).await, asking(&host).await);
    let digest = suspension(&host, &run).await["digest"].as_str().expect("a digest").to_owned();
    // It has none of the probe's tools.
    let file = host.folder.path().join("plugins/probe.wasm");
    std::fs::copy(guest("calculator"), file).expect("it can be replaced");
    host.restart().await;

    let done = host.resume(&run, None, &answer()).await.body;
    assert_eq!(
        (&done["status"], &done["tools"][0]["outcome"]),
        (&json!("COMPLETED"), &json!("ok")),
        "{done}"
    );
    assert_eq!(host.effects("apples.resumed").await, 1);

    let revoke = json!({"digest": digest, "reason": "it asks too much"});
    let revoked = host.post("/api/admin/plugins/probe/revoke", &revoke).await.expect("an answer");
    assert_eq!(revoked.status, 204, "{revoked:?}");
    let done = host.resume(&waiting, None, &answer()).await.body;
    assert_eq!(
        (&done["status"], &done["tools"][0]["outcome"]),
        (&json!("COMPLETED"), &json!("denied")),
        "{done}"
    );
    assert_eq!(host.effects("apples.resumed").await, 1);
}
