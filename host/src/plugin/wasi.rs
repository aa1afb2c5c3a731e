//! The base that every guest is linked with, and that leads nowhere.
//!
//! A language's standard library imports files, sockets, arguments and an environment whether or not the
//! tool uses them, so they must be there. They are empty or refuse; only clocks and random numbers are
//! real. stdout and stderr become log lines.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};
use wasmtime_wasi::{HostWallClock, WasiCtx, async_trait};

use super::limits::Limits;
use super::log::{GuestLog, Level};
use crate::clock::Clock;

/// The interfaces of `wasi:…@0.2.x` that the base offers.
const INTERFACES: [&str; 27] = [
    "cli/environment",
    "cli/exit",
    "cli/stderr",
    "cli/stdin",
    "cli/stdout",
    "cli/terminal-input",
    "cli/terminal-output",
    "cli/terminal-stderr",
    "cli/terminal-stdin",
    "cli/terminal-stdout",
    "clocks/monotonic-clock",
    "clocks/wall-clock",
    "filesystem/preopens",
    "filesystem/types",
    "io/error",
    "io/poll",
    "io/streams",
    "random/insecure",
    "random/insecure-seed",
    "random/random",
    "sockets/instance-network",
    "sockets/ip-name-lookup",
    "sockets/network",
    "sockets/tcp",
    "sockets/tcp-create-socket",
    "sockets/udp",
    "sockets/udp-create-socket",
];

/// What `egress.rs` offers where it is granted.
const HTTP_INTERFACES: [&str; 2] = ["http/outgoing-handler", "http/types"];

/// Whether an import, such as `wasi:io/poll@0.2.6`, is part of the base.
pub(super) fn is_base(import: &str) -> bool {
    is_one_of(&INTERFACES, import)
}

/// Whether an import is about sending HTTP requests.
pub(super) fn is_http(import: &str) -> bool {
    is_one_of(&HTTP_INTERFACES, import)
}

fn is_one_of(interfaces: &[&str], import: &str) -> bool {
    import
        .strip_prefix("wasi:")
        .and_then(|rest| rest.split_once("@0.2."))
        .is_some_and(|(interface, patch)| interfaces.contains(&interface) && patch.parse::<u16>().is_ok())
}

/// Most bytes a guest may write to a stream at once, and most random bytes in one call: what the host
/// allocates for it.
const CHUNK: usize = 64 << 10;
const MAX_RANDOM: u64 = 1 << 20;

pub(super) fn context(limits: &Limits, log: &Arc<GuestLog>, clock: Clock) -> WasiCtx {
    WasiCtx::builder()
        .stdout(LogStream::new(log, limits, Level::Info))
        .stderr(LogStream::new(log, limits, Level::Warn))
        .max_random_size(MAX_RANDOM)
        .wall_clock(WallClock(clock))
        // The rest are the crate's defaults, written down because isolation rests on them.
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .socket_addr_check(|_, _| Box::pin(async { false }))
        .build()
}

pub(super) fn table(limits: &Limits) -> ResourceTable {
    let mut table = ResourceTable::new();
    table.set_max_capacity(usize::try_from(limits.resources).unwrap_or(usize::MAX));
    table
}

/// The host's clock, to the millisecond.
struct WallClock(Clock);

impl HostWallClock for WallClock {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.now().as_millis()).unwrap_or(0))
    }
}

/// stdout or stderr, cut into log lines.
#[derive(Clone)]
struct LogStream {
    log: Arc<GuestLog>,
    level: Level,
    /// Longest line kept; a longer one is cut by the log.
    longest: usize,
    /// Guest-controlled bytes of the line under way, at most `longest` and one more.
    line: Arc<Mutex<Vec<u8>>>,
}

impl LogStream {
    fn new(log: &Arc<GuestLog>, limits: &Limits, level: Level) -> Self {
        Self {
            log: Arc::clone(log),
            level,
            longest: usize::try_from(limits.log_line_bytes).unwrap_or(usize::MAX),
            line: Arc::default(),
        }
    }

    fn append(&self, bytes: &[u8]) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, piece) in bytes.split(|byte| *byte == b'\n').enumerate() {
            if index > 0 {
                self.emit(&mut line);
            }
            let room = self.longest.saturating_add(1).saturating_sub(line.len());
            line.extend_from_slice(&piece[..piece.len().min(room)]);
        }
    }

    fn emit(&self, line: &mut Vec<u8>) {
        if !line.is_empty() {
            self.log.line(self.level, &String::from_utf8_lossy(line));
            line.clear();
        }
    }
}

impl Drop for LogStream {
    fn drop(&mut self) {
        // The last of the clones: a line without its line feed, such as a panic's, is still a line.
        if Arc::strong_count(&self.line) == 1 {
            let mut line = std::mem::take(&mut *self.line.lock().unwrap_or_else(PoisonError::into_inner));
            self.emit(&mut line);
        }
    }
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        // For WASI 0.3, which no guest of this host is linked with.
        Box::new(tokio::io::sink())
    }
}

impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.append(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(CHUNK)
    }
}

#[async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {}
}
