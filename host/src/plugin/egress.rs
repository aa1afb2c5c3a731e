//! `wasi:http/outgoing-handler`: requests of guests to where the operator lets them.
//!
//! The interface's types and bodies are wasmtime's; what leaves the machine is decided and sent here.
//! `decision` says whether, `network` opens the connection, `exchange` speaks over it, `wire` counts, and
//! `header` keeps both sides' headers apart
//! from the host's own, and `inject` writes those with secrets. Linked only where `http` is granted.

mod body;
mod decision;
mod exchange;
mod header;
mod inject;
mod network;
mod wire;

use std::sync::Arc;

use http::{HeaderName, Request, Response};
use wasmtime::component::{Linker, ResourceTable};
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks};

use self::decision::{Asked, Refusal, decide};
use self::exchange::{Exchange, Message};
use self::header::Reserved;
pub(super) use self::network::Connector;
pub use self::network::Network;
use super::call::CallState;
use super::grant::Capabilities;
use super::limits::Limits;
use super::meter::{Denial, Meter};
use super::values::Values;
use crate::escape::escaped;

/// Bytes of a request's body that wait in the host, twice for each request that a guest has made; it can have as
/// many of those as it has handles.
const CHUNK: usize = 16 << 10;

/// One call's way out.
pub(super) struct Egress {
    context: WasiHttpCtx,
    gate: Gate,
}

/// What stands between a guest and the network.
struct Gate {
    connector: Arc<Connector>,
    grants: Arc<Capabilities>,
    limits: Arc<Limits>,
    meter: Arc<Meter>,
    values: Arc<Values>,
    reserved: Reserved,
}

impl Egress {
    pub(super) fn new(
        connector: Arc<Connector>,
        grants: Arc<Capabilities>,
        limits: Arc<Limits>,
        meter: Arc<Meter>,
        values: Arc<Values>,
    ) -> Self {
        let mut context = WasiHttpCtx::new();
        context.set_field_size_limit(usize::try_from(limits.http_header_bytes).unwrap_or(usize::MAX));
        Self {
            context,
            gate: Gate { reserved: Reserved::new(&grants.secrets), connector, grants, limits, meter, values },
        }
    }

    pub(super) fn view<'a>(&'a mut self, table: &'a mut ResourceTable) -> WasiHttpCtxView<'a> {
        WasiHttpCtxView { hooks: &mut self.gate, table, ctx: &mut self.context }
    }
}

pub(super) fn add_to_linker(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)
}

impl Gate {
    fn denied(&self, what: String, setting: Option<&str>) {
        self.meter.denied(Denial { capability: "http", what, setting: setting.map(str::to_owned) });
    }

    /// The request as it may be sent, or why not, in the guest's words.
    fn allow(
        &self,
        request: Request<WasiBody>,
        options: RequestOptions,
    ) -> Result<(Exchange, Message), Error> {
        // Also what is refused counts: it costs the operator a look at the log.
        if self.meter.http_request(&self.limits).is_err() {
            return Err(Error::ConnectionLimitReached);
        }
        let (head, body) = request.into_parts();
        let asked = Asked {
            method: head.method.as_str(),
            scheme: head.uri.scheme_str().unwrap_or_default(),
            authority: head.uri.authority().map_or("", |authority| authority.as_str()),
            path: head.uri.path_and_query().map_or("", |path| path.as_str()),
        };
        let destination = decide(&asked, &self.grants.http).map_err(|refusal| {
            let setting = match refusal {
                Refusal::Malformed(_) => None,
                Refusal::NotGranted | Refusal::NotPublic => Some("grants.http"),
            };
            self.denied(format!("the request {asked}: {refusal}"), setting);
            match refusal {
                Refusal::Malformed(_) => Error::HttpRequestUriInvalid,
                Refusal::NotGranted => Error::HttpRequestDenied,
                Refusal::NotPublic => Error::DestinationIpProhibited,
            }
        })?;
        let mut headers = head.headers;
        if let Err(denial) = inject::inject(&mut headers, &destination, &self.grants.secrets, &self.values) {
            self.meter.denied(denial);
            return Err(Error::HttpRequestDenied);
        }
        let exchange = Exchange {
            connector: Arc::clone(&self.connector),
            limits: Arc::clone(&self.limits),
            meter: Arc::clone(&self.meter),
            values: Arc::clone(&self.values),
            reserved: self.reserved.clone(),
            destination,
            options,
        };
        Ok((exchange, Message { method: head.method, headers, body }))
    }
}

/// What wasmtime calls a future of nothing but its end.
type Io = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Gate {
    /// Asked for each header that a guest writes. Responses have lost theirs before wasmtime sees them.
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        let refused = self.reserved.has(name.as_str());
        if refused {
            self.denied(format!("to write the header `{}`", escaped(name.as_str(), 64)), None);
        }
        refused
    }

    /// It is written from the destination.
    fn set_host_header(&mut self) -> bool {
        false
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Io,
    ) -> Box<dyn Future<Output = Result<(Response<WasiBody>, Io), Error>> + Send> {
        let allowed = self.allow(request, options.unwrap_or_default());
        Box::new(async move {
            let (exchange, message) = allowed?;
            let (response, driver) = exchange.run(message).await?;
            let io = async move {
                let _ = driver.await;
                Ok(())
            };
            Ok((response, Box::new(io) as Io))
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK
    }

    // No error of these kinds leaves `exchange`; a log line of the crate's own would be the guest's to cause.

    fn p2_error_from_hyper(&mut self, _: &hyper::Error) -> ErrorCode {
        ErrorCode::HttpProtocolError
    }

    fn p2_error_from_connect(&mut self, _: &std::io::Error) -> ErrorCode {
        ErrorCode::ConnectionRefused
    }

    fn p2_error_from_tls(&mut self, _: &std::io::Error) -> ErrorCode {
        ErrorCode::TlsProtocolError
    }
}
