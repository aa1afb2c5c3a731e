//! JSON Schemas from Rust types, without what a model does not need to read.

use schemars::{
    JsonSchema, Schema,
    generate::SchemaSettings,
    transform::{RecursiveTransform, Transform},
};

/// An object schema, also for a type without fields.
pub(crate) fn arguments_schema<T: JsonSchema>() -> String {
    let mut schema = schema_of::<T>();
    schema.insert("type".to_owned(), "object".into());
    if schema.get("properties").is_none() {
        schema.insert("properties".to_owned(), serde_json::Map::new().into());
    }
    schema.as_value().to_string()
}

pub(crate) fn result_schema<T: JsonSchema>() -> String {
    schema_of::<T>().as_value().to_string()
}

fn schema_of<T: JsonSchema>() -> Schema {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    // The title is the name of a Rust type.
    schema.remove("title");
    RecursiveTransform(tidy).transform(&mut schema);
    schema
}

fn tidy(schema: &mut Schema) {
    // `uint8` and the like are no formats of JSON Schema, and some model providers refuse unknown ones.
    let is_rust = |format: &str| ["int", "uint", "float", "double"].iter().any(|it| format.starts_with(it));
    if schema.get("format").and_then(|format| format.as_str()).is_some_and(is_rust) {
        schema.remove("format");
    }
    // A doc comment is broken where the source line ends.
    if let Some(description) = schema.get("description").and_then(|text| text.as_str()) {
        let paragraphs: Vec<String> = description.split("\n\n").map(|text| text.replace('\n', " ")).collect();
        schema.insert("description".to_owned(), paragraphs.join("\n\n").into());
    }
}
