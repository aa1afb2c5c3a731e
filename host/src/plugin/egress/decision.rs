//! Whether a request may be sent: a pure function of what the guest asks for and of what was granted.
//!
//! A URL is read by one parser, and what it made of it is what is compared, looked up, connected to and sent:
//! nothing behind this looks at the guest's text again. Spellings that two parsers could read in two ways are
//! refused, not repaired.

use std::fmt;
use std::net::IpAddr;

use url::Host;

use super::super::destination::{Scheme, host};
use super::super::grant::HttpRule;
use crate::address::is_public;
use crate::escape::escaped;

/// What a guest asks for. Guest-controlled throughout.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) method: &'a str,
    pub(super) scheme: &'a str,
    /// Host and port.
    pub(super) authority: &'a str,
    /// With the query.
    pub(super) path: &'a str,
}

/// Where an allowed request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Destination {
    pub(super) scheme: Scheme,
    /// In its normal form.
    pub(super) host: Host<String>,
    pub(super) port: u16,
    /// With the query.
    pub(super) path: String,
    /// A rule allows addresses that are not public.
    pub(super) private: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is no one way to read it.
    Malformed(&'static str),
    NotGranted,
    /// It is, but the address is not public.
    NotPublic,
}

/// Longest host name in DNS.
const MAX_NAME: usize = 253;

pub(super) fn decide(asked: &Asked<'_>, rules: &[HttpRule]) -> Result<Destination, Refusal> {
    let scheme = match asked.scheme {
        "https" => Scheme::Https,
        "http" => Scheme::Http,
        _ => return Err(Refusal::Malformed("the scheme is neither https nor http")),
    };
    let (host, port) = authority(asked.authority).map_err(Refusal::Malformed)?;
    let port = port.unwrap_or(scheme.port());
    let path = path(asked.path).map_err(Refusal::Malformed)?;
    let mut covering = rules
        .iter()
        .filter(|rule| (rule.scheme, rule.port()) == (scheme, port) && rule.host.matches(&host))
        .filter(|rule| rule.methods.iter().any(|method| method.as_str() == asked.method))
        .peekable();
    if covering.peek().is_none() {
        return Err(Refusal::NotGranted);
    }
    let private = covering.any(|rule| rule.private);
    if !private && literal(&host).is_some_and(|address| !is_public(address)) {
        return Err(Refusal::NotPublic);
    }
    Ok(Destination { scheme, host, port, path: path.to_owned(), private })
}

/// The address that a host is, if it is one.
pub(super) fn literal(host: &Host<String>) -> Option<IpAddr> {
    match host {
        Host::Domain(_) => None,
        Host::Ipv4(v4) => Some((*v4).into()),
        Host::Ipv6(v6) => Some((*v6).into()),
    }
}

fn authority(text: &str) -> Result<(Host<String>, Option<u16>), &'static str> {
    // No user names; nothing that some parser decodes or cuts at: `%` in names and in zones of IPv6 addresses.
    let odd = |byte: u8| !byte.is_ascii_graphic() || b"@%\\/?#\"<>^`{|}*,;".contains(&byte);
    if text.bytes().any(odd) {
        return Err("the host is no plain host name or address");
    }
    let (name, rest) = match text.strip_prefix('[') {
        Some(inner) => {
            let end = inner.find(']').ok_or("the address has no end")?;
            text.split_at(end + 2)
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = match rest.strip_prefix(':') {
        None if rest.is_empty() => None,
        None => return Err("there is more behind the host than a port"),
        Some(digits) => Some(port(digits).ok_or("the port is no number from 1 to 65535")?),
    };
    let host = host(name).ok_or("the host is no host name or address")?;
    if matches!(&host, Host::Domain(name) if name.len() > MAX_NAME || name.contains("..")) {
        return Err("the host is no host name");
    }
    Ok((host, port))
}

/// Digits only: `parse` would take a plus sign as well.
fn port(digits: &str) -> Option<u16> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    digits.parse().ok().filter(|_| plain)
}

fn path(text: &str) -> Result<&str, &'static str> {
    if text.is_empty() {
        return Ok("/");
    }
    if !text.starts_with('/') {
        return Err("the path does not begin with /");
    }
    if text.bytes().any(|byte| !byte.is_ascii_graphic() || byte == b'#') {
        return Err("the path has characters that must be percent-encoded");
    }
    Ok(text)
}

/// For the operator's log. Without the path: it can be long, and it can be anything.
impl fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = [(self.method, 20), (self.scheme, 20), (self.authority, 100)];
        let [method, scheme, authority] = shown.map(|(text, most)| escaped(text, most));
        write!(f, "{method} {scheme}://{authority}")
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed(what) => what,
            Self::NotGranted => "no rule covers this host, port, scheme and method",
            Self::NotPublic => "the address is not public, and the rule has no `private = true`",
        })
    }
}

/// Host and port as the `host` header has them.
impl Destination {
    pub(super) fn authority(&self) -> String {
        if self.port == self.scheme.port() {
            return self.host.to_string();
        }
        format!("{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests;
