//! The good neighbour of a fixture, and the memory of the process that both are in.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use holdfast::plugin::Plugin;
use holdfast::tool::OutcomeKind;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::bench::call;
use crate::support::host::ADMIN;
use crate::support::resident_bytes;

/// Between two calls of the neighbour.
const PAUSE: Duration = Duration::from_millis(2);

/// An agent for the neighbour, to be put into a server's configuration.
pub(super) const GOOD: &str = "
[[agents]]
id = \"good\"
name = \"Good\"
model = \"demo\"
tools = [\"calculator.*\"]
";

pub(super) struct Watch {
    process: AtomicU32,
    /// Bytes of that process.
    before: AtomicU64,
    now: AtomicU64,
    peak: AtomicU64,
    /// Microseconds.
    slowest: AtomicU64,
    stop: AtomicBool,
    neighbour: Mutex<Option<JoinHandle<()>>>,
}

impl Watch {
    pub(super) fn new() -> Arc<Self> {
        let watch = Self {
            process: AtomicU32::default(),
            before: AtomicU64::default(),
            now: AtomicU64::default(),
            peak: AtomicU64::default(),
            slowest: AtomicU64::default(),
            stop: AtomicBool::default(),
            neighbour: Mutex::default(),
        };
        watch.process(std::process::id());
        Arc::new(watch)
    }

    /// From now on the memory is that of this process.
    fn process(&self, process: u32) {
        let bytes = resident_bytes(process).expect("it runs");
        self.process.store(process, Ordering::Relaxed);
        for figure in [&self.before, &self.now, &self.peak] {
            figure.store(bytes, Ordering::Relaxed);
        }
    }

    /// Calls this plugin until stopped.
    pub(super) fn plugin(self: &Arc<Self>, plugin: Plugin) {
        self.keep(move || {
            let plugin = plugin.clone();
            async move {
                let outcome = call(&plugin, "act", &json!({"n": 1})).await;
                assert_eq!(outcome.kind, OutcomeKind::Ok, "the neighbour fails");
                true
            }
        });
    }

    /// Has a plugin called by the agent of [`GOOD`] in this server, until stopped or until the server stops.
    pub(super) fn server(self: &Arc<Self>, url: &str) {
        let (client, url) = (reqwest::Client::new(), format!("{url}/api/agents/good/runs"));
        self.keep(move || {
            let body = json!({"message": "calculator__evaluate expression=6*7"});
            let request = client.post(&url).bearer_auth(ADMIN).json(&body);
            async move {
                let answer = request.send().await.expect("the server answers");
                if answer.status() == 503 {
                    return false;
                }
                let run: Value = answer.json().await.expect("JSON");
                assert_eq!(run["tools"][0]["toolOutput"], "42", "the neighbour fails: {run}");
                true
            }
        });
    }

    /// The same with a server in another process, whose memory counts from now on.
    pub(super) fn child(self: &Arc<Self>, url: &str, process: u32) {
        self.process(process);
        self.server(url);
    }

    /// Calls until it is told that there is no next time.
    fn keep<F: Future<Output = bool> + Send>(self: &Arc<Self>, call: impl Fn() -> F + Send + 'static) {
        let watch = Arc::clone(self);
        let neighbour = tokio::spawn(async move {
            loop {
                let started = Instant::now();
                if !call().await {
                    return;
                }
                let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
                watch.slowest.fetch_max(micros, Ordering::Relaxed);
                watch.look();
                if watch.stop.load(Ordering::Relaxed) {
                    return;
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
        *self.neighbour.lock().expect("nobody panics in here") = Some(neighbour);
    }

    /// A process that is gone keeps its last figure.
    fn look(&self) {
        if let Some(bytes) = resident_bytes(self.process.load(Ordering::Relaxed)) {
            self.now.store(bytes, Ordering::Relaxed);
            self.peak.fetch_max(bytes, Ordering::Relaxed);
        }
    }

    /// After the neighbour's call under way.
    pub(super) async fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        let neighbour = self.neighbour.lock().expect("nobody panics in here").take();
        if let Some(neighbour) = neighbour {
            neighbour.await.expect("the neighbour is answered");
        }
        self.look();
    }

    pub(super) fn slowest(&self) -> Duration {
        Duration::from_micros(self.slowest.load(Ordering::Relaxed))
    }

    /// What the memory grew by: at most, and until now.
    pub(super) fn grown_mib(&self) -> (u64, u64) {
        let before = self.before.load(Ordering::Relaxed);
        let grown = |figure: &AtomicU64| figure.load(Ordering::Relaxed).saturating_sub(before) >> 20;
        (grown(&self.peak), grown(&self.now))
    }
}
