//! A tool as the demo model sees it: the words that hint at it, and the kinds of its parameters.

use serde_json::Value;

use super::values::Values;
use crate::tool::ToolSpec;

pub(super) struct Offer {
    /// `plugin__tool`
    pub(super) name: String,
    /// `plugin.tool`, as operators write it.
    pub(super) dotted: String,
    pub(super) params: Vec<Param>,
    pub(super) risky: bool,
    description: String,
    tool_words: Vec<String>,
    plugin_words: Vec<String>,
    about: Vec<String>,
}

pub(super) struct Param {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) required: bool,
    /// The values of an `enum`.
    pub(super) choices: Vec<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Expression,
    Zone,
    Date,
    Integer,
    Number,
    Boolean,
    /// A short name without blanks.
    Id,
    Text,
    List,
    Object,
}

/// Words that people use for each other in requests to tools.
const SYNONYMS: [&[&str]; 8] = [
    &["evaluate", "compute", "calculate", "calc", "solve", "eval"],
    &["add", "create", "save", "remember", "store", "insert", "write", "append", "make"],
    &["delete", "remove", "erase", "discard"],
    &["list", "show", "enumerate", "display", "all"],
    &["search", "find", "look", "query", "lookup"],
    &["read", "show", "get", "open", "view", "fetch", "display"],
    &["now", "time", "today", "date", "current"],
    &["update", "edit", "change", "modify", "set", "rename"],
];

/// Words of descriptions that say nothing about a tool.
const EMPTY_WORDS: [&str; 24] = [
    "the", "and", "for", "what", "with", "from", "this", "that", "are", "you", "can", "how", "please", "use",
    "give", "return", "one", "two", "its", "all", "not", "new", "has", "have",
];

/// How much more than nothing speaks for a tool.
const ENOUGH: u32 = 4;

impl Offer {
    pub(super) fn new(spec: &ToolSpec) -> Self {
        let mut about = words(spec.annotations.title.as_deref().unwrap_or_default());
        about.extend(words(&spec.description));
        about.sort();
        about.dedup();
        about.retain(|word| word.len() > 2 && !EMPTY_WORDS.contains(&word.as_str()));
        Self {
            name: spec.name.to_string(),
            dotted: format!("{}.{}", spec.name.plugin(), spec.name.tool()),
            params: params(&spec.input_schema),
            risky: spec.annotations.destructive || spec.annotations.requires_approval,
            description: spec.description.clone(),
            tool_words: words(spec.name.tool()),
            plugin_words: words(spec.name.plugin()),
            about,
        }
    }

    /// What speaks for this tool; none where it is too little.
    pub(super) fn score(&self, said: &[String], values: &Values) -> Option<u32> {
        let direct = self.tool_words.iter().filter(|word| said.contains(word)).count();
        let indirect = self
            .tool_words
            .iter()
            .filter(|word| !said.contains(word) && said.iter().any(|other| synonyms(word, other)))
            .count();
        let shape = self.shape(values);
        if direct + indirect == 0 && shape == 0 {
            return None;
        }
        let plugin = self.plugin_words.iter().filter(|word| said.contains(word)).count();
        let about = self.about.iter().filter(|word| said.contains(word)).count();
        let hits = 4 * direct + 3 * indirect + 2 * plugin + about.min(3);
        let score = shape + u32::try_from(hits).unwrap_or(u32::MAX);
        (score >= ENOUGH).then_some(score)
    }

    /// Values that fit this tool's parameters and few others.
    fn shape(&self, values: &Values) -> u32 {
        let count = |kind: Kind, required: bool| {
            let params = self.params.iter().filter(|param| param.kind == kind);
            params.filter(|param| param.required || !required).count()
        };
        let mut shape = 0;
        if values.expression.is_some() && count(Kind::Expression, true) > 0 {
            shape += 6;
        }
        if !values.zones.is_empty() && count(Kind::Zone, false) > 0 {
            shape += 4;
        }
        if values.dates.len() >= 2 && count(Kind::Date, true) == 2 {
            shape += 4;
        }
        shape
    }

    /// A word that names the tool or its plugin rather than something to tell it.
    pub(super) fn is_command(&self, word: &str) -> bool {
        let own = self.tool_words.iter().any(|own| own == word || synonyms(own, word));
        own || self.is_subject(word)
    }

    pub(super) fn is_subject(&self, word: &str) -> bool {
        self.plugin_words.iter().any(|own| own == word)
    }

    /// The description's first sentence, and what the tool needs.
    pub(super) fn summary(&self) -> String {
        let line = self.description.lines().next().unwrap_or_default();
        let sentence = line.split_once(". ").map_or(line, |(first, _)| first).trim_end_matches('.');
        let short: String = sentence.chars().take(120).collect();
        let needs: Vec<String> = self.required().map(|param| format!("`{}`", param.name)).collect();
        if needs.is_empty() { short } else { format!("{short} (needs {})", needs.join(", ")) }
    }

    pub(super) fn required(&self) -> impl Iterator<Item = &Param> {
        self.params.iter().filter(|param| param.required)
    }

    /// A message that makes this model call the tool.
    pub(super) fn example(&self) -> String {
        let kinds: Vec<Kind> = self.required().map(|param| param.kind).collect();
        let says = |word: &str| self.tool_words.iter().any(|own| own == word);
        let has_zone = self.params.iter().any(|param| param.kind == Kind::Zone);
        match kinds.as_slice() {
            [Kind::Expression] => "What is 12*7?".to_owned(),
            [] | [Kind::Zone] if has_zone && says("now") => "What time is it in Europe/Berlin?".to_owned(),
            [Kind::Date, Kind::Date] if says("day") => {
                "How many days are there between 2026-01-01 and 2026-12-31?".to_owned()
            }
            [] => format!("Can you use `{}`?", self.name),
            _ => {
                let pairs = self.required().map(|param| format!("{}={}", param.name, param.sample()));
                format!("Can you use `{}` with {}?", self.name, pairs.collect::<Vec<_>>().join(" "))
            }
        }
    }
}

impl Param {
    fn sample(&self) -> String {
        if let Some(choice) = self.choices.first() {
            return choice.as_str().map_or_else(|| choice.to_string(), str::to_owned);
        }
        match self.kind {
            Kind::Expression => "12*7",
            Kind::Zone => "Europe/Berlin",
            Kind::Date => "2026-01-01",
            Kind::Integer | Kind::Number | Kind::Id => "1",
            Kind::Boolean => "true",
            Kind::Text => "\"hello\"",
            Kind::List => "[]",
            Kind::Object => "{}",
        }
        .to_owned()
    }
}

fn synonyms(a: &str, b: &str) -> bool {
    SYNONYMS.iter().any(|group| group.contains(&a) && group.contains(&b))
}

/// Lower-case words without plural endings; `timeZone`, `time_zone` and `time-zone` are two.
pub(super) fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut was_lower = false;
    for c in text.chars() {
        if !c.is_alphanumeric() || (c.is_uppercase() && was_lower) {
            words.push(std::mem::take(&mut word));
        }
        if c.is_alphanumeric() {
            word.extend(c.to_lowercase());
        }
        was_lower = c.is_lowercase();
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words.into_iter().map(singular).collect()
}

fn singular(mut word: String) -> String {
    if word.len() > 3 && word.ends_with('s') && !word.ends_with("ss") {
        word.pop();
        if word.ends_with("ie") {
            word.truncate(word.len() - 2);
            word.push('y');
        }
    }
    word
}

/// The schema's properties, required ones first, dates in the order of time.
fn params(schema: &Value) -> Vec<Param> {
    let required = |name: &str| {
        let list = schema.get("required").and_then(Value::as_array);
        list.is_some_and(|list| list.iter().any(|item| item == name))
    };
    let properties = schema.get("properties").and_then(Value::as_object);
    let mut params: Vec<Param> = properties
        .into_iter()
        .flatten()
        .map(|(name, property)| {
            let property = plain(property, schema);
            Param {
                name: name.clone(),
                kind: kind(name, property),
                required: required(name),
                choices: property.get("enum").and_then(Value::as_array).cloned().unwrap_or_default(),
            }
        })
        .collect();
    params.sort_by_key(|param| (!param.required, moment(&param.name)));
    params
}

/// A property without the detours over `$ref` and `anyOf` with null.
fn plain<'a>(property: &'a Value, root: &'a Value) -> &'a Value {
    let referred = property.get("$ref").and_then(Value::as_str).and_then(|reference| {
        let pointer = reference.strip_prefix('#')?;
        root.pointer(pointer)
    });
    let choice = ["anyOf", "oneOf"].iter().find_map(|key| {
        let choices = property.get(key)?.as_array()?;
        choices.iter().find(|choice| choice.get("type") != Some(&Value::from("null")))
    });
    referred.or(choice).unwrap_or(property)
}

fn kind(name: &str, property: &Value) -> Kind {
    let declared = match property.get("type") {
        Some(Value::Array(types)) => types.iter().filter_map(Value::as_str).find(|name| *name != "null"),
        other => other.and_then(Value::as_str),
    };
    match declared {
        Some("integer") => return Kind::Integer,
        Some("number") => return Kind::Number,
        Some("boolean") => return Kind::Boolean,
        Some("array") => return Kind::List,
        Some("object") => return Kind::Object,
        _ => {}
    }
    let words = words(name);
    let any = |known: &[&str]| words.iter().any(|word| known.contains(&word.as_str()));
    let format = property.get("format").and_then(Value::as_str).unwrap_or_default();
    if any(&["expression", "expr", "formula", "equation", "calculation"]) {
        Kind::Expression
    } else if any(&["zone", "tz", "timezone"]) {
        Kind::Zone
    } else if format.starts_with("date")
        || any(&["date", "day", "from", "to", "start", "end", "since", "until"])
    {
        Kind::Date
    } else if any(&["id", "key", "number", "index", "uuid"]) {
        Kind::Id
    } else {
        Kind::Text
    }
}

fn moment(name: &str) -> u8 {
    let words = words(name);
    let any = |known: &[&str]| words.iter().any(|word| known.contains(&word.as_str()));
    if any(&["from", "start", "since", "begin", "first", "after", "earlier"]) {
        0
    } else if any(&["to", "end", "until", "before", "second", "last", "later"]) {
        2
    } else {
        1
    }
}
