//! The OpenAPI document against what servers answer: every answer that a test gets is looked up in it.

use std::sync::LazyLock;

use reqwest::Method;
use serde_json::Value;

static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::to_value(holdfast::http::openapi()).expect("JSON"));

/// Panics where the document does not say that the operation may answer this. What is no operation is
/// nobody's promise.
pub(crate) fn check(method: &Method, path: &str, status: u16, content_type: &str) {
    let Some((template, operations)) = path_item(path) else { return };
    let Some(operation) = operations.get(method.as_str().to_ascii_lowercase()) else { return };
    let response = &operation["responses"][status.to_string()];
    assert!(!response.is_null(), "the document does not say that {method} {template} may answer {status}");
    let essence = content_type.split(';').next().unwrap_or_default();
    let says = response["content"].as_object().map(|content| content.contains_key(essence));
    let said = says.unwrap_or(essence.is_empty());
    assert!(said, "the document does not say that {method} {template} answers {status} as {content_type}");
}

/// The paths of the document that match; one without parameters is meant before one with.
fn path_item(path: &str) -> Option<(&String, &Value)> {
    let fits = |template: &str| {
        let (mut asked, mut known) = (path.split('/'), template.split('/'));
        loop {
            match (asked.next(), known.next()) {
                (None, None) => return true,
                (Some(_), Some(part)) if part.starts_with('{') => {}
                (Some(asked), Some(part)) if asked == part => {}
                _ => return false,
            }
        }
    };
    let paths = DOCUMENT["paths"].as_object().expect("paths").iter();
    paths.filter(|(template, _)| fits(template)).min_by_key(|(template, _)| template.matches('{').count())
}
