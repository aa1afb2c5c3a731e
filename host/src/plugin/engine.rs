//! What all plugins share: the engine, the threads that run guests, and the ticker that interrupts them.
//!
//! Guests run on a tokio runtime of their own. A guest in a loop gives its thread back every 10 ms, but a
//! server with two worker threads would still answer in steps of 10 ms behind two such guests; between
//! two sets of threads the kernel's scheduler is fair at once.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle, Runtime};
use wasmtime::{Cache, CacheConfig, Config, Engine};

use super::HostError;

/// How often a running guest is interrupted.
const TICK: Duration = Duration::from_millis(10);
/// A ticker that missed this much is dead, or the machine is beyond use.
const TICKER_PATIENCE: Duration = Duration::from_secs(2);

const WASM_STACK_BYTES: usize = 512 << 10;
/// Host functions run on the same stack below the guest.
const FIBER_STACK_BYTES: usize = 2 << 20;

pub(super) fn engine(cache: Option<&Path>) -> Result<Engine, HostError> {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK_BYTES)
        .async_stack_size(FIBER_STACK_BYTES)
        // Component-model async (WASI 0.3) is not part of the interface.
        .concurrency_support(false)
        // What no language's compiler needs for a plugin is not offered: each is more code of the engine that
        // a guest can reach. Threads, exceptions and garbage collection are not even compiled in. What is left:
        // SIMD, bulk memory, reference types, multi-value, tail calls, constant expressions, and several memories:
        // wasmtime itself needs those between two components of one plugin.
        .wasm_memory64(false)
        .wasm_relaxed_simd(false)
        .cache(cache.and_then(open_cache));
    // The on-demand allocator, wasmtime's default: it maps memory for what a guest asks for. The pooling
    // one is faster by microseconds and reserves its whole pool at the start, in slots that must fit the
    // largest plugin.
    Engine::new(&config).map_err(|error| HostError::Engine(error.into()))
}

/// Compiled code is run without further checks, so it is only taken from a directory that nobody else can
/// write to. Without one, everything is compiled anew at each start.
fn open_cache(directory: &Path) -> Option<Cache> {
    let opened = private_directory(directory).and_then(|()| {
        let mut config = CacheConfig::new();
        config.with_directory(directory.canonicalize()?);
        Cache::new(config).map_err(std::io::Error::other)
    });
    match opened {
        Ok(cache) => Some(cache),
        Err(error) => {
            tracing::warn!(
                directory = %directory.display(),
                %error,
                "the cache of compiled plugins is not used, each start compiles them anew: it needs a directory of \
                 mode 0700 owned by the server's user"
            );
            None
        }
    }
}

fn private_directory(directory: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};

    if let Err(error) = std::fs::DirBuilder::new().mode(0o700).create(directory)
        && error.kind() != std::io::ErrorKind::AlreadyExists
    {
        return Err(error);
    }
    let found = std::fs::symlink_metadata(directory)?;
    if !found.is_dir() {
        return Err(std::io::Error::other("it is not a directory"));
    }
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(std::io::Error::other("it belongs to another user"));
    }
    if found.mode() & 0o077 != 0 {
        return Err(std::io::Error::other(format!("its mode is {:o}", found.mode() & 0o7777)));
    }
    Ok(())
}

/// Raises the engine's epoch until the engine is gone.
#[derive(Debug)]
pub(super) struct Ticker {
    started: Instant,
    /// Milliseconds from `started` to the latest tick.
    latest: Arc<AtomicU64>,
    #[cfg(test)]
    stop: tokio_util::sync::CancellationToken,
}

impl Ticker {
    pub(super) fn start(engine: &Engine) -> Result<Self, HostError> {
        let ticker = Self {
            started: Instant::now(),
            latest: Arc::default(),
            #[cfg(test)]
            stop: tokio_util::sync::CancellationToken::new(),
        };
        #[cfg(test)]
        let stop = ticker.stop.clone();
        let (engine, started) = (engine.weak(), ticker.started);
        let latest: Weak<AtomicU64> = Arc::downgrade(&ticker.latest);
        std::thread::Builder::new()
            .name("plugin-ticker".to_owned())
            .spawn(move || {
                while let (Some(engine), Some(latest)) = (engine.upgrade(), latest.upgrade()) {
                    engine.increment_epoch();
                    latest.store(millis(started.elapsed()), Ordering::Relaxed);
                    // Neither is kept alive while the thread sleeps.
                    drop((engine, latest));
                    #[cfg(test)]
                    if stop.is_cancelled() {
                        return;
                    }
                    std::thread::sleep(TICK);
                }
            })
            .map_err(HostError::Threads)?;
        Ok(ticker)
    }

    pub(super) fn alive(&self) -> bool {
        let latest = Duration::from_millis(self.latest.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(latest) < TICKER_PATIENCE
    }

    #[cfg(test)]
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The threads that run and compile guests.
#[derive(Debug)]
pub(super) struct GuestThreads(Option<Runtime>);

impl GuestThreads {
    pub(super) fn start() -> Result<Self, HostError> {
        let runtime = Builder::new_multi_thread()
            .thread_name("plugin")
            .enable_all()
            .build()
            .map_err(HostError::Threads)?;
        Ok(Self(Some(runtime)))
    }

    /// None only while being dropped.
    pub(super) fn handle(&self) -> Option<&Handle> {
        self.0.as_ref().map(Runtime::handle)
    }
}

impl Drop for GuestThreads {
    fn drop(&mut self) {
        // A runtime dropped inside another one panics because it would wait for its threads.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_a_private_directory_holds_compiled_code() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("cache");
        assert!(private_directory(&directory).is_ok(), "it is made");
        assert!(private_directory(&directory).is_ok(), "and used again");
        let link = parent.path().join("link");
        std::os::unix::fs::symlink(&directory, &link).unwrap();
        assert!(private_directory(&link).is_err());
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o750)).unwrap();
        assert!(private_directory(&directory).is_err());
        assert!(open_cache(&directory).is_none());
    }

    /// As the JavaScript and Python builders make them: one component calls another, each with a memory of its own.
    #[test]
    fn plugins_of_several_components_compile() {
        let text = r#"(component
            (component $callee
                (core module $m
                    (memory (export "memory") 1)
                    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8))
                    (func (export "f") (param i32 i32)))
                (core instance $i (instantiate $m))
                (func (export "f") (param "s" string) (canon lift (core func $i "f")
                    (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))
            (component $caller
                (import "f" (func $f (param "s" string)))
                (core module $memory (memory (export "memory") 1))
                (core instance $memory (instantiate $memory))
                (core func $f (canon lower (func $f) (memory (core memory $memory "memory"))))
                (core module $m (import "" "f" (func $f (param i32 i32)))
                    (func (export "g") (call $f (i32.const 0) (i32.const 4))))
                (core instance $i (instantiate $m (with "" (instance (export "f" (func $f))))))
                (func (export "g") (canon lift (core func $i "g"))))
            (instance $callee (instantiate $callee))
            (instance $caller (instantiate $caller (with "f" (func $callee "f"))))
            (export "g" (func $caller "g")))"#;
        let engine = engine(None).unwrap();
        wasmtime::component::Component::new(&engine, wat::parse_str(text).unwrap()).unwrap();
    }

    #[test]
    fn the_ticker_ends_with_its_engine() {
        let engine = engine(None).unwrap();
        let ticker = Ticker::start(&engine).unwrap();
        assert!(ticker.alive());
        let latest = Arc::downgrade(&ticker.latest);
        drop((engine, ticker));
        let started = Instant::now();
        while latest.strong_count() > 0 {
            assert!(started.elapsed() < Duration::from_secs(5));
            std::thread::yield_now();
        }
    }
}
