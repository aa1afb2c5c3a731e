//! The real program in a process of its own, to be killed with SIGKILL at any moment.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Row as _};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::task::JoinHandle;

use super::guests::guest;
use super::host::{ADMIN, Answer, answer, until};
use super::server::Server;

/// In the environment of every process, to sign webhooks with.
pub(crate) const HOOK_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

pub(crate) struct Process {
    pub(crate) url: String,
    pub(crate) folder: TempDir,
    server: Option<Server>,
    client: reqwest::Client,
}

impl Process {
    /// `holdfast serve` with these plugins and this configuration file.
    pub(crate) async fn start(plugins: &[&str], config: &str) -> Self {
        Self::start_with(plugins, config, &[]).await
    }

    /// The same, with variables that hold until the first restart.
    pub(crate) async fn start_with(plugins: &[&str], config: &str, environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("plugins")).expect("a folder for plugins");
        for id in plugins {
            std::fs::copy(guest(id), folder.path().join("plugins").join(format!("{id}.wasm"))).expect(id);
        }
        let cache = super::guests::root().join("target/test-guests/cache");
        let text = format!(
            "listen = \"127.0.0.1:0\"\ndatabase = \"sqlite://holdfast.db\"\nplugin_dir = \"plugins\"\ncompile_cache = \"{}\"\n{config}",
            cache.display()
        );
        std::fs::write(folder.path().join("holdfast.toml"), text).expect("a configuration file");
        let mut process = Self { url: String::new(), folder, server: None, client: reqwest::Client::new() };
        process.launch(environment).await;
        process
    }

    /// Runs the command line beside the server: standard output and standard error.
    pub(crate) async fn holdfast(&self, args: &[&str]) -> (String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_holdfast"))
            .args(args)
            .current_dir(self.folder.path())
            .env_remove("HOLDFAST_CONFIG")
            .env_remove("HOLDFAST_DATABASE_URL")
            .env_remove("HOLDFAST_PLUGINS")
            .env_remove("HOLDFAST_LISTEN")
            .env("HOLDFAST_ADMIN_TOKEN", ADMIN)
            .env("HOOK_SECRET", HOOK_SECRET)
            .stdin(std::process::Stdio::null())
            .output()
            .await
            .expect("the program runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&output.stdout), text(&output.stderr))
    }

    async fn launch(&mut self, environment: &[(&str, &str)]) {
        let own = [("HOLDFAST_ADMIN_TOKEN", ADMIN), ("HOOK_SECRET", HOOK_SECRET)];
        let environment = [environment, &own].concat();
        let log = std::fs::File::options().create(true).append(true).open(self.log()).expect("a log");
        let folder = self.folder.path();
        let server = Server::launch_logging(folder, &["serve"], &environment, Stdio::from(log)).await;
        self.url.clone_from(&server.url);
        self.server = Some(server);
    }

    /// SIGKILL, and gone.
    pub(crate) async fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.child.kill().await.expect("it can be killed");
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.server.as_ref().and_then(|server| server.child.id()).expect("it runs")
    }

    /// SIGTERM, and how it ended.
    pub(crate) async fn terminate(&mut self) -> std::process::ExitStatus {
        let pid = self.pid().to_string();
        let child = &mut self.server.take().expect("it runs").child;
        Command::new("kill").args(["-TERM", &pid]).status().await.expect("kill runs");
        tokio::time::timeout(Duration::from_secs(30), child.wait()).await.expect("it ends").expect("a status")
    }

    pub(crate) async fn restart(&mut self) {
        self.restart_with(&[]).await;
    }

    /// With variables that hold until the next restart.
    pub(crate) async fn restart_with(&mut self, environment: &[(&str, &str)]) {
        self.kill().await;
        self.launch(environment).await;
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> reqwest::Result<Answer> {
        self.send(self.client.post(format!("{}{path}", self.url)).json(body)).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.try_get(path).await.expect("an answer")
    }

    /// An error says that the process was gone before it answered.
    pub(crate) async fn try_get(&self, path: &str) -> reqwest::Result<Answer> {
        self.send(self.client.get(format!("{}{path}", self.url))).await
    }

    pub(crate) async fn run(&self, message: &str) -> Value {
        let answer =
            self.post("/api/agents/agent/runs", &json!({"message": message})).await.expect("an answer");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> reqwest::Result<Answer> {
        answer(request.bearer_auth(ADMIN)).await
    }

    /// Sends beside the test; an error says that the process was gone before it answered.
    pub(crate) fn begin(&self, path: &str, body: &Value) -> JoinHandle<reqwest::Result<Answer>> {
        let request = self.client.post(format!("{}{path}", self.url)).bearer_auth(ADMIN).json(body);
        tokio::spawn(answer(request))
    }

    /// Decides, with an `Idempotency-Key` where one is given.
    pub(crate) async fn resume(&self, run: &str, key: Option<&str>, body: &Value) -> Answer {
        let path = format!("{}/api/agents/agent/runs/{run}/continue", self.url);
        let mut request = self.client.post(path).json(body);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        self.send(request).await.expect("an answer")
    }

    /// Waits until the probe's counter `key` stands at `count`.
    pub(crate) async fn wait_for_effects(&self, key: &str, count: u64) {
        until(key, async || self.effects(key).await == count).await;
    }

    /// Waits until the run has one of these statuses.
    pub(crate) async fn wait_for(&self, run: &str, statuses: &[&str]) -> Value {
        let path = format!("/api/agents/agent/runs/{run}");
        for _ in 0..600 {
            let body = self.get(&path).await.body;
            if statuses.iter().any(|status| body["status"] == *status) {
                return body;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("run {run} did not become {statuses:?}");
    }

    /// Waits until its log has a line that holds all of these.
    pub(crate) async fn wait_for_log(&self, parts: &[&str]) {
        let holds = |line: &str| parts.iter().all(|part| line.contains(part));
        let log = || std::fs::read_to_string(self.log()).expect("a log");
        until(&format!("a log line with {parts:?}"), async || log().lines().any(holds)).await;
    }

    /// What it logged, restarts included.
    fn log(&self) -> PathBuf {
        self.folder.path().join("holdfast.log")
    }

    /// The ids of all runs in the database, oldest first.
    pub(crate) async fn runs(&self) -> Vec<String> {
        let mut database = open(&self.folder.path().join("holdfast.db")).await;
        let rows = sqlx::query("select id from runs order by created_at, id").fetch_all(&mut database).await;
        rows.expect("rows").iter().map(|row| row.get(0)).collect()
    }

    /// What the probe's counter `key` stands at.
    pub(crate) async fn effects(&self, key: &str) -> u64 {
        kv_counter(&self.folder.path().join("holdfast.db"), key).await
    }
}

/// A counter of the probe plugin, read past the server.
pub(crate) async fn kv_counter(database: &Path, key: &str) -> u64 {
    let mut database = open(database).await;
    let row = sqlx::query("select value from kv where plugin = 'probe' and key = $1").bind(key.as_bytes());
    match row.fetch_optional(&mut database).await.expect("the table can be read") {
        Some(row) => serde_json::from_slice(&row.get::<Vec<u8>, _>(0)).expect("a number"),
        None => 0,
    }
}

/// One row of one column of text, read past the server.
pub(crate) async fn text(database: &Path, query: &'static str) -> Vec<String> {
    let mut database = open(database).await;
    let rows = sqlx::query(query).fetch_all(&mut database).await.expect("the table can be read");
    rows.iter().map(|row| row.get::<Option<String>, _>(0).unwrap_or_default()).collect()
}

/// Rewrites a run's latest event of this kind, past the server.
pub(crate) async fn edit_event(database: &Path, run: &str, kind: &str, edit: impl FnOnce(&mut Value)) {
    let options = SqliteConnectOptions::new().filename(database);
    let mut database = options.connect().await.expect("the database opens");
    let query = "select seq, body from run_events where run_id = $1 and kind = $2 order by seq desc limit 1";
    let row = sqlx::query(query).bind(run).bind(kind).fetch_one(&mut database).await.expect("an event");
    let mut event: Value = serde_json::from_str(row.get(1)).expect("JSON");
    let before = event.clone();
    edit(&mut event);
    assert_ne!(event, before, "the edit changes something");
    let update = "update run_events set body = $3 where run_id = $1 and seq = $2";
    let update = sqlx::query(update).bind(run).bind(row.get::<i64, _>(0)).bind(event.to_string());
    assert_eq!(update.execute(&mut database).await.expect("a write").rows_affected(), 1);
}

async fn open(database: &Path) -> SqliteConnection {
    SqliteConnectOptions::new()
        .filename(database)
        .read_only(true)
        .connect()
        .await
        .expect("the database opens")
}
