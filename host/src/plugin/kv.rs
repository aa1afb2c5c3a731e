//! `holdfast:plugin/kv`: small values that outlive a call. The only plugin file that sees stored values.
//!
//! The space is made from the call's own identity, so a guest has no way to name another plugin's,
//! user's or session's values. Linked only where `kv` is granted.

use std::sync::Arc;

use super::bindings::holdfast::plugin::kv as wit;
use super::call::{CallIdentity, CallState};
use super::limits::Limits;
use crate::store::{KvCondition, KvRefusal, KvSpace, Store, StoreError};

/// Largest value. What is bigger is a document, and this is not the place for those.
const MAX_VALUE: usize = 64 << 10;
const MAX_KEY: usize = 512;
const MAX_LIST: u32 = 1000;

const BROKEN: &str = "the host's store did not answer: try again later";

impl wit::Host for CallState {
    async fn get(
        &mut self,
        scope: wit::Scope,
        key: String,
    ) -> wasmtime::Result<Result<Option<wit::Entry>, wit::Error>> {
        self.meter.host_call(&self.limits, key.len())?;
        Ok(self.values().get(scope, key).await)
    }

    async fn put(
        &mut self,
        scope: wit::Scope,
        key: String,
        value: Vec<u8>,
        expected: Option<u64>,
    ) -> wasmtime::Result<Result<u64, wit::Error>> {
        self.meter.host_call(&self.limits, key.len().saturating_add(value.len()))?;
        Ok(self.values().put(scope, key, value, expected).await)
    }

    async fn delete(
        &mut self,
        scope: wit::Scope,
        key: String,
        expected: Option<u64>,
    ) -> wasmtime::Result<Result<bool, wit::Error>> {
        self.meter.host_call(&self.limits, key.len())?;
        Ok(self.values().delete(scope, key, expected).await)
    }

    async fn list_keys(
        &mut self,
        scope: wit::Scope,
        prefix: String,
        after: Option<String>,
        limit: u32,
    ) -> wasmtime::Result<Result<Vec<String>, wit::Error>> {
        let bytes = prefix.len().saturating_add(after.as_ref().map_or(0, String::len));
        self.meter.host_call(&self.limits, bytes)?;
        Ok(self.values().list(scope, prefix, after, limit).await)
    }
}

/// What the functions need of the call. Unlike the whole [`CallState`], threads can share it.
#[derive(Clone, Copy)]
struct Values<'a> {
    plugin: &'a str,
    limits: &'a Limits,
    call: Option<&'a CallIdentity>,
}

impl CallState {
    fn values(&self) -> Values<'_> {
        Values { plugin: &self.log.plugin, limits: &self.limits, call: self.call.as_ref() }
    }
}

impl Values<'_> {
    async fn get(self, scope: wit::Scope, key: String) -> Result<Option<wit::Entry>, wit::Error> {
        check_key(&key)?;
        let space = self.space(scope)?;
        let entry = self.ask(move |store| async move { store.kv_get(&space, &key).await }).await?;
        Ok(entry.map(|entry| wit::Entry { value: entry.value, version: entry.version }))
    }

    async fn put(
        self,
        scope: wit::Scope,
        key: String,
        value: Vec<u8>,
        expected: Option<u64>,
    ) -> Result<u64, wit::Error> {
        check_key(&key)?;
        if value.len() > MAX_VALUE {
            return Err(wit::Error::QuotaExceeded(format!("a value holds at most {MAX_VALUE} bytes")));
        }
        let space = self.space(scope)?;
        let condition =
            KvCondition { expected, max_bytes: self.limits.kv_bytes, max_entries: self.limits.kv_entries };
        self.ask(move |store| async move { store.kv_put(&space, &key, &value, condition).await })
            .await?
            .map_err(|refusal| self.refused(refusal))
    }

    async fn delete(self, scope: wit::Scope, key: String, expected: Option<u64>) -> Result<bool, wit::Error> {
        check_key(&key)?;
        let space = self.space(scope)?;
        self.ask(move |store| async move { store.kv_delete(&space, &key, expected).await })
            .await?
            .map_err(|refusal| self.refused(refusal))
    }

    async fn list(
        self,
        scope: wit::Scope,
        prefix: String,
        after: Option<String>,
        limit: u32,
    ) -> Result<Vec<String>, wit::Error> {
        for text in std::iter::once(&prefix).chain(&after) {
            check_text(text)?;
        }
        let space = self.space(scope)?;
        let limit = limit.min(MAX_LIST);
        self.ask(move |store| async move { store.kv_list(&space, &prefix, after.as_deref(), limit).await })
            .await
    }

    /// Runs a query on the server's own runtime: a database connection belongs to the runtime that opened
    /// it, and a guest that is cut off must not leave one half used.
    async fn ask<T, F>(self, query: impl FnOnce(Arc<dyn Store>) -> F) -> Result<T, wit::Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let Some(call) = self.call else {
            return Err(not_while_describing());
        };
        let answer = call.home.spawn(query(Arc::clone(&call.store))).await;
        let error: Box<dyn std::error::Error> = match answer {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error.into(),
            Err(error) => error.into(),
        };
        tracing::error!(plugin.id = self.plugin, run.id = %call.run, error = &*error, "a plugin's kv query failed");
        Err(wit::Error::Failed(BROKEN.to_owned()))
    }

    fn space(self, scope: wit::Scope) -> Result<KvSpace, wit::Error> {
        let call = self.call.ok_or_else(not_while_describing)?;
        Ok(space(self.plugin, call, scope))
    }

    fn refused(self, refusal: KvRefusal) -> wit::Error {
        match refusal {
            KvRefusal::Conflict(current) => wit::Error::Conflict(current),
            KvRefusal::Bytes => wit::Error::QuotaExceeded(format!(
                "keys and values may take at most {} bytes in this scope",
                self.limits.kv_bytes
            )),
            KvRefusal::Entries => wit::Error::QuotaExceeded(format!(
                "this scope holds at most {} entries",
                self.limits.kv_entries
            )),
        }
    }
}

fn space(plugin: &str, call: &CallIdentity, scope: wit::Scope) -> KvSpace {
    let (scope, scope_id) = match scope {
        wit::Scope::Plugin => ("plugin", ""),
        wit::Scope::User => ("user", call.owner.user.as_str()),
        wit::Scope::Session => ("session", call.session.as_str()),
    };
    KvSpace { plugin: plugin.to_owned(), org: call.owner.org.clone(), scope, scope_id: scope_id.to_owned() }
}

fn not_while_describing() -> wit::Error {
    wit::Error::Failed("nothing is stored while a plugin describes its tools".to_owned())
}

fn check_key(key: &str) -> Result<(), wit::Error> {
    if key.is_empty() {
        return Err(wit::Error::InvalidKey("a key may not be empty".to_owned()));
    }
    check_text(key)
}

fn check_text(key: &str) -> Result<(), wit::Error> {
    if key.len() > MAX_KEY {
        return Err(wit::Error::InvalidKey(format!("a key holds at most {MAX_KEY} bytes")));
    }
    if key.chars().any(char::is_control) {
        return Err(wit::Error::InvalidKey("a key may not hold control characters".to_owned()));
    }
    Ok(())
}
