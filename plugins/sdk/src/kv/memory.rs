//! The host's `kv` for unit tests: the same rules, in memory, for one thread (one test).

use std::{cell::RefCell, collections::BTreeMap};

use crate::raw::kv::{Entry, Error, Scope};

thread_local! {
    static VALUES: RefCell<BTreeMap<(u8, String), Entry>> = const { RefCell::new(BTreeMap::new()) };
}

pub(super) fn get(scope: Scope, key: &str) -> Result<Option<Entry>, Error> {
    let key = checked(scope, key)?;
    Ok(VALUES.with_borrow(|values| values.get(&key).cloned()))
}

pub(super) fn put(scope: Scope, key: &str, value: &[u8], expected: Option<u64>) -> Result<u64, Error> {
    let key = checked(scope, key)?;
    VALUES.with_borrow_mut(|values| {
        let version = version_if_expected(values.get(&key), expected)? + 1;
        values.insert(key, Entry { value: value.to_vec(), version });
        Ok(version)
    })
}

pub(super) fn delete(scope: Scope, key: &str, expected: Option<u64>) -> Result<bool, Error> {
    let key = checked(scope, key)?;
    VALUES.with_borrow_mut(|values| {
        version_if_expected(values.get(&key), expected)?;
        Ok(values.remove(&key).is_some())
    })
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of the host's function")]
pub(super) fn list_keys(
    scope: Scope,
    prefix: &str,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<String>, Error> {
    let limit = limit.min(1000) as usize;
    Ok(VALUES.with_borrow(|values| {
        let keys = values.keys().filter(|(of, _)| *of == scope as u8).map(|(_, key)| key);
        let wanted =
            keys.filter(|key| key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after));
        wanted.take(limit).cloned().collect()
    }))
}

fn checked(scope: Scope, key: &str) -> Result<(u8, String), Error> {
    if key.is_empty() || key.len() > 512 || key.contains(char::is_control) {
        return Err(Error::InvalidKey("a key has 1 to 512 bytes without control characters".to_owned()));
    }
    Ok((scope as u8, key.to_owned()))
}

fn version_if_expected(entry: Option<&Entry>, expected: Option<u64>) -> Result<u64, Error> {
    let version = entry.map_or(0, |entry| entry.version);
    match expected {
        Some(expected) if expected != version => Err(Error::Conflict(version)),
        _ => Ok(version),
    }
}
