//! A server in this process: port 0, a SQLite file and a plugin folder of its own, a clock that a test moves.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use holdfast::clock::Clock;
use holdfast::config::{Config, ServerArgs};
use holdfast::id::Ids;
use holdfast::model::{Model, Models};
use holdfast::plugin::Network;
use holdfast::server::Server;
use holdfast::webhook::Endpoint;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::guests::guest;
use super::sse::Stream;

/// The bootstrap token of every test host.
pub(crate) const ADMIN: &str = "the-test-hosts-admin-token";

/// One agent with the scripted model and every tool, under `agent`.
pub(crate) const ONE_AGENT: &str = r#"
[[agents]]
id = "agent"
name = "Agent"
model = "script::v1"
tools = ["*"]
[plugins.probe.grants]
kv = true
[plugins.hostile.grants]
kv = true
[plugins.notes.grants]
kv = true
"#;

pub(crate) struct TestHost {
    pub(crate) url: String,
    pub(crate) clock: Clock,
    folder: TempDir,
    config: String,
    /// None = the machine's.
    network: Option<Network>,
    model: Arc<dyn Model>,
    webhooks: Vec<Endpoint>,
    ids: Ids,
    client: reqwest::Client,
    running: Option<(oneshot::Sender<()>, JoinHandle<anyhow::Result<()>>)>,
}

/// A response: its status and its body (null where it is empty).
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

impl TestHost {
    /// With these plugins, this configuration file and this model as the provider `script`.
    pub(crate) async fn start(plugins: &[&str], config: &str, model: Arc<dyn Model>) -> Self {
        let files: Vec<PathBuf> = plugins.iter().map(|id| guest(id)).collect();
        Self::with_files(&files, config, model).await
    }

    /// The same, with a network of the test's own for the plugins.
    pub(crate) async fn with_network(
        plugins: &[&str],
        config: &str,
        model: Arc<dyn Model>,
        network: Network,
    ) -> Self {
        let files: Vec<PathBuf> = plugins.iter().map(|id| guest(id)).collect();
        let mut host = Self::closed(&files, config, model);
        host.network = Some(network);
        host.open().await;
        host
    }

    /// With the probe, one agent, and webhooks, whose secrets no file may hold.
    pub(crate) async fn with_webhooks(model: Arc<dyn Model>, webhooks: Vec<Endpoint>) -> Self {
        let mut host = Self::closed(&[guest("probe")], ONE_AGENT, model);
        host.webhooks = webhooks;
        host.open().await;
        host
    }

    /// The same, with components that the test brings along.
    pub(crate) async fn with_files(plugins: &[PathBuf], config: &str, model: Arc<dyn Model>) -> Self {
        let mut host = Self::closed(plugins, config, model);
        host.open().await;
        host
    }

    fn closed(plugins: &[PathBuf], config: &str, model: Arc<dyn Model>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("plugins")).expect("a folder for plugins");
        for file in plugins {
            let name = file.file_name().expect("a component");
            std::fs::copy(file, folder.path().join("plugins").join(name)).expect("the component can be read");
        }
        let clock = Clock::manual();
        Self {
            url: String::new(),
            ids: Ids::seeded(clock.clone()),
            clock,
            folder,
            config: config.to_owned(),
            network: None,
            model,
            webhooks: Vec::new(),
            client: reqwest::Client::new(),
            running: None,
        }
    }

    /// The usual: the probe, one agent, a scripted model.
    pub(crate) async fn with_probe(model: Arc<dyn Model>) -> Self {
        Self::start(&["probe"], ONE_AGENT, model).await
    }

    /// Where the database and the plugins are.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Stops as after SIGTERM, and starts again on the same files.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.open().await;
    }

    pub(crate) async fn stop(&mut self) {
        if let Some((stop, served)) = self.running.take() {
            drop(stop);
            served.await.expect("the server does not panic").expect("the server stops cleanly");
        }
    }

    async fn open(&mut self) {
        let text = format!(
            "database = \"sqlite://holdfast.db\"\nplugin_dir = \"plugins\"\nshutdown_grace_ms = 200\n{}",
            self.config
        );
        let file = self.folder.path().join("holdfast.toml");
        let mut config =
            Config::from_text(&text, &file, &ServerArgs::default()).expect("the configuration is valid");
        config.admin_token = Some(ADMIN.to_owned());
        if let Some(network) = &self.network {
            config.network = network.clone();
        }
        config.webhooks.endpoints.extend(self.webhooks.iter().cloned());
        config.compile_cache = Some(super::guests::root().join("target/test-guests/cache"));
        let models =
            Models::new(config.providers.clone()).expect("providers").with("script", self.model.clone());
        let server =
            Server::open_with(&config, models, self.clock.clone(), self.ids.clone()).await.expect("it opens");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        self.url = format!("http://{}", listener.local_addr().expect("an address"));
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(server.serve(listener, async move {
            let _ = stopped.await;
        }));
        self.running = Some((stop, task));
    }

    // Requests, as the admin.

    /// Runs `agent` and returns what it came to.
    pub(crate) async fn run(&self, message: &str) -> Value {
        let answer = self.post("/api/agents/agent/runs", &serde_json::json!({"message": message})).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    }

    pub(crate) async fn resume(&self, run: &Value, body: Value) -> Answer {
        let id = run["runId"].as_str().expect("a runId");
        self.post(&format!("/api/agents/agent/runs/{id}/continue"), &body).await
    }

    /// The run as it is stored.
    pub(crate) async fn read(&self, run: &Value) -> Value {
        let id = run["runId"].as_str().expect("a runId");
        self.get(&format!("/api/agents/agent/runs/{id}")).await.body
    }

    /// The run, once it has ended.
    pub(crate) async fn settled(&self, run: &Value) -> Value {
        for _ in 0..600 {
            let read = self.read(run).await;
            if read["completedAt"].is_string() {
                return read;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("the run did not end: {run}");
    }

    pub(crate) async fn cancel(&self, run: &Value) -> Answer {
        let id = run["runId"].as_str().expect("a runId");
        self.send(self.request(reqwest::Method::DELETE, &format!("/api/agents/agent/runs/{id}"))).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(reqwest::Method::POST, path).json(body)).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.request(reqwest::Method::GET, path)).await
    }

    /// Starts `agent` and streams it.
    pub(crate) async fn stream(&self, message: &str) -> Stream {
        let request = self.request(reqwest::Method::POST, "/api/agents/agent/runs/stream");
        Stream::open(request.json(&serde_json::json!({"message": message}))).await
    }

    /// Follows a run from behind a frame; "" = from its start.
    pub(crate) async fn events(&self, run: &str, after: &str) -> Stream {
        let query = if after.is_empty() { String::new() } else { format!("?after={after}") };
        let path = format!("/api/agents/agent/runs/{run}/events{query}");
        Stream::open(self.request(reqwest::Method::GET, &path)).await
    }

    /// A request with the admin's token, to be changed before it is sent.
    pub(crate) fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url)).bearer_auth(ADMIN)
    }

    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        answer(request).await.expect("an answer")
    }

    /// Sends beside the test: what a caller waits for while the test goes on.
    pub(crate) fn begin(&self, path: &str, body: &Value) -> JoinHandle<Answer> {
        let request = self.request(reqwest::Method::POST, path).json(body);
        tokio::spawn(async { answer(request).await.expect("an answer") })
    }

    /// Waits until a call is under way, and returns its run's id.
    pub(crate) async fn running_call(&self) -> String {
        let database = self.folder.path().join("holdfast.db");
        let query = "select run_id from run_events where kind = 'call_started' order by at desc limit 1";
        for _ in 0..600 {
            if let [run] = &super::process::text(&database, query).await[..] {
                return run.clone();
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("no call has started");
    }

    /// What the probe's counter `key` stands at: how often an effect happened.
    pub(crate) async fn effects(&self, key: &str) -> u64 {
        let database = self.folder.path().join("holdfast.db");
        super::process::kv_counter(&database, key).await
    }

    /// One column of text, read past the server.
    pub(crate) async fn texts(&self, query: &'static str) -> Vec<String> {
        super::process::text(&self.folder.path().join("holdfast.db"), query).await
    }

    /// How many runs are stored.
    pub(crate) async fn run_count(&self) -> usize {
        self.texts("select id from runs").await.len()
    }
}

pub(crate) async fn answer(request: reqwest::RequestBuilder) -> reqwest::Result<Answer> {
    let (client, request) = request.build_split();
    let request = request?;
    let (method, path) = (request.method().clone(), request.url().path().to_owned());
    let response = client.execute(request).await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let content_type = headers.get("content-type").map_or("", |value| value.to_str().expect("text"));
    super::document::check(&method, &path, status, content_type);
    let text = response.text().await?;
    let body = if text.is_empty() {
        Value::Null
    } else {
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    };
    Ok(Answer { status, headers, body })
}

/// Waits until something that a test can observe is so.
pub(crate) async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    for _ in 0..1500 {
        if holds().await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("waited in vain: {what}");
}
