//! Which secrets go with a request: after it was decided, by where it goes and by nothing that the guest says.

use http::header::{ACCEPT_ENCODING, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::decision::Destination;
use crate::plugin::destination::Audience;
use crate::plugin::grant::SecretRule;
use crate::plugin::meter::Denial;
use crate::plugin::values::Values;

/// Writes the headers that hold secrets. A request that a secret should go with does not go without it.
pub(super) fn inject(
    headers: &mut HeaderMap,
    to: &Destination,
    rules: &[SecretRule],
    values: &Values,
) -> Result<(), Denial> {
    if values.forms.is_some() {
        // What is compressed could not be searched.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    let mut due: Vec<_> = rules
        .iter()
        .filter_map(|rule| match rule {
            SecretRule::Header { name, audience, header, prefix, .. } if is_origin(audience, to) => {
                Some((name, audience, header, prefix))
            }
            SecretRule::Header { .. } | SecretRule::Hmac { .. } => None,
        })
        .collect();
    if due.is_empty() {
        return Ok(());
    }
    let path = to.path.split_once('?').map_or(to.path.as_str(), |(path, _)| path);
    if is_ambiguous(path) {
        return Err(denied(
            format!(
                "a request to {}, which gets a secret, by a path that servers read in several ways",
                to.authority()
            ),
            None,
        ));
    }
    due.retain(|(_, audience, ..)| is_below(path, audience.url().path()));
    // Of two for one header, the one with the longer path is written last.
    due.sort_by_key(|(_, audience, ..)| audience.url().path().len());
    for (name, _, header, prefix) in due {
        let setting = Some(format!("secrets.{name}"));
        let Some(value) = values.secrets.get(name) else {
            return Err(denied(format!("the secret `{name}`, which has no value"), setting));
        };
        let written = HeaderValue::from_str(&format!("{prefix}{}", value.expose()));
        let (Ok(header), Ok(mut written)) = (HeaderName::try_from(header.as_str()), written) else {
            return Err(denied(format!("the secret `{name}`, which cannot stand in a header"), setting));
        };
        written.set_sensitive(true);
        headers.insert(header, written);
        // An echo piece by piece would pass the search.
        headers.remove(RANGE);
        headers.remove(IF_RANGE);
    }
    Ok(())
}

fn denied(what: String, setting: Option<String>) -> Denial {
    Denial { capability: "secrets", what, setting }
}

fn is_origin(audience: &Audience, to: &Destination) -> bool {
    let url = audience.url();
    url.scheme() == to.scheme.as_str()
        && url.port_or_known_default() == Some(to.port)
        && url.host().is_some_and(|host| host.to_owned() == to.host)
}

/// Whether a path is the beginning, or goes on from it at a slash.
fn is_below(path: &str, beginning: &str) -> bool {
    let Some(rest) = path.strip_prefix(beginning) else { return false };
    rest.is_empty() || beginning.ends_with('/') || rest.starts_with('/')
}

/// Steps up, encoded slashes and dots, and what some servers take for a slash.
fn is_ambiguous(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    // `%c0` and `%c1` begin no character: some servers read the slash of `%c0%af`. `%u002f` is a slash to others.
    ["..", "//", "\\", "%2e", "%2f", "%5c", "%00", "%25", "%c0", "%c1", "%u"]
        .iter()
        .any(|odd| path.contains(odd))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::plugin::destination::{Scheme, host};
    use crate::plugin::grant::{Capabilities, SecretName};
    use crate::plugin::values::SecretValue;

    const RULES: &str = r#"secrets = [
        { use = "header", name = "wide", audience = "https://api.example.com/", header = "x-key" },
        { use = "header", name = "deep", audience = "https://api.example.com/v1", header = "x-key", prefix = "Key " },
        { use = "header", name = "none", audience = "https://api.example.com:444/", header = "x-key" },
        { use = "hmac", name = "wide" },
    ]"#;

    /// The header that goes with a request.
    fn sent(scheme: Scheme, name: &str, port: u16, path: &str) -> String {
        let rules = toml::from_str::<Capabilities>(RULES).unwrap().secrets;
        let secret = |name: &str| SecretName::try_from(name.to_owned()).unwrap();
        let value = |name: &str| SecretValue::new(&format!("value-of-{name}")).unwrap();
        let secrets = ["wide", "deep"].map(|name| (secret(name), value(name)));
        let values = Values::new(BTreeMap::new(), secrets.into());
        let host = host(name).unwrap();
        let to = Destination { scheme, host, port, path: path.to_owned(), private: false };
        let mut headers = HeaderMap::new();
        match inject(&mut headers, &to, &rules, &values) {
            Ok(()) => headers.get("x-key").map_or("none", |value| value.to_str().unwrap()).to_owned(),
            Err(denial) => denial.setting.unwrap_or_else(|| "ambiguous".to_owned()),
        }
    }

    #[test]
    fn a_secret_goes_to_its_audience_and_nowhere_else() {
        for (scheme, name, port, path, expected) in [
            (Scheme::Https, "api.example.com", 443, "/", "value-of-wide"),
            (Scheme::Https, "API.example.com.", 443, "/v2?q=/v1/", "value-of-wide"),
            (Scheme::Https, "api.example.com", 443, "/v1", "Key value-of-deep"),
            (Scheme::Https, "api.example.com", 443, "/v1/a?q=../..", "Key value-of-deep"),
            (Scheme::Https, "api.example.com", 443, "/v10", "value-of-wide"),
            (Scheme::Http, "api.example.com", 443, "/v1", "none"),
            (Scheme::Http, "api.example.com", 80, "/v1", "none"),
            (Scheme::Https, "api.example.com", 8443, "/v1", "none"),
            (Scheme::Https, "example.com", 443, "/v1", "none"),
            (Scheme::Https, "api.example.com.evil.com", 443, "/v1", "none"),
            (Scheme::Https, "api.example.com", 444, "/", "secrets.none"),
            (Scheme::Https, "api.example.com", 443, "/v1/../v2", "ambiguous"),
            (Scheme::Https, "api.example.com", 443, "/v1/%2E%2e/v2", "ambiguous"),
            (Scheme::Https, "api.example.com", 443, "/v1%2f..", "ambiguous"),
            (Scheme::Https, "api.example.com", 443, "/v1/%252e%252e/", "ambiguous"),
            (Scheme::Https, "api.example.com", 443, "/v1\\..\\v2", "ambiguous"),
            (Scheme::Https, "api.example.com", 443, "//v1/", "ambiguous"),
            (Scheme::Https, "api.example.com", 443, "/v1/%C0%ae%c0%AE/v2", "ambiguous"),
            (Scheme::Https, "api.example.com", 443, "/v1/%u002e%U002E/v2", "ambiguous"),
        ] {
            assert_eq!(sent(scheme, name, port, path), expected, "{name}:{port}{path}");
        }
    }
}
