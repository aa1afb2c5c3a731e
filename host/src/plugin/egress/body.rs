//! The bodies of both sides on their way through the host, and what is kept from going through.
//!
//! Trailers do not pass, in either direction. What comes in is searched for the plugin's secrets first.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use wasmtime_wasi_http::{Error, WasiBody};

use super::exchange::failed;
use crate::plugin::grant::SecretName;
use crate::plugin::leak::{Forms, Held};
use crate::plugin::meter::{Denial, Meter};
use crate::plugin::values::Values;

/// A guest's body, without the headers that could follow it.
pub(super) struct RequestBody {
    pub(super) body: WasiBody,
    pub(super) meter: Arc<Meter>,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && frame.is_trailers()
        {
            self.meter.denied(Denial {
                capability: "http",
                what: "trailers behind a request's body".to_owned(),
                setting: None,
            });
            return Poll::Ready(Some(Err(Error::HttpRequestDenied)));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response's body, without the headers that could follow it.
pub(super) struct ReplyBody {
    body: Incoming,
    meter: Arc<Meter>,
    guard: Guard,
    held: Held,
}

/// Keeps the plugin's secrets out of what it is answered.
pub(super) struct Guard {
    pub(super) values: Arc<Values>,
    /// For the operator's log.
    pub(super) server: String,
}

impl Guard {
    fn forms(&self) -> Option<&Forms> {
        self.values.forms.as_ref()
    }

    pub(super) fn check_head(&self, headers: &HeaderMap, meter: &Meter) -> Result<(), Error> {
        let Some(forms) = self.forms() else { return Ok(()) };
        let parts = headers.iter().flat_map(|(name, value)| [name.as_str().as_bytes(), value.as_bytes()]);
        if let Some(name) = parts.into_iter().find_map(|part| forms.find(part)) {
            return Err(self.leaked(name, meter));
        }
        let coded = |coding: &HeaderValue| !coding.as_bytes().eq_ignore_ascii_case(b"identity");
        if headers.get_all(CONTENT_ENCODING).iter().any(coded) {
            let server = &self.server;
            meter.denied(Denial {
                capability: "secrets",
                what: format!("a compressed response of {server}: it could not be searched for secrets"),
                setting: None,
            });
            return Err(Error::HttpResponseContentCoding(None));
        }
        Ok(())
    }

    fn leaked(&self, name: &SecretName, meter: &Meter) -> Error {
        let server = &self.server;
        meter.denied(Denial {
            capability: "secrets",
            what: format!("a response of {server} with the secret `{name}` in it; it was cut off there"),
            setting: None,
        });
        Error::HttpResponseIncomplete
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        loop {
            return Poll::Ready(match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                None => self.held.take().map(|rest| Ok(Frame::data(rest.into()))),
                Some(Err(error)) => Some(Err(failed(&error, &self.meter))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => match self.pass(bytes) {
                        Ok(bytes) if bytes.is_empty() => continue,
                        passed => Some(passed.map(Frame::data)),
                    },
                    // Trailers.
                    Err(_) => continue,
                },
            });
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() && self.held.is_empty()
    }
}

impl ReplyBody {
    pub(super) fn new(body: Incoming, meter: Arc<Meter>, guard: Guard) -> Self {
        Self { body, meter, guard, held: Held::default() }
    }

    /// What of these bytes, and of those before, may go on to the guest.
    fn pass(&mut self, bytes: Bytes) -> Result<Bytes, Error> {
        let Self { guard, held, meter, .. } = self;
        let Some(forms) = guard.forms() else { return Ok(bytes) };
        held.pass(forms, &bytes).map(Bytes::from).map_err(|name| guard.leaked(name, meter))
    }
}
