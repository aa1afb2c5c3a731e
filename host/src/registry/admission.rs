//! May a version of a plugin be loaded, and with which grants? Pure: what is known goes in, a verdict comes out.

use crate::plugin::{Capabilities, Request};

/// What is known about the version that served before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Before {
    pub asked: Capabilities,
    /// By the configuration and the operator's decision together.
    pub granted: Capabilities,
}

/// What becomes of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// With this grant.
    Granted(Capabilities),
    /// It asks for nothing that the version before did not ask for: what that one was granted holds for it, too.
    CarriedOver(Capabilities),
    /// The operator has to decide about these.
    Waits(Capabilities),
}

/// `configured` holds for every version, `decided` is the decision about this one.
pub(super) fn admit(
    request: &Request,
    configured: &Capabilities,
    decided: Option<&Capabilities>,
    before: Option<&Before>,
) -> Admission {
    if let Some(decided) = decided {
        return Admission::Granted(configured.clone().and(decided));
    }
    let missing = request.missing(configured);
    if missing.is_empty() {
        return Admission::Granted(configured.clone());
    }
    match before {
        // What was asked for before and refused stays refused: nobody has to say so twice.
        // Who opens a capability asks for more, though any grant of it would do.
        Some(before) if request.beyond(&before.asked.clone().and(&before.granted)).is_empty() => {
            Admission::CarriedOver(before.granted.clone())
        }
        Some(before) => Admission::Waits(request.beyond(&configured.clone().and(&before.granted))),
        None => Admission::Waits(missing),
    }
}

/// A version compared with what the operator said so far, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// What it asks for and may do already.
    pub already: Vec<String>,
    /// What it asks for in addition.
    pub added: Vec<String>,
    /// What the version before might do, and this one does not ask for.
    pub dropped: Vec<String>,
}

impl Difference {
    /// `granted`: what the operator granted so far, by the configuration or for a version.
    pub fn new(request: &Request, granted: &Capabilities, before: Option<&Before>) -> Self {
        let dropped = before.map(|before| before.asked.within(&before.granted).beyond(&request.asked));
        Self {
            already: request.within(granted).in_words(),
            added: request.beyond(granted).in_words(),
            dropped: dropped.unwrap_or_default().in_words(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use expect_test::expect;

    use super::*;
    use crate::plugin::Capability;

    fn capabilities(text: &str) -> Capabilities {
        toml::from_str(text).unwrap()
    }

    fn request(text: &str) -> Request {
        Request { asked: capabilities(text), open: BTreeSet::new() }
    }

    const USER: &str = "kv = [\"user\"]";
    const EVERYWHERE: &str = "kv = [\"user\"]\nhttp = [{ host = \"*\" }]";
    const INSIDE: &str =
        "kv = true\nhttp = [{ host = \"127.0.0.1\", scheme = \"http\", port = 8080, private = true }]";
    const WEATHER: &str = "kv = [\"user\"]\nhttp = [{ host = \"api.example\" }]";

    #[test]
    fn an_update_that_asks_for_more_waits_and_no_other_does() {
        let none = Capabilities::default();
        let before = |asked: &str, granted: &str| {
            Some(Before { asked: capabilities(asked), granted: capabilities(granted) })
        };
        let implied = Request { asked: capabilities("kv = true"), open: Capability::ALL.into() };
        let fetcher = Request { asked: capabilities(EVERYWHERE), open: [Capability::Http].into() };
        let table = [
            ("asks for nothing", request(""), "", None, None),
            ("configured", request(USER), "kv = true", None, None),
            ("new", request(USER), "", None, None),
            ("new, partly configured", request(WEATHER), USER, None, None),
            ("decided in part", request(WEATHER), "", Some(USER), None),
            ("decided, nothing granted", request(WEATHER), "", Some(""), before(WEATHER, WEATHER)),
            ("asks for the same", request(WEATHER), "", None, before(WEATHER, WEATHER)),
            ("asks for less", request(USER), "", None, before(WEATHER, WEATHER)),
            ("asks for what was refused", request(WEATHER), "", None, before(WEATHER, USER)),
            ("asks for more", request(WEATHER), "", None, before(USER, USER)),
            ("asks for another scope", request("kv = [\"session\"]"), "", None, before(USER, USER)),
            ("imports only", implied.clone(), "", None, None),
            ("imports only, configured", implied, USER, None, None),
            ("takes what is granted", fetcher.clone(), "", None, None),
            ("takes what is granted, configured", fetcher.clone(), INSIDE, None, None),
            ("takes what is granted, as before", fetcher.clone(), "", None, before(EVERYWHERE, WEATHER)),
            ("takes what is granted, new", fetcher, "", None, before(WEATHER, WEATHER)),
        ];
        let shown: Vec<String> = table
            .iter()
            .map(|(name, request, configured, decided, before)| {
                let decided = decided.map(capabilities);
                let verdict = admit(request, &capabilities(configured), decided.as_ref(), before.as_ref());
                let (word, what) = match &verdict {
                    Admission::Granted(granted) => ("granted", request.within(granted)),
                    Admission::CarriedOver(granted) => ("carried over", request.within(granted)),
                    Admission::Waits(missing) => ("waits for", missing.clone()),
                };
                let what = if what == none { "nothing".to_owned() } else { what.in_words().join(" + ") };
                format!("{name}: {word} {what}")
            })
            .collect();
        expect![[r"
            asks for nothing: granted nothing
            configured: granted keep values of each user (kv, scope user)
            new: waits for keep values of each user (kv, scope user)
            new, partly configured: waits for send GET, HEAD requests to https://api.example
            decided in part: granted keep values of each user (kv, scope user)
            decided, nothing granted: granted nothing
            asks for the same: carried over keep values of each user (kv, scope user) + send GET, HEAD requests to https://api.example
            asks for less: carried over keep values of each user (kv, scope user)
            asks for what was refused: carried over keep values of each user (kv, scope user)
            asks for more: waits for send GET, HEAD requests to https://api.example
            asks for another scope: waits for keep values of each session (kv, scope session)
            imports only: waits for keep values that all users of an organisation share (kv, scope plugin) + keep values of each user (kv, scope user) + keep values of each session (kv, scope session)
            imports only, configured: granted keep values of each user (kv, scope user)
            takes what is granted: waits for keep values of each user (kv, scope user) + send GET, HEAD requests to https://* (every host)
            takes what is granted, configured: granted keep values of each user (kv, scope user) + send GET, HEAD requests to http://127.0.0.1:8080, also where that is inside your network
            takes what is granted, as before: carried over keep values of each user (kv, scope user) + send GET, HEAD requests to https://api.example
            takes what is granted, new: waits for send GET, HEAD requests to https://* (every host)"]].assert_eq(&shown.join("\n"));
    }

    #[test]
    fn the_difference_says_what_comes_and_what_goes() {
        let before = Before { asked: capabilities(WEATHER), granted: capabilities(WEATHER) };
        let next =
            request("kv = [\"user\", \"session\"]\nsecrets = [{ use = \"hmac\", name = \"signing\" }]");
        let difference = Difference::new(&next, &before.granted, Some(&before));
        expect![[r#"
            Difference {
                already: [
                    "keep values of each user (kv, scope user)",
                ],
                added: [
                    "keep values of each session (kv, scope session)",
                    "have texts signed with the secret `signing` (HMAC-SHA-256)",
                ],
                dropped: [
                    "send GET, HEAD requests to https://api.example",
                ],
            }
        "#]]
        .assert_debug_eq(&difference);
    }
}
