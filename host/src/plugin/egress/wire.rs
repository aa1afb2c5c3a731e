//! A connection that counts and that does not wait for ever.
//!
//! What is limited is what crosses the wire (inside TLS): headers, chunk sizes and interim responses are bytes
//! like any others, so there is no form in which they would not count.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::super::limits::Limits;
use super::super::meter::Meter;
use crate::tool::Limit;

pub(super) struct Wire<S> {
    pub(super) stream: S,
    pub(super) meter: Arc<Meter>,
    pub(super) limits: Arc<Limits>,
    pub(super) patience: Patience,
    /// Since when neither side moved a byte, while somebody waits for one.
    pub(super) waiting: Option<Pin<Box<Sleep>>>,
}

/// How long nothing may happen.
#[derive(Clone, Copy, Debug)]
pub(super) enum Patience {
    /// The limit's.
    Limit(Duration),
    /// Less, by the guest's own wish.
    Guest(Duration),
}

impl Patience {
    pub(super) fn new(limits: &Limits, wish: Option<Duration>) -> Self {
        let limit = Duration::from_millis(limits.http_idle_ms);
        wish.filter(|wish| *wish < limit).map_or(Self::Limit(limit), Self::Guest)
    }

    pub(super) fn duration(self) -> Duration {
        match self {
            Self::Limit(duration) | Self::Guest(duration) => duration,
        }
    }

    /// Says that it is over.
    pub(super) fn over(self, meter: &Meter) {
        match self {
            Self::Limit(_) => {
                meter.reached(Limit::HttpIdle);
            }
            Self::Guest(_) => {}
        }
    }
}

impl<S> Wire<S> {
    /// Something was sent. hyper does not ask again for a read that it waits for already, so the timer goes on
    /// and only starts over.
    fn wait_anew(&mut self) {
        let until = Instant::now() + self.patience.duration();
        if let Some(waiting) = &mut self.waiting {
            waiting.as_mut().reset(until);
        }
    }

    fn wait<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        let duration = self.patience.duration();
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(duration)));
        ready!(waiting.as_mut().poll(context));
        self.patience.over(&self.meter);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(context, buffer) else {
            return self.wait(context);
        };
        read?;
        self.waiting = None;
        let bytes = buffer.filled().len() - before;
        Poll::Ready(self.meter.http_received(&self.limits, bytes).map_err(io::Error::other))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // Asked before anything leaves, about what would have left then.
        if let Err(limit) = self.meter.http_may_send(&self.limits, bytes.len()) {
            return Poll::Ready(Err(io::Error::other(limit)));
        }
        let Poll::Ready(written) = Pin::new(&mut self.stream).poll_write(context, bytes) else {
            return self.wait(context);
        };
        let written = written?;
        self.wait_anew();
        self.meter.http_sent(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_flush(context) {
            Poll::Pending => self.wait(context),
            flushed @ Poll::Ready(_) => flushed,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_shutdown(context) {
            Poll::Pending => self.wait(context),
            shut @ Poll::Ready(_) => shut,
        }
    }
}
