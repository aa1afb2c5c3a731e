//! The sandbox: loads plugins (WebAssembly components) and calls their tools.
//!
//! The only module that names wasmtime. A call never fails outwards: whatever a guest does, and whatever
//! happens to it, ends as a [`ToolOutcome`] that the model can read. What a guest can reach is in one file
//! per interface (`log`, `control`, `settings`, `kv`, `secrets`, `egress`, `wasi`); what it can use up is in `limits`.
//! A tool that asks a human goes on in another instance (`suspend`), with what it left here encrypted (`seal`).

mod bindings;
mod call;
mod compiler;
mod control;
mod describe;
mod destination;
mod egress;
mod engine;
mod grant;
mod inspect;
mod job;
mod kv;
mod leak;
mod limits;
pub(crate) mod load;
mod log;
mod manifest;
mod meter;
mod outcome;
mod report;
mod seal;
mod secrets;
mod settings;
mod suspend;
#[cfg(test)]
pub(crate) mod tests;
mod values;
mod wasi;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;
use wasmtime::Engine;
use wasmtime::component::{HasSelf, Linker};

use self::bindings::FullPluginPre;
use self::bindings::resumable::ResumerPre;
use self::call::CallState;
use self::compiler::Compiler;
use self::describe::Checks;
pub use self::destination::{Audience, HostPattern, Scheme};
use self::egress::Connector;
pub use self::egress::Network;
use self::engine::{GuestThreads, Ticker};
pub use self::grant::{Capabilities, HeaderWord, HttpRule, KvRule, KvScope, Method, SecretName, SecretRule};
use self::job::Job;
pub use self::limits::Limits;
pub use self::load::LoadError;
pub use self::manifest::{Manifest, ManifestError};
use self::meter::Meter;
use self::outcome::Ended;
pub use self::values::SecretValue;
use self::values::Values;
use crate::clock::Clock;
use crate::id::{CallId, RunId, SessionId};
use crate::session::Owner;
use crate::store::Store;
use crate::tool::{Answered, Returned, ToolName, ToolSpec};

/// Most problems with a call's arguments that somebody is told.
const MAX_PROBLEMS: usize = 5;

/// What the operator says about one plugin: `[plugins.<id>]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginSettings {
    pub grants: Capabilities,
    pub limits: Limits,
    /// What the plugin reads with `config.get`.
    pub config: BTreeMap<String, String>,
    /// What it never reads.
    pub secrets: BTreeMap<SecretName, SecretValue>,
}

/// The sandbox could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error("the WebAssembly engine cannot be set up on this machine")]
    Engine(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the threads that run plugins cannot be started")]
    Threads(#[source] std::io::Error),
    #[error("TLS cannot be set up for plugins: check `ca_file` in [egress], and the system's certificates")]
    Tls(#[source] rustls::Error),
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
    compiler: Compiler,
    /// None: plugins are looked at, never called.
    store: Option<Arc<dyn Store>>,
    clock: Clock,
    connector: Arc<Connector>,
}

impl PluginHost {
    /// `cache` is a directory for compiled code, made if it is not there. It must be the server's user's
    /// alone (mode 0700), or it is not used.
    pub fn new(
        store: Arc<dyn Store>,
        clock: Clock,
        cache: Option<&Path>,
        network: Network,
    ) -> Result<Self, HostError> {
        Self::start(Some(store), clock, cache, network)
    }

    /// A host whose plugins can be looked at, but not called: there is nowhere to keep their values.
    pub fn for_inspection() -> Result<Self, HostError> {
        Self::start(None, Clock::System, None, Network::default())
    }

    fn start(
        store: Option<Arc<dyn Store>>,
        clock: Clock,
        cache: Option<&Path>,
        network: Network,
    ) -> Result<Self, HostError> {
        let engine = engine::engine(cache)?;
        let linker = base_linker(&engine).map_err(|error| HostError::Engine(error.into()))?;
        Ok(Self(Arc::new(Shared {
            ticker: Ticker::start(&engine)?,
            threads: GuestThreads::start()?,
            compiler: Compiler::new(),
            engine,
            linker,
            store,
            clock,
            connector: Arc::new(Connector::new(network).map_err(HostError::Tls)?),
        })))
    }

    /// Checks, compiles and describes a component.
    pub async fn load(
        &self,
        id: &str,
        bytes: Vec<u8>,
        settings: &PluginSettings,
    ) -> Result<Plugin, LoadError> {
        load::load(&self.0, id, bytes, settings, Some(&settings.grants)).await
    }

    /// The same, as if all that it asks for were granted: to look at it, not to call it.
    pub async fn look(&self, id: &str, bytes: Vec<u8>, limits: &Limits) -> Result<Plugin, LoadError> {
        let settings = PluginSettings { limits: limits.clone(), ..PluginSettings::default() };
        load::load(&self.0, id, bytes, &settings, None).await
    }

    /// The ticker that interrupts guests is running. If it were not, a guest in a loop would never stop.
    pub fn ticker_alive(&self) -> bool {
        self.0.ticker.alive()
    }

    /// No compilation is stuck. One that is keeps its place, and there are few.
    pub fn compiler_alive(&self) -> bool {
        self.0.compiler.alive()
    }

    /// The ticker stops as if its thread had died.
    #[cfg(test)]
    pub(crate) fn stop_ticker(&self) {
        self.0.ticker.stop();
    }

    /// A compilation that never ends, until what is returned is dropped.
    #[cfg(test)]
    pub(crate) fn stuck_compilation(&self) -> impl Sized {
        self.0.compiler.stuck_for(compiler::COMPILE_TIME)
    }
}

fn base_linker(engine: &Engine) -> wasmtime::Result<Linker<CallState>> {
    use self::bindings::holdfast::plugin::{config, control, log, types};

    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    types::add_to_linker::<_, HasSelf<CallState>>(&mut linker, |state| state)?;
    config::add_to_linker::<_, HasSelf<CallState>>(&mut linker, |state| state)?;
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
    manifest: Option<Manifest>,
    /// What it may reach: what it requests, within what was granted.
    grants: Arc<Capabilities>,
    limits: Arc<Limits>,
    values: Arc<Values>,
    running: Semaphore,
    pre: FullPluginPre<CallState>,
    /// None: it does not export `resumable`, so its tools cannot ask.
    resumable: Option<ResumerPre<CallState>>,
    shared: Arc<Shared>,
}

impl Loaded {
    /// The tool's schemas, or what is wrong with the arguments.
    fn check_arguments(&self, tool: &ToolName, arguments: &Value) -> Result<&Checks, String> {
        let place = self.specs.iter().position(|spec| spec.name == *tool);
        let Some(checks) = place.and_then(|place| self.checks.get(place)) else {
            return Err(format!("there is no tool {tool}"));
        };
        let problems = checks.input.problems(arguments, MAX_PROBLEMS);
        if problems.is_empty() {
            return Ok(checks);
        }
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Err(format!("the arguments do not fit the tool's schema: {}", problems.join("; ")))
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin")
            .field("id", &self.id())
            .field("digest", &self.digest())
            .finish_non_exhaustive()
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

    /// What it says about itself; none if it was built without a `plugin.toml`.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.0.manifest.as_ref()
    }

    /// What it may reach: what it requests, within what the operator granted.
    pub fn grants(&self) -> &Capabilities {
        &self.0.grants
    }

    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Calls that have one of the plugin's places now.
    pub fn running_calls(&self) -> u64 {
        let free = self.0.running.available_permits() as u64;
        u64::from(self.0.limits.concurrent_calls.max(1)).saturating_sub(free)
    }

    /// The problems with a call's arguments, in words for whoever wrote them.
    pub fn check_arguments(&self, tool: &ToolName, arguments: &Value) -> Result<(), String> {
        self.0.check_arguments(tool, arguments).map(|_| ())
    }

    /// Runs one tool, or goes on with one that asked. Dropping the future stops the guest within a tick (10 ms).
    pub async fn call(&self, invocation: Invocation<'_>) -> Returned {
        let meter = Arc::new(Meter::default());
        let (tool, run) = (invocation.tool, invocation.run);
        let shared = &self.0.shared;
        let ended = match (Handle::try_current(), shared.threads.handle().zip(shared.store.as_ref())) {
            (Ok(home), Some((threads, store))) => {
                let job = Job::new(self, &invocation, Arc::clone(&meter), home, Arc::clone(store));
                let task = threads.spawn(job.run().in_current_span());
                AbortOnDropHandle::new(task)
                    .await
                    .unwrap_or_else(|error| Err(Ended::host_fault(error.to_string()).into()))
            }
            (Err(error), _) => Err(Ended::host_fault(error.to_string()).into()),
            (_, None) => Err(Ended::host_fault("the plugin host is for inspection, or shutting down").into()),
        };
        report::report(ended.as_ref().err().map(Box::as_ref), tool, run, &meter);
        match ended {
            Ok(suspension) => Returned::Suspension(Box::new(suspension)),
            Err(ended) => Returned::Outcome(ended.into_outcome(&meter)),
        }
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
    /// What the call asked for and was told: it goes on with that. None = it runs from its beginning.
    pub answered: Option<&'a Answered>,
    /// How long a question that it asks may wait for its answer.
    pub answer_within: Duration,
    pub cancelled: CancellationToken,
}
