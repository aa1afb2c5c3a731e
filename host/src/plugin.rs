//! The sandbox: loads plugins (WebAssembly components) and calls their tools.
//!
//! The only module that names wasmtime. A call never fails outwards: whatever a guest does, and whatever
//! happens to it, ends as a [`crate::tool::ToolOutcome`] that the model can read. What a guest can reach is in one file
//! per interface (`log`, `control`, `settings`, `kv`, `secrets`, `egress`, `wasi`); what it can use up is in `limits`.
//! A tool that asks a human goes on in another instance (`suspend`), with what it left here encrypted (`seal`).

mod bindings;
mod breaker;
mod call;
mod choice;
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
mod memory;
mod meter;
mod outcome;
mod prepared;
mod report;
mod request;
mod seal;
mod secrets;
mod settings;
mod signature;
mod signers;
mod suspend;
#[cfg(test)]
pub(crate) mod tests;
mod values;
mod wasi;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
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
use self::breaker::Breaker;
pub use self::breaker::BreakerState;
use self::call::CallState;
pub use self::choice::UnknownChoice;
use self::compiler::Compiler;
pub use self::destination::{Audience, HostPattern, Scheme};
use self::egress::Connector;
pub use self::egress::Network;
use self::engine::{GuestThreads, Ticker};
pub use self::grant::{
    Capabilities, Capability, HeaderWord, HttpRule, KvRule, KvScope, Method, SecretName, SecretRule,
};
use self::job::Job;
pub use self::limits::Limits;
pub use self::load::LoadError;
pub use self::manifest::{Manifest, ManifestError};
use self::memory::Pool;
pub use self::memory::{DEFAULT_TOTAL_MEMORY, most_of_one_call};
use self::meter::Meter;
use self::outcome::Ended;
pub use self::prepared::{Code, Prepared};
pub use self::request::Request;
pub use self::signature::{KeyId, SignatureError, sign};
pub use self::signers::{Signed, SignerError, Signers};
pub use self::values::SecretValue;
use crate::clock::Clock;
use crate::id::{CallId, RunId, SessionId};
use crate::session::Owner;
use crate::store::Store;
use crate::tool::{Answered, Returned, ToolName, ToolSpec};

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
pub struct PluginHost {
    shared: Arc<Shared>,
    signers: Arc<Signers>,
}

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
    memory: Arc<Pool>,
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
    pub fn for_inspection(cache: Option<&Path>, signers: Signers) -> Result<Self, HostError> {
        Ok(Self::start(None, Clock::System, cache, Network::default())?.with_signers(signers))
    }

    /// Loads nothing that none of them signed.
    #[must_use]
    pub fn with_signers(self, signers: Signers) -> Self {
        Self { signers: Arc::new(signers), ..self }
    }

    /// With this many bytes for all calls together, those of its clones included.
    #[must_use]
    pub fn with_memory(self, bytes: u64) -> Self {
        self.shared.memory.set_limit(bytes);
        self
    }

    fn start(
        store: Option<Arc<dyn Store>>,
        clock: Clock,
        cache: Option<&Path>,
        network: Network,
    ) -> Result<Self, HostError> {
        let engine = engine::engine(cache)?;
        let linker = base_linker(&engine).map_err(|error| HostError::Engine(error.into()))?;
        let shared = Shared {
            ticker: Ticker::start(&engine)?,
            threads: GuestThreads::start()?,
            compiler: Compiler::new(),
            engine,
            linker,
            store,
            clock,
            connector: Arc::new(Connector::new(network).map_err(HostError::Tls)?),
            memory: Pool::new(DEFAULT_TOTAL_MEMORY),
        };
        Ok(Self { shared: Arc::new(shared), signers: Arc::default() })
    }

    /// Checks, compiles and describes a component. What it may reach is decided afterwards.
    pub async fn prepare(
        &self,
        id: &str,
        code: Arc<Code>,
        settings: &PluginSettings,
    ) -> Result<Prepared, LoadError> {
        load::prepare(&self.shared, &self.signers, id, code, settings).await
    }

    /// The same, with what the settings alone grant.
    #[cfg(test)]
    pub(crate) async fn load(
        &self,
        id: &str,
        bytes: Vec<u8>,
        settings: &PluginSettings,
    ) -> Result<Plugin, LoadError> {
        let prepared = self.prepare(id, Arc::new(Code::new(bytes)), settings).await?;
        prepared.grant(&settings.grants)
    }

    /// The ticker that interrupts guests is running. If it were not, a guest in a loop would never stop.
    pub fn ticker_alive(&self) -> bool {
        self.shared.ticker.alive()
    }

    /// No compilation is stuck. One that is keeps its place, and there are few.
    pub fn compiler_alive(&self) -> bool {
        self.shared.compiler.alive()
    }

    /// The ticker stops as if its thread had died.
    #[cfg(test)]
    pub(crate) fn stop_ticker(&self) {
        self.shared.ticker.stop();
    }

    /// A compilation that never ends, until what is returned is dropped.
    #[cfg(test)]
    pub(crate) fn stuck_compilation(&self) -> impl Sized {
        self.shared.compiler.stuck_for(compiler::COMPILE_TIME)
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
    prepared: Prepared,
    /// What it may reach: what it requests, within what was granted.
    grants: Arc<Capabilities>,
    running: Semaphore,
    pre: FullPluginPre<CallState>,
    /// None: it does not export `resumable`, so its tools cannot ask.
    resumable: Option<ResumerPre<CallState>>,
    breaker: Mutex<Breaker>,
    stopped: CancellationToken,
    /// Why; set before `stopped` fires.
    stop_reason: OnceLock<String>,
}

impl Loaded {
    fn breaker(&self) -> std::sync::MutexGuard<'_, Breaker> {
        // Each change of it is one assignment: it is whole whatever its holder died of.
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.prepared().id()
    }

    /// SHA-256 of the file, in lower-case hex.
    pub fn digest(&self) -> &str {
        self.prepared().digest()
    }

    pub fn specs(&self) -> &[ToolSpec] {
        self.prepared().specs()
    }

    pub fn spec(&self, tool: &ToolName) -> Option<&ToolSpec> {
        self.specs().iter().find(|spec| spec.name == *tool)
    }

    /// What it is apart from what was granted to it.
    pub fn prepared(&self) -> &Prepared {
        &self.0.prepared
    }

    /// What it may reach: what it requests, within what the operator granted.
    pub fn grants(&self) -> &Capabilities {
        &self.0.grants
    }

    /// Calls that have one of the plugin's places now.
    pub fn running_calls(&self) -> u64 {
        let free = self.0.running.available_permits() as u64;
        u64::from(self.prepared().limits().concurrent_calls.max(1)).saturating_sub(free)
    }

    /// The problems with a call's arguments, in words for whoever wrote them.
    pub fn check_arguments(&self, tool: &ToolName, arguments: &Value) -> Result<(), String> {
        self.prepared().check_arguments(tool, arguments).map(|_| ())
    }

    pub fn breaker(&self) -> BreakerState {
        self.0.breaker().state()
    }

    /// Ends its calls, and refuses every further one.
    pub fn stop(&self, reason: &str) {
        if self.0.stop_reason.set(reason.to_owned()).is_ok() {
            tracing::warn!(
                plugin.id = self.id(),
                digest = self.digest(),
                reason,
                "a plugin was stopped: it is revoked"
            );
        }
        self.0.stopped.cancel();
    }

    /// Runs one tool, or goes on with one that asked. Dropping the future stops the guest within a tick (10 ms).
    pub async fn call(&self, invocation: Invocation<'_>) -> Returned {
        let meter = Arc::new(Meter::default());
        let (tool, run) = (invocation.tool, invocation.run);
        let shared = self.prepared().shared();
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
            Ok(suspension) => Returned::Suspension(suspension),
            Err(ended) => Returned::Outcome(ended.into_outcome(suspend::used(&meter, invocation.answered))),
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
