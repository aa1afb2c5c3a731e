//! From bytes to a plugin that can be called, or to one sentence that says why not.
//!
//! Cheap checks come first: nothing is compiled before its size, its names and its imports are known to be
//! acceptable, and nothing of it runs before it is compiled and linked.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;
use wasmtime::component::{Component, HasSelf};

use super::bindings::FullPluginPre;
use super::bindings::exports::holdfast::plugin::tools::Tool;
use super::bindings::holdfast::plugin::{kv, secrets};
use super::bindings::resumable::ResumerPre;
use super::call::{Answer, CallState, Instance, Question};
use super::compiler::COMPILE_TIME;
use super::describe::{self, Checks, DescribeError};
use super::egress;
use super::grant::Capabilities;
use super::inspect::{Names, inspect};
use super::limits::Limits;
use super::manifest::{Manifest, ManifestError};
use super::meter::Meter;
use super::outcome::Ended;
use super::prepared::{Code, Parts, Prepared};
use super::signature::SignatureError;
use super::signers::{Signed, SignerError, Signers};
use super::values::Values;
use super::{PluginSettings, Shared};
use crate::clock::Clock;
use crate::escape::escaped;
use crate::tool::{OutcomeKind, ToolNameError, ToolSpec, check_name_part};

/// What `describe` may use at most, whatever the plugin's limits are.
const DESCRIBE_WALL_MS: u64 = 5000;
const DESCRIBE_CPU_MS: u64 = 2000;
const DESCRIBE_BYTES: u64 = 4 << 20;

/// Why a plugin was not loaded. Written for the operator; holds no host paths, and what is guest-controlled
/// is cut and escaped.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the plugin's id: {0}")]
    Id(#[from] ToolNameError),
    #[error(
        "the file has {bytes} bytes, the limit is {limit}: raise `component_bytes` in [plugins.{plugin}.limits]"
    )]
    TooBig { plugin: String, bytes: u64, limit: u64 },
    #[error("this is not a WebAssembly component: {0}")]
    Malformed(String),
    #[error("this is a core WebAssembly module, not a component: build for wasm32-wasip2")]
    CoreModule,
    #[error("the component has {found} {what}; the most is {limit}")]
    TooComplex { what: &'static str, found: u64, limit: u64 },
    #[error(
        "it does not export `holdfast:plugin/tools@0.1.0`, the version this host serves; it exports: {0}"
    )]
    NoTools(String),
    #[error(
        "it exports `{0}`, but this host serves `holdfast:plugin/tools@0.1.0`: build it against that version"
    )]
    Version(String),
    #[error("it imports `{name}`: {hint}")]
    Import { name: String, hint: String },
    #[error("its manifest {0}")]
    Manifest(#[from] ManifestError),
    #[error("its signature {0}")]
    Signature(#[from] SignatureError),
    #[error(transparent)]
    Signer(#[from] SignerError),
    #[error("it does not compile: {0}")]
    Compile(String),
    #[error("it was not compiled within {} s", COMPILE_TIME.as_secs())]
    CompileTime,
    #[error("it could not be compiled yet, because other plugins were being compiled for {} s", COMPILE_TIME.as_secs())]
    Busy,
    #[error("its imports or exports have other types than `holdfast:plugin@0.1.0`: {0}")]
    Link(String),
    #[error("`describe` did not answer: {0}")]
    Describe(String),
    #[error("`describe` answered differently the second time; it must always list the same tools")]
    DescribeChanged,
    #[error(transparent)]
    Tools(#[from] DescribeError),
    #[error("the host is shutting down")]
    ShuttingDown,
}

pub(super) async fn prepare(
    shared: &Arc<Shared>,
    signers: &Arc<Signers>,
    id: &str,
    code: Arc<Code>,
    settings: &PluginSettings,
) -> Result<Prepared, LoadError> {
    check_name_part(id)?;
    let limits = &settings.limits;
    check_size(id, code.size(), limits)?;
    let (signers, configured) = (Arc::clone(signers), settings.grants.clone());
    let Compiled { names, signed, asked, component } =
        compile(shared, signers, id, Arc::clone(&code), configured).await?;
    let (pre, _) = link(shared, &component, &names, &asked)?;
    let tools = describe_twice(shared, id, &pre, limits).await?;
    let (specs, checks) = check_tools(shared, id, tools).await?;
    let values = Arc::new(values(id, settings, names.manifest.as_ref()));
    Ok(Prepared::new(Parts {
        id: Arc::from(id),
        digest: code.digest().to_owned(),
        size: code.size(),
        specs,
        checks,
        names,
        signed,
        component,
        limits: Arc::new(limits.clone()),
        values,
        connector: Arc::new(shared.connector.for_another()),
        shared: Arc::clone(shared),
    }))
}

/// A plugin with a manifest gets the settings that it asks for there.
fn values(id: &str, settings: &PluginSettings, manifest: Option<&Manifest>) -> Values {
    let mut config = settings.config.clone();
    config.retain(|name, _| {
        let known = manifest.is_none_or(|manifest| manifest.config.contains_key(name));
        if !known {
            tracing::warn!(
                plugin.id = id,
                setting = name,
                "the plugin's manifest has no such setting in [config]"
            );
        }
        known
    });
    Values::new(config, settings.secrets.clone())
}

/// Also asked before a file is read at all.
pub(crate) fn check_size(plugin: &str, bytes: u64, limits: &Limits) -> Result<(), LoadError> {
    let limit = limits.component_bytes;
    if bytes > limit {
        return Err(LoadError::TooBig { plugin: plugin.to_owned(), bytes, limit });
    }
    Ok(())
}

struct Compiled {
    names: Names,
    signed: Option<Signed>,
    /// Everything that it would like to reach: to describe itself it needs its imports, and is denied them.
    asked: Capabilities,
    component: Component,
}

/// Everything that takes CPU in proportion to the bytes, on a thread made for it. A compilation cannot be
/// stopped: one that takes too long keeps its place among the few that run at once until it ends.
async fn compile(
    shared: &Arc<Shared>,
    signers: Arc<Signers>,
    id: &str,
    code: Arc<Code>,
    configured: Capabilities,
) -> Result<Compiled, LoadError> {
    // What keeps the places is not this component's fault.
    let place = tokio::time::timeout(COMPILE_TIME, shared.compiler.place()).await;
    let place = place.map_err(|_| LoadError::Busy)?.map_err(|_| LoadError::ShuttingDown)?;
    let work = async {
        let (engine, id) = (shared.engine.clone(), id.to_owned());
        let compiling = move || {
            let _place = place;
            let names = inspect(code.bytes())?;
            let signed = signers.check(&id, code.bytes(), names.signature.as_ref())?;
            let mut asked = names.request().asked;
            if names.manifest.is_none() {
                // Imports do not say everything that the operator may have granted.
                asked = asked.and(&configured);
            }
            names.check(&id, &asked)?;
            let component = Component::new(&engine, code.bytes())
                .map_err(|error| LoadError::Compile(escaped(&format!("{error:#}"), 500)))?;
            Ok(Compiled { names, signed, asked, component })
        };
        let threads = shared.threads.handle().ok_or(LoadError::ShuttingDown)?;
        threads
            .spawn_blocking(compiling)
            .await
            // The panic hook has logged what and where.
            .unwrap_or_else(|_| Err(LoadError::Compile("the compiler broke down on it".to_owned())))
    };
    tokio::time::timeout(COMPILE_TIME, work).await.unwrap_or(Err(LoadError::CompileTime))
}

/// An interface that was not granted is not even linked.
pub(super) fn link(
    shared: &Shared,
    component: &Component,
    names: &Names,
    grants: &Capabilities,
) -> Result<(FullPluginPre<CallState>, Option<ResumerPre<CallState>>), LoadError> {
    let refused = |error: wasmtime::Error| LoadError::Link(escaped(&format!("{error:#}"), 500));
    let mut linker = shared.linker.clone();
    if !grants.kv.scopes.is_empty() {
        kv::add_to_linker::<_, HasSelf<CallState>>(&mut linker, |state| state).map_err(refused)?;
    }
    if !grants.secrets.is_empty() {
        secrets::add_to_linker::<_, HasSelf<CallState>>(&mut linker, |state| state).map_err(refused)?;
    }
    if !grants.http.is_empty() {
        egress::add_to_linker(&mut linker).map_err(refused)?;
    }
    let pre = linker.instantiate_pre(component).map_err(refused)?;
    let resumable = names.resumable().then(|| ResumerPre::new(pre.clone()));
    let resumable = resumable.transpose().map_err(refused)?;
    Ok((FullPluginPre::new(pre).map_err(refused)?, resumable))
}

async fn describe_twice(
    shared: &Arc<Shared>,
    id: &str,
    pre: &FullPluginPre<CallState>,
    limits: &Limits,
) -> Result<Vec<Tool>, LoadError> {
    let limits = Arc::new(Limits {
        wall_ms: limits.wall_ms.min(DESCRIBE_WALL_MS),
        cpu_ms: limits.cpu_ms.min(DESCRIBE_CPU_MS),
        output_bytes: DESCRIBE_BYTES,
        ..limits.clone()
    });
    let first = describe(shared, id, pre, &limits, shared.clock.clone()).await?;
    let second = describe(shared, id, pre, &limits, later(&shared.clock)).await?;
    if first != second {
        return Err(LoadError::DescribeChanged);
    }
    Ok(first)
}

/// The guest's clock of the second time: an answer that depends on the time differs for sure, not only if
/// the two calls happen to fall into different milliseconds.
fn later(clock: &Clock) -> Clock {
    let later = clock.now().plus(Duration::from_millis(90_061_001));
    Clock::Manual(Arc::new(AtomicI64::new(later.as_millis())))
}

async fn describe(
    shared: &Arc<Shared>,
    id: &str,
    pre: &FullPluginPre<CallState>,
    limits: &Arc<Limits>,
    clock: Clock,
) -> Result<Vec<Tool>, LoadError> {
    let meter = Arc::new(Meter::default());
    let plugin = Arc::from(id);
    let instance = Instance {
        memory: shared.memory.share(&plugin),
        plugin,
        clock,
        limits: Arc::clone(limits),
        grants: Arc::default(),
        meter: Arc::clone(&meter),
        call: None,
        values: Arc::default(),
        connector: Arc::clone(&shared.connector),
    };
    let (engine, pre) = (shared.engine.clone(), pre.clone());
    let threads = shared.threads.handle().ok_or(LoadError::ShuttingDown)?;
    let asking = threads.spawn(async move { instance.ask(&engine, &pre, Question::Describe).await });
    match AbortOnDropHandle::new(asking).await {
        Ok(Ok(Answer::Tools(tools))) => Ok(tools),
        Ok(Ok(Answer::Outcome(_))) => Err(LoadError::Describe("it answered another question".to_owned())),
        Ok(Err(stopped)) => Err(LoadError::Describe(in_words(&Ended::stopped(&stopped, &meter)))),
        Err(error) => Err(LoadError::Describe(error.to_string())),
    }
}

/// Compiling schemas takes CPU as well.
async fn check_tools(
    shared: &Shared,
    id: &str,
    tools: Vec<Tool>,
) -> Result<(Vec<ToolSpec>, Vec<Checks>), LoadError> {
    let id = id.to_owned();
    let threads = shared.threads.handle().ok_or(LoadError::ShuttingDown)?;
    match threads.spawn_blocking(move || describe::specs(&id, tools)).await {
        Ok(checked) => Ok(checked?),
        Err(error) => Err(LoadError::Describe(error.to_string())),
    }
}

fn in_words(ended: &Ended) -> String {
    let what = match &ended.kind {
        OutcomeKind::Limit { limit } => format!("it reached a limit: {limit}"),
        OutcomeKind::Trap { trap } => format!("it crashed ({trap})"),
        OutcomeKind::HostFault => "it could not be started".to_owned(),
        _ => "its answer could not be read".to_owned(),
    };
    match &ended.reason {
        Some(reason) => format!("{what}: {reason}"),
        None => what,
    }
}
