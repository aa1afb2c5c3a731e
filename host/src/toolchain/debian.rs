//! Debian's compiler for guests, for machines that reach package registries but no rustup server.
//!
//! The packages are downloaded and unpacked under the work folder, never installed (rustc-web conflicts
//! with Debian's own rustc) and without root. Debian ships the standard library as source: cargo compiles
//! it once per profile. Linking is done by the active toolchain's `wasm-component-ld`, so what comes out
//! is a component. The package lists are private too: the system's may be empty, or so old that what
//! they name is gone from the mirrors.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{self, Command},
};

use super::{
    BuildError, Rustc,
    command::{clean, run, stdout_of},
    io_error,
};

/// What they need besides carries version numbers in its name, so apt is asked for that.
const WANTED: [&str; 3] = ["rustc-web", "rust-web-src", "wasi-libc"];

/// The compiler's own libraries start so; the newest is part of what is unpacked.
const LIBRARIES: &str = "libstd-rust-web-";

/// What a folder that is not complete yet is called at the end.
const PARTIAL: &str = "partial";

/// An unpacked compiler and the linker that goes with it.
pub(super) struct Compiler {
    usr: PathBuf,
    linkers: PathBuf,
    libraries: PathBuf,
}

pub(super) fn is_unpacked(work: &Path) -> bool {
    is_complete(&folder(work).join("usr"))
}

/// Finds the unpacked compiler, or downloads it. The caller holds the work folder's lock.
pub(super) fn prepare(work: &Path, rustc: &Rustc, say: &mut dyn FnMut(&str)) -> Result<Compiler, BuildError> {
    let linkers = rustc.sysroot.join("lib/rustlib").join(&rustc.host).join("bin");
    if !linkers.join("wasm-component-ld").is_file() || !linkers.join("gcc-ld/wasm-ld").is_file() {
        let reason = "the active Rust toolchain is not rustup's and lacks wasm-component-ld".to_owned();
        return Err(BuildError::NoToolchain { reason });
    }
    let folder = folder(work);
    if !is_complete(&folder.join("usr")) {
        if clean("apt-get").arg("--version").output().is_err() {
            return Err(BuildError::NoToolchain { reason: "this is not a Debian-like system".to_owned() });
        }
        unpack(&folder, say)?;
    }
    let usr = folder.join("usr");
    let libraries = usr.join("lib").join(rustc.host.replace("-unknown-", "-"));
    Ok(Compiler { usr, linkers, libraries })
}

impl Compiler {
    /// Makes a cargo command use this compiler. Everything goes through that command's own environment:
    /// a `.cargo/config.toml` would reach the host crate as well.
    pub(super) fn drive(&self, cargo: &mut Command, remaps: Vec<String>) {
        let mut flags = vec![
            format!("-Lnative={}", self.usr.join("lib/wasm32-wasi").display()),
            "-Clink-self-contained=no".to_owned(),
            format!("-Clinker={}", self.linkers.join("wasm-component-ld").display()),
            format!("-Clink-arg=--wasm-ld-path={}", self.linkers.join("gcc-ld/wasm-ld").display()),
        ];
        flags.extend(remaps);
        cargo
            .args(["-Zbuild-std=std,panic_abort", "-Zbuild-std-features="])
            // The library's source is this compiler's own; no other compiles it.
            .env("RUSTC", self.usr.join("bin/rustc"))
            .env("RUSTC_BOOTSTRAP", "1")
            .env("LD_LIBRARY_PATH", &self.libraries)
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    }
}

fn folder(work: &Path) -> PathBuf {
    work.join("debian-rust")
}

fn is_complete(usr: &Path) -> bool {
    ["bin/rustc", "lib/rustlib/src/rust/library/std", "lib/wasm32-wasi/libc.a"]
        .iter()
        .all(|path| usr.join(path).exists())
}

/// Works in a folder of its own that gets its name when it is complete, so that a download which was cut
/// off is simply done again.
fn unpack(folder: &Path, say: &mut dyn FnMut(&str)) -> Result<(), BuildError> {
    remove_leftovers(folder);
    let partial = folder.with_extension(format!("{}.{PARTIAL}", process::id()));
    let apt = Apt::new(&partial.join("apt"))?;
    say("fetching Debian's package lists");
    run(apt.get("update").arg("-q"), say)?;
    let packages = apt.packages()?;
    let megabytes = apt.size_of(&packages)? / 1_000_000;
    say(&format!("downloading {} Debian packages ({megabytes} MB), once", packages.len()));
    run(apt.get("download").arg("-q").args(&packages), say)?;

    say("unpacking them");
    let root = partial.join("root");
    for entry in fs::read_dir(&apt.folder).map_err(io_error("read", &apt.folder))? {
        let path = entry.map_err(io_error("read", &apt.folder))?.path();
        if path.extension().is_some_and(|it| it == "deb") {
            run(clean("dpkg-deb").arg("-x").arg(&path).arg(&root), say)?;
        }
    }
    if !is_complete(&root.join("usr")) {
        let reason = "Debian's packages do not hold the whole compiler".to_owned();
        return Err(BuildError::NoToolchain { reason });
    }
    fs::rename(&root, folder).map_err(io_error("rename", &root))?;
    // It works without; the next download would try again.
    let _ = fs::remove_dir_all(&partial);
    Ok(())
}

/// Of builds that were killed. Their `dpkg-deb` may still be writing, so what cannot be removed is left,
/// and no two builds share a name.
fn remove_leftovers(folder: &Path) {
    let _ = fs::remove_dir_all(folder);
    let beside = folder.parent().and_then(|work| fs::read_dir(work).ok());
    for path in beside.into_iter().flatten().flatten().map(|entry| entry.path()) {
        if path.extension().is_some_and(|it| it == PARTIAL) {
            let _ = fs::remove_dir_all(path);
        }
    }
}

/// An apt that keeps all of its state in one folder, which is also where it downloads to.
struct Apt {
    folder: PathBuf,
    options: Vec<String>,
}

impl Apt {
    fn new(folder: &Path) -> Result<Self, BuildError> {
        for sub in ["lists/partial", "cache/archives/partial"] {
            let path = folder.join(sub);
            fs::create_dir_all(&path).map_err(io_error("create", &path))?;
        }
        let options = [
            format!("Dir::State::Lists={}", folder.join("lists").display()),
            format!("Dir::Cache={}", folder.join("cache").display()),
            // Root's apt would otherwise become a user who cannot write here.
            "APT::Sandbox::User=root".to_owned(),
            "Debug::NoLocking=true".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::Retries=2".to_owned(),
            "Acquire::http::Timeout=30".to_owned(),
            "Acquire::https::Timeout=30".to_owned(),
        ];
        Ok(Self { folder: folder.to_path_buf(), options: options.into() })
    }

    fn command(&self, program: &str, action: &str) -> Command {
        let mut command = clean(program);
        command.arg(action).current_dir(&self.folder).env("LC_ALL", "C");
        for option in &self.options {
            command.args(["-o", option]);
        }
        command
    }

    fn get(&self, action: &str) -> Command {
        self.command("apt-get", action)
    }

    /// What is wanted and whatever it needs that this machine does not have.
    fn packages(&self) -> Result<BTreeSet<String>, BuildError> {
        let plan = stdout_of(self.get("install").args(["-s", "--no-install-recommends"]).args(WANTED))?;
        let missing = plan.lines().filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next());
        // An installed copy is no use to an unpacked compiler, which looks for its libraries beside it.
        let depends = stdout_of(self.command("apt-cache", "depends").args(WANTED))?;
        let libraries = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        let libraries = libraries.filter(|name| name.starts_with(LIBRARIES));
        Ok(missing.chain(libraries).chain(WANTED).map(str::to_owned).collect())
    }

    fn size_of(&self, packages: &BTreeSet<String>) -> Result<u64, BuildError> {
        let list = stdout_of(self.get("download").arg("--print-uris").args(packages))?;
        let sizes = list.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok());
        Ok(sizes.sum())
    }
}
