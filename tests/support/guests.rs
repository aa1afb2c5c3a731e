//! The guests, built once per test run by the code that `holdfast plugin build` uses.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use holdfast::toolchain::{GuestBuild, GuestToolchain};

/// The repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the checkout exists")
}

/// A folder with the sample plugins (`plugins/`).
pub(crate) static PLUGINS: LazyLock<PathBuf> = LazyLock::new(|| build_here("plugins"));

/// A folder with the test guests (`tests/guests/`): well-behaved probes and hostile ones.
pub(crate) static GUESTS: LazyLock<PathBuf> = LazyLock::new(|| build_here("tests/guests"));

/// A component by its plugin id.
pub(crate) fn guest(id: &str) -> PathBuf {
    let file = GUESTS.join(format!("{id}.wasm"));
    if file.exists() { file } else { PLUGINS.join(format!("{id}.wasm")) }
}

/// Builds what is in the folder `source`, and returns `out`.
#[expect(clippy::disallowed_methods, reason = "the variable steers the build, not the server")]
pub(crate) fn build(source: PathBuf, out: PathBuf) -> PathBuf {
    let toolchain = std::env::var("HOLDFAST_GUEST_TOOLCHAIN").unwrap_or_else(|_| "auto".to_owned());
    let build = GuestBuild {
        source,
        out: out.clone(),
        work: root().join("target"),
        toolchain: toolchain
            .parse::<GuestToolchain>()
            .expect("HOLDFAST_GUEST_TOOLCHAIN is auto, rustup or debian"),
        cargo: PathBuf::from("cargo"),
        cargo_home: holdfast::config::cargo_home(),
    };
    build.build(&mut |line| eprintln!("{line}")).expect("the guests build");
    out
}

fn build_here(source: &str) -> PathBuf {
    build(root().join(source), root().join("target/test-guests").join(source.replace('/', "-")))
}
