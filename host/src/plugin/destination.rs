//! Hosts and URLs as grants name them, in one normal form.
//!
//! Names go through the URL standard's host parser: IDNA, small letters, and every spelling of an IPv4 address
//! that a browser would take. What is compared with them must have gone through the same.

use std::fmt;

use serde::{Deserialize, Serialize};
use url::{Host, Url};

use crate::escape::escaped;

/// Which hosts a rule is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum HostPattern {
    /// `*`
    Any,
    /// `*.example.com`: every name below it, and not itself.
    Below(String),
    /// One name or address.
    One(Host<String>),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    #[default]
    Https,
    Http,
}

/// Where a secret may go: an origin and the beginning of the path, such as `https://api.example.com/v1/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Audience(Url);

/// A host in its normal form: as the URL standard parses it, without the dot at the end that some names have.
pub(super) fn host(text: &str) -> Option<Host<String>> {
    let host = Host::parse(text.strip_suffix('.').unwrap_or(text)).ok()?;
    match host {
        // Another dot, nothing but dots, or what only a pattern may hold.
        Host::Domain(name)
            if name.is_empty() || name.ends_with('.') || name.starts_with('.') || name.contains('*') =>
        {
            None
        }
        host => Some(host),
    }
}

impl HostPattern {
    pub fn is_any(&self) -> bool {
        *self == Self::Any
    }

    pub fn matches(&self, host: &Host<String>) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (Self::Below(base), Host::Domain(name)) => is_below(name, base),
            (Self::Below(_), Host::Ipv4(_) | Host::Ipv6(_)) => false,
            (Self::One(one), host) => one == host,
        }
    }

    /// Whether every host of the other is one of this.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (_, Self::Any) | (Self::One(_), Self::Below(_)) => false,
            (Self::Below(base), Self::Below(other)) => base == other || is_below(other, base),
            (Self::Below(_) | Self::One(_), Self::One(host)) => self.matches(host),
        }
    }

    /// The hosts of both: of two patterns either one covers the other, or they have none in common.
    pub fn meet<'a>(&'a self, other: &'a Self) -> Option<&'a Self> {
        if self.covers(other) {
            return Some(other);
        }
        other.covers(self).then_some(self)
    }
}

fn is_below(name: &str, base: &str) -> bool {
    name.strip_suffix(base).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

impl TryFrom<String> for HostPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let below = text.strip_prefix("*.");
        match (below, host(below.unwrap_or(&text))) {
            (None, Some(host)) => Ok(Self::One(host)),
            (Some(_), Some(Host::Domain(base))) => Ok(Self::Below(base)),
            _ => Err(format!(
                "`{}` is no host: write a name, an address, *.name for all names below it, or *",
                escaped(&text, 100)
            )),
        }
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> Self {
        pattern.to_string()
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Below(base) => write!(f, "*.{base}"),
            Self::One(host) => host.fmt(f),
        }
    }
}

impl Scheme {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
        }
    }

    pub fn port(self) -> u16 {
        match self {
            Self::Https => 443,
            Self::Http => 80,
        }
    }
}

impl Audience {
    pub fn url(&self) -> &Url {
        &self.0
    }
}

impl TryFrom<String> for Audience {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let refused = |what: &str| format!("`{}` {what}", escaped(&text, 200));
        let mut url: Url = text.parse().map_err(|_| refused("is no URL: write https://host/path/"))?;
        if !matches!(url.scheme(), "https" | "http") || !url.username().is_empty() || url.password().is_some()
        {
            return Err(refused("must begin with https:// or http:// and hold no user name"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refused("must end with its path"));
        }
        let normal = url.host_str().and_then(host).ok_or_else(|| refused("has no host"))?;
        url.set_host(Some(&normal.to_string())).map_err(|_| refused("has no host"))?;
        Ok(Self(url))
    }
}

impl From<Audience> for String {
    fn from(audience: Audience) -> Self {
        audience.0.into()
    }
}

impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> HostPattern {
        text.to_owned().try_into().unwrap()
    }

    #[test]
    fn spellings_of_one_host_are_one_host() {
        for (text, normal) in [
            ("Example.COM.", "example.com"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("0x7f.1", "127.0.0.1"),
            ("2130706433", "127.0.0.1"),
            ("[::FFFF:127.0.0.1]", "[::ffff:7f00:1]"),
        ] {
            assert_eq!(pattern(text).to_string(), normal, "{text}");
        }
        for text in [
            "",
            ".",
            "a..",
            "*",
            "ex ample.com",
            "a/b",
            "user@host",
            "host:80",
            "a.*.b",
            "*.1.2.3.4",
            "1.2.3.400",
        ] {
            assert!(host(text).is_none(), "{text}");
        }
        for text in ["*.", "**", "*.*", "*.1.2.3.4", "a.*", "host:80", "https://host"] {
            assert!(HostPattern::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_below_is_below_a_dot() {
        let below = pattern("*.example.com");
        let matches = |text: &str| below.matches(&host(text).unwrap());
        assert!(matches("a.example.com") && matches("a.b.EXAMPLE.com."));
        assert!(!matches("example.com") && !matches("evilexample.com") && !matches("example.com.evil.com"));
        let one = pattern("a.example.com");
        assert_eq!(below.meet(&one), Some(&one));
        assert_eq!(one.meet(&pattern("*")), Some(&one));
        assert_eq!(one.meet(&pattern("b.example.com")), None);
        assert!(below.covers(&pattern("*.a.example.com")) && !one.covers(&below));
    }

    #[test]
    fn an_audience_is_an_origin_and_a_path() {
        let audience = |text: &str| Audience::try_from(text.to_owned());
        assert_eq!(
            audience("https://API.example.com.:443/v1/").unwrap().to_string(),
            "https://api.example.com/v1/"
        );
        for text in ["ftp://a/", "https://u:p@a/", "https://a/?q", "https://a/#f", "/v1", "https://"] {
            assert!(audience(text).is_err(), "{text}");
        }
    }
}
