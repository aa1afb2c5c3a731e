//! `holdfast plugin`: build, sign, inspect, install and list plugins, and decide what they may reach.
//!
//! All of it works beside a running server, which takes up what changed within a second or two.

mod decide;
mod inspect;
mod install;
mod list;
mod sign;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::say;
use crate::config::{ServerArgs, cargo_home};
use crate::toolchain::{BuiltPlugin, GuestBuild, GuestToolchain, package};

#[derive(Debug, Subcommand)]
pub(super) enum PluginCommand {
    /// Build plugins from their Rust sources, or put the manifest into a component of another language
    ///
    /// Takes a crate or a workspace of crates of type cdylib and leaves one component per crate, named after its
    /// package, in the output folder. Finds a WebAssembly toolchain by itself: the installed wasm32-wasip2 target,
    /// else rustup's, else (on Debian-like Linux) Debian's compiler, unpacked under the work folder.
    Build(BuildArgs),
    /// Sign a component, so that servers with the key in `plugin_signers` load it
    ///
    /// The signature goes into the component itself, in the place of the one that it had. It is about these bytes under this
    /// id: the one in the manifest, or else the file's name.
    Sign(sign::SignArgs),
    /// Make a key pair to sign plugins with, in the format of minisign
    Keygen(sign::KeygenArgs),
    /// Load a component as the server would, and show its tools, imports, size and digest
    Inspect(inspect::InspectArgs),
    /// List the plugins of the server's plugin folder, with what they may reach and what became of their calls
    ///
    /// Calls, failures and the circuit breaker are asked of the running server, at the address that it listens on, with
    /// the token in `HOLDFAST_ADMIN_TOKEN` (of `holdfast dev`: the one in .holdfast/).
    List(ServerArgs),
    /// Put a component into the server's plugin folder, after checking it as the server would
    Install(install::InstallArgs),
    /// Take a plugin out of the server's plugin folder
    ///
    /// Runs that are paused on it still finish with the version that paused them.
    Remove(install::RemoveArgs),
    /// Show what a plugin asks for, and grant it
    ///
    /// The decision is about the version in the plugin folder and no other. An update that asks for nothing more
    /// needs no new one.
    Grant(decide::GrantArgs),
    /// Stop a version of a plugin for good: its calls end, and it never runs again
    Revoke(decide::RevokeArgs),
}

#[derive(Args, Debug)]
pub(super) struct BuildArgs {
    /// The folder with the Cargo.toml; or a component (.wasm) that another toolchain made, which gets the plugin.toml
    /// beside it
    #[arg(default_value = "plugins")]
    source: PathBuf,
    /// Where the components go. Default: dist/ in the source's folder
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    #[command(flatten)]
    toolchain: ToolchainArgs,
}

#[derive(Args, Clone, Debug)]
pub(super) struct ToolchainArgs {
    /// Where the WebAssembly standard library comes from
    #[arg(long, env = "HOLDFAST_GUEST_TOOLCHAIN", value_enum, default_value = "auto")]
    toolchain: GuestToolchain,
    /// The folder for build files and, where it is needed, Debian's compiler
    #[arg(long, value_name = "FOLDER", default_value = "target")]
    work: PathBuf,
}

pub(super) async fn run(command: PluginCommand) -> anyhow::Result<()> {
    match command {
        PluginCommand::Build(args) => {
            let is_component = args.source.is_file();
            let folder = if is_component {
                args.source.parent().unwrap_or(Path::new(""))
            } else {
                args.source.as_path()
            };
            let out = args.out.unwrap_or_else(|| folder.join("dist"));
            if is_component {
                return built(&package(&args.source, &out)?);
            }
            tokio::task::spawn_blocking(move || build(&args.source, &out, &args.toolchain)).await?
        }
        PluginCommand::Sign(args) => sign::run(args).await,
        PluginCommand::Keygen(args) => sign::keygen(args).await,
        PluginCommand::Inspect(args) => inspect::run(args).await,
        PluginCommand::List(args) => list::run(&args).await,
        PluginCommand::Install(args) => install::install(args).await,
        PluginCommand::Remove(args) => install::remove(args).await,
        PluginCommand::Grant(args) => decide::grant(args).await,
        PluginCommand::Revoke(args) => decide::revoke(args).await,
    }
}

pub(super) fn build(source: &Path, out: &Path, toolchain: &ToolchainArgs) -> anyhow::Result<()> {
    let build = GuestBuild {
        source: source.to_owned(),
        out: out.to_owned(),
        work: toolchain.work.clone(),
        toolchain: toolchain.toolchain,
        cargo: PathBuf::from("cargo"),
        cargo_home: cargo_home(),
    };
    let progress = &mut |line: &str| {
        use std::io::Write as _;
        // Progress is for whoever watches; a closed standard error stops no build.
        let _ = writeln!(std::io::stderr(), "{line}");
    };
    build.build(progress)?.iter().try_for_each(built)
}

fn built(plugin: &BuiltPlugin) -> anyhow::Result<()> {
    let state = if plugin.changed { "built" } else { "unchanged" };
    say(&format!("{state} {} ({} KiB)", plugin.path.display(), plugin.bytes.div_ceil(1024)))
}
