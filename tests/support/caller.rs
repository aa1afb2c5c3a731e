//! Callers with keys of their own, beside the admin that a test host calls as.

use holdfast::clock::Clock;
use holdfast::id::{KeyId, OrgId, UserId};
use holdfast::key::{ApiKey, Role, Token};
use holdfast::session::Owner;
use holdfast::store;
use reqwest::Method;
use serde_json::Value;

use super::{Answer, TestHost};

pub(crate) struct Caller<'h> {
    host: &'h TestHost,
    client: reqwest::Client,
    token: String,
}

impl<'h> Caller<'h> {
    /// With the key `USER@ORG#N`, the host's Nth, made as `holdfast key create` does.
    pub(crate) async fn new(host: &'h TestHost, role: Role, org: &str, user: &str) -> Self {
        let token = Token::generate().expect("random bytes");
        let store = shared(host).await;
        let number = store.keys().await.expect("the store answers").len() + 1;
        let key = ApiKey {
            id: KeyId::from(format!("{user}@{org}#{number}")),
            role,
            owner: Owner { org: OrgId::from(org), user: UserId::from(user) },
            label: String::new(),
            created_at: host.clock.now(),
            revoked_at: None,
        };
        store.add_key(&key, &Token::hash(token.as_str())).await.expect("the key is new");
        store.close().await;
        Self { host, client: reqwest::Client::new(), token: token.as_str().to_owned() }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PUT, path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None).await
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request.json(body);
        }
        self.host.send(request).await
    }

    /// A request with the caller's token, to be changed before it is sent.
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.host.url)).bearer_auth(&self.token)
    }
}

/// `holdfast key revoke`.
pub(crate) async fn revoke(host: &TestHost, key: &str) {
    let store = shared(host).await;
    assert!(store.revoke_key(&KeyId::from(key), Clock::now(&host.clock)).await.expect("the store answers"));
    store.close().await;
}

async fn shared(host: &TestHost) -> std::sync::Arc<dyn store::Store> {
    let url = format!("sqlite://{}", host.folder().join("holdfast.db").display());
    store::open_shared(&url).await.expect("the database opens beside the server")
}
