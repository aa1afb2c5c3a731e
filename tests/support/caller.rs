//! Somebody with a token of their own, made by the program's command line.

use std::path::Path;
use std::process::Output;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::Command;

use super::host::{Answer, TestHost};

/// Runs `holdfast ARGS` in `folder` to its end. Nothing of this process's settings reaches it.
pub(crate) async fn holdfast(folder: &Path, args: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    for name in [
        "HOLDFAST_CONFIG",
        "HOLDFAST_LISTEN",
        "HOLDFAST_DATABASE_URL",
        "HOLDFAST_PLUGINS",
        "HOLDFAST_ADMIN_TOKEN",
    ] {
        command.env_remove(name);
    }
    command.args(args).current_dir(folder).envs(environment.iter().copied()).kill_on_drop(true);
    let output = tokio::time::timeout(std::time::Duration::from_secs(60), command.output()).await;
    output.expect("it ends by itself").expect("the program starts")
}

/// A key's holder.
pub(crate) struct Caller {
    pub(crate) token: String,
    url: String,
    client: reqwest::Client,
}

impl Caller {
    /// Makes a key beside the running server.
    pub(crate) async fn create(host: &TestHost, role: &str, user: &str, org: &str) -> Self {
        let database = database(host);
        let args =
            ["key", "create", "--role", role, "--user", user, "--org", org, "--database", database.as_str()];
        let output = holdfast(host.folder(), &args, &[]).await;
        assert!(output.status.success(), "{output:?}");
        let token = String::from_utf8(output.stdout).expect("text").trim().to_owned();
        Self::with_token(&host.url, &token)
    }

    pub(crate) fn with_token(url: &str, token: &str) -> Self {
        Self { token: token.to_owned(), url: url.to_owned(), client: reqwest::Client::new() }
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let mut request = self.client.request(method, format!("{}{path}", self.url)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.expect("a body");
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer { status, headers, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, Some(body)).await
    }

    /// Runs `agent`.
    pub(crate) async fn run(&self, message: &str) -> Answer {
        self.post("/api/agents/agent/runs", json!({"message": message})).await
    }

    pub(crate) async fn read(&self, run: &str) -> u16 {
        self.get(&format!("/api/agents/agent/runs/{run}")).await.status
    }

    pub(crate) async fn approve(&self, run: &str) -> u16 {
        let path = format!("/api/agents/agent/runs/{run}/continue");
        self.post(&path, json!({"action": "APPROVE"})).await.status
    }

    pub(crate) async fn cancel(&self, run: &str) -> u16 {
        self.send(Method::DELETE, &format!("/api/agents/agent/runs/{run}"), None).await.status
    }
}

/// A test host's database as a flag.
pub(crate) fn database(host: &TestHost) -> String {
    format!("sqlite://{}", host.folder().join("holdfast.db").display())
}
