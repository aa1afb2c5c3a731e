//! Small values that outlive a call. The operator grants it: `[plugins.<id>.grants] kv = true`.
//!
//! Values are stored as JSON. Several calls may run at once, so a value that is read, changed and written
//! back needs [`update`], or [`put`] with the version that was read.

#[cfg(not(target_family = "wasm"))]
mod memory;

use serde::{Serialize, de::DeserializeOwned};

#[cfg(not(target_family = "wasm"))]
use self::memory as host;
#[cfg(target_family = "wasm")]
use crate::raw::kv as host;
pub use crate::raw::kv::{Error, Scope};

/// A stored value and the version it had when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<T> {
    pub value: T,
    pub version: u64,
}

/// What must be stored under a key for a change to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Whatever is there.
    Any,
    /// Nothing.
    Absent,
    /// The version that was read.
    Version(u64),
}

impl Expect {
    fn version(self) -> Option<u64> {
        match self {
            Self::Any => None,
            Self::Absent => Some(0),
            Self::Version(version) => Some(version),
        }
    }
}

pub fn get<T: DeserializeOwned>(scope: Scope, key: &str) -> Result<Option<Entry<T>>, Error> {
    let Some(entry) = host::get(scope, key)? else {
        return Ok(None);
    };
    let value = serde_json::from_slice(&entry.value)
        .map_err(|error| Error::Failed(format!("the value of `{key}` is not what was expected: {error}")))?;
    Ok(Some(Entry { value, version: entry.version }))
}

/// Stores a value and returns its version; [`Error::Conflict`] when there is not what was expected.
pub fn put<T: Serialize>(scope: Scope, key: &str, value: &T, expect: Expect) -> Result<u64, Error> {
    let bytes = serde_json::to_vec(value).map_err(|error| Error::Failed(error.to_string()))?;
    host::put(scope, key, &bytes, expect.version())
}

/// Removes a value; false if there was none.
pub fn delete(scope: Scope, key: &str, expect: Expect) -> Result<bool, Error> {
    host::delete(scope, key, expect.version())
}

/// Up to `limit` keys that start with `prefix` and sort after `after`, in byte order. The host gives at
/// most 1000 at once.
pub fn keys(scope: Scope, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<String>, Error> {
    host::list_keys(scope, prefix, after, limit)
}

/// Reads a value (or starts with its default), changes it and writes it back; starts over when somebody
/// else was faster. Returns what `change` returned when the write succeeded.
pub fn update<T, R>(scope: Scope, key: &str, mut change: impl FnMut(&mut T) -> R) -> Result<R, Error>
where
    T: Default + Serialize + DeserializeOwned,
{
    // Of several writers one always succeeds, so this ends; the call's time limit bounds bad luck.
    loop {
        let (mut value, expect) = match get::<T>(scope, key)? {
            Some(entry) => (entry.value, Expect::Version(entry.version)),
            None => (T::default(), Expect::Absent),
        };
        let result = change(&mut value);
        match put(scope, key, &value, expect) {
            Ok(_) => return Ok(result),
            Err(Error::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_put_with_an_old_version_is_a_conflict() {
        let put = |value: &str, expect| put(Scope::User, "k", &value, expect);
        assert_eq!(put("a", Expect::Absent), Ok(1));
        assert_eq!(put("b", Expect::Version(1)), Ok(2));
        assert_eq!(put("c", Expect::Version(1)), Err(Error::Conflict(2)));
        assert_eq!(put("c", Expect::Absent), Err(Error::Conflict(2)));
        let read = get::<String>(Scope::User, "k").unwrap();
        assert_eq!(read, Some(Entry { value: "b".to_owned(), version: 2 }));
        assert_eq!(get::<String>(Scope::Plugin, "k"), Ok(None), "scopes are apart");
    }

    #[test]
    fn an_update_starts_over_when_somebody_was_faster() {
        let mut first = true;
        let result = update(Scope::User, "n", |n: &mut u32| {
            if std::mem::take(&mut first) {
                put(Scope::User, "n", &10, Expect::Any).unwrap();
            }
            *n += 1;
            *n
        });
        assert_eq!(result, Ok(11));
    }

    #[test]
    fn keys_are_listed_in_order() {
        for key in ["a/2", "a/1", "b/1", "a/3"] {
            put(Scope::User, key, &(), Expect::Any).unwrap();
        }
        assert_eq!(keys(Scope::User, "a/", Some("a/1"), 1).unwrap(), ["a/2"]);
        assert_eq!(delete(Scope::User, "a/2", Expect::Any), Ok(true));
        assert_eq!(delete(Scope::User, "a/2", Expect::Any), Ok(false));
        assert_eq!(keys(Scope::User, "a/", None, 10).unwrap(), ["a/1", "a/3"]);
    }
}
