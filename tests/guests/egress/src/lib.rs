//! Sends whatever HTTP request it is told to, and says what came of it. Uses the raw bindings: a client would
//! make some of this impossible.

use holdfast_plugin::raw::{
    Guest,
    types::{Annotations, CallContext, Failure, Outcome, Output, Part, Tool},
};
use serde_json::{Value, json};
use wasip2::{
    http::{
        outgoing_handler::handle,
        types::{Fields, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest, Scheme},
    },
    io::streams::StreamError,
};

/// What a stream takes at once.
const PIECE: usize = 4096;

struct Component;

impl Guest for Component {
    fn describe() -> Vec<Tool> {
        let schema = json!({"type": "object"}).to_string();
        [("send", "Sends a request."), ("hold", "Opens that many requests with bodies, and sends none.")]
            .map(|(name, description)| Tool {
                name: name.to_owned(),
                description: description.to_owned(),
                input_schema: schema.clone(),
                output_schema: None,
                annotations: Annotations {
                    title: None,
                    read_only: false,
                    destructive: false,
                    idempotent: false,
                    open_world: true,
                    requires_approval: false,
                },
            })
            .into()
    }

    fn call(_: CallContext, tool: String, arguments: String) -> Result<Outcome, Failure> {
        let arguments: Value = serde_json::from_str(&arguments).unwrap_or_default();
        if tool == "hold" {
            return hold(arguments["count"].as_u64().unwrap_or_default());
        }
        let mut said = Vec::new();
        for _ in 0..arguments["times"].as_u64().unwrap_or(1) {
            match send(&arguments) {
                Ok(text) => said.push(text),
                // A guest that copes with what it is denied.
                Err(error) if arguments["cope"] == true => said.push(format!("no: {error}")),
                Err(error) => {
                    return Err(Failure { code: "http".to_owned(), message: error, retry_after_ms: None });
                }
            }
        }
        Ok(answer(said.join("\n")))
    }
}

fn answer(text: String) -> Outcome {
    Outcome::Done(Output { parts: vec![Part::Text(text)], structured: None, is_error: false })
}

fn send(arguments: &Value) -> Result<String, String> {
    let request = request(arguments)?;
    let sends_body = arguments["body"].is_u64() || arguments["trailers"] == true;
    let body =
        if sends_body { Some(request.body().map_err(|()| "it may have no body".to_owned())?) } else { None };
    let future = handle(request, None).map_err(|error| error.to_string())?;
    if let Some(body) = body {
        // A refusal ends the body first; the response says why.
        let _ = write(body, arguments);
    }
    future.subscribe().block();
    let response =
        future.get().ok_or("not ready")?.map_err(|()| "taken")?.map_err(|error| error.to_string())?;
    read(response)
}

fn request(arguments: &Value) -> Result<OutgoingRequest, String> {
    let headers = Fields::new();
    for header in arguments["headers"].as_array().into_iter().flatten() {
        let (name, value) = (header[0].as_str().unwrap_or_default(), header[1].as_str().unwrap_or_default());
        headers.append(name, value.as_bytes()).map_err(|error| format!("header {name:?}: {error}"))?;
    }
    let request = OutgoingRequest::new(headers);
    let text = |name: &str| arguments[name].as_str().unwrap_or_default();
    let method = match text("method") {
        "" | "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        other => Method::Other(other.to_owned()),
    };
    let scheme = match text("scheme") {
        "" | "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    };
    request.set_method(&method).map_err(|()| "the method is not accepted")?;
    request.set_scheme(Some(&scheme)).map_err(|()| "the scheme is not accepted")?;
    request.set_authority(Some(text("authority"))).map_err(|()| "the authority is not accepted")?;
    let path = arguments["path"].as_str().unwrap_or("/");
    request.set_path_with_query(Some(path)).map_err(|()| "the path is not accepted")?;
    Ok(request)
}

fn write(body: OutgoingBody, arguments: &Value) -> Result<(), String> {
    let mut left = usize::try_from(arguments["body"].as_u64().unwrap_or_default()).unwrap_or_default();
    let stream = body.write().map_err(|()| "no stream")?;
    while left > 0 {
        let piece = left.min(PIECE);
        stream.blocking_write_and_flush(&vec![b'x'; piece]).map_err(|error| error.to_string())?;
        left -= piece;
    }
    drop(stream);
    let trailers = Fields::new();
    let trailers = (arguments["trailers"] == true).then(|| {
        let _ = trailers.append("x-after", b"all");
        trailers
    });
    OutgoingBody::finish(body, trailers).map_err(|error| error.to_string())
}

/// Status, headers and body, one below the other.
fn read(response: IncomingResponse) -> Result<String, String> {
    let mut said = response.status().to_string();
    for (name, value) in response.headers().entries() {
        said += &format!("\n{name}: {}", String::from_utf8_lossy(&value));
    }
    let body = response.consume().map_err(|()| "no body")?;
    let stream = body.stream().map_err(|()| "no stream")?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(PIECE as u64) {
            Ok(piece) => bytes.extend(piece),
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => {
                let code = wasip2::http::types::http_error_code(&error);
                let code = code.map_or_else(|| error.to_debug_string(), |code| code.to_string());
                return Err(format!("after {:?}: {code}", String::from_utf8_lossy(&bytes)));
            }
        }
    }
    drop(stream);
    let trailers = IncomingBody::finish(body);
    trailers.subscribe().block();
    if let Some(Ok(Ok(Some(trailers)))) = trailers.get() {
        said += &format!("\ntrailers: {}", trailers.entries().len());
    }
    Ok(format!("{said}\n\n{}", String::from_utf8_lossy(&bytes)))
}

/// Bodies that wait in the host for a request that is never sent.
fn hold(count: u64) -> Result<Outcome, Failure> {
    let mut held = Vec::new();
    for _ in 0..count {
        let request = OutgoingRequest::new(Fields::new());
        let Ok(body) = request.body() else { break };
        if let Ok(stream) = body.write() {
            while stream.check_write().is_ok_and(|room| room > 0) {
                let room = usize::try_from(stream.check_write().unwrap_or_default()).unwrap_or_default();
                if room == 0 || stream.write(&vec![b'x'; room.min(PIECE)]).is_err() {
                    break;
                }
            }
            held.push((request, body, stream));
        }
    }
    Ok(answer(format!("held {}", held.len())))
}

holdfast_plugin::export_raw!(Component);
