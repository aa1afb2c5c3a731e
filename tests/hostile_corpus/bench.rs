//! Runs one fixture beside a good plugin, and measures.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use holdfast::clock::Clock;
use holdfast::id::{CallId, OrgId, RunId, SessionId, UserId};
use holdfast::plugin::{Code, Invocation, Limits, LoadError, Network, Plugin, PluginHost, PluginSettings};
use holdfast::session::Owner;
use holdfast::tool::{OutcomeKind, Returned, ToolName, ToolOutcome};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::support::resident_bytes;
use crate::support::wat_guest::Guest;

/// A fixture and its bounds.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) component: Vec<u8>,
    pub(super) limits: Limits,
    /// It is granted `kv`, which it imports.
    pub(super) kv: bool,
    pub(super) phase: Phase,
    /// Of a call: its kind, and its limit, trap or capability. Of a load: `loaded`, or a part of the
    /// reason for the refusal.
    pub(super) outcome: &'static str,
    pub(super) within: Duration,
    /// Most MiB that the host may grow by while it runs; half of it may stay.
    pub(super) peak_mib: u64,
}

pub(super) enum Phase {
    /// It is refused, or does no harm by being loaded.
    Load,
    /// It loads, and its tool is called.
    Call { tool: &'static str, arguments: Value, times: u32 },
}

impl Row {
    pub(super) fn fits(&self, outcome: &str) -> bool {
        match self.phase {
            Phase::Load => outcome.contains(self.outcome),
            Phase::Call { .. } => outcome == self.outcome,
        }
    }
}

/// What came of it.
pub(super) struct Seen {
    pub(super) outcome: String,
    pub(super) took: Duration,
    pub(super) peak_mib: u64,
    pub(super) kept_mib: u64,
    /// The good plugin's slowest call.
    pub(super) neighbour: Duration,
}

pub(super) struct Bench {
    host: PluginHost,
    good: Plugin,
    _folder: TempDir,
}

/// Without a breaker, which would keep most of a storm out.
async fn load(
    host: &PluginHost,
    id: &str,
    bytes: Vec<u8>,
    mut settings: PluginSettings,
) -> Result<Plugin, LoadError> {
    settings.limits.breaker_failures = 0;
    host.prepare(id, Arc::new(Code::new(bytes)), &settings).await?.grant(&settings.grants)
}

impl Bench {
    pub(super) async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite://{}", folder.path().join("test.db").display());
        let store = holdfast::store::open(&url).await.expect("it opens");
        // Without a cache: what compiling costs is part of the table.
        let host = PluginHost::new(store, Clock::System, None, Network::default()).expect("a host");
        let good = load(&host, "good", Guest::new().bytes(), PluginSettings::default()).await;
        Self { host, good: good.expect("it loads"), _folder: folder }
    }

    /// The slowest call of the good plugin while nothing else happens.
    pub(super) async fn neighbour_alone(&self) -> Duration {
        let beside = self.beside();
        tokio::time::sleep(Duration::from_secs(1)).await;
        beside.stop().await.0
    }

    pub(super) async fn run(&self, row: &Row) -> Seen {
        let before = resident_bytes();
        let beside = self.beside();
        let started = Instant::now();
        let outcome = self.outcome(row).await;
        let took = started.elapsed();
        let (neighbour, peak) = beside.stop().await;
        let grown = |bytes: u64| bytes.saturating_sub(before) >> 20;
        Seen { outcome, took, peak_mib: grown(peak), kept_mib: grown(resident_bytes()), neighbour }
    }

    async fn outcome(&self, row: &Row) -> String {
        let grants = serde_json::from_value(json!({"kv": row.kv})).expect("grants");
        let settings = PluginSettings { limits: row.limits.clone(), grants, ..PluginSettings::default() };
        let plugin = match load(&self.host, "evil", row.component.clone(), settings).await {
            Ok(plugin) => plugin,
            Err(error) => return error.to_string(),
        };
        let Phase::Call { tool, arguments, times } = &row.phase else { return "loaded".to_owned() };
        let mut last = String::new();
        for _ in 0..*times {
            last = in_words(&call(&plugin, tool, arguments).await.kind);
        }
        last
    }

    pub(super) async fn load(&self, bytes: Vec<u8>) -> Plugin {
        load(&self.host, "test", bytes, PluginSettings::default()).await.expect("it loads")
    }

    /// Calls the good plugin until stopped.
    fn beside(&self) -> Beside {
        let stop = Arc::new(AtomicBool::new(false));
        let peak = Arc::new(AtomicU64::new(0));
        let (plugin, stopped, highest) = (self.good.clone(), Arc::clone(&stop), Arc::clone(&peak));
        let task = tokio::spawn(async move {
            let mut slowest = Duration::ZERO;
            loop {
                let started = Instant::now();
                let outcome = call(&plugin, "act", &json!({"n": 1})).await;
                assert_eq!(outcome.kind, OutcomeKind::Ok, "the neighbour fails");
                slowest = slowest.max(started.elapsed());
                highest.fetch_max(resident_bytes(), Ordering::Relaxed);
                if stopped.load(Ordering::Relaxed) {
                    return slowest;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        Beside { stop, peak, task }
    }
}

struct Beside {
    stop: Arc<AtomicBool>,
    peak: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<Duration>,
}

impl Beside {
    async fn stop(self) -> (Duration, u64) {
        self.stop.store(true, Ordering::Relaxed);
        let slowest = self.task.await.expect("the neighbour answers");
        (slowest, self.peak.load(Ordering::Relaxed))
    }
}

pub(super) async fn call(plugin: &Plugin, tool: &str, arguments: &Value) -> ToolOutcome {
    let owner = Owner { org: OrgId::from("acme"), user: UserId::from("ann") };
    let invocation = Invocation {
        run: &RunId::from("run-1"),
        session: &SessionId::from("session-1"),
        owner: &owner,
        call: &CallId::from("call-1"),
        attempt: 1,
        tool: &ToolName::new(plugin.id(), tool).expect("a name"),
        arguments,
        answered: None,
        answer_within: Duration::from_mins(1),
        cancelled: CancellationToken::new(),
    };
    match plugin.call(invocation).await {
        Returned::Outcome(outcome) => outcome,
        Returned::Suspension(suspension) => panic!("nobody was to be asked: {suspension:?}"),
    }
}

fn in_words(kind: &OutcomeKind) -> String {
    let word = kind.word();
    match kind {
        OutcomeKind::Limit { limit } => format!("{word} {}", limit.word()),
        OutcomeKind::Trap { trap } => format!("{word} {trap}"),
        OutcomeKind::Denied { capability } => format!("{word} {capability}"),
        _ => word.to_owned(),
    }
}
