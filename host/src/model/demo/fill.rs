//! Arguments for a tool from what a message holds.

use serde_json::{Map, Value};

use super::offer::{Kind, Offer, Param, words};
use super::values::{Pair, Values};

/// Words before a free text that are no part of it.
const FILLERS: [&str; 30] = [
    "please", "can", "could", "would", "you", "i", "want", "need", "to", "me", "my", "a", "an", "the", "new",
    "for", "about", "that", "with", "of", "called", "named", "saying", "use", "using", "run", "call", "in",
    "on", "and",
];

pub(super) struct Filled {
    pub(super) arguments: Map<String, Value>,
    /// Required parameters that the message says nothing about.
    pub(super) missing: Vec<String>,
    /// A text was taken from the sentence itself, so what follows may belong to it.
    pub(super) free_text: bool,
}

/// `text` is where a free text may be: the clause, or what follows an explicit tool name.
pub(super) fn fill(offer: &Offer, text: &str, values: &Values) -> Filled {
    let mut filler = Filler { offer, text, words: words(text), left: values.clone(), free_text: false };
    let mut arguments = values.json.clone();
    let mut missing = Vec::new();
    for param in &offer.params {
        if arguments.contains_key(&param.name) {
            continue;
        }
        match filler.value(param) {
            Some(value) => {
                arguments.insert(param.name.clone(), value);
            }
            None if param.required => missing.push(param.name.clone()),
            None => {}
        }
    }
    if offer.params.is_empty() {
        // A schema that takes anything gets everything.
        let pairs = values.pairs.iter();
        arguments.extend(pairs.map(|pair| (pair.name.clone(), Value::from(pair.value.as_str()))));
    }
    Filled { arguments, missing, free_text: filler.free_text }
}

struct Filler<'a> {
    offer: &'a Offer,
    text: &'a str,
    words: Vec<String>,
    left: Values,
    free_text: bool,
}

impl Filler<'_> {
    fn value(&mut self, param: &Param) -> Option<Value> {
        let named = self.left.pairs.iter().position(|pair| same_name(&pair.name, &param.name));
        if let Some(index) = named {
            return Some(coerced(param.kind, &self.left.pairs.remove(index)));
        }
        if let Some(choice) = param.choices.iter().find(|choice| self.says(choice)) {
            return Some(choice.clone());
        }
        if !param.choices.is_empty() {
            return None;
        }
        match param.kind {
            Kind::Expression => self.left.expression.take().map(Value::from),
            Kind::Zone => first(&mut self.left.zones)
                .or_else(|| param.required.then(|| "UTC".to_owned()))
                .map(Value::from),
            Kind::Date => first(&mut self.left.dates).map(Value::from),
            Kind::Integer | Kind::Number => self.number(param),
            Kind::Boolean => param.required.then(|| Value::from(!self.negated())),
            Kind::Id => self.id(param).map(Value::from),
            Kind::Text => self.text(param).map(Value::from),
            Kind::List => self.list(param),
            Kind::Object => None,
        }
    }

    fn says(&self, choice: &Value) -> bool {
        let choice = choice.as_str().map_or_else(|| choice.to_string(), str::to_owned);
        let parts = words(&choice);
        !parts.is_empty() && parts.iter().all(|part| self.words.contains(part))
    }

    fn negated(&self) -> bool {
        self.words.iter().any(|word| ["no", "not", "off", "false", "without"].contains(&word.as_str()))
    }

    /// Optional parameters are taken from a sentence only where it names them: `limit 5`.
    fn named_or_required(&self, param: &Param) -> bool {
        param.required || words(&param.name).iter().all(|word| self.words.contains(word))
    }

    fn number(&mut self, param: &Param) -> Option<Value> {
        if !self.named_or_required(param) {
            return None;
        }
        let fits = |text: &String| {
            if param.kind == Kind::Integer {
                text.parse::<i64>().is_ok()
            } else {
                text.parse::<f64>().is_ok()
            }
        };
        let index = self.left.numbers.iter().position(fits)?;
        let text = self.left.numbers.remove(index);
        Some(number(&text).unwrap_or_else(|| Value::from(text)))
    }

    fn id(&mut self, param: &Param) -> Option<String> {
        if !self.named_or_required(param) {
            return None;
        }
        let found = first(&mut self.left.numbers).or_else(|| first(&mut self.left.quoted));
        // A single word after the command is one too: `delete note groceries`.
        found.or_else(|| {
            let rest = self.rest_of_sentence()?;
            (param.required && !rest.contains(char::is_whitespace)).then_some(rest)
        })
    }

    fn text(&mut self, param: &Param) -> Option<String> {
        let lonely = self.offer.required().all(|other| other.kind != Kind::Text);
        let wanted = param.required || (lonely && self.named_or_introduced(param));
        if !wanted {
            return None;
        }
        if let Some(quoted) = first(&mut self.left.quoted) {
            return Some(quoted);
        }
        if self.free_text {
            return None;
        }
        let introduced = self.text.split_once(": ").map(|(_, rest)| rest.trim().to_owned());
        let text = introduced
            .filter(|text| !text.is_empty())
            .or_else(|| self.rest_of_sentence().filter(|_| param.required))?;
        self.free_text = true;
        Some(text)
    }

    fn named_or_introduced(&self, param: &Param) -> bool {
        self.named_or_required(param) || self.text.contains(": ") || !self.left.quoted.is_empty()
    }

    fn list(&mut self, param: &Param) -> Option<Value> {
        if !self.named_or_required(param) {
            return None;
        }
        let quoted = std::mem::take(&mut self.left.quoted);
        if !quoted.is_empty() {
            return Some(Value::from(quoted));
        }
        let numbers = std::mem::take(&mut self.left.numbers);
        let numbers: Vec<Value> = numbers.iter().filter_map(|text| number(text)).collect();
        (!numbers.is_empty()).then(|| Value::from(numbers))
    }

    /// What follows the words that name the tool, without `to my notes` at its end.
    fn rest_of_sentence(&self) -> Option<String> {
        let is_command = |word: &str| {
            let word = words(word).join(" ");
            word.is_empty() || FILLERS.contains(&word.as_str()) || self.offer.is_command(&word)
        };
        let mut parts: Vec<&str> = self.text.split_whitespace().skip_while(|word| is_command(word)).collect();
        let is_subject = |word: &&str| words(word).iter().any(|word| self.offer.is_subject(word));
        if parts.len() > 1 && parts.last().is_some_and(is_subject) {
            let article = |word: &&&str| ["my", "the", "your"].contains(*word);
            let kept = parts.len() - 1 - parts.iter().rev().skip(1).take_while(article).count();
            let preposition = kept > 1 && ["in", "to", "from", "into", "on", "of"].contains(&parts[kept - 1]);
            if preposition {
                parts.truncate(kept - 1);
            }
        }
        let rest = parts.join(" ").trim_end_matches(['.', '?', '!']).to_owned();
        (!rest.is_empty()).then_some(rest)
    }
}

fn first(list: &mut Vec<String>) -> Option<String> {
    (!list.is_empty()).then(|| list.remove(0))
}

/// `timeZone`, `time_zone` and `timezone` are one name.
pub(super) fn same_name(a: &str, b: &str) -> bool {
    let letters =
        |name: &str| name.chars().filter(|c| c.is_alphanumeric()).collect::<String>().to_lowercase();
    letters(a) == letters(b)
}

/// An integer where it is one.
fn number(text: &str) -> Option<Value> {
    let integer = text.parse::<i64>().ok().map(Value::from);
    integer.or_else(|| text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::from))
}

/// As the parameter wants it; what does not fit goes as it is, so that the host says what is wrong with it.
fn coerced(kind: Kind, pair: &Pair) -> Value {
    let text = || Value::from(pair.value.as_str());
    match kind {
        Kind::Integer | Kind::Number => number(&pair.value).unwrap_or_else(text),
        Kind::Boolean => match pair.value.to_lowercase().as_str() {
            "true" | "yes" | "on" => Value::from(true),
            "false" | "no" | "off" => Value::from(false),
            _ => text(),
        },
        Kind::List | Kind::Object => serde_json::from_str(&pair.value).unwrap_or_else(|_| {
            let items: Vec<&str> = pair.value.split(',').map(str::trim).collect();
            if kind == Kind::List { Value::from(items) } else { text() }
        }),
        Kind::Text => Value::from(pair.long.as_str()),
        Kind::Expression | Kind::Zone | Kind::Date | Kind::Id => text(),
    }
}
