//! What a plugin may use: the settings, and the meter of one call.
//!
//! The [`Meter`] lives outside the wasmtime store, so that a call that was cut off still has its usage and
//! the *first* limit it ran into: a Rust guest out of memory, for one, traps as plain `unreachable`.

use std::pin::Pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use wasmtime::ResourceLimiter;

use crate::tool::{Limit, Usage};

/// What one plugin may use. `[plugins.<id>.limits]` in the configuration; what is left out has its default.
///
/// The wasm stack (512 KiB) is a property of the engine and the same for all plugins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all(serialize = "camelCase"))]
pub struct Limits {
    /// Most bytes of linear memory of one call, all memories together. 64 MiB.
    pub memory_bytes: u64,
    /// Most milliseconds from the start of a call to its end, waiting in host calls included. 30 s.
    pub wall_ms: u64,
    /// Most milliseconds of CPU of one call. 10 s.
    pub cpu_ms: u64,
    /// Most bytes of one answer: its parts and its structured form together. 1 MiB.
    pub output_bytes: u64,
    /// Most calls to the host's own interfaces (log, control, kv) during one call. 10 000.
    pub host_calls: u64,
    /// Most bytes handed over in one host call. 1 MiB.
    pub host_call_bytes: u64,
    /// Most log lines of one call, stdout and stderr included; further ones are dropped. 200.
    pub log_lines: u64,
    /// Longest log line in bytes; the rest of the line is dropped. 4 KiB.
    pub log_line_bytes: u64,
    /// Most elements of all tables of one call together; each takes 8 bytes of the host. 100 000.
    pub table_elements: u64,
    /// Most handles (streams, timers, …) open at once. 1000.
    pub resources: u64,
    /// Most calls running at once; further ones wait. 16.
    pub concurrent_calls: u32,
    /// Most bytes of keys and values in one kv space. 1 MiB.
    pub kv_bytes: u64,
    /// Most entries in one kv space. 1000.
    pub kv_entries: u64,
    /// Largest component file in bytes. 64 MiB: one that embeds a Python interpreter takes 18 MB. What
    /// compiling costs is bounded by the size of single functions and by time, not by this.
    pub component_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 64 << 20,
            wall_ms: 30_000,
            cpu_ms: 10_000,
            output_bytes: 1 << 20,
            host_calls: 10_000,
            host_call_bytes: 1 << 20,
            log_lines: 200,
            log_line_bytes: 4 << 10,
            table_elements: 100_000,
            resources: 1000,
            concurrent_calls: 16,
            kv_bytes: 1 << 20,
            kv_entries: 1000,
            component_bytes: 64 << 20,
        }
    }
}

impl Limits {
    pub(super) fn wall(&self) -> Duration {
        Duration::from_millis(self.wall_ms)
    }
}

/// The name of the setting that would allow more; none where nothing would.
pub(super) fn setting(limit: Limit) -> Option<&'static str> {
    match limit {
        Limit::Memory => Some("memory_bytes"),
        Limit::Tables => Some("table_elements"),
        Limit::Instances => Some("resources"),
        Limit::WallTime => Some("wall_ms"),
        Limit::Cpu => Some("cpu_ms"),
        Limit::Stack => None,
        Limit::Output => Some("output_bytes"),
        Limit::HostCalls => Some("host_calls"),
        Limit::HostCallBytes => Some("host_call_bytes"),
    }
}

/// A call ran into a limit. Raised as a trap by host functions; the meter knows the limit as well.
#[derive(Debug, thiserror::Error)]
#[error("the limit on {0} is reached")]
pub(super) struct LimitReached(pub(super) Limit);

/// What one call used so far.
#[derive(Debug, Default)]
pub(super) struct Meter {
    hit: OnceLock<Limit>,
    memory_peak: AtomicU64,
    host_calls: AtomicU64,
    output_bytes: AtomicU64,
    log_lines: AtomicU64,
    log_lines_dropped: AtomicU64,
    /// Nanoseconds of CPU in finished polls.
    cpu_spent: AtomicU64,
    /// The thread's CPU clock at the start of the poll under way, in nanoseconds.
    cpu_since: AtomicU64,
}

impl Meter {
    /// Records a limit as reached, unless another one came first.
    pub(super) fn reached(&self, limit: Limit) -> LimitReached {
        LimitReached(*self.hit.get_or_init(|| limit))
    }

    pub(super) fn hit(&self) -> Option<Limit> {
        self.hit.get().copied()
    }

    /// Counts a host call that hands over `bytes`.
    pub(super) fn host_call(&self, limits: &Limits, bytes: usize) -> Result<(), LimitReached> {
        let calls = self.host_calls.fetch_add(1, Ordering::Relaxed) + 1;
        if calls > limits.host_calls {
            return Err(self.reached(Limit::HostCalls));
        }
        if bytes as u64 > limits.host_call_bytes {
            return Err(self.reached(Limit::HostCallBytes));
        }
        Ok(())
    }

    /// Counts a log line; false if it must be dropped.
    pub(super) fn log_line(&self, limits: &Limits) -> bool {
        let lines = self.log_lines.fetch_add(1, Ordering::Relaxed) + 1;
        let fits = lines <= limits.log_lines;
        if !fits {
            self.log_lines.fetch_sub(1, Ordering::Relaxed);
            self.log_lines_dropped.fetch_add(1, Ordering::Relaxed);
        }
        fits
    }

    pub(super) fn output(&self, bytes: u64) {
        self.output_bytes.store(bytes, Ordering::Relaxed);
    }

    /// CPU time so far. To be asked on the thread that runs the call.
    pub(super) fn cpu(&self) -> Duration {
        let running = thread_cpu().saturating_sub(self.cpu_since.load(Ordering::Relaxed));
        Duration::from_nanos(self.cpu_spent.load(Ordering::Relaxed).saturating_add(running))
    }

    pub(super) fn usage(&self) -> Usage {
        Usage {
            memory_bytes: self.memory_peak.load(Ordering::Relaxed),
            cpu_ms: self.cpu_spent.load(Ordering::Relaxed) / 1_000_000,
            host_calls: self.host_calls.load(Ordering::Relaxed),
            output_bytes: self.output_bytes.load(Ordering::Relaxed),
            log_lines: self.log_lines.load(Ordering::Relaxed),
            log_lines_dropped: self.log_lines_dropped.load(Ordering::Relaxed),
        }
    }
}

/// Wraps a call's future and adds the CPU time of each poll to its meter.
///
/// Epoch ticks cannot tell a call that works from one that waits for its turn on a busy machine; the CPU
/// clock of the thread that polls can.
pub(super) struct Metered<F> {
    future: Pin<Box<F>>,
    meter: std::sync::Arc<Meter>,
}

impl<F: Future> Metered<F> {
    pub(super) fn new(meter: std::sync::Arc<Meter>, future: F) -> Self {
        Self { future: Box::pin(future), meter }
    }
}

impl<F: Future> Future for Metered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let started = thread_cpu();
        self.meter.cpu_since.store(started, Ordering::Relaxed);
        let poll = self.future.as_mut().poll(context);
        let spent = thread_cpu().saturating_sub(started);
        self.meter.cpu_spent.fetch_add(spent, Ordering::Relaxed);
        poll
    }
}

/// The current thread's CPU time in nanoseconds.
fn thread_cpu() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec)
        .unwrap_or(0)
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// Core instances of one call. A component made of a Python interpreter and its libraries has dozens.
const MAX_INSTANCES: usize = 256;
const MAX_TABLES: usize = 64;
const MAX_MEMORIES: usize = 16;

/// Asked by wasmtime before a memory or table grows.
pub(super) struct Growth {
    pub(super) limits: std::sync::Arc<Limits>,
    pub(super) meter: std::sync::Arc<Meter>,
    /// Bytes of all memories.
    memory: u64,
    /// Elements of all tables.
    elements: u64,
}

impl Growth {
    pub(super) fn new(limits: std::sync::Arc<Limits>, meter: std::sync::Arc<Meter>) -> Self {
        Self { limits, meter, memory: 0, elements: 0 }
    }
}

/// The new total, if it is within `limit` and the one memory or table within its own maximum.
fn grown(total: u64, current: usize, desired: usize, maximum: Option<usize>, limit: u64) -> Growing {
    if maximum.is_some_and(|maximum| desired > maximum) {
        return Growing::PastItsOwnMaximum;
    }
    let total = total.saturating_add(desired.saturating_sub(current) as u64);
    if total > limit { Growing::PastLimit } else { Growing::To(total) }
}

enum Growing {
    To(u64),
    /// The guest's own doing: no limit of ours was reached.
    PastItsOwnMaximum,
    PastLimit,
}

impl ResourceLimiter for Growth {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        match grown(self.memory, current, desired, maximum, self.limits.memory_bytes) {
            Growing::To(total) => {
                self.memory = total;
                self.meter.memory_peak.fetch_max(total, Ordering::Relaxed);
                Ok(true)
            }
            Growing::PastItsOwnMaximum => Ok(false),
            Growing::PastLimit => {
                // Not a trap: a guest that copes with a failed allocation may go on.
                self.meter.reached(Limit::Memory);
                Ok(false)
            }
        }
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        match grown(self.elements, current, desired, maximum, self.limits.table_elements) {
            Growing::To(total) => {
                self.elements = total;
                Ok(true)
            }
            Growing::PastItsOwnMaximum => Ok(false),
            Growing::PastLimit => {
                self.meter.reached(Limit::Tables);
                Ok(false)
            }
        }
    }

    fn instances(&self) -> usize {
        MAX_INSTANCES
    }

    fn tables(&self) -> usize {
        MAX_TABLES
    }

    fn memories(&self) -> usize {
        MAX_MEMORIES
    }
}
