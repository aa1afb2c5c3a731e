//! A host with the guest that sends any request, in a network of the test's own.

use std::sync::Arc;

use serde_json::{Value, json};

use super::host::ONE_AGENT;
use super::web::{PUBLIC, Reply, Seen, Web, World};
use super::{Speaker, TestHost, asked, call, replied, say};

/// Plain http to `api.test`, which is a public address.
pub(crate) const API: &str = r#"
[[plugins.egress.grants.http]]
host = "api.test"
scheme = "http"
methods = ["GET", "POST"]
"#;

pub(crate) struct Sender {
    pub(crate) web: Web,
    pub(crate) world: Arc<World>,
    pub(crate) host: TestHost,
}

/// What became of one call.
pub(crate) struct Sent {
    pub(crate) outcome: String,
    /// What the model reads.
    pub(crate) text: String,
    pub(crate) usage: Value,
    pub(crate) seen: Seen,
}

impl Sender {
    /// `settings` are those of the plugin, with its grants.
    pub(crate) async fn new(settings: &str, answer: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let web = Web::start(answer).await;
        let world = World::new(web.address).name("api.test", &[&[PUBLIC]]);
        // The user's message is the call that the model makes.
        let model = Speaker::new(|request| {
            if replied(request) > 0 {
                return Ok(say("done"));
            }
            let wanted: Value = serde_json::from_str(&asked(request)).expect("a call");
            Ok(call(wanted["tool"].as_str().expect("a tool"), wanted["arguments"].clone()))
        });
        let config = format!("{ONE_AGENT}{settings}");
        let host = TestHost::with_network(&["egress"], &config, model, world.network()).await;
        Self { web, world, host }
    }

    /// Calls `send` with these arguments, in a run of its own.
    pub(crate) async fn send(&self, arguments: Value) -> Sent {
        self.call("egress__send", arguments).await
    }

    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> Sent {
        let run = self.host.run(&json!({"tool": tool, "arguments": arguments}).to_string()).await;
        assert_eq!(run["status"], "COMPLETED", "{run}");
        let tool = &run["tools"][0];
        let query = "select body from run_events where kind = 'call_finished' order by rowid desc limit 1";
        let events = self.host.texts(query).await;
        let event: Value = serde_json::from_str(&events[0]).expect("JSON");
        Sent {
            outcome: tool["outcome"].as_str().unwrap_or_default().to_owned(),
            text: tool["toolOutput"].as_str().unwrap_or_default().to_owned(),
            usage: event["outcome"]["usage"].clone(),
            seen: self.world.seen(),
        }
    }

    /// Everything that the server wrote down about its runs.
    pub(crate) async fn journal(&self) -> String {
        self.host.texts("select body from run_events").await.join("\n")
    }
}

/// A GET to `http://api.test` and this path.
pub(crate) fn get(path: &str) -> Value {
    json!({"authority": "api.test", "path": path})
}
