//! A server of a scene's own, with the good neighbour in it.

use std::sync::Arc;
use std::time::Duration;

use holdfast::model::Model;
use serde_json::Value;

use super::bench::{Fixture, Row};
use super::log::Log;
use super::watch::{GOOD, Watch};
use crate::support::TestHost;
use crate::support::host::ONE_AGENT;
use crate::support::web::World;

pub(super) struct Stage {
    pub(super) watch: Arc<Watch>,
    pub(super) log: Log,
}

impl Stage {
    /// With this guest, its settings and this model. Before it goes, somebody has to [`Watch::stop`].
    pub(super) async fn host(&self, plugin: &str, settings: &str, model: Arc<dyn Model>) -> TestHost {
        let host = TestHost::start(&[plugin, "calculator"], &config(settings), model).await;
        self.watch.server(&host.url);
        host
    }

    /// The same in this network.
    pub(super) async fn online(
        &self,
        plugin: &str,
        settings: &str,
        model: Arc<dyn Model>,
        world: &Arc<World>,
    ) -> TestHost {
        let plugins = [plugin, "calculator"];
        let host = TestHost::with_network(&plugins, &config(settings), model, world.network()).await;
        self.watch.server(&host.url);
        host
    }
}

fn config(settings: &str) -> String {
    format!("{ONE_AGENT}{settings}{GOOD}")
}

/// The run's status, and how its calls ended.
pub(super) fn ended(run: &Value) -> String {
    let outcome = |tool: &Value| tool["outcome"].as_str().unwrap_or("unknown").to_owned();
    let outcomes: Vec<String> = run["tools"].as_array().into_iter().flatten().map(outcome).collect();
    format!("{} {}", run["status"].as_str().unwrap_or("no run"), outcomes.join(" "))
}

pub(super) fn row<F: Future<Output = String> + 'static>(
    name: &str,
    outcome: &'static str,
    scene: impl Fn(Stage) -> F + 'static,
) -> Row {
    Row {
        name: name.to_owned(),
        fixture: Fixture::server(scene),
        outcome,
        within: Duration::from_mins(1),
        peak_mib: 256,
    }
}
