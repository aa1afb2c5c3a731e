//! Finds a plugin's secrets in what a server sends: as they are, and in the forms that servers echo things in.
//!
//! This is for servers that repeat what they got, by mistake or for debugging. One that works with the plugin
//! can always find a form that nobody looks for; that is why a secret goes to its audience only.

use std::borrow::Cow;
use std::collections::BTreeMap;

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use data_encoding::{BASE32_NOPAD, BASE32HEX_NOPAD};
use percent_encoding::percent_decode;

use super::grant::SecretName;
use super::values::{MIN_SECRET, SecretValue};

/// All forms of all secrets of one plugin.
#[derive(Debug)]
pub(super) struct Forms {
    /// Whether letters are small or capital makes no difference: hexadecimal digits come as both, names of
    /// headers only as small ones, and nothing else of this length is the same by chance. None = it could not be
    /// made; then everything is taken for a secret.
    search: Option<AhoCorasick>,
    /// Whose form each pattern is. Not empty.
    names: Vec<SecretName>,
    /// Most bytes that one form can take.
    longest: usize,
}

/// A byte of a secret as `\\u0041`, percent-encoded throughout.
const LONGEST_BYTE: usize = 18;

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
        let longest = LONGEST_BYTE * secrets.values().map(|value| value.expose().len()).max()?;
        let search = AhoCorasick::builder().ascii_case_insensitive(true).build(&patterns).ok();
        Some(Self { search, names, longest })
    }

    /// The secret that is in there. Each encoding is taken off twice: JSON within JSON, and links in it.
    pub(super) fn find(&self, bytes: &[u8]) -> Option<&SecretName> {
        let Some(search) = &self.search else { return self.names.first() };
        let find = |bytes: &[u8]| self.names.get(search.find(bytes)?.pattern().as_usize());
        let mut text = Cow::Borrowed(bytes);
        let mut found = find(&text);
        for decode in [percent_decoded, unescaped, percent_decoded, unescaped, joined] {
            if found.is_some() {
                break;
            }
            if let Some(decoded) = decode(&text) {
                found = find(&decoded);
                text = Cow::Owned(decoded);
            }
        }
        found
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

/// What can be taken off before the search is not among them, nor anything with blanks between.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned(), secret.replace(' ', "+")];
    // `joined` leaves it like that.
    let blank = |character: char| character.is_ascii_whitespace();
    forms.extend(Some(secret.replace(blank, "")).filter(|dense| dense.len() >= MIN_SECRET));
    forms.extend(["", ":", "-"].map(|between| bytes(secret, between, |byte| format!("{byte:02x}"))));
    forms.push(bytes(secret, ",", |byte| byte.to_string()));
    forms.push(bytes(secret, ",", |byte| format!("0x{byte:02x}")));
    for shift in 0..3 {
        forms.extend(base64_inside(secret, shift));
    }
    for shift in 0..5 {
        forms.extend(base32_inside(secret, shift));
    }
    forms.sort_unstable();
    forms.dedup();
    forms
}

fn bytes(secret: &str, between: &str, one: impl Fn(u8) -> String) -> String {
    secret.bytes().map(one).collect::<Vec<_>>().join(between)
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

/// The same of base32.
fn base32_inside(secret: &str, shift: usize) -> [String; 2] {
    let mut bytes = vec![0; shift];
    bytes.extend_from_slice(secret.as_bytes());
    let (from, to) = ((shift * 8).div_ceil(5), bytes.len() * 8 / 5);
    [BASE32_NOPAD.encode(&bytes), BASE32HEX_NOPAD.encode(&bytes)].map(|text| text[from..to].to_owned())
}

fn percent_decoded(bytes: &[u8]) -> Option<Vec<u8>> {
    match Cow::from(percent_decode(bytes)) {
        Cow::Borrowed(_) => None,
        Cow::Owned(decoded) => Some(decoded),
    }
}

/// Without the escapes of JSON, of its relatives, and of HTML.
fn unescaped(bytes: &[u8]) -> Option<Vec<u8>> {
    if !bytes.iter().any(|byte| b"\\&".contains(byte)) {
        return None;
    }
    let (mut plain, mut rest) = (Vec::with_capacity(bytes.len()), bytes);
    while let [first, after @ ..] = rest {
        let escape = match first {
            b'\\' => backslash(after),
            b'&' => entity(after),
            _ => None,
        };
        if let Some((character, length)) = escape {
            plain.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            rest = &after[length..];
        } else {
            plain.push(*first);
            rest = after;
        }
    }
    Some(plain)
}

/// What an escape stands for, and its length without the backslash.
fn backslash(after: &[u8]) -> Option<(char, usize)> {
    let (kind, rest) = after.split_first()?;
    let digits = match kind {
        b'u' => rest.get(..4)?,
        b'x' => rest.get(..2)?,
        b'/' | b'"' | b'\'' | b'\\' => return Some((char::from(*kind), 1)),
        _ => return None,
    };
    Some((character(digits, 16)?, 1 + digits.len()))
}

/// What an entity stands for, and its length without the ampersand.
fn entity(after: &[u8]) -> Option<(char, usize)> {
    let end = after.iter().take(10).position(|byte| *byte == b';')?;
    let plain = match &after[..end] {
        b"amp" => '&',
        b"lt" => '<',
        b"gt" => '>',
        b"quot" => '"',
        b"apos" => '\'',
        [b'#', b'x' | b'X', digits @ ..] => character(digits, 16)?,
        [b'#', digits @ ..] => character(digits, 10)?,
        _ => return None,
    };
    Some((plain, end + 1))
}

fn character(digits: &[u8], radix: u32) -> Option<char> {
    char::from_u32(u32::from_str_radix(str::from_utf8(digits).ok()?, radix).ok()?)
}

/// Without what stands between the lines of a long text, between hexadecimal digits, and between the letters of
/// UTF-16.
fn joined(bytes: &[u8]) -> Option<Vec<u8>> {
    let between = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0;
    let joined: Vec<u8> = bytes.iter().filter(|byte| !between(byte)).copied().collect();
    (joined.len() < bytes.len()).then_some(joined)
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
        let hex = |between: &str| bytes(SECRET, between, |byte| format!("{byte:02x}"));
        let mut echoes = vec![
            SECRET.to_owned(),
            SECRET.to_uppercase(),
            hex(""),
            hex("").to_uppercase(),
            hex(":"),
            hex(" "),
            format!("\\u00{}", hex("\\u00")),
            format!("\\x{}", hex("\\x")),
            bytes(SECRET, ", ", |byte| byte.to_string()),
            bytes(SECRET, ", ", |byte| format!("0x{byte:02X}")),
            bytes(SECRET, "", |byte| format!("&#{byte};")),
            bytes(SECRET, "", |byte| format!("&#x{byte:X};")),
            bytes(SECRET, "", |byte| format!("%5Cu00{byte:02x}")),
            // As the encoders of Go, .NET and PHP write it.
            SECRET
                .replace('&', "\\u0026")
                .replace('"', "\\u0022")
                .replace('+', "\\u002B")
                .replace('/', "\\/"),
            SECRET.encode_utf16().flat_map(u16::to_be_bytes).map(char::from).collect(),
            SECRET.encode_utf16().flat_map(u16::to_le_bytes).map(char::from).collect(),
            percent(true, true),
            percent(true, false),
            percent(false, true),
            percent(false, false),
            format!("{}%56{}", &SECRET[..7], &SECRET[8..]),
            serde_json::to_string(SECRET).unwrap(),
            serde_json::to_string(&serde_json::to_string(SECRET).unwrap()).unwrap(),
            SECRET.replace('&', "&amp;").replace('"', "&quot;"),
        ];
        for before in ["", "B", "Be", "user:", "Bearer "] {
            let text = format!("{before}{SECRET} and more");
            echoes.extend([STANDARD.encode(&text), URL_SAFE.encode(&text)]);
            echoes.push(STANDARD.encode(&text).replace('+', "%2B").replace('/', "%2f"));
            let lines = STANDARD.encode(&text);
            echoes.push(
                lines
                    .as_bytes()
                    .chunks(20)
                    .map(|line| str::from_utf8(line).unwrap())
                    .collect::<Vec<_>>()
                    .join("\r\n"),
            );
            echoes.extend([
                BASE32_NOPAD.encode(text.as_bytes()),
                BASE32HEX_NOPAD.encode(text.as_bytes()).to_lowercase(),
            ]);
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
        let text = "s3cret/Value+ \\u00 \\ & &#; &#x110000; &amp; and 50% of http://example.com/?q=%41%zz, "
            .repeat(100);
        let (mut held, mut passed) = (Held::default(), Vec::new());
        for bytes in text.as_bytes().chunks(13) {
            passed.extend(held.pass(&forms, bytes).unwrap());
        }
        passed.extend(held.take().unwrap());
        assert_eq!(String::from_utf8(passed).unwrap(), text);
        assert!(held.is_empty());
    }

    #[test]
    fn without_a_search_everything_is_taken_for_a_secret() {
        let broken = Forms { search: None, ..guarded() };
        assert!(broken.find(b"anything").is_some() && Held::default().pass(&broken, b"x").is_err());
    }

    #[test]
    fn a_secret_does_not_print() {
        let value = SecretValue::new(SECRET).unwrap();
        assert_eq!(format!("{value:?}"), "SecretValue(…)");
        assert!(SecretValue::new("seven77").is_err() && SecretValue::new(&"x".repeat(5000)).is_err());
    }
}
