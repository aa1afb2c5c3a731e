//! Calls that somebody stops, walks away from, or shuts the server down under; and plugins that are replaced while
//! they are called.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::bench::Row;
use super::stage::{Stage, ended, row};
use super::watch::GOOD;
use crate::support::egress::{API, get};
use crate::support::openai::{self, OpenAi};
use crate::support::process::Process;
use crate::support::versions::{digest, version};
use crate::support::web::{PUBLIC, Reply, Web, World};
use crate::support::{Script, Speaker, TestHost, asked, call, replied, say, until};

const RUNS: &str = "/api/agents/agent/runs";

pub(super) fn rows() -> Vec<Row> {
    let silence = || Reply::Silence(Vec::new());
    let drip = || Reply::Drip(b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), b"x".to_vec());
    let closed = "CANCELLED cancelled, 1 connection closed";
    vec![
        row("cancel of a loop", "CANCELLED cancelled", cancel_of_a_loop),
        row("cancel of a host call", "CANCELLED cancelled, 0 finished", cancel_of_a_host_call),
        row("cancel while a response is awaited", closed, move |stage| cancel_of_a_request(stage, silence())),
        row("cancel while a response drips in", closed, move |stage| cancel_of_a_request(stage, drip())),
        row("disconnect in mid-call", "COMPLETED ok, 1 finished", disconnect),
        row("disconnect of a stream in mid-call", "COMPLETED ok, 1 finished", disconnect_of_a_stream),
        row("SIGTERM in mid-call", "COMPLETED ok, 1 finished", sigterm),
        row("SIGTERM beyond the grace", "COMPLETED ok, 1 finished", sigterm_beyond_the_grace),
        // What 100 runs side by side take stays with the allocator, and the next hundred take none: 385, 62 and 22
        // MiB were kept by three such rows after each other, however many versions there were.
        Row { peak_mib: 900, ..row("reload during 100 calls in flight", "100 of 100 ok", reload) },
    ]
}

/// The latest call of the agent that is not the neighbour's, once it has begun: its run.
async fn calling(host: &TestHost) -> Value {
    until("a call begins", async || started(host).await > 0).await;
    json!({"runId": host.texts(CALLING).await[0]})
}

const CALLING: &str = "select run_id from run_events join runs on id = run_id \
                       where kind = 'call_started' and agent_id = 'agent'";

async fn started(host: &TestHost) -> usize {
    host.texts(CALLING).await.len()
}

/// Starts a run, cancels it in its call, and says what its caller is told.
async fn cancelled(host: &TestHost) -> String {
    let waiting = host.begin(RUNS, &json!({"message": "go"}));
    let run = calling(host).await;
    assert_eq!(host.cancel(&run).await.status, 204);
    ended(&waiting.await.expect("no panic").body)
}

async fn cancel_of_a_loop(stage: Stage) -> String {
    let host = stage.host("hostile", "", Script::new([call("hostile__loop", json!({})), say("never")])).await;
    let said = cancelled(&host).await;
    stage.watch.stop().await;
    said
}

fn slow(ms: u64) -> Value {
    json!({"ms": ms, "key": "k"})
}

async fn cancel_of_a_host_call(stage: Stage) -> String {
    let host = stage.host("probe", "", Script::new([call("probe__slow", slow(60_000)), say("never")])).await;
    let waiting = host.begin(RUNS, &json!({"message": "go"}));
    until("the call sleeps", async || host.effects("k.started").await == 1).await;
    let run = calling(&host).await;
    assert_eq!(host.cancel(&run).await.status, 204);
    let told = waiting.await.expect("no panic").body;
    stage.watch.stop().await;
    format!("{}, {} finished", ended(&told), host.effects("k.finished").await)
}

/// The server sees that nobody waits for its response any more.
async fn cancel_of_a_request(stage: Stage, reply: Reply) -> String {
    let web = Web::start(move |_| reply.clone()).await;
    let world = World::new(web.address).name("api.test", &[&[PUBLIC]]);
    let model = Script::new([call("egress__send", get("/")), say("never")]);
    let host = stage.online("egress", API, model, &world).await;
    let waiting = host.begin(RUNS, &json!({"message": "go"}));
    until("a request", async || web.requests().len() == 1).await;
    assert_eq!(web.left(), 0);
    let run = calling(&host).await;
    assert_eq!(host.cancel(&run).await.status, 204);
    let told = waiting.await.expect("no panic").body;
    until("the connection's end", async || web.left() == 1).await;
    stage.watch.stop().await;
    format!("{}, {} connection closed", ended(&told), web.left())
}

/// A client that leaves stops nothing.
async fn disconnect(stage: Stage) -> String {
    let host = stage.host("probe", "", Script::new([call("probe__slow", slow(1000)), say("done")])).await;
    let waiting = host.begin(RUNS, &json!({"message": "go"}));
    until("the call sleeps", async || host.effects("k.started").await == 1).await;
    waiting.abort();
    after_all(&stage, &host).await
}

async fn disconnect_of_a_stream(stage: Stage) -> String {
    let host = stage.host("probe", "", Script::new([call("probe__slow", slow(1000)), say("done")])).await;
    let stream = host.stream("go").await;
    until("the call sleeps", async || host.effects("k.started").await == 1).await;
    drop(stream);
    after_all(&stage, &host).await
}

async fn after_all(stage: &Stage, host: &TestHost) -> String {
    let run = calling(host).await;
    let done = host.settled(&run).await;
    stage.watch.stop().await;
    format!("{}, {} finished", ended(&done), host.effects("k.finished").await)
}

/// A server in a process of its own with a run in mid-call, the neighbour, and who waits for the run. What is
/// measured is that process, until it takes no more runs.
async fn process(
    stage: &Stage,
    grace_ms: u64,
    ms: u64,
) -> (Process, OpenAi, tokio::task::JoinHandle<reqwest::Result<crate::support::Answer>>) {
    let model = OpenAi::start(move |body| match openai::replied(body) {
        0 => openai::tool_calls(&[("call_1", "probe__slow_idempotent", slow(ms))]),
        _ => openai::text("done"),
    })
    .await;
    let config = format!("shutdown_grace_ms = {grace_ms}\n{}{GOOD}", model.config());
    let host = Process::start(&["probe", "calculator"], &config).await;
    stage.watch.child(&host.url, host.pid());
    let waiting = host.begin(RUNS, &json!({"message": "go"}));
    host.wait_for_effects("k.started", 1).await;
    (host, model, waiting)
}

async fn sigterm(stage: Stage) -> String {
    let (mut host, _model, waiting) = process(&stage, 30_000, 1500).await;
    let status = host.terminate().await;
    assert!(status.success(), "{status}");
    stage.watch.stop().await;
    let told = waiting.await.expect("no panic").expect("an answer").body;
    format!("{}, {} finished", ended(&told), host.effects("k.finished").await)
}

/// The call, which may be repeated, is made again at the next start.
async fn sigterm_beyond_the_grace(stage: Stage) -> String {
    let (mut host, _model, waiting) = process(&stage, 300, 60_000).await;
    let status = host.terminate().await;
    assert!(status.success(), "{status}");
    stage.watch.stop().await;
    let told = waiting.await.expect("no panic").expect("an answer").body;
    assert_eq!(told["status"], "RUNNING", "{told}");
    host.restart().await;
    let done = host.wait_for(told["runId"].as_str().expect("an id"), &["COMPLETED"]).await;
    format!("{}, {} finished", ended(&done), host.effects("k.finished").await)
}

/// The plugin is replaced again and again until the last call has ended; what nobody needs is forgotten then.
async fn reload(stage: Stage) -> String {
    const CALLS: usize = 100;
    let model = Speaker::new(|request| {
        let slow = json!({"ms": 2000, "key": asked(request)});
        Ok(if replied(request) == 0 { call("probe__slow_read", slow) } else { say("done") })
    });
    let host = stage.host("probe", "[plugins.probe.limits]\nconcurrent_calls = 100\n", model).await;
    let under_way: Vec<_> =
        (0..CALLS).map(|n| host.begin(RUNS, &json!({"message": format!("k{n}")}))).collect();
    until("all are in flight", async || started(&host).await == CALLS).await;
    let probe = |number: u32| version("probe", "probe", &format!("1.0.{number}"), "kv = [\"plugin\"]");
    let mut replaced = 0;
    while !under_way.iter().all(tokio::task::JoinHandle::is_finished) || replaced < 3 {
        replaced += 1;
        let answer = host.install("probe", probe(replaced)).await;
        assert_eq!((answer.status, &answer.body["state"]), (200, &json!("loaded")), "{answer:?}");
    }
    let told = join_all(under_way).await.into_iter().map(|run| ended(&run.expect("no panic").body));
    let fine = told.filter(|said| said == "COMPLETED ok").count();
    let kept = "select 'sha256:' || digest from components where plugin = 'probe'";
    until("old versions go", async || host.texts(kept).await == [digest(&probe(replaced))]).await;
    stage.watch.stop().await;
    format!("{fine} of {CALLS} ok, {replaced} versions installed meanwhile")
}
