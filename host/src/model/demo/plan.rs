//! From a message to calls: clauses, and the tool that each of them means.
//!
//! A message is cut where a new request begins and nowhere else: `Add a note: buy milk and eggs` is one
//! call, `delete note 1 and delete note 2` are two, and so are `delete notes 1 and 2`.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value};

use super::fill::{Filled, fill, same_name};
use super::offer::{Kind, Offer, words};
use super::values::{Values, regex};

pub(super) enum Step {
    Call {
        tool: String,
        arguments: Map<String, Value>,
    },
    /// The message means this tool, but does not say what the tool needs.
    Missing {
        tool: String,
        missing: Vec<String>,
    },
    /// The message names a tool that is not there.
    NotOffered(String),
}

/// More calls than a person would ask for in one message.
const MOST_CALLS: usize = 16;
/// Each part is matched with every tool, and a message may be long.
const MOST_CUTS: usize = 32;
const LONGEST_CUT: usize = 8_000;
/// What must speak for a tool before a free text ends for it: a word of its own, and another.
const ENOUGH_IN_TEXT: u32 = 6;

/// Where a clause may end.
static CUT: LazyLock<Regex> =
    LazyLock::new(|| regex(r"(?i)[.?!;]\s+|,?\s+(?:and then|and also|and|then)\s+|,\s+|\n+"));
/// Where it may not.
static SHIELD: LazyLock<Regex> = LazyLock::new(|| regex(r#""[^"]*"|“[^”]*”|`[^`]*`|\{.*\}|\[[^\]]*\]"#));
static TOOL_NAME: LazyLock<Regex> =
    LazyLock::new(|| regex(r"\b[A-Za-z0-9]+(?:[-_][A-Za-z0-9]+)*__[A-Za-z0-9]+(?:[-_][A-Za-z0-9]+)*\b"));

/// A clause that means a tool.
struct Meant<'a> {
    offer: &'a Offer,
    score: u32,
    filled: Filled,
}

impl Meant<'_> {
    fn complete(&self) -> bool {
        self.filled.missing.is_empty()
    }

    fn rank(&self) -> u32 {
        let filled = u32::try_from(self.filled.arguments.len()).unwrap_or(0);
        // Being callable makes up for a word less.
        self.score + filled + if self.complete() { 3 } else { 0 }
    }
}

pub(super) fn plan(message: &str, offers: &[Offer]) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut current = 0..0;
    // The tool that the part before this one meant, when nothing but another value may follow.
    let mut repeated: Option<&Offer> = None;
    for part in parts(message) {
        let clause = &message[part.clone()];
        if let Some(step) = repeated.and_then(|offer| same_again(offer, clause)) {
            steps.push(step);
            continue;
        }
        let start = if repeated.take().is_some() { part.start } else { current.start };
        let joined = start..part.end;
        let begun = meaning(&message[current.clone()], offers).filter(Meant::complete);
        let Some(begun) = begun.filter(|_| start == current.start) else {
            current = joined;
            continue;
        };
        let follows = || meaning(clause, offers).filter(|next| next.complete() && begins(next, &begun));
        if let Some(step) = same_again(begun.offer, clause) {
            repeated = Some(begun.offer);
            steps.extend([step_of(begun), step]);
            current = part.end..part.end;
        } else if follows().is_some() {
            steps.push(step_of(begun));
            current = part;
        } else {
            current = joined;
        }
    }
    steps.extend(meaning(&message[current], offers).map(step_of));
    if steps.is_empty() {
        steps.extend(unknown_tool(message, offers).map(Step::NotOffered));
    }
    steps.truncate(MOST_CALLS);
    steps
}

fn step_of(meant: Meant<'_>) -> Step {
    let tool = meant.offer.name.clone();
    if meant.complete() {
        let arguments = meant.filled.arguments;
        Step::Call { tool, arguments }
    } else {
        let missing = meant.filled.missing;
        Step::Missing { tool, missing }
    }
}

/// A request of its own, rather than the rest of a text that the one before takes in.
fn begins(next: &Meant<'_>, begun: &Meant<'_>) -> bool {
    !begun.filled.free_text || next.score >= ENOUGH_IN_TEXT
}

/// The parts between the cuts, without those inside of quotes and brackets. A long message is one part:
/// it is a text to keep rather than a list of requests.
fn parts(message: &str) -> Vec<Range<usize>> {
    let ranges = |regex: &Regex| -> Vec<Range<usize>> {
        regex.find_iter(message).map(|found| found.range()).collect()
    };
    let shielded = ranges(&SHIELD);
    let mut parts = Vec::new();
    let mut start = 0;
    let cuts = if message.len() > LONGEST_CUT { Vec::new() } else { ranges(&CUT) };
    for cut in cuts.into_iter().take(MOST_CUTS) {
        if !shielded.iter().any(|shield| shield.contains(&cut.start)) {
            parts.push(start..cut.start);
            start = cut.end;
        }
    }
    parts.push(start..message.len());
    parts
}

fn meaning<'a>(clause: &str, offers: &'a [Offer]) -> Option<Meant<'a>> {
    if let Some((offer, after)) = explicit(clause, offers) {
        let filled = fill(offer, after, &Values::read(after));
        let score = 100;
        return Some(Meant { offer, score, filled });
    }
    // Before a colon is what to do, after it what to do it with: `Add a note: delete the old list`.
    let head = clause.split_once(": ").and_then(|(head, _)| matching(head, clause, offers));
    head.or_else(|| matching(clause, clause, offers))
}

/// The tool that `command` speaks for, with arguments from the whole clause.
fn matching<'a>(command: &str, clause: &str, offers: &'a [Offer]) -> Option<Meant<'a>> {
    let hints = Values::read(command);
    let said = words(&hints.unquoted);
    let values = Values::read(clause);
    let candidates = offers.iter().filter_map(|offer| {
        let score = offer.score(&said, &hints)?;
        let filled = fill(offer, clause, &values);
        Some(Meant { offer, score, filled })
    });
    // The first of equals, so that the order of the tools decides and nothing else.
    candidates.reduce(|best, next| if next.rank() > best.rank() { next } else { best })
}

/// A tool by its name, and the text after that.
fn explicit<'a, 'b>(clause: &'b str, offers: &'a [Offer]) -> Option<(&'a Offer, &'b str)> {
    let lower = clause.to_ascii_lowercase();
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let named = offers.iter().filter_map(|offer| {
        [&offer.name, &offer.dotted].into_iter().find_map(|name| {
            let start = lower.find(name.as_str())?;
            let after = &clause[start + name.len()..];
            let whole = !lower[..start].ends_with(part_of_name) && !after.starts_with(part_of_name);
            whole.then_some((offer, start, after.trim_start_matches(['`', '"', ':', ' '])))
        })
    });
    named.min_by_key(|(_, start, _)| *start).map(|(offer, _, after)| (offer, after))
}

fn unknown_tool(message: &str, offers: &[Offer]) -> Option<String> {
    let name = TOOL_NAME.find(message)?.as_str();
    (!offers.iter().any(|offer| offer.name == name)).then(|| name.to_owned())
}

/// A clause that is nothing but another value for the tool before it.
fn same_again(offer: &Offer, clause: &str) -> Option<Step> {
    let values = Values::read(clause);
    let mut required = offer.required();
    let (param, None) = (required.next()?, required.next()) else {
        return None;
    };
    let others =
        clause.split_whitespace().filter(|word| !words(word).iter().all(|word| offer.is_command(word)));
    let alone = others.count() <= 1;
    let fits = match param.kind {
        Kind::Id | Kind::Integer | Kind::Number => !values.numbers.is_empty(),
        Kind::Expression
        | Kind::Zone
        | Kind::Date
        | Kind::Boolean
        | Kind::Text
        | Kind::List
        | Kind::Object => false,
    };
    let paired = values.pairs.iter().any(|pair| same_name(&pair.name, &param.name));
    if !alone || !(fits || paired) || meaning(clause, std::slice::from_ref(offer)).is_some() {
        return None;
    }
    let filled = fill(offer, clause, &values);
    filled.missing.is_empty().then(|| Step::Call { tool: offer.name.clone(), arguments: filled.arguments })
}
