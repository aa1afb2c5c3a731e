//! One request and its response, over a connection of their own.
//!
//! No redirects are followed: a guest that wants to go where a response points asks again, and is decided again.

use std::sync::Arc;
use std::time::Duration;

use http::header::{HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::AbortOnDropHandle;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use super::body::{Guard, ReplyBody, RequestBody};
use super::decision::Destination;
use super::header::{self, Reserved};
use super::network::{ConnectError, Connector};
use super::wire::{Patience, Wire};
use crate::plugin::destination::Scheme;
use crate::plugin::limits::Limits;
use crate::plugin::meter::{Denial, Meter};
use crate::plugin::values::Values;
use crate::tool::Limit;

/// Most headers of one response.
const MAX_HEADERS: usize = 128;
/// The least that hyper reads a head into; smaller limits are checked afterwards.
const MIN_HEAD_BYTES: usize = 8 << 10;

/// The task that moves a connection's bytes. It ends with the response that it belongs to.
pub(super) type Driver = AbortOnDropHandle<()>;

/// A request that was allowed.
pub(super) struct Exchange {
    pub(super) connector: Arc<Connector>,
    pub(super) limits: Arc<Limits>,
    pub(super) meter: Arc<Meter>,
    pub(super) values: Arc<Values>,
    pub(super) reserved: Reserved,
    pub(super) destination: Destination,
    pub(super) options: RequestOptions,
}

/// What is sent. Apart from the rest, since no two threads may look at a body.
pub(super) struct Message {
    pub(super) method: Method,
    /// The guest's.
    pub(super) headers: HeaderMap,
    pub(super) body: WasiBody,
}

impl Exchange {
    pub(super) async fn run(self, message: Message) -> Result<(Response<WasiBody>, Driver), Error> {
        let patience = Patience::new(&self.limits, self.options.connect_timeout);
        let opened = tokio::time::timeout(patience.duration(), self.open(patience.duration())).await;
        let Ok(stream) = opened else {
            patience.over(&self.meter);
            return Err(Error::ConnectionTimeout);
        };
        let stream = stream.map_err(|error| self.not_connected(&error))?;
        match self.destination.scheme {
            Scheme::Http => self.converse(stream, message).await,
            Scheme::Https => {
                let securing = self.connector.secure(stream, &self.destination.host);
                let Ok(secure) = tokio::time::timeout(patience.duration(), securing).await else {
                    patience.over(&self.meter);
                    return Err(Error::ConnectionTimeout);
                };
                let secure = secure.map_err(|error| self.not_connected(&error))?;
                self.converse(secure, message).await
            }
        }
    }

    async fn open(&self, patience: Duration) -> Result<tokio::net::TcpStream, ConnectError> {
        let addresses = self.connector.addresses(&self.destination).await?;
        self.connector.connect(&addresses, patience).await
    }

    fn not_connected(&self, error: &ConnectError) -> Error {
        match error {
            ConnectError::Unknown => Error::DnsError { rcode: None, info_code: None },
            ConnectError::Refused => Error::ConnectionRefused,
            ConnectError::Tls => Error::TlsProtocolError,
            ConnectError::NotPublic(address) => {
                let host = self.destination.authority();
                self.meter.denied(Denial {
                    capability: "http",
                    what: format!(
                        "a request to {host}: its address {address} is not public, and the rule has no `private = true`"
                    ),
                    setting: Some("grants.http".to_owned()),
                });
                Error::DestinationIpProhibited
            }
        }
    }

    async fn converse<S>(self, stream: S, message: Message) -> Result<(Response<WasiBody>, Driver), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let wire = Wire {
            stream,
            meter: Arc::clone(&self.meter),
            limits: Arc::clone(&self.limits),
            patience: Patience::new(&self.limits, self.options.between_bytes_timeout),
            waiting: None,
        };
        let head_bytes = usize::try_from(self.limits.http_header_bytes).unwrap_or(usize::MAX);
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_headers(MAX_HEADERS)
            .max_buf_size(head_bytes.max(MIN_HEAD_BYTES))
            .handshake(TokioIo::new(wire))
            .await
            .map_err(|_| Error::HttpProtocolError)?;
        let driver = AbortOnDropHandle::new(tokio::spawn(async move {
            // What went wrong reaches whoever waits for the response or reads its body.
            let _ = connection.await;
        }));
        let patience = self.options.first_byte_timeout;
        let (limits, meter) = (Arc::clone(&self.limits), Arc::clone(&self.meter));
        let (reserved, guard) = (self.reserved.clone(), self.guard());
        let request = self.request(message)?;
        meter.http_request_sent();
        let answer = async { sender.send_request(request).await.map_err(|error| failed(&error, &meter)) };
        let response = match patience {
            Some(patience) => {
                tokio::time::timeout(patience, answer).await.unwrap_or(Err(Error::HttpResponseTimeout))?
            }
            None => answer.await?,
        };
        Ok((received(response, &limits, &reserved, meter, guard)?, driver))
    }

    fn guard(&self) -> Guard {
        Guard { values: Arc::clone(&self.values), server: self.destination.authority() }
    }

    fn request(self, message: Message) -> Result<Request<RequestBody>, Error> {
        let Message { method, mut headers, body } = message;
        let host =
            HeaderValue::from_str(&self.destination.authority()).map_err(|_| Error::HttpRequestUriInvalid)?;
        headers.insert(HOST, host);
        let uri: Uri = self.destination.path.parse().map_err(|_| Error::HttpRequestUriInvalid)?;
        let size = header::size(&headers) + self.destination.path.len() as u64;
        if size > self.limits.http_header_bytes {
            self.meter.reached(Limit::HttpHeaders);
            return Err(Error::HttpRequestHeaderSectionSize(None));
        }
        let mut request = Request::new(RequestBody { body, meter: self.meter });
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

/// What of a response a guest gets.
fn received(
    response: Response<Incoming>,
    limits: &Limits,
    reserved: &Reserved,
    meter: Arc<Meter>,
    guard: Guard,
) -> Result<Response<WasiBody>, Error> {
    let (mut head, body) = response.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Error::HttpUpgradeFailed);
    }
    // hyper takes `chunked` off and would hand over what is below it as it is.
    let codings = head.headers.get_all(TRANSFER_ENCODING).iter();
    if codings.into_iter().any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return Err(Error::HttpResponseTransferCoding(None));
    }
    if header::size(&head.headers) > limits.http_header_bytes {
        meter.reached(Limit::HttpHeaders);
        return Err(Error::HttpResponseHeaderSectionSize(None));
    }
    guard.check_head(&head.headers, &meter)?;
    head.headers = reserved.for_guest(head.headers);
    Ok(Response::from_parts(head, ReplyBody::new(body, meter, guard).boxed_unsync()))
}

/// Why there is no response, or no more of it. Nothing of the peer's or the machine's words is passed on.
pub(super) fn failed(error: &hyper::Error, meter: &Meter) -> Error {
    if error.is_parse_too_large() {
        meter.reached(Limit::HttpHeaders);
        return Error::HttpResponseHeaderSectionSize(None);
    }
    match meter.hit() {
        Some(Limit::HttpRequestBytes) => Error::HttpRequestBodySize(None),
        Some(Limit::HttpResponseBytes) => Error::HttpResponseBodySize(None),
        Some(Limit::HttpIdle) => Error::ConnectionReadTimeout,
        _ if error.is_parse() => Error::HttpProtocolError,
        _ if error.is_incomplete_message() => Error::HttpResponseIncomplete,
        _ if error.is_user() => Error::HttpRequestBodySize(None),
        _ => Error::ConnectionTerminated,
    }
}
