//! How far the memories and tables of one call may grow, and the memories of all calls together.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasmtime::ResourceLimiter;

use super::limits::Limits;
use super::meter::Meter;
use crate::tool::Limit;

/// Core instances of one call. A component made of a Python interpreter and its libraries has dozens.
const MAX_INSTANCES: usize = 128;
const MAX_TABLES: usize = 64;
const MAX_MEMORIES: usize = 16;

/// What a call may hold whatever others do. Most tools need no more, so those that do stop none of them.
const ASSURED: u64 = 16 << 20;

/// Where nothing else is said: two plugins at the default limits fit in, each with all its calls at once.
pub const DEFAULT_TOTAL_MEMORY: u64 = 2 << 30;

/// What one call can get at most, where all calls together get `total` bytes.
pub fn most_of_one_call(total: u64) -> u64 {
    ASSURED.saturating_add(most_of_one_plugin(total))
}

/// Beyond what its calls are assured of, so that one plugin cannot keep the others from what they need.
fn most_of_one_plugin(total: u64) -> u64 {
    total / 2
}

/// What all calls hold beyond what each is assured of.
#[derive(Debug)]
pub(super) struct Pool {
    limit: AtomicU64,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    total: u64,
    /// By plugin.
    plugins: BTreeMap<Arc<str>, u64>,
}

impl Pool {
    pub(super) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit: limit.into(), held: Mutex::default() })
    }

    pub(super) fn set_limit(&self, bytes: u64) {
        self.limit.store(bytes, Ordering::Relaxed);
    }

    /// For one call of this plugin.
    pub(super) fn share(self: &Arc<Self>, plugin: &Arc<str>) -> Share {
        Share { pool: Arc::clone(self), plugin: Arc::clone(plugin), bytes: 0 }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Sums that are changed together, without anything between that could panic.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one call holds of the pool. It is given back when this is dropped.
pub(super) struct Share {
    pool: Arc<Pool>,
    plugin: Arc<str>,
    bytes: u64,
}

impl Share {
    /// Takes what a call with so much memory needs.
    fn grow_to(&mut self, memory: u64) -> bool {
        let more = memory.saturating_sub(ASSURED).saturating_sub(self.bytes);
        if more == 0 {
            return true;
        }
        let limit = self.pool.limit.load(Ordering::Relaxed);
        let mut held = self.pool.held();
        let total = held.total.saturating_add(more);
        let own = held.plugins.get(&self.plugin).copied().unwrap_or(0).saturating_add(more);
        if total > limit || own > most_of_one_plugin(limit) {
            return false;
        }
        held.total = total;
        held.plugins.insert(Arc::clone(&self.plugin), own);
        self.bytes += more;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let mut held = self.pool.held();
        held.total = held.total.saturating_sub(self.bytes);
        let left = held.plugins.get(&self.plugin).copied().unwrap_or(0).saturating_sub(self.bytes);
        if left == 0 {
            held.plugins.remove(&self.plugin);
        } else {
            held.plugins.insert(Arc::clone(&self.plugin), left);
        }
    }
}

/// Asked by wasmtime before a memory or table grows.
pub(super) struct Growth {
    limits: Arc<Limits>,
    meter: Arc<Meter>,
    share: Share,
    /// Bytes of all memories.
    memory: u64,
    /// Elements of all tables.
    elements: u64,
}

impl Growth {
    pub(super) fn new(limits: Arc<Limits>, meter: Arc<Meter>, share: Share) -> Self {
        Self { limits, meter, share, memory: 0, elements: 0 }
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
            Growing::To(total) if self.share.grow_to(total) => {
                self.memory = total;
                self.meter.memory(total);
                Ok(true)
            }
            Growing::PastItsOwnMaximum => Ok(false),
            past @ (Growing::To(_) | Growing::PastLimit) => {
                let own = matches!(past, Growing::PastLimit);
                // Not a trap: a guest that copes with a failed allocation may go on.
                self.meter.reached(if own { Limit::Memory } else { Limit::TotalMemory });
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

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio_util::sync::CancellationToken;

    use super::super::tests::guest::Guest;
    use super::super::tests::{call_with, home};
    use super::super::{Plugin, PluginHost, PluginSettings};
    use super::*;
    use crate::tool::OutcomeKind;

    const MIB: u64 = 1 << 20;

    #[test]
    fn one_plugin_gets_half_and_every_call_what_it_is_assured_of() {
        let pool = Pool::new(100 * MIB);
        let (evil, other, good): (Arc<str>, Arc<str>, Arc<str>) =
            ("evil".into(), "other".into(), "good".into());
        let mut calls: Vec<Share> = (0..3).map(|_| pool.share(&evil)).collect();
        assert!(calls[0].grow_to(ASSURED + 30 * MIB) && calls[1].grow_to(ASSURED + 20 * MIB));
        assert!(!calls[2].grow_to(ASSURED + 1), "half is taken");
        assert!(calls[2].grow_to(ASSURED));
        let mut second = pool.share(&other);
        assert!(second.grow_to(ASSURED + 50 * MIB));
        let mut neighbour = pool.share(&good);
        assert!(neighbour.grow_to(ASSURED) && !neighbour.grow_to(ASSURED + 1), "all is taken");
        drop(second);
        assert!(neighbour.grow_to(ASSURED + 50 * MIB), "it came back");
        drop((calls, neighbour));
        assert_eq!(pool.held().total, 0);
        assert!(pool.held().plugins.is_empty());
    }

    /// 48 MiB and no end; or a trap.
    const HOARD: &str = "(if (i32.eq (memory.grow (i32.const 768)) (i32.const -1)) (then (unreachable)))
        (loop $l (br $l)) (unreachable)";

    #[tokio::test]
    async fn a_plugin_that_hoards_stops_itself_and_no_neighbour() {
        let home = home().await;
        let host = home.host.clone().with_memory(80 * MIB);
        let mut settings = PluginSettings::default();
        settings.limits.cpu_ms = 60_000;
        let load = async |id, guest: &Guest| host.load(id, guest.bytes(), &settings).await.unwrap();
        let evil = load("evil", &Guest::new().call(HOARD)).await;
        let good =
            load("good", &Guest::new().call("(drop (memory.grow (i32.const 200))) (call $done)")).await;
        let large =
            load("large", &Guest::new().call("(drop (memory.grow (i32.const 700))) (call $done)")).await;
        let token = CancellationToken::new();
        let call = async |plugin: &Plugin, token| call_with(plugin, &json!({"n": 1}), token).await;
        let hoarding = tokio::spawn({
            let (evil, token) = (evil.clone(), token.clone());
            async move { call_with(&evil, &json!({"n": 1}), token).await }
        });
        while home_pool(&host).held().total == 0 {
            tokio::task::yield_now().await;
        }
        let second = call(&evil, CancellationToken::new()).await;
        assert_eq!(second.kind, OutcomeKind::Limit { limit: Limit::TotalMemory }, "{}", second.text);
        for plugin in [&good, &large] {
            let beside = call(plugin, CancellationToken::new()).await;
            assert_eq!((beside.kind, beside.usage.limit), (OutcomeKind::Ok, None));
        }
        token.cancel();
        assert_eq!(hoarding.await.unwrap().kind, OutcomeKind::Cancelled);
        assert_eq!(home_pool(&host).held().total, 0);
    }

    fn home_pool(host: &PluginHost) -> &Pool {
        &host.shared.memory
    }
}
