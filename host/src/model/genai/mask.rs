//! Makes a provider's words fit to be shown to API callers: one short line without secrets.

/// Most characters of a message.
const LONGEST: usize = 300;
const MASK: &str = "***";

pub(super) fn mask(text: &str, key: Option<&str>) -> String {
    let mut text = text.to_owned();
    // A shorter key would mask ordinary words, and is none.
    if let Some(key) = key.filter(|key| key.len() >= 4) {
        text = text.replace(key, MASK);
    }
    let mut words: Vec<String> = Vec::new();
    let mut after_bearer = false;
    for word in text.split_whitespace() {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        words.push(if after_bearer { MASK.to_owned() } else { word_masked(word) });
        after_bearer = bare.eq_ignore_ascii_case("bearer");
    }
    shortened(&words.join(" "))
}

/// Masks things that look like keys, and the user and password of a URL.
fn word_masked(word: &str) -> String {
    const PREFIXES: [&str; 5] = ["sk-", "gsk_", "xai-", "AIza", "hf_"];
    let start = PREFIXES
        .iter()
        .filter_map(|prefix| word.find(prefix))
        .filter(|start| !word[..*start].ends_with(char::is_alphanumeric))
        .min();
    if let Some(start) = start {
        return format!("{}{MASK}", &word[..start]);
    }
    let Some(authority) = word.find("://").map(|found| found + 3) else {
        return word.to_owned();
    };
    let end = word[authority..].find('/').map_or(word.len(), |slash| authority + slash);
    match word[authority..end].rfind('@') {
        Some(at) => format!("{}{MASK}{}", &word[..authority], &word[authority + at..]),
        None => word.to_owned(),
    }
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    let start: String = text.chars().take(LONGEST).collect();
    format!("{start}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked() {
        for (text, expected) in [
            ("Incorrect API key provided: sk-abc123.", "Incorrect API key provided: ***"),
            ("header 'Authorization: Bearer abc.def' is bad", "header 'Authorization: Bearer *** is bad"),
            ("key my-own-key-1 unknown", "key *** unknown"),
            ("see http://user:pw@host/v1 now", "see http://***@host/v1 now"),
            ("a\n  risk-free\ttask", "a risk-free task"),
        ] {
            assert_eq!(mask(text, Some("my-own-key-1")), expected);
        }
        assert_eq!(mask(&"ä".repeat(400), None).chars().count(), 301);
    }
}
