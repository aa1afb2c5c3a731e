//! A server with many plugins starts from its cache of compiled code in a moment.

use std::path::Path;
use std::time::{Duration, Instant};

use holdfast::config::{Config, ServerArgs};
use holdfast::server::Server;
use tokio::net::TcpListener;

use crate::support::guests::guest;

const PLUGINS: usize = 20;

/// Opens a server, and says how long that took.
async fn open(folder: &Path) -> Duration {
    let args =
        ServerArgs { listen: Some("127.0.0.1:0".parse().expect("an address")), ..ServerArgs::default() };
    let text = "plugin_dir = \"plugins\"\n";
    let config = Config::from_text(text, &folder.join("holdfast.toml"), &args).expect("a configuration");
    assert_eq!(config.compile_cache, Some(folder.join("plugin-cache")), "there is a cache by default");
    let begun = Instant::now();
    let server = Server::open(&config).await.expect("it opens");
    let took = begun.elapsed();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    server.serve(listener, async {}).await.expect("it stops");
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_plugins_start_from_the_cache() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("plugins")).expect("a folder for plugins");
    for n in 0..PLUGINS {
        let mut bytes = std::fs::read(guest("calculator")).expect("the component");
        // A custom section of its own makes each of them another component to the host and to the cache.
        bytes.extend([0, 3, 1, b'n', u8::try_from(n).expect("a small number")]);
        std::fs::write(folder.path().join(format!("plugins/p{n}.wasm")), bytes).expect("a file");
    }
    let (cold, warm) = (open(folder.path()).await, open(folder.path()).await);
    eprintln!("{PLUGINS} plugins: {cold:?} without a cache, {warm:?} from it");
    let cache = folder.path().join("plugin-cache");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(cache).expect("a cache").permissions());
    assert_eq!(mode & 0o777, 0o700);
    assert!(warm * 2 < cold, "the cache is of no use: {cold:?}, then {warm:?}");
}
