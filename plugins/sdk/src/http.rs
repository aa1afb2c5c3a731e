//! Requests over HTTP, to where the operator lets the plugin: `[[plugins.<id>.grants.http]]`.
//!
//! ```no_run
//! # use holdfast_plugin::{Failure, http::Request};
//! # fn forecast() -> Result<serde_json::Value, Failure> {
//! let response = Request::get("https://api.example.com/forecast?town=Ulm").send()?;
//! response.json()
//! # }
//! ```
//!
//! Redirects are answers like others: a plugin that wants to follow one sends another request. Credentials, `host`
//! and the like are the host's to set and are refused. In unit tests, [`answer_with`] stands in for the network.

#[cfg(not(target_family = "wasm"))]
mod memory;
#[cfg(target_family = "wasm")]
mod wasi;

use serde::de::DeserializeOwned;

#[cfg(not(target_family = "wasm"))]
use self::memory as host;
#[cfg(not(target_family = "wasm"))]
pub use self::memory::answer_with;
#[cfg(target_family = "wasm")]
use self::wasi as host;
use crate::Failure;

/// How much of a response is read where nothing else is said: 1 MiB.
pub const MAX_BODY: usize = 1 << 20;

/// A request that is being made.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub max_body: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    /// Names in small letters, in the order they came.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The body was longer than what was to be read of it.
    pub is_cut: bool,
}

/// There is no response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The URL, a header or the method cannot be sent; in words.
    Invalid(String),
    /// The operator did not allow it.
    Denied,
    /// The server was not reached, or did not answer properly; in words.
    Failed(String),
}

impl Request {
    pub fn new(method: &str, url: &str) -> Self {
        Self {
            method: method.to_owned(),
            url: url.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            max_body: MAX_BODY,
        }
    }

    pub fn get(url: &str) -> Self {
        Self::new("GET", url)
    }

    pub fn post(url: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::new("POST", url) }
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Reads no more than this of the response.
    #[must_use]
    pub fn max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }

    /// Sends it and waits. A status that means an error is a response all the same.
    pub fn send(&self) -> Result<Response, Error> {
        host::send(self)
    }
}

impl Response {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        Some(&found.1)
    }

    /// The body; what is no UTF-8 in it is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| {
            Failure::new("not-json", format!("The server did not answer with JSON: {error}."))
        })
    }
}

/// Scheme, authority, and path with query.
pub(crate) fn split(url: &str) -> Result<(&str, &str, &str), Error> {
    let invalid = || Error::Invalid(format!("`{url}` is no URL that begins with https:// or http://"));
    let (scheme, rest) = url.split_once("://").ok_or_else(invalid)?;
    if !["https", "http"].contains(&scheme) {
        return Err(invalid());
    }
    let rest = rest.split('#').next().unwrap_or(rest);
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.is_empty() { Err(invalid()) } else { Ok((scheme, authority, path)) }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid(problem) => Self::new("invalid-request", problem),
            Error::Denied => Self::new("not-allowed", "The plugin may not send this request."),
            Error::Failed(problem) => Self::new("no-response", problem),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_split_where_its_host_ends() {
        assert_eq!(split("https://a.b:1/c?d=e#f"), Ok(("https", "a.b:1", "/c?d=e")));
        assert_eq!(split("http://a?b"), Ok(("http", "a", "?b")));
        assert_eq!(split("http://a#/b"), Ok(("http", "a", "")));
        for url in ["a.b", "ftp://a", "https://", "https:///a", ""] {
            assert!(split(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_unit_test_answers_for_the_network() {
        answer_with(|request| {
            assert_eq!(request.url, "https://a.example/");
            Ok(Response { status: 200, body: b"{\"n\": 1}".to_vec(), ..Response::default() })
        });
        let response = Request::get("https://a.example/").max_body(4).send().unwrap();
        assert_eq!((response.text().as_str(), response.is_cut), ("{\"n\"", true));
        let response = Request::get("https://a.example/").send().unwrap();
        assert_eq!(response.json::<serde_json::Value>().unwrap()["n"], 1);
    }
}
