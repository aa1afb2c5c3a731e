//! Finds a plugin's secrets in what a server sends: as they are, and in the forms that servers echo things in.
//!
//! This is for servers that repeat what they got, by mistake or for debugging. One that works with the plugin
//! can always find a form that nobody looks for; that is why a secret goes to its audience only.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::percent_decode;

use super::grant::SecretName;
use super::values::SecretValue;

/// All forms of all secrets of one plugin.
#[derive(Debug)]
pub(super) struct Forms {
    /// Whether letters are small or capital makes no difference: hexadecimal digits come as both, names of
    /// headers only as small ones, and nothing else of this length is the same by chance.
    search: AhoCorasick,
    /// Whose form each pattern is.
    names: Vec<SecretName>,
    /// Most bytes that one form can take, percent-encoded throughout.
    longest: usize,
}

/// Bytes of one body, with its end kept back until it is known not to begin a secret.
#[derive(Debug, Default)]
pub(super) struct Held(Vec<u8>);

impl Forms {
    pub(super) fn of(secrets: &BTreeMap<SecretName, SecretValue>) -> Option<Self> {
        let (mut patterns, mut names) = (Vec::new(), Vec::new());
        for (name, value) in secrets {
            for form in forms(value.expose()) {
                patterns.push(form);
                names.push(name.clone());
            }
        }
        let longest = 3 * patterns.iter().map(String::len).max()?;
        let search = AhoCorasick::builder().ascii_case_insensitive(true).build(&patterns).ok()?;
        Some(Self { search, names, longest })
    }

    /// The secret that is in there.
    pub(super) fn find(&self, bytes: &[u8]) -> Option<&SecretName> {
        let found = self.search.find(bytes).or_else(|| match Cow::from(percent_decode(bytes)) {
            Cow::Borrowed(_) => None,
            Cow::Owned(decoded) => self.search.find(&decoded),
        })?;
        self.names.get(found.pattern().as_usize())
    }
}

impl Held {
    /// What of the body so far may be passed on now, or the secret that is in it.
    pub(super) fn pass<'a>(&mut self, forms: &'a Forms, bytes: &[u8]) -> Result<Vec<u8>, &'a SecretName> {
        self.0.extend_from_slice(bytes);
        if let Some(name) = forms.find(&self.0) {
            self.0.clear();
            return Err(name);
        }
        let rest = self.0.split_off(self.0.len().saturating_sub(forms.longest));
        Ok(std::mem::replace(&mut self.0, rest))
    }

    /// The rest, when there is no more to come.
    pub(super) fn take(&mut self) -> Option<Vec<u8>> {
        (!self.0.is_empty()).then(|| std::mem::take(&mut self.0))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Percent-encoding is not among them: it is taken off before the search.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned(), secret.replace(' ', "+"), hex(secret, ""), hex(secret, "\\u00")];
    forms.extend(
        ["\\x", ":", " "].map(|between| hex(secret, between).trim_start_matches([':', ' ']).to_owned()),
    );
    let json = serde_json::to_string(secret).unwrap_or_default();
    forms.push(json.trim_matches('"').to_owned());
    forms.push(json.trim_matches('"').replace('/', "\\/"));
    let html = secret.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    forms.push(html.replace('"', "&quot;").replace('\'', "&#39;"));
    forms.push(html.replace('"', "&#34;").replace('\'', "&#x27;"));
    for shift in 0..3 {
        forms.extend(base64_inside(secret, shift));
    }
    forms.sort_unstable();
    forms.dedup();
    forms
}

fn hex(secret: &str, before: &str) -> String {
    secret.bytes().fold(String::new(), |mut text, byte| {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{before}{byte:02x}");
        text
    })
}

/// What of the base64 of any text depends on nothing but the secret in it, `shift` bytes behind a group of
/// three, in both alphabets.
fn base64_inside(secret: &str, shift: usize) -> [String; 2] {
    let mut bytes = vec![0; shift];
    bytes.extend_from_slice(secret.as_bytes());
    // The first characters are made of the bytes before as well, the last of the bytes behind.
    let (from, to) = (shift + usize::from(shift > 0), bytes.len() * 8 / 6);
    [STANDARD_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)].map(|text| text[from..to].to_owned())
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};

    use super::*;

    const SECRET: &str = "s3cret/Value+\"2\" & more";

    fn guarded() -> Forms {
        let name = SecretName::try_from("api-key".to_owned()).unwrap();
        Forms::of(&BTreeMap::from([(name, SecretValue::new(SECRET).unwrap())])).unwrap()
    }

    /// What a server could make of it.
    fn echoes() -> Vec<String> {
        let percent = |all: bool, upper: bool| {
            SECRET.bytes().fold(String::new(), |text, byte| {
                match (all || !byte.is_ascii_alphanumeric(), upper) {
                    (false, _) => format!("{text}{}", char::from(byte)),
                    (true, true) => format!("{text}%{byte:02X}"),
                    (true, false) => format!("{text}%{byte:02x}"),
                }
            })
        };
        let mut echoes = vec![
            SECRET.to_owned(),
            SECRET.to_uppercase(),
            hex(SECRET, ""),
            hex(SECRET, "").to_uppercase(),
            hex(SECRET, ":"),
            hex(SECRET, "\\u00"),
            percent(true, true),
            percent(true, false),
            percent(false, true),
            percent(false, false),
            format!("{}%56{}", &SECRET[..7], &SECRET[8..]),
            serde_json::to_string(SECRET).unwrap(),
            SECRET.replace('&', "&amp;").replace('"', "&quot;"),
        ];
        for before in ["", "B", "Be", "user:", "Bearer "] {
            let text = format!("{before}{SECRET} and more");
            echoes.extend([STANDARD.encode(&text), URL_SAFE.encode(&text)]);
            echoes.push(STANDARD.encode(&text).replace('+', "%2B").replace('/', "%2f"));
        }
        echoes
    }

    #[test]
    fn every_form_is_found_wherever_it_is_cut() {
        let forms = guarded();
        for echo in echoes() {
            assert!(forms.find(format!("you sent: {echo}!").as_bytes()).is_some(), "{echo}");
            let text = format!("{}{echo}{}", "x".repeat(700), "y".repeat(700));
            for piece in [1, 2, 7, 701, 710] {
                let (mut held, mut passed) = (Held::default(), Vec::new());
                let cut = text.as_bytes().chunks(piece).any(|bytes| match held.pass(&forms, bytes) {
                    Ok(bytes) => {
                        passed.extend(bytes);
                        false
                    }
                    Err(_) => true,
                });
                assert!(cut, "{echo} in pieces of {piece}");
                assert!(passed.iter().all(|byte| *byte == b'x'), "nothing of it got out");
            }
        }
    }

    #[test]
    fn other_text_passes_as_it_is() {
        let forms = guarded();
        let text = "s3cret/Value+ and 50% of http://example.com/?q=%41%zz, ".repeat(100);
        let (mut held, mut passed) = (Held::default(), Vec::new());
        for bytes in text.as_bytes().chunks(13) {
            passed.extend(held.pass(&forms, bytes).unwrap());
        }
        passed.extend(held.take().unwrap());
        assert_eq!(String::from_utf8(passed).unwrap(), text);
        assert!(held.is_empty());
    }

    #[test]
    fn a_secret_does_not_print() {
        let value = SecretValue::new(SECRET).unwrap();
        assert_eq!(format!("{value:?}"), "SecretValue(…)");
        assert!(SecretValue::new("seven77").is_err() && SecretValue::new(&"x".repeat(5000)).is_err());
    }
}
