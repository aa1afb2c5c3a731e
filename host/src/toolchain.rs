//! Builds guest components: a folder with a `Cargo.toml` goes in, one `<package>.wasm` per plugin comes out.
//!
//! A guest needs a standard library for `wasm32-wasip2`, and a machine may get one from rustup, or not at
//! all when only package registries can be reached. The first way that works is taken: the target is
//! installed; `rustup target add`; Debian's compiler with its library source, unpacked without root. What
//! is tried and why is told through `say`, because a first build takes a minute.
//!
//! It reads no settings from the environment (`config.rs` does) and knows nothing of the plugin engine.

mod cargo;
mod command;
mod debian;
mod install;

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf, absolute},
    process::{Command, Stdio},
    str::FromStr,
    time::Duration,
};

use self::command::{clean, stdout_of};

/// What guests are compiled for: an ordinary one-line install for a developer, with a real `std`.
const TARGET: &str = "wasm32-wasip2";

/// A refused connection ends `rustup` in seconds; one that is swallowed would hang for ever.
const RUSTUP_LIMIT: Duration = Duration::from_mins(1);

const PAUSE: Duration = Duration::from_millis(100);

/// One build of a workspace of guests or of a single guest crate.
#[derive(Clone, Debug)]
pub struct GuestBuild {
    /// The folder with the `Cargo.toml`.
    pub source: PathBuf,
    /// Where the `*.wasm` files go.
    pub out: PathBuf,
    /// Target folders and the unpacked Debian compiler live here, so that builds of several sources share
    /// one compiled standard library.
    pub work: PathBuf,
    pub toolchain: GuestToolchain,
    /// The cargo to run, usually just `cargo`.
    pub cargo: PathBuf,
    /// Where cargo keeps the sources of dependencies, if that is known: components are not to name it.
    pub cargo_home: Option<PathBuf>,
}

/// Where the standard library for guests comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GuestToolchain {
    /// The first way that works.
    #[default]
    Auto,
    /// The active toolchain's own target, added through rustup if it is missing.
    Rustup,
    /// Debian's packages, never rustup.
    Debian,
}

/// A component as it lies in the output folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltPlugin {
    /// The package's name, which is the plugin's id.
    pub name: String,
    pub path: PathBuf,
    pub bytes: u64,
    /// False when the file already had these bytes and was left alone.
    pub changed: bool,
}

/// Why there is no component. Every text is meant for the person at the terminal.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(
        "there is no compiler for plugins here ({reason}); run `rustup target add {TARGET}`, or on Debian set \
         HOLDFAST_GUEST_TOOLCHAIN=debian to use Debian's packages without installing them"
    )]
    NoToolchain { reason: String },
    #[error("{} holds no plugin: a plugin's Cargo.toml says `[lib] crate-type = [\"cdylib\"]`", folder.display())]
    NoPlugin { folder: PathBuf },
    #[error("{} did not compile; the compiler's messages are above", folder.display())]
    DoesNotCompile { folder: PathBuf },
    #[error("{name} was built as a core module and not as a component")]
    NotAComponent { name: String },
    #[error("{} {detail}", path.display())]
    Manifest { path: PathBuf, detail: String },
    #[error("plugin.toml says `id = \"{id}\"`, but the package is called {package}: they must be the same")]
    ManifestId { id: String, package: String },
    #[error("{name}: {detail}")]
    Unfit { name: String, detail: String },
    #[error("`{command}` failed: {detail}")]
    Command { command: String, detail: String },
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

impl FromStr for GuestToolchain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "rustup" => Ok(Self::Rustup),
            "debian" => Ok(Self::Debian),
            other => Err(format!("`{other}` is not one of auto, rustup, debian")),
        }
    }
}

/// Puts a component that another toolchain made into the folder `out`, with the `plugin.toml` beside it built in.
pub fn package(component: &Path, out: &Path) -> Result<BuiltPlugin, BuildError> {
    install::package(out, component)
}

impl GuestBuild {
    /// Compiles and copies. Builds that share a work folder take turns, so this may wait for another one.
    pub fn build(&self, say: &mut dyn FnMut(&str)) -> Result<Vec<BuiltPlugin>, BuildError> {
        let build = self.with_absolute_paths()?;
        let packages = cargo::plugins_in(&build)?;

        fs::create_dir_all(&build.work).map_err(io_error("create", &build.work))?;
        let _turn = take_turn(&build.work.join("guest-build.lock"), say)?;
        let rustc = Rustc::active(&build.source)?;
        let mut command = clean(&build.cargo);
        command.arg("build");
        match build.choose(&rustc, say)? {
            Way::Installed => {
                command.arg("--target-dir").arg(build.work.join("guest"));
                let flags = toml::Value::from(build.remaps());
                command.arg("--config").arg(format!("target.{TARGET}.rustflags={flags}"));
            }
            Way::Debian(debian) => {
                // A folder per way: the two compilers would otherwise undo each other's work.
                command.arg("--target-dir").arg(build.work.join("guest-debian"));
                debian.drive(&mut command, build.remaps());
            }
        }
        let artifacts = cargo::compile(&build, &packages, command, say)?;
        let plugins = install::install(&build.out, &artifacts)?;
        let changed = plugins.iter().filter(|plugin| plugin.changed).count();
        let noun = if plugins.len() == 1 { "plugin" } else { "plugins" };
        say(&format!("{} {noun} in {}, {changed} changed", plugins.len(), build.out.display()));
        Ok(plugins)
    }

    /// Flags that keep the folders of this machine out of a component: panic messages name source files, and a
    /// component travels. They are the same for every source, or each would compile a standard library of its
    /// own; crates of the source's workspace are named by relative paths in any case.
    fn remaps(&self) -> Vec<String> {
        // Usually the checkout, which holds the SDK as well.
        let around = self.work.parent().filter(|parent| parent.parent().is_some());
        // Of two that fit, the later one counts.
        let folders =
            [(around, "/src"), (self.cargo_home.as_deref(), "/cargo"), (Some(&*self.work), "/build")];
        let remap = |(folder, name): (Option<&Path>, &str)| {
            Some(format!("--remap-path-prefix={}={name}", folder?.display()))
        };
        folders.into_iter().filter_map(remap).collect()
    }

    /// Nested commands run in other folders, where a relative path would mean something else.
    fn with_absolute_paths(&self) -> Result<Self, BuildError> {
        let resolve = |path: &Path| absolute(path).map_err(io_error("resolve", path));
        Ok(Self {
            source: resolve(&self.source)?,
            out: resolve(&self.out)?,
            work: resolve(&self.work)?,
            ..self.clone()
        })
    }

    fn choose(&self, rustc: &Rustc, say: &mut dyn FnMut(&str)) -> Result<Way, BuildError> {
        match self.toolchain {
            GuestToolchain::Debian => {
                say("compiling plugins with Debian's compiler, as asked");
                debian::prepare(&self.work, rustc, say).map(Way::Debian)
            }
            _ if rustc.has_target() => {
                say(&format!("compiling plugins with the installed {TARGET} target"));
                Ok(Way::Installed)
            }
            GuestToolchain::Auto if debian::is_unpacked(&self.work) => {
                // Asking rustup again could cost a minute on each build.
                say("compiling plugins with Debian's compiler, unpacked by an earlier build");
                debian::prepare(&self.work, rustc, say).map(Way::Debian)
            }
            GuestToolchain::Auto | GuestToolchain::Rustup => self.add_target(rustc, say),
        }
    }

    fn add_target(&self, rustc: &Rustc, say: &mut dyn FnMut(&str)) -> Result<Way, BuildError> {
        say(&format!("the {TARGET} target is not installed: asking rustup for it"));
        let reason = match rustup_target_add(&self.source) {
            Ok(()) if rustc.has_target() => return Ok(Way::Installed),
            Ok(()) => "rustup added the target to another toolchain than the active one".to_owned(),
            Err(reason) => reason,
        };
        if self.toolchain == GuestToolchain::Rustup {
            return Err(BuildError::NoToolchain { reason });
        }
        say(&format!("{reason}: falling back to Debian's compiler"));
        debian::prepare(&self.work, rustc, say)
            .map(Way::Debian)
            .map_err(|error| BuildError::NoToolchain { reason: format!("{reason}; {error}") })
    }
}

enum Way {
    Installed,
    Debian(debian::Compiler),
}

/// The compiler that cargo would run in the source folder (a `rust-toolchain.toml` may choose another).
struct Rustc {
    sysroot: PathBuf,
    /// The machine's own target triple.
    host: String,
}

impl Rustc {
    fn active(source: &Path) -> Result<Self, BuildError> {
        let ask = |arguments: &[&str]| stdout_of(clean("rustc").args(arguments).current_dir(source));
        let version = ask(&["-vV"])?;
        let host = version.lines().find_map(|line| line.strip_prefix("host: "));
        Ok(Self {
            sysroot: PathBuf::from(ask(&["--print", "sysroot"])?.trim()),
            host: host.unwrap_or_default().to_owned(),
        })
    }

    fn has_target(&self) -> bool {
        self.sysroot.join("lib/rustlib").join(TARGET).join("lib").is_dir()
    }
}

/// Says in words why there is no target. Rustup's own messages are a backtrace to someone who only wanted
/// to build a plugin, so they are hidden.
fn rustup_target_add(source: &Path) -> Result<(), String> {
    let mut rustup = clean("rustup");
    rustup.args(["target", "add", TARGET]).env("RUSTUP_MAX_RETRIES", "0").current_dir(source);
    let child = rustup.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut child = child.map_err(|_| "there is no rustup".to_owned())?;
    let mut waited = Duration::ZERO;
    while waited < RUSTUP_LIMIT {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(_)) => return Err("rustup could not get the target".to_owned()),
            Ok(None) => std::thread::sleep(PAUSE),
            Err(error) => return Err(format!("rustup: {error}")),
        }
        waited += PAUSE;
    }
    // It may have ended in this instant; either way it is gone after this.
    let _ = child.kill();
    let _ = child.wait();
    Err(format!("rustup gave no answer in {} s", RUSTUP_LIMIT.as_secs()))
}

/// Holds until the file is dropped, also when this process dies.
fn take_turn(path: &Path, say: &mut dyn FnMut(&str)) -> Result<File, BuildError> {
    let file = File::options().create(true).truncate(false).write(true).open(path);
    let file = file.map_err(io_error("open", path))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => say("another build is at work in this folder: waiting for it"),
        Err(TryLockError::Error(error)) => return Err(io_error("lock", path)(error)),
    }
    file.lock().map_err(io_error("lock", path))?;
    Ok(file)
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BuildError {
    let path = path.to_path_buf();
    move |source| BuildError::Io { action, path, source }
}

/// A command as a person would type it, for messages.
fn typed(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
