//! HTTP clients for URLs that somebody else chose: no redirects, no proxy, and unless it is allowed no
//! address that is not public.
//!
//! A name is resolved once and its addresses are checked there, so that what is checked is what is connected
//! to. A client checks names only: it never resolves a literal address, so [`check_url`] comes first.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::address::is_public;

/// Whether addresses inside may be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// https to public addresses.
    Public,
    /// Also plain http and addresses that are not public.
    Private,
}

impl Reach {
    pub(crate) fn allowing_private(allowed: bool) -> Self {
        if allowed { Self::Private } else { Self::Public }
    }
}

/// A client that goes only where `reach` says.
pub(crate) fn client(reach: Reach, timeout: Duration) -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .dns_resolver(Arc::new(CheckedResolver { reach }))
        .no_proxy()
        .timeout(timeout)
        .build()
}

/// What is wrong with a URL; reads after its field's name.
pub(crate) fn check_url(url: &Url, reach: Reach) -> Result<(), &'static str> {
    let scheme_allowed = url.scheme() == "https" || (reach == Reach::Private && url.scheme() == "http");
    if !scheme_allowed || !url.username().is_empty() || url.password().is_some() {
        return Err("must be an https URL without a user name or password");
    }
    // Names are checked when they are resolved; the resolver never sees a literal address.
    let literal_allowed = match url.host() {
        Some(Host::Ipv4(v4)) => is_public(v4.into()),
        Some(Host::Ipv6(v6)) => is_public(v6.into()),
        Some(Host::Domain(name)) => !name.trim_end_matches('.').eq_ignore_ascii_case("localhost"),
        None => false,
    };
    if !literal_allowed && reach == Reach::Public {
        return Err("must not point to a private address");
    }
    Ok(())
}

struct CheckedResolver {
    reach: Reach,
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.reach;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let addresses: Vec<SocketAddr> = found.collect();
            if reach == Reach::Public && addresses.iter().any(|address| !is_public(address.ip())) {
                return Err("the name resolves to an address that is not public".into());
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
