//! How many requests each API key may make: a token bucket per key, in memory.
//!
//! A bucket is kept as one time, the moment at which it will be full again (GCRA): a request moves it by
//! the time that one token takes to come back, and is refused if that would be further away than the
//! whole bucket. Requests without a valid token never get here, and cost one look-up.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::{Clock, Timestamp};
use crate::id::KeyId;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    pub per_minute: NonZeroU32,
    /// Most requests at once after a pause.
    pub burst: NonZeroU32,
}

/// Cheap to clone; all clones share the buckets.
#[derive(Clone)]
pub(crate) struct RateLimiter {
    /// None = everybody may ask as often as they like.
    limit: Option<RateLimit>,
    clock: Clock,
    /// When each bucket is full again, in microseconds. None is the bootstrap token.
    full_at: Arc<Mutex<HashMap<Option<KeyId>, i64>>>,
}

impl RateLimiter {
    pub(crate) fn new(limit: Option<RateLimit>, clock: Clock) -> Self {
        Self { limit, clock, full_at: Arc::default() }
    }

    /// Takes a token, or says after how many seconds there will be one.
    pub(crate) fn take(&self, key: Option<&KeyId>) -> Result<(), u64> {
        let Some(limit) = self.limit else { return Ok(()) };
        let now = micros(self.clock.now());
        // What it guards is whole after every statement.
        let mut buckets = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = buckets.entry(key.cloned()).or_insert(now);
        let next = limit.after(*full_at, now)?;
        *full_at = next;
        Ok(())
    }
}

impl RateLimit {
    /// When the bucket is full again after one more request.
    fn after(self, full_at: i64, now: i64) -> Result<i64, u64> {
        let token = (60_000_000 / i64::from(self.per_minute.get())).max(1);
        let bucket = token.saturating_mul(i64::from(self.burst.get()));
        // Where the clock went back, a bucket is at most empty.
        let full_at = full_at.clamp(now, now.saturating_add(bucket));
        let next = full_at.saturating_add(token);
        let wait = next - bucket - now;
        if wait <= 0 { Ok(next) } else { Err(wait.unsigned_abs().div_ceil(1_000_000)) }
    }
}

fn micros(at: Timestamp) -> i64 {
    at.as_millis().saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn limiter(per_minute: u32, burst: u32, clock: &Clock) -> RateLimiter {
        let limit = RateLimit {
            per_minute: NonZeroU32::new(per_minute).unwrap(),
            burst: NonZeroU32::new(burst).unwrap(),
        };
        RateLimiter::new(Some(limit), clock.clone())
    }

    #[test]
    fn a_bucket_empties_and_fills_again() {
        let clock = Clock::manual();
        let limiter = limiter(60, 3, &clock);
        let taken = |count: usize| (0..count).filter(|_| limiter.take(None).is_ok()).count();
        assert_eq!(taken(10), 3);
        assert_eq!(limiter.take(None), Err(1));
        clock.advance(Duration::from_millis(999));
        assert_eq!(limiter.take(None), Err(1));
        clock.advance(Duration::from_millis(1));
        assert_eq!(taken(10), 1);
        clock.advance(Duration::from_hours(1));
        assert_eq!(taken(10), 3, "it holds no more than it holds");
    }

    #[test]
    fn keys_do_not_share_a_bucket() {
        let limiter = limiter(1, 1, &Clock::manual());
        let key = KeyId::from("a");
        assert_eq!((limiter.take(None), limiter.take(Some(&key))), (Ok(()), Ok(())));
        assert_eq!((limiter.take(None), limiter.take(Some(&key))), (Err(60), Err(60)));
    }

    #[test]
    fn a_clock_that_goes_back_locks_nobody_out() {
        let limit = RateLimit { per_minute: NonZeroU32::MIN, burst: NonZeroU32::MIN };
        assert_eq!(limit.after(i64::MAX, 0), Err(60));
    }
}
