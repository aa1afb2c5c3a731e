//! What a start finds: runs are taken up at a bounded pace and none waits for another, and a journal that cannot
//! be read keeps nobody else from going on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;
use tokio::sync::Semaphore;

use crate::support::host::ONE_AGENT;
use crate::support::{Script, TestHost, call, say, until};

/// Ten paces of 64.
const RUNS: usize = 640;

/// When the last pace begins.
const LAST_PACE: Duration = Duration::from_millis(900);

async fn background(host: &TestHost) -> Value {
    let answer = host.post("/api/agents/agent/runs/background", &json!({"message": "go"})).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.body
}

/// Changes the database of a server that is stopped, or not looking.
async fn execute(host: &TestHost, statement: &'static str) {
    let file = host.folder().join("holdfast.db");
    let mut database =
        SqliteConnectOptions::new().filename(file).connect().await.expect("the database opens");
    let changed = sqlx::query(statement).execute(&mut database).await.expect("the statement is valid");
    assert!(changed.rows_affected() > 0, "{statement}");
}

async fn count(host: &TestHost, query: &'static str) -> usize {
    host.texts(query).await[0].parse().expect("a number")
}

const COMPLETED: &str = "select cast(count(*) as text) from runs where status = 'COMPLETED'";

/// The slowest model of all, which answers nobody, holds up none of them.
#[tokio::test(flavor = "multi_thread")]
async fn many_runs_are_taken_up_one_pace_after_the_other() {
    let gate = Arc::new(Semaphore::new(0));
    let model = Script::gated([say("done")], &gate);
    let config = format!("{ONE_AGENT}\n[background]\nworkers = 1000\nper_agent = 1000\nper_model = 1000\n");
    let mut host = TestHost::start(&[], &config, model.clone()).await;
    let runs = futures_util::future::join_all((0..RUNS).map(|_| background(&host))).await;
    until("every run at its model", async || model.requests().len() == RUNS).await;
    host.stop().await;
    execute(&host, "delete from run_events where seq = 2 and run_id = (select min(id) from runs)").await;

    let started = Instant::now();
    host.restart().await;

    // The last in line: cancelled before its turn, or after.
    let last = runs.iter().max_by_key(|run| run["runId"].as_str().map(str::to_owned)).expect("many runs");
    assert_eq!(host.cancel(last).await.status, 204);
    until("all but two at their models again", async || model.requests().len() >= 2 * RUNS - 2).await;
    let took = started.elapsed();
    eprintln!("{RUNS} runs were at their models again after {took:?}");
    assert!(took >= LAST_PACE, "not all at once: {took:?}");
    gate.add_permits(2 * RUNS);
    until("the end of all but two", async || count(&host, COMPLETED).await == RUNS - 2).await;
    assert_eq!(host.read(last).await["status"], "CANCELLED");
    let attempts = "select distinct cast(attempt as text) from runs where status = 'COMPLETED'";
    assert_eq!(host.texts(attempts).await, ["2"], "each was taken up once");
}

/// The first in line of those that expire cannot be read; the others expire all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_paused_run_that_cannot_be_read_keeps_no_others_from_expiring() {
    let model = Script::new([call("probe__effect", json!({"key": "k"})), say("went on")]);
    let host = TestHost::with_probe(model).await;
    let damaged = host.run("go").await;
    host.clock.advance(Duration::from_secs(1));
    let whole = host.run("go").await;
    execute(&host, "delete from run_events where seq = 2 and run_id = (select min(id) from runs)").await;
    host.clock.advance(Duration::from_hours(25));

    let run = host.settled(&whole).await;

    assert_eq!((&run["status"], &run["tools"][0]["outcome"]), (&json!("COMPLETED"), &json!("rejected")));
    let path = format!("/api/agents/agent/runs/{}", damaged["runId"].as_str().expect("an id"));
    let unread = host.get(&path).await;
    assert_eq!(
        (unread.status, &unread.body["type"]),
        (500, &json!("urn:problem-type:internal-server-error"))
    );
    let rows = "select status from approvals order by created_at, id";
    assert_eq!(host.texts(rows).await, ["PENDING", "EXPIRED"]);
}

/// The same of those that wait for a worker.
#[tokio::test(flavor = "multi_thread")]
async fn a_queued_run_that_cannot_be_read_keeps_no_others_from_starting() {
    let gate = Arc::new(Semaphore::new(0));
    let model = Script::gated([say("done")], &gate);
    let config = format!("{ONE_AGENT}\n[background]\nworkers = 1\n");
    let mut host = TestHost::start(&[], &config, model.clone()).await;
    background(&host).await;
    until("the first at its model", async || model.requests().len() == 1).await;
    for _ in 0..3 {
        background(&host).await;
    }
    host.stop().await;
    let second = "update run_events set body = '{' where run_id =
        (select id from runs where status = 'QUEUED' order by created_at, id limit 1)";
    execute(&host, second).await;
    host.restart().await;
    gate.add_permits(10);
    until("the end of the others", async || count(&host, COMPLETED).await == 3).await;
    assert_eq!(host.texts("select status from runs where status != 'COMPLETED'").await, ["QUEUED"]);
}

/// A run at work whose journal was damaged meanwhile cannot go on, and gives its place to the next.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_run_that_cannot_be_read_ends_and_keeps_no_place() {
    let gate = Arc::new(Semaphore::new(0));
    let model = Script::gated([say("done")], &gate);
    let config = format!("{ONE_AGENT}\n[background]\nworkers = 1\n");
    let mut host = TestHost::start(&[], &config, model.clone()).await;
    let damaged = background(&host).await;
    until("the first at its model", async || model.requests().len() == 1).await;
    let behind = json!({"message": "go", "sessionId": damaged["sessionId"]});
    assert_eq!(host.post("/api/agents/agent/runs/background", &behind).await.status, 202);
    background(&host).await;
    host.stop().await;
    execute(&host, "update run_events set body = '{' where run_id = (select min(id) from runs)").await;
    host.restart().await;
    gate.add_permits(10);

    until("the end of the others", async || count(&host, COMPLETED).await == 2).await;
    let run = host.read(&damaged).await;
    assert_eq!(
        (&run["status"], &run["metrics"]["errorType"]),
        (&json!("FAILED"), &json!("internal")),
        "{run}"
    );
    let id = damaged["runId"].as_str().expect("an id");
    let of_many = host.get(&format!("/api/agents/agent/runs/status?runIds={id}")).await;
    assert_eq!(of_many.body, json!([run]));
    assert_eq!(host.cancel(&damaged).await.status, 204);
    assert_eq!(host.read(&damaged).await, run, "it has ended");
    assert_eq!(
        count(&host, "select cast(count(*) as text) from run_events where body = '{'").await,
        2,
        "kept"
    );
}

/// Whatever its journal says: nothing of it happens any more, and its session is free.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_cannot_be_read_can_be_cancelled() {
    let gate = Arc::new(Semaphore::new(1));
    let model = Script::gated([call("probe__effect", json!({"key": "k"})), say("done")], &gate);
    let host = TestHost::with_probe(model.clone()).await;
    let paused = host.run("go").await;
    let working = background(&host).await;
    until("the second at its model", async || model.requests().len() == 2).await;
    let behind = json!({"message": "go", "sessionId": working["sessionId"]});
    let queued = host.post("/api/agents/agent/runs/background", &behind).await.body;
    execute(&host, "update run_events set body = '{'").await;

    for run in [&queued, &working, &paused] {
        assert_eq!(host.cancel(run).await.status, 204, "{run}");
        let row = host.read(run).await;
        assert_eq!((&row["status"], row["completedAt"].is_string()), (&json!("CANCELLED"), true), "{row}");
    }

    gate.add_permits(10);
    let next = json!({"message": "go", "sessionId": paused["sessionId"]});
    let next = host.post("/api/agents/agent/runs", &next).await;
    assert_eq!((next.status, &next.body["status"]), (200, &json!("PAUSED")), "{next:?}");
    let rows = "select status from runs order by id";
    assert_eq!(host.texts(rows).await, ["CANCELLED", "CANCELLED", "CANCELLED", "PAUSED"]);
    assert_eq!(host.texts("select status from approvals order by id").await, ["CANCELLED", "PENDING"]);
    let log = host.get("/api/admin/audit-logs?action=run.cancelled").await.body;
    assert_eq!(
        (&log["totalElements"], &log["content"][0]["objectId"]),
        (&json!(3), &paused["runId"]),
        "{log}"
    );
    assert_eq!(host.effects("k").await, 0);
}
