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

/// Whether a request failed because the client may not go there.
pub(crate) fn was_refused(error: &reqwest::Error) -> bool {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = source {
        if error.is::<NotPublic>() {
            return true;
        }
        source = error.source();
    }
    false
}

#[derive(Debug, thiserror::Error)]
#[error("the name resolves to an address that is not public")]
struct NotPublic;

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
                return Err(Box::from(NotPublic));
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_that_leads_inside_is_followed_only_where_that_is_allowed() {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://localhost:{}/", server.local_addr().unwrap().port());
        let timeout = Duration::from_secs(5);
        let refused = client(Reach::Public, timeout).unwrap().get(&url).send().await.unwrap_err();
        assert!(was_refused(&refused), "{refused:?}");
        let private = client(Reach::Private, timeout).unwrap();
        let asked = tokio::spawn(private.get(&url).send());
        server.accept().await.unwrap();
        asked.abort();
    }
}
