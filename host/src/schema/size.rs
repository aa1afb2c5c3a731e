//! How large a schema is with its references written out, and how large a value is to what validates it.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::{MAX_DEPTH, SchemaError};
use crate::escape::escaped;

/// Measures a schema with its references written out, each distinct place once.
pub(super) struct Expansion<'a> {
    root: &'a Value,
    /// By address; none = being measured.
    sizes: HashMap<*const Value, Option<Size>>,
    /// How deep the walk is: it recurses itself.
    level: u64,
}

#[derive(Clone, Copy)]
pub(super) struct Size {
    pub(super) nodes: u64,
    pub(super) depth: u64,
    pub(super) patterns: u64,
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
        let mut size = Size { nodes: 1, depth: 0, patterns: patterns(node) };
        let mut add = |part: Size| {
            size.nodes = size.nodes.saturating_add(part.nodes);
            size.depth = size.depth.max(part.depth);
            size.patterns = size.patterns.saturating_add(part.patterns);
        };
        match node {
            Value::Object(members) => {
                if let Some(target) = self.reference(node, members)? {
                    add(target);
                }
                for member in members.values() {
                    add(self.size(member)?);
                }
            }
            Value::Array(items) => {
                for item in items {
                    add(self.size(item)?);
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

/// Patterns of one schema object, its parts not included.
fn patterns(node: &Value) -> u64 {
    let one = node.get("pattern").is_some_and(Value::is_string);
    let more = node.get("patternProperties").and_then(Value::as_object);
    u64::from(one) + more.map_or(0, |patterns| patterns.len() as u64)
}

/// The size of a value as a validator sees it: its nodes, and the text that patterns run over.
pub(super) fn weight(value: &Value) -> u64 {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 1,
        Value::String(text) => 1 + text.len() as u64 / 16,
        Value::Array(items) => 1 + items.iter().map(weight).sum::<u64>(),
        Value::Object(members) => {
            let member = |(key, value): (&String, &Value)| 1 + key.len() as u64 / 16 + weight(value);
            1 + members.iter().map(member).sum::<u64>()
        }
    }
}

fn uses_draft_4(root: &Value) -> bool {
    root.get("$schema").and_then(Value::as_str).is_some_and(|draft| draft.contains("draft-04"))
}

fn reference_error(keyword: &'static str, value: &str) -> SchemaError {
    SchemaError::Reference { keyword, value: escaped(value, 100) }
}
