//! Callers beside the admin.

use holdfast::clock::Clock;
use holdfast::id::Ids;
use holdfast::key::{ApiKey, Role, Token};
use holdfast::session::Owner;
use reqwest::Method;
use serde_json::Value;

use super::host::{Answer, TestHost};

/// Somebody with a key.
pub(crate) struct Person<'a> {
    host: &'a TestHost,
    token: String,
}

impl<'a> Person<'a> {
    /// With a key made beside the running server, as `holdfast key create` does.
    pub(crate) async fn new(host: &'a TestHost, org: &str, user: &str, role: Role) -> Self {
        let url = format!("sqlite://{}", host.folder().join("holdfast.db").display());
        let store = holdfast::store::open_shared(&url).await.expect("keys can be made beside a server");
        let token = Token::generate().expect("random numbers");
        let key = ApiKey {
            id: Ids::random(Clock::System).next(),
            role,
            owner: Owner { org: org.into(), user: user.into() },
            label: String::new(),
            created_at: Clock::System.now(),
            revoked_at: None,
        };
        store.add_key(&key, &Token::hash(token.as_str())).await.expect("the key is stored");
        store.close().await;
        Self { host, token: token.as_str().to_owned() }
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let mut request = reqwest::Client::new()
            .request(method, format!("{}{path}", self.host.url))
            .bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        self.host.send(request).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None).await
    }
}
