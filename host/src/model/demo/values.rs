//! What a message holds that could be an argument.

use std::cmp::Ordering;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value};

/// Found values, in the order of the text. What one kind has taken, no later kind sees.
#[derive(Clone, Debug, Default)]
pub(super) struct Values {
    /// A JSON object written out.
    pub(super) json: Map<String, Value>,
    pub(super) pairs: Vec<Pair>,
    pub(super) quoted: Vec<String>,
    /// The text without what was quoted, which says nothing about the tool that is meant.
    pub(super) unquoted: String,
    pub(super) dates: Vec<String>,
    pub(super) zones: Vec<String>,
    pub(super) expression: Option<String>,
    /// Words with a digit: numbers and ids.
    pub(super) numbers: Vec<String>,
}

/// `name=value`
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) name: String,
    /// Up to the next blank, or the quoted text.
    pub(super) value: String,
    /// Up to the next pair: what a free text may mean.
    pub(super) long: String,
}

#[expect(clippy::expect_used, reason = "the patterns are constants, and the tests compile each of them")]
pub(super) fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a valid pattern")
}

static JSON: LazyLock<Regex> = LazyLock::new(|| regex(r"\{[^{}]*:.*\}"));
static PAIR: LazyLock<Regex> =
    LazyLock::new(|| regex(r#"([A-Za-z_][\w-]*)\s?=\s?("[^"]*"|'[^']*'|\[[^\]]*\]|[^\s=]\S*)"#));
static QUOTED: LazyLock<Regex> = LazyLock::new(|| regex(r#""([^"]+)"|“([^”]+)”|`([^`]+)`|\B'([^']+)'\B"#));
static DATE: LazyLock<Regex> =
    LazyLock::new(|| regex(r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?"));
static ZONE: LazyLock<Regex> = LazyLock::new(|| regex(r"\b(?:[A-Z][A-Za-z]+(?:/[A-Z][\w+-]*)+|UTC|GMT)\b"));
static PERCENT: LazyLock<Regex> = LazyLock::new(|| regex(r"(\d(?:[\d.]*\d)?)\s*(?:%|percent)\s+of\s+"));
static TIMES_SIGN: LazyLock<Regex> = LazyLock::new(|| regex(r"(\d)\s*[x×]\s*(\d)"));
static EXPRESSION: LazyLock<Regex> = LazyLock::new(|| regex(r"(?:\b[a-z]{2,6}\(|[0-9.+\-*/%^()]|\s)+"));
static OPERATION: LazyLock<Regex> = LazyLock::new(|| regex(r"[\d)]\s*[-+*/%^]\s*[(\d\-a-z]|[a-z]\(\s*-?\d"));
static NUMBER: LazyLock<Regex> = LazyLock::new(|| regex(r"[\w-]*\d[\w-]*(?:\.\d+)?"));

/// Operators in words.
const WORDS: [(&str, &str); 6] = [
    (" plus ", " + "),
    (" minus ", " - "),
    (" multiplied by ", " * "),
    (" times ", " * "),
    (" divided by ", " / "),
    ("÷", "/"),
];

impl Values {
    pub(super) fn read(text: &str) -> Self {
        let mut rest = text.to_owned();
        let json = take(&mut rest, &JSON, false).pop();
        let pairs = pairs(&mut rest);
        let quoted = take(&mut rest, &QUOTED, true);
        let unquoted = rest.clone();
        let dates = take(&mut rest, &DATE, false);
        let zones = take(&mut rest, &ZONE, false);
        let (expression, rest) = expression(&rest);
        let numbers = NUMBER.find_iter(&rest).map(|found| found.as_str().to_owned()).collect();
        Self {
            json: json.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default(),
            pairs,
            quoted,
            unquoted,
            dates,
            zones,
            expression,
            numbers,
        }
    }
}

/// Takes all matches out of the text; with `inner`, only what the pattern's group holds is kept.
fn take(rest: &mut String, pattern: &Regex, inner: bool) -> Vec<String> {
    let mut found = Vec::new();
    let left = pattern.replace_all(rest, |captures: &regex::Captures<'_>| {
        let groups = captures.iter().flatten();
        let text = if inner { groups.last() } else { captures.get(0) };
        found.extend(text.map(|text| text.as_str().to_owned()));
        " "
    });
    *rest = left.into_owned();
    found
}

fn pairs(rest: &mut String) -> Vec<Pair> {
    let mut pairs: Vec<Pair> = Vec::new();
    let starts: Vec<usize> = PAIR.find_iter(rest).map(|found| found.start()).collect();
    for (index, captures) in PAIR.captures_iter(rest).enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(rest.len());
        let long = captures.get(2).map_or("", |value| &rest[value.start()..end]);
        pairs.push(Pair { name: captures[1].to_owned(), value: bare(&captures[2]), long: bare(long) });
    }
    *rest = PAIR.replace_all(rest, " ").into_owned();
    pairs
}

/// Without quotes, or without the sentence's punctuation.
fn bare(value: &str) -> String {
    let value = value.trim();
    for quote in ['"', '\''] {
        if let Some((inside, _)) = value.strip_prefix(quote).and_then(|rest| rest.split_once(quote)) {
            return inside.to_owned();
        }
    }
    value.trim_end_matches(['.', ',', ';', '!', '?']).to_owned()
}

/// The longest run of arithmetic, and the text without it.
fn expression(text: &str) -> (Option<String>, String) {
    let mut text = text.to_owned();
    for (word, sign) in WORDS {
        text = text.replace(word, sign);
    }
    let text = PERCENT.replace_all(&text, "$1/100*");
    let text = TIMES_SIGN.replace_all(&text, "$1*$2");
    let runs = EXPRESSION.find_iter(&text).map(|run| balanced(run.as_str()));
    let longest = runs.filter(|run| OPERATION.is_match(run)).max_by_key(|run| run.len());
    match longest {
        Some(run) => (Some(run.to_owned()), text.replacen(run, " ", 1)),
        None => (None, text.into_owned()),
    }
}

/// Without what belongs to the sentence around it: blanks, full stops, a parenthesis of prose.
fn balanced(run: &str) -> &str {
    let mut run = run.trim();
    loop {
        let opened = run.matches('(').count();
        let closed = run.matches(')').count();
        let shorter = match closed.cmp(&opened) {
            Ordering::Greater => run.strip_suffix(')'),
            Ordering::Less => run.strip_prefix('('),
            Ordering::Equal => run.strip_suffix('.'),
        };
        match shorter {
            Some(shorter) => run = shorter.trim(),
            None => return run,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_told_apart() {
        for (text, expression, numbers) in [
            ("What is 6*7?", Some("6*7"), vec![]),
            ("what is 15% of 80", Some("15/100*80"), vec![]),
            ("2 plus 3 times 4.", Some("2 + 3 * 4"), vec![]),
            ("3 x 4", Some("3*4"), vec![]),
            ("is (1+2)*3 odd (I think 9)?", Some("(1+2)*3"), vec!["9"]),
            ("sqrt(16) please", Some("sqrt(16)"), vec![]),
            ("Delete note 1", None, vec!["1"]),
            ("note abc-12 on 2026-01-01", None, vec!["abc-12"]),
            ("since 2026-01-01T10:00:00Z, -4.5", None, vec!["-4.5"]),
        ] {
            let values = Values::read(text);
            assert_eq!(values.expression.as_deref(), expression, "{text}");
            assert_eq!(values.numbers, numbers, "{text}");
        }
    }

    #[test]
    fn pairs_dates_zones_and_quotes_are_found() {
        let values =
            Values::read(r#"a=1, b = "x y" c=buy milk; "q" it's 2026-01-01 10:00 in UTC or Asia/Tokyo"#);
        let pairs: Vec<_> =
            values.pairs.iter().map(|pair| (pair.name.as_str(), pair.value.as_str())).collect();
        assert_eq!(pairs, [("a", "1"), ("b", "x y"), ("c", "buy")]);
        assert_eq!(values.quoted, ["q"]);
        assert_eq!(values.dates, ["2026-01-01 10:00"]);
        assert_eq!(values.zones, ["UTC", "Asia/Tokyo"]);
        let values = Values::read(r#"notes__add {"text": "a, b", "n": 2}"#);
        assert_eq!(Value::Object(values.json), serde_json::json!({"text": "a, b", "n": 2}));
    }
}
