//! The few places where components are compiled, and whether one of them is stuck.
//!
//! A compilation cannot be stopped: one that takes too long keeps its place until it ends, and the
//! operator is to hear of it, because the next ones have fewer places, or none.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// Components compiled at once; each uses all cores by itself.
const PLACES: usize = 2;
/// A Python interpreter takes about 7 s on two cores.
pub(super) const COMPILE_TIME: Duration = Duration::from_mins(2);

#[derive(Debug)]
pub(super) struct Compiler {
    places: Arc<Semaphore>,
    under_way: UnderWay,
}

/// When each compilation began.
type UnderWay = Arc<Mutex<Started>>;

#[derive(Debug, Default)]
struct Started {
    count: u64,
    at: BTreeMap<u64, Instant>,
}

impl Compiler {
    pub(super) fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(PLACES)), under_way: Arc::default() }
    }

    /// Waits for a place. It is taken until what is returned is dropped.
    pub(super) async fn place(&self) -> Result<Place, AcquireError> {
        let permit = Arc::clone(&self.places).acquire_owned().await?;
        Ok(self.begin(permit, Instant::now()))
    }

    fn begin(&self, permit: OwnedSemaphorePermit, now: Instant) -> Place {
        let mut started = lock(&self.under_way);
        started.count += 1;
        let number = started.count;
        started.at.insert(number, now);
        Place { number, under_way: Arc::clone(&self.under_way), _permit: permit }
    }

    /// No compilation takes longer than one may.
    pub(super) fn alive(&self) -> bool {
        lock(&self.under_way).at.values().all(|started| started.elapsed() < COMPILE_TIME)
    }

    /// A compilation that began so long ago.
    #[cfg(test)]
    pub(super) fn stuck_for(&self, time: Duration) -> Option<Place> {
        let permit = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some(self.begin(permit, Instant::now().checked_sub(time)?))
    }
}

#[derive(Debug)]
pub(super) struct Place {
    number: u64,
    under_way: UnderWay,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.under_way).at.remove(&self.number);
    }
}

/// What it guards is whole after every statement.
fn lock(under_way: &UnderWay) -> MutexGuard<'_, Started> {
    under_way.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_compilation_that_takes_too_long_is_noticed_until_it_ends() {
        let compiler = Compiler::new();
        let young = compiler.stuck_for(COMPILE_TIME / 2).unwrap();
        assert!(compiler.alive());
        let old = compiler.stuck_for(COMPILE_TIME + Duration::from_secs(1)).unwrap();
        assert!(!compiler.alive());
        drop(old);
        assert!(compiler.alive(), "it has ended");
        let place = compiler.place().await.unwrap();
        assert!(compiler.stuck_for(Duration::ZERO).is_none(), "there are two places");
        drop((young, place));
    }
}
