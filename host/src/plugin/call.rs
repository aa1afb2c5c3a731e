//! One instance for one call: what it may touch, and how it is stopped.
//!
//! Nothing is reused between calls. A store and an instance cost microseconds, and a guest that trapped
//! must not be entered again in any case.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Store as WasmStore, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtxView, WasiHttpView};

use super::bindings::exports::holdfast::plugin::tools::{CallContext, Failure, Outcome, Tool};
use super::bindings::holdfast::plugin::types::{Host as Types, Part};
use super::bindings::resumable::ResumerPre;
use super::bindings::{FullPlugin, FullPluginPre};
use super::egress::{Connector, Egress};
use super::grant::Capabilities;
use super::limits::Limits;
use super::log::GuestLog;
use super::memory::{Growth, Share};
use super::meter::{Meter, Metered};
use super::values::Values;
use super::wasi;
use crate::clock::Clock;
use crate::id::{RunId, SessionId};
use crate::session::Owner;
use crate::store::Store;
use crate::tool::Limit;

/// Most parts of one answer.
pub(super) const MAX_PARTS: usize = 1024;

/// The data of a wasmtime store: everything host functions see.
pub(super) struct CallState {
    pub(super) limits: Arc<Limits>,
    pub(super) grants: Arc<Capabilities>,
    pub(super) meter: Arc<Meter>,
    pub(super) log: Arc<GuestLog>,
    pub(super) deadline: Instant,
    /// None while the plugin describes itself: then every capability is denied.
    pub(super) call: Option<CallIdentity>,
    pub(super) values: Arc<Values>,
    wasi: WasiCtx,
    egress: Egress,
    resources: ResourceTable,
    growth: Growth,
}

/// On whose behalf a call runs.
pub(super) struct CallIdentity {
    pub(super) run: RunId,
    pub(super) session: SessionId,
    pub(super) owner: Owner,
    pub(super) cancelled: CancellationToken,
    pub(super) store: Arc<dyn Store>,
    /// The server's runtime.
    pub(super) home: Handle,
}

impl WasiView for CallState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.resources }
    }
}

impl WasiHttpView for CallState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.egress.view(&mut self.resources)
    }
}

/// An interface of types alone: a component imports it, and there is nothing to call.
impl Types for CallState {}

/// What an instance is asked.
pub(super) enum Question {
    Describe,
    Call {
        context: Box<CallContext>,
        tool: String,
        arguments: String,
    },
    /// The same component by its other export.
    Resume {
        plugin: ResumerPre<CallState>,
        context: Box<CallContext>,
        tool: String,
        state: Vec<u8>,
        answer: String,
    },
}

/// What it answered.
pub(super) enum Answer {
    Tools(Vec<Tool>),
    Outcome(Result<Outcome, Failure>),
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Stopped {
    /// The instance could not be made; its start functions are guest code already.
    Start(wasmtime::Error),
    /// The guest trapped, a host function trapped it, or its answer could not be read.
    Call(wasmtime::Error),
    WallTime,
    Cancelled,
}

/// One use of a plugin.
pub(super) struct Instance {
    pub(super) plugin: Arc<str>,
    pub(super) clock: Clock,
    pub(super) limits: Arc<Limits>,
    /// Nothing while it describes itself.
    pub(super) grants: Arc<Capabilities>,
    pub(super) meter: Arc<Meter>,
    pub(super) call: Option<CallIdentity>,
    pub(super) values: Arc<Values>,
    pub(super) connector: Arc<Connector>,
    pub(super) memory: Share,
}

impl Instance {
    /// Asks once, under all limits. The instance is gone when this returns or is dropped.
    pub(super) async fn ask(
        self,
        engine: &Engine,
        plugin: &FullPluginPre<CallState>,
        question: Question,
    ) -> Result<Answer, Stopped> {
        let wall = self.limits.wall();
        let meter = Arc::clone(&self.meter);
        let cancelled = self.call.as_ref().map(|call| call.cancelled.clone());
        let state = self.state(Instant::now() + wall);
        let work = Metered::new(meter, async move {
            let mut store = store(engine, state);
            answer(plugin, &mut store, question).await
        });
        let cancelled = async {
            match cancelled {
                Some(token) => token.cancelled_owned().await,
                None => std::future::pending().await,
            }
        };
        // Whichever ends first drops the work, and with it the store and the guest's stack.
        tokio::select! {
            biased;
            () = cancelled => Err(Stopped::Cancelled),
            answer = tokio::time::timeout(wall, work) => answer.unwrap_or(Err(Stopped::WallTime)),
        }
    }

    fn state(self, deadline: Instant) -> CallState {
        let log = Arc::new(GuestLog {
            plugin: self.plugin,
            run: self.call.as_ref().map(|call| call.run.clone()),
            limits: Arc::clone(&self.limits),
            meter: Arc::clone(&self.meter),
        });
        CallState {
            wasi: wasi::context(&self.limits, &log, self.clock),
            resources: wasi::table(&self.limits),
            egress: Egress::new(
                self.connector,
                Arc::clone(&self.grants),
                Arc::clone(&self.limits),
                Arc::clone(&self.meter),
                Arc::clone(&self.values),
            ),
            growth: Growth::new(Arc::clone(&self.limits), Arc::clone(&self.meter), self.memory),
            limits: self.limits,
            grants: self.grants,
            meter: self.meter,
            log,
            deadline,
            call: self.call,
            values: self.values,
        }
    }
}

fn store(engine: &Engine, state: CallState) -> WasmStore<CallState> {
    let limits = Arc::clone(&state.limits);
    let mut store = WasmStore::new(engine, state);
    store.limiter(|state| &mut state.growth);
    store.set_hostcall_fuel(transfer_bytes(&limits));
    store.set_max_component_handles(usize::try_from(limits.resources).unwrap_or(usize::MAX));
    store.set_epoch_deadline(1);
    let cpu = Duration::from_millis(limits.cpu_ms);
    store.epoch_deadline_callback(move |context| {
        let meter = &context.data().meter;
        if meter.cpu() >= cpu {
            return Err(meter.reached(Limit::Cpu).into());
        }
        // Not `Yield`: that wakes the task at once, and tokio looks at timers and sockets only every 61st
        // task while there are tasks to run. `yield_now` lets it look first.
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
    });
    store
}

/// What wasmtime may copy out of a guest for one host call or one answer, before host code sees any of it
/// ("hostcall fuel": bytes of strings and lists, list elements at their size in the host). The exact limits
/// are checked afterwards, on what has been copied.
fn transfer_bytes(limits: &Limits) -> usize {
    let content = limits.output_bytes.max(limits.host_call_bytes).max(limits.state_bytes);
    let records = MAX_PARTS * size_of::<Part>();
    usize::try_from(content).unwrap_or(usize::MAX).saturating_add(records)
}

async fn answer(
    plugin: &FullPluginPre<CallState>,
    store: &mut WasmStore<CallState>,
    question: Question,
) -> Result<Answer, Stopped> {
    let answered = match question {
        Question::Describe => {
            let plugin = tools(plugin, store).await?;
            plugin.holdfast_plugin_tools().call_describe(store).await.map(Answer::Tools)
        }
        Question::Call { context, tool, arguments } => {
            let plugin = tools(plugin, store).await?;
            let tools = plugin.holdfast_plugin_tools();
            tools.call_call(store, &context, &tool, &arguments).await.map(Answer::Outcome)
        }
        Question::Resume { plugin, context, tool, state, answer } => {
            let plugin = plugin.instantiate_async(&mut *store).await.map_err(Stopped::Start)?;
            let resumable = plugin.holdfast_plugin_resumable();
            resumable.call_resume(store, &context, &tool, &state, &answer).await.map(Answer::Outcome)
        }
    };
    answered.map_err(Stopped::Call)
}

async fn tools(
    plugin: &FullPluginPre<CallState>,
    store: &mut WasmStore<CallState>,
) -> Result<FullPlugin, Stopped> {
    plugin.instantiate_async(store).await.map_err(Stopped::Start)
}
