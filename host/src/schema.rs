//! JSON Schemas that a plugin or a caller made up: checked first, so that validating against them later is
//! cheap and touches nothing but memory.
//!
//! Hostile schemas are the point here. References must be local and must not recurse, and the schema with
//! all its references written out must be small: together with the value's size this bounds the time that
//! one validation can take. Patterns run on a regex engine that is linear in its input and in their size, and are
//! counted.

mod size;

use std::fmt;

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;
use tokio::runtime::{Handle, RuntimeFlavor};

use self::size::{Expansion, Size};
use crate::escape::escaped;

const MAX_BYTES: usize = 64 << 10;
/// Most nodes of a schema whose references are written out.
const MAX_NODES: u64 = 10_000;
/// Deepest nesting of such a schema: validators recurse.
const MAX_DEPTH: u64 = 150;
/// Of one compiled pattern. `\w{1,64}`, which means all of Unicode, takes about half of it.
const MAX_REGEX_BYTES: usize = 1 << 20;
/// Most nodes of a schema times nodes of a value: about a second.
const MAX_WORK: u64 = 100_000_000;
/// The same, as far as everything that is wrong is listed: each such pair may be a problem, and take 400 bytes.
const MAX_LISTED: u64 = 200_000;

const TOP: &str = "top level";

/// How many patterns the schemas of one plugin (or of one answer) may still have, references written out.
/// Each may take [`MAX_REGEX_BYTES`] of the host for as long as the schema is kept.
pub(crate) struct PatternBudget(u64);

impl Default for PatternBudget {
    fn default() -> Self {
        Self(128)
    }
}

/// Why a schema is refused; each reads after "its schema".
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    #[error("has {0} bytes; the most is {MAX_BYTES}")]
    TooBig(usize),
    #[error("is not JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    #[error("must be a JSON object")]
    NotASchema,
    #[error("must be an object with `\"type\": \"object\"` at its top")]
    NotAnObject,
    #[error(
        "uses `{keyword}: {value}`: only references into the schema itself, such as `#/$defs/name`, work"
    )]
    Reference { keyword: &'static str, value: String },
    #[error("refers to itself at `{0}`: write the levels out, or take that part as a string")]
    Recursive(String),
    #[error("is too large once its references are written out ({MAX_NODES} nodes, {MAX_DEPTH} levels)")]
    TooLarge,
    #[error(
        "has `unevaluatedProperties` or `unevaluatedItems` within one another more than twice: name the properties instead"
    )]
    Unevaluated,
    #[error("has too many patterns: 128 may be in all schemas of a plugin, or in that of an answer")]
    Patterns,
    #[error("is not a valid JSON Schema: {0}")]
    Invalid(String),
}

/// What is wrong at one place of a value.
#[derive(Debug)]
pub(crate) struct Misfit {
    /// A JSON pointer, or `top level`.
    place: String,
    /// Where the schema says otherwise; empty where no rule of it does.
    rule: String,
    message: String,
}

impl Misfit {
    fn of(error: &jsonschema::ValidationError<'_>) -> Self {
        let pointer = escaped(error.instance_path().as_str(), 200);
        let place = if pointer.is_empty() { TOP.to_owned() } else { pointer };
        let rule = escaped(error.schema_path().as_str(), 200);
        // The schema `false` has no keyword to point at.
        let rule = if rule.is_empty() { "the schema".to_owned() } else { rule };
        Self { place, rule, message: escaped(&error.to_string(), 300) }
    }

    /// Without what is there: for readers who are not to see the value.
    pub(crate) fn without_value(&self) -> String {
        let Self { place, rule, message } = self;
        if rule.is_empty() { format!("{place}: {message}") } else { format!("{place} breaks {rule}") }
    }
}

/// Quotes parts of the value.
impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// A schema and what checks values against it.
#[derive(Debug)]
pub(crate) struct Schema {
    pub(crate) value: Value,
    validator: Validator,
    size: Size,
}

impl Schema {
    /// A schema of arguments: the top must be an object.
    pub(crate) fn of_arguments(text: &str, budget: &mut PatternBudget) -> Result<Self, SchemaError> {
        let schema = Self::of_output(text, budget)?;
        if schema.value.get("type") != Some(&Value::from("object")) {
            return Err(SchemaError::NotAnObject);
        }
        Ok(schema)
    }

    /// A schema of a run's answer, as the caller or the configuration gave it.
    pub(crate) fn of_answer(schema: &Value) -> Result<Self, SchemaError> {
        Self::of_output(&schema.to_string(), &mut PatternBudget::default())
    }

    pub(crate) fn of_output(text: &str, budget: &mut PatternBudget) -> Result<Self, SchemaError> {
        if text.len() > MAX_BYTES {
            return Err(SchemaError::TooBig(text.len()));
        }
        let value: Value = serde_json::from_str(text)?;
        let Value::Object(_) = &value else {
            return Err(SchemaError::NotASchema);
        };
        let size = Expansion::new(&value).size(&value)?;
        if size.nodes() > MAX_NODES || size.depth > MAX_DEPTH {
            return Err(SchemaError::TooLarge);
        }
        budget.0 = budget.0.checked_sub(size.patterns).ok_or(SchemaError::Patterns)?;
        let patterns = PatternOptions::regex().size_limit(MAX_REGEX_BYTES).dfa_size_limit(MAX_REGEX_BYTES);
        let validator = jsonschema::options()
            .offline()
            .with_pattern_options(patterns)
            .build(&value)
            .map_err(|error| SchemaError::Invalid(escaped(&error.to_string(), 300)))?;
        Ok(Self { value, validator, size })
    }

    /// What is wrong with a value: the first `most` problems, or fewer of a large one.
    pub(crate) fn problems(&self, value: &Value, most: usize) -> Vec<Misfit> {
        let work = self.size.work(value);
        if work > MAX_WORK {
            return unlisted("the value is too large to be checked against the schema");
        }
        if work <= MAX_LISTED {
            return self.found(value, most);
        }
        aside(|| self.first(value))
    }

    /// The iterator may collect every problem there is before it gives out the first.
    fn found(&self, value: &Value, most: usize) -> Vec<Misfit> {
        if self.validator.is_valid(value) {
            return Vec::new();
        }
        self.validator.iter_errors(value).take(most).map(|error| Misfit::of(&error)).collect()
    }

    /// What a branch lacks is listed for every branch, even where only one problem is asked for.
    fn first(&self, value: &Value) -> Vec<Misfit> {
        if self.validator.is_valid(value) {
            return Vec::new();
        }
        if self.size.branches {
            return unlisted("the value does not fit the schema, and is too large to say where");
        }
        self.validator.validate(value).err().iter().map(Misfit::of).collect()
    }
}

/// Lets other tasks have the thread meanwhile: checking can take a second.
fn aside<T>(check: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(check),
        _ => check(),
    }
}

fn unlisted(message: &str) -> Vec<Misfit> {
    vec![Misfit { place: TOP.to_owned(), rule: String::new(), message: message.to_owned() }]
}
#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;

    fn parsed(schema: &Value) -> Result<Schema, SchemaError> {
        Schema::of_arguments(&schema.to_string(), &mut PatternBudget::default())
    }

    fn refusal(schema: &Value) -> String {
        match parsed(schema) {
            Ok(_) => "accepted".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn problems_name_their_place() {
        let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["m"]});
        let schema = parsed(&schema).unwrap();
        let problems = schema.problems(&json!({"n": "x"}), 5);
        let sorted = |say: fn(&Misfit) -> String| {
            let mut said: Vec<String> = problems.iter().map(say).collect();
            said.sort();
            said
        };
        assert_eq!(
            sorted(Misfit::to_string),
            ["/n: \"x\" is not of type \"integer\"", "top level: \"m\" is a required property"]
        );
        assert_eq!(
            sorted(Misfit::without_value),
            ["/n breaks /properties/n/type", "top level breaks /required"]
        );
    }

    #[test]
    fn local_references_work() {
        let schema = json!({"type": "object", "$defs": {"a": {"type": "string"}},
            "properties": {"x": {"$ref": "#/$defs/a"}, "$ref": {"type": "string"}}});
        assert_eq!(refusal(&schema), "accepted");
    }

    #[test]
    fn hostile_references_are_refused() {
        let with = |part: Value| refusal(&json!({"type": "object", "properties": {"x": part}}));
        assert!(with(json!({"$ref": "https://example.com/s.json"})).contains("only references into"));
        assert!(with(json!({"$ref": "file:///etc/passwd"})).contains("only references into"));
        assert!(with(json!({"$dynamicRef": "#x"})).contains("only references into"));
        assert!(with(json!({"$id": "http://x/", "type": "string"})).contains("only references into"));
        assert!(with(json!({"$ref": "#"})).contains("refers to itself"));
        assert!(with(json!({"allOf": [{"$ref": "#/properties/x"}]})).contains("refers to itself"));
        let chain = |next: usize| json!({"allOf": [{"$ref": format!("#/$defs/{next}")}, {"$ref": format!("#/$defs/{next}")}]});
        let mut definitions: Map<String, Value> = (0..30).map(|n| (n.to_string(), chain(n + 1))).collect();
        definitions.insert("30".to_owned(), json!({}));
        let bomb = json!({"type": "object", "$defs": definitions, "$ref": "#/$defs/0"});
        assert!(refusal(&bomb).contains("too large"));
    }

    #[test]
    fn a_catastrophic_pattern_is_quick_or_refused() {
        let schema = json!({"type": "object", "properties": {"x": {"type": "string", "pattern": "^(a+)+$"}}});
        let schema = parsed(&schema).unwrap();
        assert_eq!(schema.problems(&json!({"x": "a".repeat(50_000) + "!"}), 5).len(), 1);
        let look = json!({"type": "object", "properties": {"x": {"pattern": "(?=(a+)+)b"}}});
        assert!(refusal(&look).contains("not a valid JSON Schema"));
        let huge = json!({"type": "object", "properties": {"x": {"pattern": "(\\w{500}){500}"}}});
        assert!(refusal(&huge).contains("not a valid JSON Schema"));
    }

    #[test]
    fn other_shapes_are_refused() {
        assert!(refusal(&json!({"type": "string"})).contains("must be an object"));
        assert!(refusal(&json!({"type": "objet"})).contains("not a valid JSON Schema"));
        let big = json!({"type": "object", "description": "x".repeat(70_000)});
        assert!(refusal(&big).contains("the most is"));
        assert!(Schema::of_output(&"[".repeat(1000), &mut PatternBudget::default()).is_err());
    }

    #[test]
    fn work_and_patterns_are_bounded() {
        let many: Vec<Value> = (0..200).map(|n| json!({"pattern": format!("a{n}")})).collect();
        assert!(refusal(&json!({"type": "object", "allOf": many})).contains("too many patterns"));
        let parts: Vec<Value> = (0..2000).map(|_| json!({"minProperties": 1})).collect();
        let schema = parsed(&json!({"type": "object", "allOf": parts})).unwrap();
        assert!(schema.problems(&json!({"x": "small"}), 1).is_empty());
        let large = json!({"x": vec![0; 500_000]});
        assert!(schema.problems(&large, 1)[0].to_string().contains("too large"));
    }

    /// Before all errors were collected, and each took 400 bytes: a hundred kilobytes took the machine's memory.
    #[test]
    fn a_value_that_is_wrong_in_millions_of_ways_is_wrong_in_one() {
        let strings: Vec<Value> = vec![json!({"type": "string"}); 1000];
        let value = json!({"x": vec![1; 40_000]});
        for (keyword, told) in [("allOf", "/x/0: 1 is not of type"), ("anyOf", "too large to say where")] {
            let schema = json!({"type": "object", "properties": {"x": {"items": {keyword: strings}}}});
            let problems = parsed(&schema).unwrap().problems(&value, 5);
            assert_eq!(problems.len(), 1);
            assert!(problems[0].to_string().contains(told), "{}", problems[0]);
        }
    }

    #[test]
    fn what_grows_with_every_level_is_refused_at_the_third() {
        for (unevaluated, by) in [("unevaluatedProperties", "anyOf"), ("unevaluatedItems", "if")] {
            let level = |inner: Value| {
                let inner = if by == "if" { inner } else { json!([inner, {"required": ["a"]}]) };
                json!({"type": "object", by: inner, unevaluated: {"type": "integer"}})
            };
            let two = level(level(json!({"properties": {"b": {}}})));
            assert_eq!(refusal(&two), "accepted");
            assert!(refusal(&level(two)).contains("within one another"));
        }
        let beside = json!({"type": "object", "properties": {"b": {"type": "object", "unevaluatedProperties": false}},
            "unevaluatedProperties": false});
        let deep = (0..5).fold(
            beside,
            |inner, _| json!({"type": "object", "properties": {"b": inner}, "unevaluatedProperties": false}),
        );
        assert_eq!(refusal(&deep), "accepted", "parts of a value are looked at once");
    }

    #[test]
    fn long_texts_and_many_members_count_where_they_cost() {
        let told = |schema: Value, value: Value| {
            parsed(&schema).unwrap().problems(&value, 1).first().map_or("fits".to_owned(), Misfit::to_string)
        };
        let pattern = |pattern: &str| json!({"type": "object", "properties": {"x": {"pattern": pattern}}});
        let text = |bytes: usize| json!({"x": "ab".repeat(bytes / 2)});
        assert!(told(pattern("[ab]*a[ab]{2000}c"), text(200_000)).contains("too large"));
        assert_eq!(told(pattern("^[a-z0-9]{0,64}"), text(500_000)), "fits");
        assert_eq!(told(pattern("^\\w+$"), text(100_000)), "fits");
        let branches = json!({"type": "object", "unevaluatedProperties": {"type": "integer"},
            "anyOf": vec![json!({"required": ["x"]}); 100]});
        let wide = |members: usize| -> Value { (0..members).map(|n| (format!("p{n}"), json!(n))).collect() };
        assert!(told(branches.clone(), wide(1000)).contains("too large"));
        assert!(told(branches.clone(), wide(100)).contains("too large to say where"));
        assert!(told(branches, wide(3)).contains("not valid under any"));
        let multiple = json!({"type": "object", "properties": {"x": {"items": {"multipleOf": 1e-7}}}});
        assert!(told(multiple, json!({"x": vec![1.5e17; 1_000_000]})).contains("too large"));
    }
}
