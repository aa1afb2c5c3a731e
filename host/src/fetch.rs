//! HTTP clients for URLs that somebody chose: no redirects, no proxy, and connections only to addresses that
//! were checked.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::address::is_public;

/// Names that resolve to private addresses are refused unless `allow_private`. Literal addresses never reach
/// the resolver: whoever takes a URL checks those.
pub(crate) fn client(allow_private: bool, timeout: Duration) -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .dns_resolver(Arc::new(CheckedResolver { allow_private }))
        .no_proxy()
        .timeout(timeout)
        .build()
}

/// Resolves a name once and keeps the public addresses only: what is checked is what is connected to.
struct CheckedResolver {
    allow_private: bool,
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let addresses: Vec<SocketAddr> = found.collect();
            if !allow_private && addresses.iter().any(|address| !is_public(address.ip())) {
                return Err("the name resolves to an address that is not public".into());
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
