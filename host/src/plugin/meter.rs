//! The meter of one call: what it used, and the first limit it ran into.
//!
//! It lives outside the wasmtime store, so that a call that was cut off still has its usage. That it keeps
//! the *first* limit matters: a Rust guest out of memory, for one, traps as plain `unreachable`.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::limits::Limits;
use crate::tool::{Limit, Usage};

/// A call ran into a limit. Raised as a trap by host functions; the meter knows the limit as well.
#[derive(Debug, thiserror::Error)]
#[error("the limit on {0} is reached")]
pub(super) struct LimitReached(pub(super) Limit);

/// Something that a guest asked for and may not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Denial {
    /// The capability's name, for the model and the metrics: `kv`, `http`, `secrets`.
    pub(super) capability: &'static str,
    /// What was asked for, in words for the operator. Guest-controlled parts are escaped.
    pub(super) what: String,
    /// What would allow it, after `plugins.<id>.`; none where nothing would.
    pub(super) setting: Option<String>,
}

/// What a call was denied.
#[derive(Debug, Default)]
struct Denied {
    /// Each once, in the order in which they came first, with how often: [`MAX_DENIALS`] of them.
    kinds: Vec<(Denial, u64)>,
    by_capability: BTreeMap<&'static str, u64>,
}

/// Most denials of one call that the operator reads of one by one.
const MAX_DENIALS: usize = 8;

/// What one call used so far.
#[derive(Debug, Default)]
pub(super) struct Meter {
    hit: OnceLock<Limit>,
    denied: Mutex<Denied>,
    memory_peak: AtomicU64,
    host_calls: AtomicU64,
    output_bytes: AtomicU64,
    log_lines: AtomicU64,
    log_lines_dropped: AtomicU64,
    http_requests: AtomicU64,
    http_requests_sent: AtomicU64,
    http_sent_bytes: AtomicU64,
    http_received_bytes: AtomicU64,
    /// Nanoseconds of CPU in finished polls.
    cpu_spent: AtomicU64,
    /// The thread's CPU clock at the start of the poll under way, in nanoseconds.
    cpu_since: AtomicU64,
}

impl Meter {
    /// Linear memory that a call holds now.
    pub(super) fn memory(&self, bytes: u64) {
        self.memory_peak.fetch_max(bytes, Ordering::Relaxed);
    }

    /// Records a limit as reached, unless another one came first.
    pub(super) fn reached(&self, limit: Limit) -> LimitReached {
        LimitReached(*self.hit.get_or_init(|| limit))
    }

    pub(super) fn hit(&self) -> Option<Limit> {
        self.hit.get().copied()
    }

    /// Counts something that was not allowed.
    pub(super) fn denied(&self, denial: Denial) {
        let mut denied = self.denials_so_far();
        *denied.by_capability.entry(denial.capability).or_default() += 1;
        if let Some((_, count)) = denied.kinds.iter_mut().find(|(known, _)| *known == denial) {
            *count += 1;
        } else if denied.kinds.len() < MAX_DENIALS {
            denied.kinds.push((denial, 1));
        }
    }

    /// The capability that was denied first.
    pub(super) fn denied_capability(&self) -> Option<&'static str> {
        self.denials_so_far().kinds.first().map(|(denial, _)| denial.capability)
    }

    /// The first few different denials, with how often each came.
    pub(super) fn denials(&self) -> Vec<(Denial, u64)> {
        self.denials_so_far().kinds.clone()
    }

    fn denials_so_far(&self) -> MutexGuard<'_, Denied> {
        // Counts and a list that only grows: whole whatever its holder died of.
        self.denied.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Counts a request that a guest would like to send.
    pub(super) fn http_request(&self, limits: &Limits) -> Result<(), LimitReached> {
        let requests = self.http_requests.fetch_add(1, Ordering::Relaxed) + 1;
        if requests > limits.http_requests { Err(self.reached(Limit::HttpRequests)) } else { Ok(()) }
    }

    pub(super) fn http_request_sent(&self) {
        self.http_requests_sent.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether so many bytes may still be sent.
    pub(super) fn http_may_send(&self, limits: &Limits, bytes: usize) -> Result<(), LimitReached> {
        let sent = self.http_sent_bytes.load(Ordering::Relaxed).saturating_add(bytes as u64);
        if sent > limits.http_request_bytes { Err(self.reached(Limit::HttpRequestBytes)) } else { Ok(()) }
    }

    pub(super) fn http_sent(&self, bytes: usize) {
        self.http_sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts bytes that a server sent.
    pub(super) fn http_received(&self, limits: &Limits, bytes: usize) -> Result<(), LimitReached> {
        let received = self.http_received_bytes.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        if received > limits.http_response_bytes {
            return Err(self.reached(Limit::HttpResponseBytes));
        }
        Ok(())
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
            denials: self
                .denials_so_far()
                .by_capability
                .iter()
                .map(|(capability, count)| ((*capability).to_owned(), *count))
                .collect(),
            limit: self.hit(),
            http_requests: self.http_requests_sent.load(Ordering::Relaxed),
            http_sent_bytes: self.http_sent_bytes.load(Ordering::Relaxed),
            http_received_bytes: self.http_received_bytes.load(Ordering::Relaxed),
        }
    }
}

/// Wraps a call's future and adds the CPU time of each poll to its meter.
///
/// Epoch ticks cannot tell a call that works from one that waits for its turn on a busy machine; the CPU
/// clock of the thread that polls can.
pub(super) struct Metered<F> {
    future: Pin<Box<F>>,
    meter: Arc<Meter>,
}

impl<F: Future> Metered<F> {
    pub(super) fn new(meter: Arc<Meter>, future: F) -> Self {
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
