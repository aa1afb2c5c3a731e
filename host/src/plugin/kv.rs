//! `holdfast:plugin/kv`: small values that outlive a call. The only plugin file that sees stored values.
//!
//! The space is made from the call's own identity, so a guest has no way to name another plugin's,
//! user's or session's values. Linked only where `kv` is granted.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::bindings::holdfast::plugin::kv as wit;
use super::call::{CallIdentity, CallState};
use super::grant::KvScope;
use super::limits::Limits;
use super::meter::{Denial, Meter};
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
    granted: &'a BTreeSet<KvScope>,
    meter: &'a Meter,
    call: Option<&'a CallIdentity>,
}

impl CallState {
    fn values(&self) -> Values<'_> {
        Values {
            plugin: &self.log.plugin,
            limits: &self.limits,
            granted: &self.grants.kv.scopes,
            meter: &self.meter,
            call: self.call.as_ref(),
        }
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
        let (asked, word) = match scope {
            wit::Scope::Plugin => (KvScope::Plugin, "plugin"),
            wit::Scope::User => (KvScope::User, "user"),
            wit::Scope::Session => (KvScope::Session, "session"),
        };
        if !self.granted.contains(&asked) {
            self.meter.denied(Denial {
                capability: "kv",
                what: format!("values of the scope {word}"),
                setting: Some(format!("grants.kv = [\"{word}\"]")),
            });
            return Err(wit::Error::Failed(format!("denied: values of the scope {word} are not granted")));
        }
        Ok(space(self.plugin, call, scope))
    }

    fn refused(self, refusal: KvRefusal) -> wit::Error {
        match refusal {
            KvRefusal::RunEnded => wit::Error::Failed("the run has ended".to_owned()),
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
    KvSpace {
        run: Some(call.run.clone()),
        plugin: plugin.to_owned(),
        org: call.owner.org.clone(),
        scope,
        scope_id: scope_id.to_owned(),
    }
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

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::id::{OrgId, RunId, SessionId, UserId};
    use crate::plugin::tests::store;
    use crate::session::Owner;

    fn call(store: &Arc<dyn Store>, org: &str, user: &str, session: &str) -> CallIdentity {
        CallIdentity {
            run: RunId::from("run"),
            session: SessionId::from(session),
            owner: Owner { org: OrgId::from(org), user: UserId::from(user) },
            cancelled: CancellationToken::new(),
            store: Arc::clone(store),
            home: tokio::runtime::Handle::current(),
        }
    }

    static ALL: LazyLock<BTreeSet<KvScope>> = LazyLock::new(|| KvScope::ALL.into());
    static METER: LazyLock<Meter> = LazyLock::new(Meter::default);

    fn values<'a>(plugin: &'a str, limits: &'a Limits, call: &'a CallIdentity) -> Values<'a> {
        Values { plugin, limits, granted: &ALL, meter: &METER, call: Some(call) }
    }

    #[tokio::test]
    async fn a_scope_that_is_not_granted_is_denied() {
        let (store, _folder) = store().await;
        let (limits, meter) = (Limits::default(), Meter::default());
        let (ann, granted) = (call(&store, "acme", "ann", "s1"), BTreeSet::from([KvScope::User]));
        let values =
            Values { plugin: "notes", limits: &limits, granted: &granted, meter: &meter, call: Some(&ann) };
        assert_eq!(values.put(wit::Scope::User, "k".to_owned(), vec![1], None).await, Ok(1));
        assert_eq!(meter.denials(), []);
        let denied = values.put(wit::Scope::Plugin, "k".to_owned(), vec![1], None).await;
        let text = "denied: values of the scope plugin are not granted".to_owned();
        assert_eq!(denied, Err(wit::Error::Failed(text)));
        assert!(values.get(wit::Scope::Session, "k".to_owned()).await.is_err());
        assert!(values.get(wit::Scope::Session, "l".to_owned()).await.is_err());
        let denials = meter.denials();
        let denials: Vec<_> = denials.iter().map(|(it, count)| (it.setting.as_deref(), *count)).collect();
        let expected = [(Some("grants.kv = [\"plugin\"]"), 1), (Some("grants.kv = [\"session\"]"), 2)];
        assert_eq!(denials, expected);
        assert_eq!(meter.usage().denials, [("kv".to_owned(), 3)].into());
    }

    #[tokio::test]
    async fn nobody_sees_another_ones_values() {
        let (store, _folder) = store().await;
        let limits = Limits::default();
        let ann = call(&store, "acme", "ann", "s1");
        let scopes = [wit::Scope::Plugin, wit::Scope::User, wit::Scope::Session];
        for scope in scopes {
            let put = values("notes", &limits, &ann).put(scope, "k".to_owned(), vec![1], Some(0));
            assert_eq!(put.await, Ok(1));
        }
        let seen = async |plugin: &str, org: &str, user: &str, session: &str| {
            let call = call(&store, org, user, session);
            let mut seen = Vec::new();
            for scope in scopes {
                let entry = values(plugin, &limits, &call).get(scope, "k".to_owned()).await;
                seen.push(entry.unwrap().is_some());
            }
            seen
        };
        assert_eq!(seen("notes", "acme", "ann", "s1").await, [true, true, true]);
        assert_eq!(seen("notes", "acme", "ann", "s2").await, [true, true, false]);
        assert_eq!(seen("notes", "acme", "bob", "s2").await, [true, false, false]);
        assert_eq!(seen("notes", "evil", "ann", "s2").await, [false, false, false]);
        assert_eq!(seen("other", "acme", "ann", "s1").await, [false, false, false]);
    }

    #[tokio::test]
    async fn refusals_are_the_guests_to_read() {
        let (store, _folder) = store().await;
        let limits = Limits { kv_bytes: 10, ..Limits::default() };
        let ann = call(&store, "acme", "ann", "s1");
        let values = values("notes", &limits, &ann);
        let put = |key: &str, bytes: usize, expected| {
            values.put(wit::Scope::User, key.to_owned(), vec![0; bytes], expected)
        };
        assert_eq!(put("k", 1, Some(3)).await, Err(wit::Error::Conflict(0)));
        assert!(matches!(put("k", 11, None).await, Err(wit::Error::QuotaExceeded(_))));
        assert!(matches!(put("k", 70_000, None).await, Err(wit::Error::QuotaExceeded(_))));
        for key in ["", "a\nb", &"x".repeat(513)] {
            assert!(matches!(put(key, 1, None).await, Err(wit::Error::InvalidKey(_))));
        }
        store.close().await;
        let deleted = values.delete(wit::Scope::User, "k".to_owned(), None).await;
        assert_eq!(deleted, Err(wit::Error::Failed(BROKEN.to_owned())));
        let describing = Values { call: None, ..values };
        let denied = describing.get(wit::Scope::User, "k".to_owned()).await;
        assert_eq!(denied, Err(not_while_describing()));
    }
}
