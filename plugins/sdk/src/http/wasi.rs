//! One request through `wasi:http`.

use wasip2::{
    http::{
        outgoing_handler::handle,
        types::{
            ErrorCode, Fields, IncomingResponse, Method, OutgoingBody, OutgoingRequest, Scheme,
            http_error_code,
        },
    },
    io::streams::StreamError,
};

use super::{Error, Request, Response, split};

/// What a stream takes at once.
const PIECE: usize = 4096;

pub(super) fn send(request: &Request) -> Result<Response, Error> {
    let outgoing = outgoing(request)?;
    let body = if request.body.is_empty() { None } else { outgoing.body().ok() };
    let future = handle(outgoing, None).map_err(failed)?;
    if let Some(body) = body {
        // Where this ends early, the response says why.
        let _ = write(body, &request.body);
    }
    future.subscribe().block();
    let gone = || Error::Failed("the host gave no response".to_owned());
    let response = future.get().ok_or_else(gone)?.map_err(|()| gone())?.map_err(failed)?;
    read(&response, request.max_body)
}

fn outgoing(request: &Request) -> Result<OutgoingRequest, Error> {
    let (scheme, authority, path) = split(&request.url)?;
    let fields = Fields::new();
    for (name, value) in &request.headers {
        fields
            .append(name, value.as_bytes())
            .map_err(|error| Error::Invalid(format!("the header `{name}` cannot be set: {error}")))?;
    }
    if !request.body.is_empty() {
        // A plain body is easier on servers than one in chunks.
        let _ = fields.set("content-length", &[request.body.len().to_string().into_bytes()]);
    }
    let outgoing = OutgoingRequest::new(fields);
    let method = match request.method.as_str() {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "PATCH" => Method::Patch,
        "OPTIONS" => Method::Options,
        other => Method::Other(other.to_owned()),
    };
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let invalid = |()| Error::Invalid(format!("`{} {}` cannot be sent", request.method, request.url));
    outgoing.set_method(&method).map_err(invalid)?;
    outgoing.set_scheme(Some(&scheme)).map_err(invalid)?;
    outgoing.set_authority(Some(authority)).map_err(invalid)?;
    outgoing.set_path_with_query(Some(&path)).map_err(invalid)?;
    Ok(outgoing)
}

fn write(body: OutgoingBody, bytes: &[u8]) -> Result<(), ErrorCode> {
    if let Ok(stream) = body.write() {
        for piece in bytes.chunks(PIECE) {
            if stream.blocking_write_and_flush(piece).is_err() {
                break;
            }
        }
    }
    OutgoingBody::finish(body, None)
}

fn read(response: &IncomingResponse, most: usize) -> Result<Response, Error> {
    let headers = response.headers().entries().into_iter();
    let mut read = Response {
        status: response.status(),
        headers: headers.map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned())).collect(),
        ..Response::default()
    };
    let gone = |()| Error::Failed("the host gave no body".to_owned());
    let body = response.consume().map_err(gone)?;
    let stream = body.stream().map_err(gone)?;
    // One byte more than wanted says whether there is more.
    while read.body.len() <= most {
        let wanted = (most + 1 - read.body.len()).min(64 * 1024);
        match stream.blocking_read(wanted as u64) {
            Ok(piece) => read.body.extend(piece),
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => {
                let unknown = || Error::Failed("the response broke off".to_owned());
                return Err(http_error_code(&error).map_or_else(unknown, failed));
            }
        }
    }
    read.is_cut = read.body.len() > most;
    read.body.truncate(most);
    Ok(read)
}

fn failed(code: ErrorCode) -> Error {
    match code {
        ErrorCode::HttpRequestDenied | ErrorCode::DestinationIpProhibited => Error::Denied,
        ErrorCode::HttpRequestUriInvalid => {
            Error::Invalid("the URL cannot be read in one way only".to_owned())
        }
        ErrorCode::DnsError(_) => Error::Failed("there is no server of this name".to_owned()),
        ErrorCode::ConnectionRefused | ErrorCode::ConnectionTimeout => {
            Error::Failed("the server cannot be reached".to_owned())
        }
        ErrorCode::TlsProtocolError | ErrorCode::TlsCertificateError => {
            Error::Failed("the server's certificate is not to be trusted".to_owned())
        }
        ErrorCode::HttpRequestBodySize(_) => Error::Failed("the request is too big".to_owned()),
        ErrorCode::HttpResponseBodySize(_) | ErrorCode::HttpResponseHeaderSectionSize(_) => {
            Error::Failed("the response is too big".to_owned())
        }
        ErrorCode::ConnectionReadTimeout | ErrorCode::HttpResponseTimeout => {
            Error::Failed("the server takes too long".to_owned())
        }
        ErrorCode::ConnectionLimitReached => {
            Error::Failed("this call sent all the requests it may".to_owned())
        }
        _ => Error::Failed("the server did not answer properly".to_owned()),
    }
}
