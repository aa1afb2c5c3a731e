//! How far the memories and tables of one call may grow.

use std::sync::Arc;

use wasmtime::ResourceLimiter;

use super::limits::Limits;
use super::meter::Meter;
use crate::tool::Limit;

/// Core instances of one call. A component made of a Python interpreter and its libraries has dozens.
const MAX_INSTANCES: usize = 256;
const MAX_TABLES: usize = 64;
const MAX_MEMORIES: usize = 16;

/// Asked by wasmtime before a memory or table grows.
pub(super) struct Growth {
    pub(super) limits: Arc<Limits>,
    pub(super) meter: Arc<Meter>,
    /// Bytes of all memories.
    memory: u64,
    /// Elements of all tables.
    elements: u64,
}

impl Growth {
    pub(super) fn new(limits: Arc<Limits>, meter: Arc<Meter>) -> Self {
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
                self.meter.memory(total);
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
