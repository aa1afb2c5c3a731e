//! Which headers a guest may set, and which ones of a response it gets to see.
//!
//! Refused are those that end or route a message, those that carry credentials (they are the host's to set), and
//! those by which servers and proxies let a request be another one than it seems: then the grant would have been
//! for something else. Names are compared with `_` as `-`, as many servers read them.
//!
//! A response's `set-cookie` stays here: what a secret opened must not be a secret in the guest's hands.

use std::collections::BTreeSet;

use http::{HeaderMap, HeaderName};

use crate::plugin::grant::SecretRule;

const REFUSED: [&str; 44] = [
    // Where a message ends, and who gets it.
    "connection",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    // Credentials.
    "authorization",
    "cookie",
    "cookie2",
    "proxy-authenticate",
    "proxy-authorization",
    // Who asks.
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "client-ip",
    "fastly-client-ip",
    "forwarded",
    "forwarded-for",
    "forwarded-for-ip",
    "true-client-ip",
    "via",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-forwarded",
    "x-original-forwarded-for",
    "x-originating-ip",
    "x-real-ip",
    "x-remote-addr",
    "x-remote-ip",
    "x-remote-user",
    // What is asked for.
    "x-host",
    "x-http-host-override",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-host",
    "x-original-method",
    "x-original-uri",
    "x-original-url",
    "x-rewrite-uri",
    "x-rewrite-url",
];
const REFUSED_FAMILIES: [&str; 3] = ["proxy-", "x-forwarded-", "sec-websocket-"];

/// The headers that are the host's alone, for one plugin.
#[derive(Clone, Debug, Default)]
pub(super) struct Reserved {
    /// Those that its secrets stand in, wherever the request goes.
    injected: BTreeSet<String>,
}

impl Reserved {
    pub(super) fn new(rules: &[SecretRule]) -> Self {
        let header = |rule: &SecretRule| match rule {
            SecretRule::Header { header, .. } => Some(header.as_str().to_owned()),
            SecretRule::Hmac { .. } => None,
        };
        Self { injected: rules.iter().filter_map(header).collect() }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        is_refused(name) || self.injected.contains(&name.replace('_', "-"))
    }

    /// The headers of a response that reach a guest.
    pub(super) fn for_guest(&self, mut headers: HeaderMap) -> HeaderMap {
        let kept_back = |name: &HeaderName| {
            self.has(name.as_str()) || matches!(name.as_str(), "set-cookie" | "set-cookie2")
        };
        let names: Vec<HeaderName> = headers.keys().filter(|name| kept_back(name)).cloned().collect();
        for name in names {
            headers.remove(name);
        }
        headers
    }
}

fn is_refused(name: &str) -> bool {
    let normal = name.replace('_', "-");
    // A guest may set this one, whose value wasmtime checks; another spelling of it goes unchecked.
    let unchecked = normal == "content-length" && name != normal;
    let name = normal;
    unchecked
        || REFUSED.contains(&name.as_str())
        || REFUSED_FAMILIES.iter().any(|family| name.starts_with(family))
}

/// Bytes of names and values, with what stands between them.
pub(super) fn size(headers: &HeaderMap) -> u64 {
    headers.iter().map(|(name, value)| (name.as_str().len() + value.len() + 4) as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_headers_are_refused_however_they_are_written() {
        for name in ["x-forwarded", "x-client-ip", "x-original-uri", "X_Remote_Addr", "cf-connecting-ip"] {
            assert!(is_refused(&name.to_ascii_lowercase()), "{name}");
        }
        for name in ["host", "x_forwarded_for", "transfer_encoding", "content_length", "proxy-foo", "cookie"]
        {
            assert!(is_refused(name), "{name}");
        }
        for name in ["accept", "content-length", "content-type", "user-agent", "x-request-id", "range"] {
            assert!(!is_refused(name), "{name}");
        }
    }
}
