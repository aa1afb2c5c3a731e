//! Identifiers: one newtype per kind of object, and the one place that makes new ones.
//!
//! Ids are opaque strings to everybody outside. The ones made here are UUIDv7 (RFC 9562), so that rows
//! written together lie together. Tests seed [`Ids`] and get the same ids every time.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use uuid::{ContextV7, Uuid};

use crate::clock::Clock;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid.to_string())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(/** One run of an agent. */ RunId);
id!(/** A conversation: the runs that share a history. A UUID, which the caller may choose. */ SessionId);
id!(/** An agent, by the name its configuration gives it. */ AgentId);
id!(/** A tenant. */ OrgId);
id!(/** A person or program inside a tenant. */ UserId);
id!(
    /// One tool call, unique in its run: the model provider's id where it gave a usable one.
    CallId
);
id!(/** One request for a human's decision. */ ApprovalId);
id!(/** An API key (the row, not the token). */ KeyId);

/// Where new ids come from.
#[derive(Clone, Debug)]
pub struct Ids {
    clock: Clock,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Random(Arc<Mutex<ContextV7>>),
    Seeded(Arc<AtomicU64>),
}

impl Ids {
    /// Random ids that sort by the clock's time.
    pub fn random(clock: Clock) -> Self {
        Self { clock, source: Source::Random(Arc::new(Mutex::new(ContextV7::new()))) }
    }

    /// `…-000000000001`, `…-000000000002` and so on.
    pub fn seeded(clock: Clock) -> Self {
        Self { clock, source: Source::Seeded(Arc::new(AtomicU64::new(1))) }
    }

    pub fn next<T: From<Uuid>>(&self) -> T {
        let millis = self.clock.now().as_millis().unsigned_abs();
        let uuid = match &self.source {
            Source::Random(context) => {
                let nanos = u32::try_from(millis % 1000).unwrap_or(0) * 1_000_000;
                Uuid::new_v7(uuid::Timestamp::from_unix(context.as_ref(), millis / 1000, nanos))
            }
            Source::Seeded(counter) => {
                let mut tail = [0_u8; 10];
                tail[2..].copy_from_slice(&counter.fetch_add(1, Ordering::Relaxed).to_be_bytes());
                uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid()
            }
        };
        T::from(uuid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_sort_by_the_order_they_were_made_in() {
        let ids = Ids::random(Clock::System);
        let made: Vec<RunId> = (0..1000).map(|_| ids.next()).collect();
        assert!(made.is_sorted(), "UUIDv7 made by one process is monotonic");
    }

    #[test]
    fn seeded_ids_are_the_same_every_time() {
        let make = || -> Vec<RunId> {
            let ids = Ids::seeded(Clock::manual());
            (0..3).map(|_| ids.next()).collect()
        };
        assert_eq!(make(), make());
    }
}
