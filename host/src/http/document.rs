//! The OpenAPI document: made from the routes, and what the layers around them answer for all alike.
//!
//! A handler says what is its own: its success, and errors that mean something here. Who has no token, who
//! asks too often and whose body is no JSON is told so before any handler is reached, and the error
//! responses all carry the same document: that is added here.

use utoipa::OpenApi;
use utoipa::openapi::header::Header;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::response::Response;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, Object, Ref, RefOr, Type};

use super::problem::ProblemDocument;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Holdfast",
        description = "A self-hosted agent host: runs agents whose tools are sandboxed WebAssembly components, and \
                       pauses them for humans. Errors are RFC 9457 problem documents."
    ),
    components(schemas(ProblemDocument)),
    tags(
        (name = "runs", description = "Run an agent, decide its pending calls, cancel"),
        (name = "approvals", description = "Decide what waits for a human, whatever run it belongs to"),
        (name = "sessions", description = "Conversations: the runs of one user with one agent"),
        (name = "agents", description = "The agents of this server"),
        (name = "admin", description = "For the role admin: agents, plugins, the audit log"),
        (name = "catalog", description = "Tools, plugins and models"),
        (name = "health", description = "Liveness and readiness; no token needed"),
    ),
    security(("bearer" = []))
)]
pub(super) struct ApiDoc;

/// The OpenAPI 3.1 document.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut document = super::api().into_openapi();
    let bearer = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    document.components.get_or_insert_default().add_security_scheme("bearer", bearer);
    for operation in document.paths.paths.values_mut().flat_map(operations) {
        complete(operation);
    }
    document
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, .. } = item;
    [get, put, post, delete].into_iter().flatten()
}

fn complete(operation: &mut Operation) {
    // Who needs no token says so by itself.
    let public = operation.security.is_some();
    let takes_anything = operation.parameters.is_some() || operation.request_body.is_some();
    let shared = [
        ("400", takes_anything, "Not a valid path, parameter or body"),
        ("401", !public, "No valid token"),
        ("413", operation.request_body.is_some(), "The body is too large"),
        ("415", operation.request_body.is_some(), "The body is not JSON"),
        ("429", !public, "Too many requests with this key; Retry-After says when to try again"),
        ("500", !public, "Something went wrong in the server; its log has the reason, under the requestId"),
    ];
    let responses = &mut operation.responses.responses;
    for (status, applies, description) in shared {
        if applies && !responses.contains_key(status) {
            responses.insert(status.to_owned(), RefOr::T(Response::new(description)));
        }
    }
    for (status, response) in responses {
        if let (true, RefOr::T(response)) = (is_problem(status, response), response) {
            let problem = Content::new(Some(Ref::from_schema_name("Problem")));
            response.content.insert("application/problem+json".to_owned(), problem.into());
            if matches!(status.as_str(), "429" | "503") {
                let seconds = Header::new(Object::with_type(Type::Integer));
                response.headers.insert("Retry-After".to_owned(), seconds.into());
            }
        }
    }
}

/// An error that does not bring a body of its own.
fn is_problem(status: &str, response: &RefOr<Response>) -> bool {
    status >= "400" && matches!(response, RefOr::T(response) if response.content.is_empty())
}
