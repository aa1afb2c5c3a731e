//! A server in this process: port 0, a SQLite file and a plugin folder of its own, a clock that a test moves.

use std::path::Path;
use std::sync::Arc;

use holdfast::clock::Clock;
use holdfast::config::{Config, ServerArgs};
use holdfast::id::Ids;
use holdfast::model::{Model, Models};
use holdfast::server::Server;
use holdfast::webhook::Webhooks;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::guests::guest;

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
    model: Arc<dyn Model>,
    webhooks: Webhooks,
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
        Self::with_webhooks(plugins, config, model, Webhooks::default()).await
    }

    /// The same, with webhooks, whose secrets no file may hold.
    pub(crate) async fn with_webhooks(
        plugins: &[&str],
        config: &str,
        model: Arc<dyn Model>,
        webhooks: Webhooks,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("plugins")).expect("a folder for plugins");
        for id in plugins {
            std::fs::copy(guest(id), folder.path().join("plugins").join(format!("{id}.wasm"))).expect(id);
        }
        let clock = Clock::manual();
        let mut host = Self {
            url: String::new(),
            ids: Ids::seeded(clock.clone()),
            clock,
            folder,
            config: config.to_owned(),
            model,
            webhooks,
            client: reqwest::Client::new(),
            running: None,
        };
        host.open().await;
        host
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
        config.webhooks = self.webhooks.clone();
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

    /// Runs `agent` and returns the RunResponse.
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

    /// A request with the admin's token, to be changed before it is sent.
    pub(crate) fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url)).bearer_auth(ADMIN)
    }

    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.expect("a body");
        let body = if text.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&text).unwrap_or(Value::String(text))
        };
        Answer { status, headers, body }
    }

    /// What the probe's counter `key` stands at: how often an effect happened.
    pub(crate) async fn effects(&self, key: &str) -> u64 {
        let database = self.folder.path().join("holdfast.db");
        super::process::kv_counter(&database, key).await
    }
}
