//! The sandbox: loads plugins (WebAssembly components) and calls their tools.
//!
//! The only module that names wasmtime. A call never fails outwards: whatever a guest does, and whatever
//! happens to it, ends as a [`ToolOutcome`] that the model can read. What a guest can reach is in one file
//! per interface ([`log`], [`control`], [`kv`], [`wasi`]); what it can use up is in [`limits`].

mod bindings;
mod call;
mod control;
mod describe;
mod engine;
mod inspect;
mod kv;
mod limits;
pub(crate) mod load;
mod log;
mod outcome;
mod schema;
#[cfg(test)]
mod tests;
mod wasi;

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;
use wasmtime::Engine;
use wasmtime::component::{HasSelf, Linker};

use self::bindings::FullPluginPre;
use self::bindings::exports::holdfast::plugin::tools::CallContext;
use self::call::{Answer, CallIdentity, CallState, Instance, Question};
use self::describe::Checks;
use self::engine::{GuestThreads, Ticker};
pub use self::limits::Limits;
use self::limits::Meter;
pub use self::load::LoadError;
use self::outcome::Ended;
use crate::clock::Clock;
use crate::id::{CallId, RunId, SessionId};
use crate::session::Owner;
use crate::store::Store;
use crate::tool::{OutcomeKind, ToolName, ToolOutcome, ToolSpec, hex};

/// Most problems with a call's arguments that the model is told.
const MAX_PROBLEMS: usize = 5;
/// Plugins compiled at once; each uses all cores by itself.
const MAX_COMPILING: usize = 2;

/// What the operator says about one plugin: `[plugins.<id>]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PluginSettings {
    pub grants: Grants,
    pub limits: Limits,
}

/// What a plugin may reach; nothing by default. `[plugins.<id>.grants]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all(serialize = "camelCase"))]
pub struct Grants {
    /// Values that outlive a call (`holdfast:plugin/kv`).
    pub kv: bool,
}

impl Grants {
    /// Every capability there is.
    pub fn everything() -> Self {
        Self { kv: true }
    }
}

/// The sandbox could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error("the WebAssembly engine cannot be set up on this machine")]
    Engine(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the threads that run plugins cannot be started")]
    Threads(#[source] std::io::Error),
}

/// Loads plugins. Cheap to clone; plugins keep what they need of it alive.
#[derive(Clone)]
pub struct PluginHost(Arc<Shared>);

struct Shared {
    engine: Engine,
    /// What every plugin is linked with.
    linker: Linker<CallState>,
    ticker: Ticker,
    threads: GuestThreads,
    compiling: Arc<Semaphore>,
    /// None: plugins are looked at, never called.
    store: Option<Arc<dyn Store>>,
    clock: Clock,
}

impl PluginHost {
    /// `cache` is a directory for compiled code, made if it is not there. It must be the server's user's
    /// alone (mode 0700), or it is not used.
    pub fn new(store: Arc<dyn Store>, clock: Clock, cache: Option<&Path>) -> Result<Self, HostError> {
        Self::start(Some(store), clock, cache)
    }

    /// A host whose plugins can be looked at, but not called: there is nowhere to keep their values.
    pub fn for_inspection() -> Result<Self, HostError> {
        Self::start(None, Clock::System, None)
    }

    fn start(store: Option<Arc<dyn Store>>, clock: Clock, cache: Option<&Path>) -> Result<Self, HostError> {
        let engine = engine::engine(cache)?;
        let linker = base_linker(&engine).map_err(|error| HostError::Engine(error.into()))?;
        Ok(Self(Arc::new(Shared {
            ticker: Ticker::start(&engine)?,
            threads: GuestThreads::start()?,
            compiling: Arc::new(Semaphore::new(MAX_COMPILING)),
            engine,
            linker,
            store,
            clock,
        })))
    }

    /// Checks, compiles and describes a component.
    pub async fn load(
        &self,
        id: &str,
        bytes: Vec<u8>,
        settings: &PluginSettings,
    ) -> Result<Plugin, LoadError> {
        load::load(&self.0, id, bytes, settings).await
    }

    /// The ticker that interrupts guests is running. If it were not, a guest in a loop would never stop.
    pub fn ticker_alive(&self) -> bool {
        self.0.ticker.alive()
    }
}

fn base_linker(engine: &Engine) -> wasmtime::Result<Linker<CallState>> {
    use self::bindings::holdfast::plugin::{control, log, types};

    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    types::add_to_linker::<_, HasSelf<CallState>>(&mut linker, |state| state)?;
    log::add_to_linker::<_, HasSelf<CallState>>(&mut linker, |state| state)?;
    control::add_to_linker::<_, HasSelf<CallState>>(&mut linker, |state| state)?;
    Ok(linker)
}

/// A loaded component. Cheap to clone.
#[derive(Clone)]
pub struct Plugin(Arc<Loaded>);

struct Loaded {
    id: Arc<str>,
    digest: String,
    size: u64,
    specs: Vec<ToolSpec>,
    /// Beside `specs`, in the same order.
    checks: Vec<Checks>,
    imports: Vec<String>,
    grants: Grants,
    limits: Arc<Limits>,
    running: Semaphore,
    pre: FullPluginPre<CallState>,
    shared: Arc<Shared>,
}

impl Loaded {
    fn checks_of(&self, tool: &ToolName) -> Option<&Checks> {
        let index = self.specs.iter().position(|spec| spec.name == *tool)?;
        self.checks.get(index)
    }
}

impl Plugin {
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// SHA-256 of the file, in lower-case hex.
    pub fn digest(&self) -> &str {
        &self.0.digest
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.0.size
    }

    pub fn specs(&self) -> &[ToolSpec] {
        &self.0.specs
    }

    /// The interfaces it imports beyond the inert base.
    pub fn imports(&self) -> &[String] {
        &self.0.imports
    }

    pub fn grants(&self) -> &Grants {
        &self.0.grants
    }

    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// The problems with a call's arguments, in words for whoever wrote them.
    pub fn check_arguments(&self, tool: &ToolName, arguments: &Value) -> Result<(), String> {
        let Some(checks) = self.0.checks_of(tool) else { return Err(format!("there is no tool {tool}")) };
        let problems = checks.input.problems(arguments, MAX_PROBLEMS);
        if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
    }

    /// Runs one tool. Dropping the future stops the guest within a tick (10 ms).
    pub async fn call(&self, invocation: Invocation<'_>) -> ToolOutcome {
        let meter = Arc::new(Meter::default());
        let (tool, run) = (invocation.tool, invocation.run);
        let shared = &self.0.shared;
        let ended = match (Handle::try_current(), shared.threads.handle().zip(shared.store.as_ref())) {
            (Ok(home), Some((threads, store))) => {
                let job = Job::new(self, &invocation, Arc::clone(&meter), home, store);
                let task = threads.spawn(job.run().in_current_span());
                AbortOnDropHandle::new(task)
                    .await
                    .unwrap_or_else(|error| Ended::host_fault(error.to_string()))
            }
            (Err(error), _) => Ended::host_fault(error.to_string()),
            (_, None) => Ended::host_fault("the plugin host is for inspection, or shutting down"),
        };
        ended.report(tool, run);
        ended.into_outcome(&meter)
    }
}

/// Everything that one call is told.
#[derive(Clone, Debug)]
pub struct Invocation<'a> {
    pub run: &'a RunId,
    pub session: &'a SessionId,
    pub owner: &'a Owner,
    pub call: &'a CallId,
    /// 1 for the first try.
    pub attempt: u32,
    pub tool: &'a ToolName,
    /// A JSON object; checked against the tool's schema here.
    pub arguments: &'a Value,
    pub cancelled: CancellationToken,
}

/// An [`Invocation`] that can move to the guests' threads.
struct Job {
    plugin: Arc<Loaded>,
    meter: Arc<Meter>,
    tool: ToolName,
    arguments: Value,
    context: CallContext,
    identity: CallIdentity,
}

impl Job {
    fn new(
        plugin: &Plugin,
        invocation: &Invocation<'_>,
        meter: Arc<Meter>,
        home: Handle,
        store: &Arc<dyn Store>,
    ) -> Self {
        let loaded = &plugin.0;
        let Owner { org, user } = invocation.owner;
        let parts = [&loaded.id, org.as_str(), user.as_str()].map(str::as_bytes);
        let user_ref = digest(&[store.installation(), parts[0], parts[1], parts[2]]);
        let key = [invocation.run.as_str(), invocation.call.as_str()].map(str::as_bytes);
        Self {
            plugin: Arc::clone(loaded),
            meter,
            tool: invocation.tool.clone(),
            arguments: invocation.arguments.clone(),
            context: CallContext {
                run_id: invocation.run.to_string(),
                session_id: invocation.session.to_string(),
                call_id: invocation.call.to_string(),
                user_ref: Some(user_ref),
                attempt: invocation.attempt,
                idempotency_key: digest(&key),
                // Set when the call starts.
                deadline_unix_ms: 0,
                traceparent: None,
            },
            identity: CallIdentity {
                run: invocation.run.clone(),
                session: invocation.session.clone(),
                owner: invocation.owner.clone(),
                cancelled: invocation.cancelled.clone(),
                store: Arc::clone(store),
                home,
            },
        }
    }

    async fn run(mut self) -> Ended {
        let plugin = Arc::clone(&self.plugin);
        let Some(checks) = plugin.checks_of(&self.tool) else {
            return Ended::of(OutcomeKind::InvalidArgs, format!("There is no tool {}.", self.tool));
        };
        let problems = checks.input.problems(&self.arguments, MAX_PROBLEMS);
        if !problems.is_empty() {
            let text = format!(
                "The arguments do not fit the tool's schema. Correct them and call again:\n- {}",
                problems.join("\n- ")
            );
            return Ended::of(OutcomeKind::InvalidArgs, text);
        }
        let _turn = match self.turn(&plugin).await {
            Ok(turn) => turn,
            Err(ended) => return ended,
        };
        self.context.deadline_unix_ms = self.deadline();
        let question = Question::Call {
            context: Box::new(self.context),
            tool: self.tool.tool().to_owned(),
            arguments: self.arguments.to_string(),
        };
        let instance = Instance {
            plugin: Arc::clone(&plugin.id),
            limits: Arc::clone(&plugin.limits),
            meter: Arc::clone(&self.meter),
            call: Some(self.identity),
        };
        match instance.ask(&plugin.shared.engine, &plugin.pre, question).await {
            Ok(Answer::Outcome(answer)) => {
                Ended::answered(answer, checks.output.as_ref(), &plugin.limits, &self.meter)
            }
            Ok(Answer::Tools(_)) => Ended::host_fault("the guest answered another question"),
            Err(stopped) => Ended::stopped(&stopped, &self.meter),
        }
    }

    /// Waits for one of the plugin's places. This does not count as the call's time, which is a limit on
    /// the plugin's own work; it takes at most as long as a call may.
    async fn turn<'a>(&self, plugin: &'a Loaded) -> Result<tokio::sync::SemaphorePermit<'a>, Ended> {
        tokio::select! {
            biased;
            () = self.identity.cancelled.cancelled() => Err(Ended::cancelled()),
            turn = plugin.running.acquire() => turn.map_err(|error| Ended::host_fault(error.to_string())),
            () = tokio::time::sleep(plugin.limits.wall()) => Err(Ended::of(
                OutcomeKind::Unavailable,
                "The tool is busy with other calls and did not run. Try again later.",
            )
            .because(format!("plugins.{}.limits.concurrent_calls", plugin.id))),
        }
    }

    fn deadline(&self) -> u64 {
        let deadline = self.plugin.shared.clock.now().plus(self.plugin.limits.wall());
        u64::try_from(deadline.as_millis()).unwrap_or(0)
    }
}

/// 32 hexadecimal digits of a SHA-256 over the parts, each after its length.
fn digest(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex(&hash.finalize()[..16])
}
