//! Runs one fixture beside a good plugin, and measures.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;
use holdfast::clock::Clock;
use holdfast::id::{CallId, OrgId, RunId, SessionId, UserId};
use holdfast::plugin::{
    Code, Invocation, Limits, LoadError, Network, Plugin, PluginHost, PluginSettings, Signers,
};
use holdfast::session::Owner;
use holdfast::tool::{OutcomeKind, Returned, ToolName, ToolOutcome};
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::internet::Internet;
use super::log::Log;
use super::stage::Stage;
use super::watch::Watch;
use crate::support::guests;
use crate::support::wat_guest::Guest;

/// A fixture and its bounds.
pub(super) struct Row {
    pub(super) name: String,
    pub(super) fixture: Fixture,
    /// Of a load: `loaded`, or a part of the reason for the refusal. Of a call: its kind, and its limit, trap or
    /// capability. Of a scene: what it says first.
    pub(super) outcome: &'static str,
    pub(super) within: Duration,
    /// Most MiB that the host may grow by while it runs; half of it may stay.
    pub(super) peak_mib: u64,
}

pub(super) type Scene = dyn for<'a> Fn(&'a Bench) -> LocalBoxFuture<'a, String>;

pub(super) enum Fixture {
    /// A component that is refused, or does no harm by being loaded.
    Load(Vec<u8>),
    /// A component that loads, and whose tool is called so often. The last outcome counts.
    Call {
        component: Vec<u8>,
        settings: Box<PluginSettings>,
        tool: &'static str,
        arguments: Value,
        times: u32,
    },
    /// What takes more than one call, or a network, says itself what came of it.
    Scene(Box<Scene>),
    /// The same in a server of its own, through which the neighbour is called.
    Server(Box<dyn Fn(Stage) -> LocalBoxFuture<'static, String>>),
}

impl Fixture {
    pub(super) fn server<F: Future<Output = String> + 'static>(scene: impl Fn(Stage) -> F + 'static) -> Self {
        Self::Server(Box::new(move |stage| scene(stage).boxed_local()))
    }
}

impl Row {
    pub(super) fn kept_mib(&self) -> u64 {
        self.peak_mib / 2
    }

    pub(super) fn fits(&self, outcome: &str) -> bool {
        match self.fixture {
            Fixture::Load(_) => outcome.contains(self.outcome),
            Fixture::Call { .. } => outcome == self.outcome,
            Fixture::Scene(_) | Fixture::Server(_) => outcome.starts_with(self.outcome),
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
    /// For guests that are known, and only do as they are told: what they take to compile is in no row.
    known: PluginHost,
    good: Plugin,
    /// Of the known ones.
    pub(super) internet: Internet,
    pub(super) log: Log,
    _folders: [TempDir; 2],
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

async fn host(cache: Option<&Path>, network: Network) -> (PluginHost, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}", folder.path().join("test.db").display());
    let store = holdfast::store::open(&url).await.expect("it opens");
    (PluginHost::new(store, Clock::System, cache, network).expect("a host"), folder)
}

impl Bench {
    pub(super) async fn new(log: Log) -> Self {
        let internet = Internet::new().await;
        let cache = guests::root().join("target/test-guests/cache");
        let (known, first) = host(Some(&cache), internet.network()).await;
        let (host, second) = host(None, Network::default()).await;
        let good = load(&host, "good", Guest::new().bytes(), PluginSettings::default()).await;
        Self { host, known, good: good.expect("it loads"), internet, log, _folders: [first, second] }
    }

    /// The slowest call of the good plugin while nothing else happens.
    pub(super) async fn neighbour_alone(&self) -> Duration {
        let watch = Watch::new();
        watch.plugin(self.good.clone());
        tokio::time::sleep(Duration::from_secs(1)).await;
        watch.stop().await;
        watch.slowest()
    }

    pub(super) async fn run(&self, row: &Row) -> Seen {
        let watch = Watch::new();
        if !matches!(row.fixture, Fixture::Server(_)) {
            watch.plugin(self.good.clone());
        }
        let started = Instant::now();
        let outcome = match &row.fixture {
            Fixture::Load(component) => self.refusal("evil", component.clone()).await,
            Fixture::Call { component, settings, tool, arguments, times } => {
                let plugin = self.load("evil", component.clone(), settings).await;
                let mut last = String::new();
                for _ in 0..*times {
                    last = in_words(&call(&plugin, tool, arguments).await.kind);
                }
                last
            }
            Fixture::Scene(scene) => scene(self).await,
            Fixture::Server(scene) => {
                self.log.forget();
                scene(Stage { watch: Arc::clone(&watch), log: self.log.clone() }).await
            }
        };
        let took = started.elapsed();
        watch.stop().await;
        let (peak_mib, kept_mib) = watch.grown_mib();
        Seen { outcome, took, peak_mib, kept_mib, neighbour: watch.slowest() }
    }

    /// Why a component without any grant does not load, or that it does.
    pub(super) async fn refusal(&self, id: &str, component: Vec<u8>) -> String {
        let limits = Limits { memory_bytes: 64 << 20, ..Limits::default() };
        let settings = PluginSettings { limits, ..PluginSettings::default() };
        match load(&self.host, id, component, settings).await {
            Ok(_) => "loaded".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    pub(super) async fn load(&self, id: &str, component: Vec<u8>, settings: &PluginSettings) -> Plugin {
        load(&self.host, id, component, settings.clone()).await.expect("it loads")
    }

    /// One of the guests that were built, in the network of the test's own.
    pub(super) async fn guest(&self, name: &str, id: &str, settings: &PluginSettings) -> Plugin {
        let component = std::fs::read(guests::guest(name)).expect("a component");
        load(&self.known, id, component, settings.clone()).await.expect("it loads")
    }

    /// The same, where that it does not load is one of the ways to end.
    pub(super) async fn try_load(
        &self,
        id: &str,
        component: Vec<u8>,
        settings: &PluginSettings,
    ) -> Option<Plugin> {
        load(&self.host, id, component, settings.clone()).await.ok()
    }

    /// The same, where only these may sign.
    pub(super) async fn try_signed(
        &self,
        id: &str,
        component: Vec<u8>,
        settings: &PluginSettings,
        signers: &Signers,
    ) -> Option<Plugin> {
        load(&self.host.clone().with_signers(signers.clone()), id, component, settings.clone()).await.ok()
    }
}

/// Who calls, and where: an organisation, one of its users, a session.
pub(super) type Who = (&'static str, &'static str, &'static str);

pub(super) const ANN: Who = ("acme", "ann", "session-1");

pub(super) async fn call(plugin: &Plugin, tool: &str, arguments: &Value) -> ToolOutcome {
    call_as(ANN, plugin, tool, arguments).await
}

pub(super) async fn call_as(
    (org, user, session): Who,
    plugin: &Plugin,
    tool: &str,
    arguments: &Value,
) -> ToolOutcome {
    let owner = Owner { org: OrgId::from(org), user: UserId::from(user) };
    let invocation = Invocation {
        run: &RunId::from("run-1"),
        session: &SessionId::from(session),
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

pub(super) fn in_words(kind: &OutcomeKind) -> String {
    let word = kind.word();
    match kind {
        OutcomeKind::Limit { limit } => format!("{word} {}", limit.word()),
        OutcomeKind::Trap { trap } => format!("{word} {trap}"),
        OutcomeKind::Denied { capability } => format!("{word} {capability}"),
        _ => word.to_owned(),
    }
}

/// What is granted, in words of the configuration.
pub(super) fn granted(grants: Value) -> PluginSettings {
    PluginSettings { grants: serde_json::from_value(grants).expect("grants"), ..PluginSettings::default() }
}
