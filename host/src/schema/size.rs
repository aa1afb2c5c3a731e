//! How large a schema is with its references written out, and how large a value is to what validates it.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::{MAX_DEPTH, MAX_REGEX_BYTES, SchemaError};
use crate::escape::escaped;

/// Measures a schema with its references written out, each distinct place once.
pub(super) struct Expansion<'a> {
    root: &'a Value,
    /// By address; none = being measured.
    sizes: HashMap<*const Value, Option<Size>>,
    /// How deep the walk is: it recurses itself.
    level: u64,
}

/// How often `unevaluatedProperties` and the like may stand within one another.
const MAX_UNEVALUATED: usize = 2;

/// Keywords whose schemas are about parts of a value or about nothing yet. All others may be about the value
/// itself.
const ELSEWHERE: [&str; 10] = [
    "properties",
    "patternProperties",
    "additionalProperties",
    "unevaluatedProperties",
    "items",
    "additionalItems",
    "unevaluatedItems",
    "prefixItems",
    "$defs",
    "definitions",
];

#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    /// Nodes that are looked at once for each node of a value; at `[1]` once more for each member that an object of
    /// it has, and at `[2]` for each pair of members: whether a property is evaluated is found out for each one, by
    /// validating what stands beside it.
    nodes: [u64; MAX_UNEVALUATED + 1],
    pub(super) depth: u64,
    pub(super) patterns: u64,
    /// Of the compiled patterns.
    pattern_bytes: u64,
    /// To say what is wrong with a value is to say it for every branch.
    pub(super) branches: bool,
}

impl Size {
    fn of(node: &Value) -> Self {
        let (patterns, pattern_bytes) = patterns(node);
        let branches = node.get("anyOf").is_some() || node.get("oneOf").is_some();
        // Exact arithmetic on decimal fractions.
        let nodes = if node.get("multipleOf").is_some() { 100 } else { 1 };
        Self { nodes: [nodes, 0, 0], depth: 0, patterns, pattern_bytes, branches }
    }

    fn add(&mut self, part: Self) {
        for (nodes, more) in self.nodes.iter_mut().zip(part.nodes) {
            *nodes = nodes.saturating_add(more);
        }
        self.depth = self.depth.max(part.depth);
        self.patterns = self.patterns.saturating_add(part.patterns);
        self.pattern_bytes = self.pattern_bytes.saturating_add(part.pattern_bytes);
        self.branches |= part.branches;
    }

    /// The part is looked at once more for each member.
    fn add_for_each_member(&mut self, part: Self) -> Result<(), SchemaError> {
        let [once, twice, more] = part.nodes;
        if more > 0 {
            return Err(SchemaError::Unevaluated);
        }
        self.add(Self { nodes: [0, once, twice], ..part });
        Ok(())
    }

    pub(super) fn nodes(&self) -> u64 {
        self.nodes.iter().fold(0, |all, nodes| all.saturating_add(*nodes))
    }

    /// What validating a value takes at most, in nodes of the schema times nodes of the value.
    pub(super) fn work(&self, value: &Value) -> u64 {
        let weight = Weight::of(value);
        let nodes = self
            .nodes
            .iter()
            .rev()
            .fold(0_u64, |all, nodes| all.saturating_mul(weight.widest).saturating_add(*nodes));
        // The engine's last resort follows all states of a pattern through a text at once.
        let matching = self.pattern_bytes.saturating_mul(weight.text) / 100;
        nodes.saturating_mul(weight.nodes).saturating_add(matching)
    }
}

impl<'a> Expansion<'a> {
    pub(super) fn new(root: &'a Value) -> Self {
        Self { root, sizes: HashMap::new(), level: 0 }
    }

    pub(super) fn size(&mut self, node: &'a Value) -> Result<Size, SchemaError> {
        match self.sizes.get(&std::ptr::from_ref(node)) {
            Some(Some(size)) => return Ok(*size),
            // Only a reference leads back to where the walk already is.
            Some(None) => return Err(SchemaError::Recursive("#".to_owned())),
            None => {}
        }
        self.level += 1;
        if self.level > MAX_DEPTH {
            return Err(SchemaError::TooLarge);
        }
        self.sizes.insert(node, None);
        let mut size = Size::of(node);
        match node {
            Value::Object(members) => {
                let unevaluated = ["unevaluatedProperties", "unevaluatedItems"];
                let unevaluated = unevaluated.iter().any(|keyword| members.contains_key(*keyword));
                if let Some(target) = self.reference(node, members)? {
                    size.add(target);
                    if unevaluated {
                        size.add_for_each_member(target)?;
                    }
                }
                for (keyword, member) in members {
                    let part = self.size(member)?;
                    size.add(part);
                    if unevaluated && !ELSEWHERE.contains(&keyword.as_str()) {
                        size.add_for_each_member(part)?;
                    }
                }
            }
            Value::Array(items) => {
                for item in items {
                    size.add(self.size(item)?);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
        size.depth += 1;
        self.level -= 1;
        self.sizes.insert(node, Some(size));
        Ok(size)
    }

    /// The size of what an object refers to, if it does. Looks at every object, data of `const` or
    /// `default` included: refusing too much there is harmless.
    fn reference(
        &mut self,
        node: &'a Value,
        members: &'a Map<String, Value>,
    ) -> Result<Option<Size>, SchemaError> {
        for keyword in ["$dynamicRef", "$recursiveRef", "$id", "id"] {
            // `$id` may name the whole schema; further down it would move what `#` means.
            let harmless = match keyword {
                "$id" => std::ptr::eq(node, self.root),
                "id" => !uses_draft_4(self.root) || std::ptr::eq(node, self.root),
                _ => false,
            };
            if let (Some(Value::String(value)), false) = (members.get(keyword), harmless) {
                return Err(reference_error(keyword, value));
            }
        }
        let Some(Value::String(reference)) = members.get("$ref") else {
            return Ok(None);
        };
        let target = reference
            .strip_prefix('#')
            .filter(|pointer| !pointer.contains('%'))
            .and_then(|pointer| self.root.pointer(pointer))
            .ok_or_else(|| reference_error("$ref", reference))?;
        match self.size(target) {
            Err(SchemaError::Recursive(_)) => Err(SchemaError::Recursive(escaped(reference, 100))),
            size => size.map(Some),
        }
    }
}

/// Patterns of one schema object, its parts not included, and their bytes.
fn patterns(node: &Value) -> (u64, u64) {
    let one = node.get("pattern").and_then(Value::as_str);
    let more = node.get("patternProperties").and_then(Value::as_object);
    let texts =
        one.into_iter().chain(more.into_iter().flat_map(|patterns| patterns.keys().map(String::as_str)));
    texts.fold((0, 0), |(count, bytes), text| (count + 1, bytes + compiled_bytes(text)))
}

/// Of a pattern, to the next power of two; one that only the validator's own reading of it can tell counts as the
/// largest.
fn compiled_bytes(pattern: &str) -> u64 {
    let sizes = (10..).map(|power| 1_usize << power).take_while(|size| *size < MAX_REGEX_BYTES);
    let fits = |size: &usize| regex::RegexBuilder::new(pattern).size_limit(*size).build().is_ok();
    sizes.into_iter().find(fits).unwrap_or(MAX_REGEX_BYTES) as u64
}

/// The size of a value as a validator sees it.
struct Weight {
    /// Its nodes, and the text that most keywords only look at.
    nodes: u64,
    /// Bytes of text.
    text: u64,
    /// Members of its largest object or array.
    widest: u64,
}

impl Weight {
    fn of(value: &Value) -> Self {
        let mut weight = Self { nodes: 1, text: 0, widest: 1 };
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
            Value::String(text) => weight.add_text(text),
            Value::Array(items) => {
                weight.widest = weight.widest.max(items.len() as u64);
                for item in items {
                    weight.add(&Self::of(item));
                }
            }
            Value::Object(members) => {
                weight.widest = weight.widest.max(members.len() as u64);
                for (key, value) in members {
                    weight.nodes += 1;
                    weight.add_text(key);
                    weight.add(&Self::of(value));
                }
            }
        }
        weight
    }

    fn add_text(&mut self, text: &str) {
        self.nodes += text.len() as u64 / 16;
        self.text += text.len() as u64;
    }

    fn add(&mut self, part: &Self) {
        self.nodes += part.nodes;
        self.text += part.text;
        self.widest = self.widest.max(part.widest);
    }
}

fn uses_draft_4(root: &Value) -> bool {
    root.get("$schema").and_then(Value::as_str).is_some_and(|draft| draft.contains("draft-04"))
}

fn reference_error(keyword: &'static str, value: &str) -> SchemaError {
    SchemaError::Reference { keyword, value: escaped(value, 100) }
}
