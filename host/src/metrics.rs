//! Numbers for the operator, as Prometheus text: what runs, models, plugins and requests came to.
//!
//! Nothing here is asked by the code it measures: the store, the models and the router tell what happened,
//! and the rest is looked at when somebody asks. No label's values are for a guest, a model or a caller to
//! make up: a name that is not known to the server is counted under `other` (`label.rs`). README.md lists
//! the names.

mod label;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::agent::ModelName;
use crate::event::RunEvent;
use crate::id::CallId;
use crate::model::ModelError;
use crate::registry::Shelf;
use crate::run::Run;
use crate::session::Reply;
use crate::store::Standing;
use crate::tool::{OutcomeKind, ToolName};

/// A label and its value.
type Label = (&'static str, String);
type Counters<const N: usize> = Family<[Label; N], Counter>;
type Gauges<const N: usize> = Family<[Label; N], Gauge>;
type Histograms<const N: usize> = Family<[Label; N], Histogram, fn() -> Histogram>;

/// Cheap to clone; all clones count the same things.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    exposed: Registry,
    tools: Shelf,
    /// Models that have a label of their own.
    models: Mutex<BTreeSet<String>>,
    runs_started: Counter,
    runs_ended: Counters<2>,
    runs: Gauges<1>,
    approvals_asked: Counter,
    approvals_pending: Gauge,
    store_writes: Histogram,
    model_calls: Counters<2>,
    model_time: Histograms<1>,
    model_tokens: Counters<2>,
    tool_calls: Counters<4>,
    tool_time: Histograms<2>,
    plugin_calls: Counters<1>,
    plugin_failures: Counters<1>,
    plugin_denials: Counters<2>,
    plugin_limits: Counters<2>,
    plugin_log_dropped: Counters<1>,
    plugin_busy: Gauges<1>,
    plugin_places: Gauges<1>,
    plugins: Gauges<1>,
    requests: Counters<3>,
    request_time: Histograms<1>,
    up: Gauges<1>,
}

/// What a plugin's calls came to since the server started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub calls: u64,
    pub failures: u64,
}

/// From 1 ms to about 4 minutes.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 4.0, 10))
}

fn histograms<const N: usize>() -> Histograms<N> {
    Family::new_with_constructor(seconds)
}

impl Metrics {
    /// `models` are those that the operator configured.
    pub fn new(tools: Shelf, models: impl IntoIterator<Item = String>) -> Self {
        let mut inner = Inner {
            exposed: Registry::with_prefix("holdfast"),
            tools,
            models: Mutex::new(models.into_iter().filter(|name| label::is_plain(name)).collect()),
            runs_started: Counter::default(),
            runs_ended: Family::default(),
            runs: Family::default(),
            approvals_asked: Counter::default(),
            approvals_pending: Gauge::default(),
            store_writes: seconds(),
            model_calls: Family::default(),
            model_time: histograms(),
            model_tokens: Family::default(),
            tool_calls: Family::default(),
            tool_time: histograms(),
            plugin_calls: Family::default(),
            plugin_failures: Family::default(),
            plugin_denials: Family::default(),
            plugin_limits: Family::default(),
            plugin_log_dropped: Family::default(),
            plugin_busy: Family::default(),
            plugin_places: Family::default(),
            plugins: Family::default(),
            requests: Family::default(),
            request_time: histograms(),
            up: Family::default(),
        };
        inner.expose();
        Self(Arc::new(inner))
    }

    /// A run was written, with these events of it new.
    pub fn saved(&self, run: &Run, took: Duration) {
        self.0.store_writes.observe(took.as_secs_f64());
        for recorded in run.unsaved() {
            self.0.happened(run, &recorded.event);
        }
    }

    /// A model was asked, retries included.
    pub fn replied(&self, model: &ModelName, took: Duration, result: &Result<Reply, ModelError>) {
        let model = self.0.model(model, result.is_ok());
        let named = |rest: &str| [("model", model.clone()), ("outcome", rest.to_owned())];
        self.0.model_calls.get_or_create(&named(label::model_outcome(result.as_ref().err()))).inc();
        self.0.model_time.get_or_create(&[("model", model.clone())]).observe(took.as_secs_f64());
        let Ok(reply) = result else { return };
        let tokens = &reply.tokens;
        for (kind, count) in
            [("input", tokens.input), ("output", tokens.output), ("reasoning", tokens.reasoning)]
        {
            if let Some(count) = count {
                let labels = [("model", model.clone()), ("kind", kind.to_owned())];
                self.0.model_tokens.get_or_create(&labels).inc_by(count);
            }
        }
    }

    /// The head of an answer was sent. `route` is a path as it was declared; none = there is no such path.
    pub fn answered(&self, method: &str, route: Option<&str>, status: u16, took: Duration) {
        let route = route.unwrap_or(label::OTHER).to_owned();
        let method = label::method(method).to_owned();
        self.0.request_time.get_or_create(&[("route", route.clone())]).observe(took.as_secs_f64());
        let labels = [("route", route), ("method", method), ("status", status.to_string())];
        self.0.requests.get_or_create(&labels).inc();
    }

    pub fn tally(&self, plugin: &str) -> Tally {
        let labels = [("plugin", plugin.to_owned())];
        let count = |family: &Counters<1>| family.get(&labels).map_or(0, |counter| counter.get());
        Tally { calls: count(&self.0.plugin_calls), failures: count(&self.0.plugin_failures) }
    }

    /// Everything, in the text format of Prometheus. Without `standing`, the store did not
    /// answer.
    pub fn text(&self, standing: Option<&Standing>) -> Result<String, std::fmt::Error> {
        self.0.look(standing);
        let mut text = String::new();
        encode(&mut text, &self.0.exposed)?;
        Ok(text)
    }
}

impl Inner {
    fn expose(&mut self) {
        let build = Gauges::<1>::default();
        build.get_or_create(&[("version", env!("CARGO_PKG_VERSION").to_owned())]).set(1);
        let Self { exposed: to, .. } = self;
        to.register("build_info", "The version that runs", build);
        to.register("runs_started", "Runs let in", self.runs_started.clone());
        to.register("runs_ended", "Runs that ended, by status and kind of failure", self.runs_ended.clone());
        to.register("runs", "Unfinished runs, by status; QUEUED is the queue's depth", self.runs.clone());
        to.register("approvals_asked", "Calls that a human was asked about", self.approvals_asked.clone());
        to.register(
            "approvals_pending",
            "Approvals that wait for somebody now",
            self.approvals_pending.clone(),
        );
        let time = || Unit::Seconds;
        to.register_with_unit(
            "store_write",
            "Time to write a run's new events",
            time(),
            self.store_writes.clone(),
        );
        to.register(
            "model_calls",
            "Questions to models, retries included, by outcome",
            self.model_calls.clone(),
        );
        to.register_with_unit(
            "model_call",
            "Time of a question, retries included",
            time(),
            self.model_time.clone(),
        );
        to.register("model_tokens", "Tokens, as models report them", self.model_tokens.clone());
        to.register("tool_calls", "Ended tool calls, by outcome and its detail", self.tool_calls.clone());
        to.register_with_unit("tool_call", "Time of a tool call", time(), self.tool_time.clone());
        to.register("plugin_calls", "Calls that a plugin's code was started for", self.plugin_calls.clone());
        to.register(
            "plugin_failures",
            "Calls that a plugin failed: traps, limits, failures",
            self.plugin_failures.clone(),
        );
        to.register(
            "plugin_denials",
            "Host calls of a plugin that were refused, by capability, whatever its call came to",
            self.plugin_denials.clone(),
        );
        to.register(
            "plugin_limits",
            "Calls of a plugin that ran into a limit, by the first one, whatever they came to",
            self.plugin_limits.clone(),
        );
        to.register(
            "plugin_log_lines_dropped",
            "Log lines of a plugin beyond its limit",
            self.plugin_log_dropped.clone(),
        );
        to.register("plugin_calls_running", "Calls of a plugin running now", self.plugin_busy.clone());
        to.register(
            "plugin_calls_limit",
            "Calls of a plugin that may run at once",
            self.plugin_places.clone(),
        );
        to.register("plugins", "Plugins, by state", self.plugins.clone());
        to.register("http_requests", "HTTP requests, by route and status", self.requests.clone());
        to.register_with_unit(
            "http_request",
            "Time until the head of the answer",
            time(),
            self.request_time.clone(),
        );
        to.register("up", "1 while a part works: database, epoch_ticker, compiler", self.up.clone());
    }

    fn happened(&self, run: &Run, event: &RunEvent) {
        let ended = |status: &str, failure: &str| {
            let labels = [("status", status.to_owned()), ("failure", failure.to_owned())];
            self.runs_ended.get_or_create(&labels).inc();
        };
        match event {
            RunEvent::Created(_) => {
                self.runs_started.inc();
            }
            RunEvent::Paused { approvals } => {
                self.approvals_asked.inc_by(approvals.len() as u64);
            }
            RunEvent::CallStarted { call_id, .. } => {
                let [(_, plugin), _] = self.tool(run, call_id);
                self.plugin_calls.get_or_create(&[("plugin", plugin)]).inc();
            }
            RunEvent::CallFinished { call_id, outcome, duration_ms } => {
                let [plugin, tool] = self.tool(run, call_id);
                let duration = Duration::from_millis(*duration_ms).as_secs_f64();
                self.tool_time.get_or_create(&[plugin.clone(), tool.clone()]).observe(duration);
                let of_plugin = [plugin.clone()];
                if is_failure(&outcome.kind) {
                    self.plugin_failures.get_or_create(&of_plugin).inc();
                }
                for (capability, count) in &outcome.usage.denials {
                    let labels = [plugin.clone(), ("capability", label::capability(capability))];
                    self.plugin_denials.get_or_create(&labels).inc_by(*count);
                }
                if let Some(limit) = outcome.usage.limit {
                    let labels = [plugin.clone(), ("limit", limit.word().to_owned())];
                    self.plugin_limits.get_or_create(&labels).inc();
                }
                self.plugin_log_dropped.get_or_create(&of_plugin).inc_by(outcome.usage.log_lines_dropped);
                let (word, detail) = (outcome.kind.word().to_owned(), label::detail(&outcome.kind));
                self.tool_calls.get_or_create(&[plugin, tool, ("outcome", word), ("detail", detail)]).inc();
            }
            RunEvent::Completed => ended("COMPLETED", ""),
            RunEvent::Failed { failure } => ended("FAILED", failure.kind.as_str()),
            RunEvent::Cancelled { .. } => ended("CANCELLED", ""),
            RunEvent::Started
            | RunEvent::CallSuspended { .. }
            | RunEvent::CallResumed { .. }
            | RunEvent::Claimed { .. }
            | RunEvent::Replied { .. }
            | RunEvent::ReplyBroken { .. }
            | RunEvent::Decided(_)
            | RunEvent::AnswerAccepted { .. }
            | RunEvent::AnswerRefused { .. }
            | RunEvent::FollowupsSuggested { .. } => {}
        }
    }
}

impl Inner {
    /// Plugin and tool of a call: a name that a model made up is not one.
    fn tool(&self, run: &Run, call: &CallId) -> [Label; 2] {
        let registry = self.tools.load();
        let record = run.calls().find(|record| record.call.id == *call);
        let name = record.and_then(|record| record.call.name.parse::<ToolName>().ok());
        let name = name.filter(|name| registry.get(name).is_some());
        let [plugin, tool] =
            name.as_ref().map_or([label::OTHER; 2], |name| [name.plugin(), name.tool()]).map(str::to_owned);
        [("plugin", plugin), ("tool", tool)]
    }

    /// A run's model may be its caller's choice, so a name gets a label when the operator chose it or a
    /// model has answered to it, and only so many do.
    fn model(&self, name: &ModelName, answered: bool) -> String {
        let name = name.to_string();
        // What it guards is whole after every statement.
        let mut known = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        if answered && label::is_plain(&name) && known.len() < label::MAX_MODELS {
            known.insert(name.clone());
        }
        if known.contains(&name) { name } else { label::OTHER.to_owned() }
    }

    /// Brings everything up to date that is looked at and not counted.
    fn look(&self, standing: Option<&Standing>) {
        let up = |part: &str, works: bool| {
            self.up.get_or_create(&[("part", part.to_owned())]).set(i64::from(works));
        };
        up("database", standing.is_some());
        up("epoch_ticker", self.tools.host().ticker_alive());
        up("compiler", self.tools.host().compiler_alive());
        if let Some(standing) = standing {
            for (status, count) in
                [("QUEUED", standing.queued), ("RUNNING", standing.running), ("PAUSED", standing.paused)]
            {
                self.runs.get_or_create(&[("status", status.to_owned())]).set(gauge(count));
            }
            self.approvals_pending.set(gauge(standing.pending_approvals));
        }
        let registry = self.tools.load();
        let held = |word: &str| registry.held().iter().filter(|held| held.why.word() == word).count();
        let states = ["failed", "waiting", "revoked"].map(|state| (state, held(state)));
        for (state, count) in states.into_iter().chain([("loaded", registry.plugins().len())]) {
            self.plugins.get_or_create(&[("state", state.to_owned())]).set(gauge(count as u64));
        }
        // A plugin that is gone runs nothing.
        self.plugin_busy.clear();
        self.plugin_places.clear();
        for plugin in registry.plugins() {
            let labels = [("plugin", plugin.id().to_owned())];
            self.plugin_busy.get_or_create(&labels).set(gauge(plugin.running_calls()));
            let places = u64::from(plugin.prepared().limits().concurrent_calls);
            self.plugin_places.get_or_create(&labels).set(gauge(places));
        }
    }
}

fn gauge(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The plugin did not do its job. That the model asked for the wrong thing, or that somebody said no, is
/// not its failure.
fn is_failure(kind: &OutcomeKind) -> bool {
    match kind {
        OutcomeKind::GuestFailure { .. }
        | OutcomeKind::InvalidOutput
        | OutcomeKind::Trap { .. }
        | OutcomeKind::Limit { .. } => true,
        OutcomeKind::Ok
        | OutcomeKind::ToolError
        | OutcomeKind::InvalidArgs
        | OutcomeKind::Denied { .. }
        | OutcomeKind::Rejected
        | OutcomeKind::Cancelled
        | OutcomeKind::Interrupted
        | OutcomeKind::Unavailable
        | OutcomeKind::HostFault => false,
    }
}
