//! What a suspended call left with the host is that call's alone, and its version's: whoever writes into the database
//! cannot read it. That nobody can change or move it is in the hostile corpus.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::guests::guest;
use crate::support::openai::{self, OpenAi};
use crate::support::process::{Process, text};
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
