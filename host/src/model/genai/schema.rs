//! Makes tool schemas acceptable to providers, where one bad schema fails a whole request, and says which
//! schemas of answers they enforce.
//!
//! Only what a schema loses without harm is taken out: the host checks every call against the tool's own
//! schema anyway. Schemas are guest-controlled.

use ::genai::chat::{ChatResponseFormat, JsonSpec};
use serde_json::{Map, Value, json};

/// An object schema with `properties`.
pub(super) fn acceptable(schema: &Value) -> Value {
    let mut root = match clean(schema, schema) {
        Value::Object(root) => root,
        _ => Map::new(),
    };
    root.remove("$schema");
    root.remove("$id");
    root.insert("type".to_owned(), json!("object"));
    if !root.get("properties").is_some_and(Value::is_object) {
        root.insert("properties".to_owned(), json!({}));
    }
    Value::Object(root)
}

/// What makes an OpenAI-compatible provider enforce the schema of an answer; none where it has keywords that
/// strict providers refuse, since the caller checks the answer anyway. In the strict form every property is
/// required and no other is allowed, which only narrows what is accepted.
pub(super) fn enforceable(schema: &Value) -> Option<ChatResponseFormat> {
    let is_object = schema.get("type").is_some_and(|kind| kind == "object");
    let strict = is_object && schema.get("anyOf").is_none() && is_strict(schema);
    strict.then(|| JsonSpec::new("answer", schema.clone()).into())
}

fn is_strict(schema: &Value) -> bool {
    let Value::Object(members) = schema else { return false };
    members.iter().all(|(keyword, value)| match keyword.as_str() {
        "type" | "required" | "enum" | "const" | "title" | "description" | "$schema" => true,
        "properties" | "$defs" | "definitions" => {
            value.as_object().is_some_and(|parts| parts.values().all(is_strict))
        }
        "items" => is_strict(value),
        "anyOf" => value.as_array().is_some_and(|parts| parts.iter().all(is_strict)),
        "additionalProperties" => *value == Value::Bool(false),
        "minimum" | "maximum" | "minItems" | "maxItems" => value.is_number(),
        _ => false,
    })
}

/// `root` resolves references. Schemas nest at most as deep as JSON may, which the parser limits.
fn clean(schema: &Value, root: &Value) -> Value {
    let Value::Object(map) = schema else {
        return schema.clone();
    };
    let mut cleaned = Map::new();
    for (key, value) in map {
        let value = match key.as_str() {
            "$ref" if !resolves(value, root) => continue,
            "type" if !known_type(value) => continue,
            // llama.cpp takes anchored patterns only.
            "pattern" if !anchored(value) => continue,
            "properties" | "$defs" | "definitions" | "patternProperties" => each(value, root),
            "items"
            | "additionalProperties"
            | "not"
            | "if"
            | "then"
            | "else"
            | "contains"
            | "propertyNames" => clean(value, root),
            "anyOf" | "oneOf" | "allOf" | "prefixItems" => list(value, root),
            _ => value.clone(),
        };
        cleaned.insert(key.clone(), value);
    }
    Value::Object(cleaned)
}

fn each(schemas: &Value, root: &Value) -> Value {
    let Value::Object(map) = schemas else {
        return schemas.clone();
    };
    let cleaned = map.iter().map(|(name, schema)| (name.clone(), clean(schema, root)));
    Value::Object(cleaned.collect())
}

fn list(schemas: &Value, root: &Value) -> Value {
    let Value::Array(schemas) = schemas else {
        return schemas.clone();
    };
    Value::Array(schemas.iter().map(|schema| clean(schema, root)).collect())
}

fn resolves(reference: &Value, root: &Value) -> bool {
    let pointer = reference.as_str().and_then(|reference| reference.strip_prefix('#'));
    pointer.is_some_and(|pointer| root.pointer(pointer).is_some())
}

fn known_type(value: &Value) -> bool {
    const TYPES: [&str; 7] = ["object", "array", "string", "number", "integer", "boolean", "null"];
    let known = |name: &Value| name.as_str().is_some_and(|name| TYPES.contains(&name));
    match value {
        Value::Array(names) => !names.is_empty() && names.iter().all(known),
        name => known(name),
    }
}

fn anchored(value: &Value) -> bool {
    value.as_str().is_some_and(|pattern| pattern.starts_with('^') && pattern.ends_with('$'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_of_answers_are_passed_on_where_strict_providers_take_them() {
        let plain = json!({"type": "object", "required": ["n"], "additionalProperties": false, "properties": {
            "n": {"type": "integer", "minimum": 1}, "l": {"type": "array", "items": {"anyOf": [{"type": "string"}]}}
        }});
        assert!(enforceable(&plain).is_some());
        for refused in [
            json!({"type": "array", "items": {"type": "string"}}),
            json!({"type": "object", "anyOf": [{"type": "object"}]}),
            json!({"type": "object", "properties": {"x": {"type": "string", "pattern": "a+"}}}),
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            json!({"type": "object", "properties": {"x": true}}),
        ] {
            assert!(enforceable(&refused).is_none(), "{refused}");
        }
    }

    #[test]
    fn schemas_lose_what_providers_choke_on_and_nothing_else() {
        let given = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "required": ["a"],
            "properties": {
                "a": {"type": "string", "pattern": "x+", "minLength": 1, "default": {"type": "date"}},
                "b": {"type": "date", "description": "a day"},
                "c": {"anyOf": [{"$ref": "#/$defs/here"}, {"$ref": "other.json"}]},
                "pattern": {"type": "array", "items": {"type": ["string", "null"], "pattern": "^x$"}}
            },
            "$defs": {"here": {"type": "integer"}}
        });
        let expected = json!({
            "required": ["a"],
            "properties": {
                "a": {"type": "string", "minLength": 1, "default": {"type": "date"}},
                "b": {"description": "a day"},
                "c": {"anyOf": [{"$ref": "#/$defs/here"}, {}]},
                "pattern": {"type": "array", "items": {"type": ["string", "null"], "pattern": "^x$"}}
            },
            "$defs": {"here": {"type": "integer"}},
            "type": "object"
        });
        assert_eq!(acceptable(&given), expected);
        for empty in [json!({}), json!(true), json!(null), json!({"type": "string"})] {
            assert_eq!(acceptable(&empty), json!({"type": "object", "properties": {}}), "{empty}");
        }
    }
}
