//! `holdfast plugin`: build, inspect and list plugins.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::say;
use crate::config::{Config, ServerArgs, cargo_home};
use crate::plugin::{Plugin, PluginHost};
use crate::registry::ToolRegistry;
use crate::toolchain::{GuestBuild, GuestToolchain};

#[derive(Debug, Subcommand)]
pub(super) enum PluginCommand {
    /// Build plugins from their Rust sources
    ///
    /// Takes a crate or a workspace of crates of type cdylib and leaves one component per crate, named after its
    /// package, in the output folder. Finds a WebAssembly toolchain by itself: the installed wasm32-wasip2 target,
    /// else rustup's, else (on Debian-like Linux) Debian's compiler, unpacked under the work folder.
    Build(BuildArgs),
    /// Load a component as the server would, and show its tools, imports, size and digest
    Inspect(InspectArgs),
    /// List the plugins of the server's plugin folder
    List(ServerArgs),
}

#[derive(Args, Debug)]
pub(super) struct BuildArgs {
    /// The folder with the Cargo.toml
    #[arg(default_value = "plugins")]
    source: PathBuf,
    /// Where the components go. Default: dist/ in the source folder
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

#[derive(Args, Debug)]
pub(super) struct InspectArgs {
    /// The component (.wasm)
    file: PathBuf,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn run(command: PluginCommand) -> anyhow::Result<()> {
    match command {
        PluginCommand::Build(args) => {
            let out = args.out.unwrap_or_else(|| args.source.join("dist"));
            tokio::task::spawn_blocking(move || build(&args.source, &out, &args.toolchain)).await?
        }
        PluginCommand::Inspect(args) => inspect(args).await,
        PluginCommand::List(args) => list(&args).await,
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
    for plugin in build.build(progress)? {
        let state = if plugin.changed { "built" } else { "unchanged" };
        say(&format!("{state} {} ({} KiB)", plugin.path.display(), plugin.bytes.div_ceil(1024)))?;
    }
    Ok(())
}

async fn inspect(args: InspectArgs) -> anyhow::Result<()> {
    let config = Config::load_offline(&args.server)?;
    let bytes = std::fs::read(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    let id = args.file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let settings = config.plugins.get(id).cloned().unwrap_or_default();
    let plugin = PluginHost::for_inspection()?.look(id, bytes, &settings.limits).await?;
    describe(&plugin)
}

async fn list(args: &ServerArgs) -> anyhow::Result<()> {
    let config = Config::load_dev_offline(args)?;
    let registry =
        ToolRegistry::load_dir(&PluginHost::for_inspection()?, &config.plugin_dir, &config.plugins).await?;
    for plugin in registry.plugins() {
        let tools: Vec<&str> = plugin.specs().iter().map(|spec| spec.name.tool()).collect();
        let version = plugin.manifest().map_or("-", |manifest| &manifest.version);
        let digest = &plugin.digest()[..12];
        say(&format!("{:<16} loaded  {digest}  {version}  {}", plugin.id(), tools.join(", ")))?;
        for line in plugin.grants().in_words() {
            say(&format!("{:<16} may {line}", ""))?;
        }
        for (setting, limit) in plugin.limits().changed() {
            say(&format!("{:<16} limit {setting} = {limit}", ""))?;
        }
    }
    for failed in registry.failed() {
        say(&format!("{:<16} failed  {}", failed.id, failed.reason))?;
    }
    Ok(())
}

fn describe(plugin: &Plugin) -> anyhow::Result<()> {
    say(&format!("plugin   {}", plugin.id()))?;
    say(&format!("digest   sha256:{}", plugin.digest()))?;
    say(&format!("size     {} KiB", plugin.size().div_ceil(1024)))?;
    let imports = plugin.imports();
    say(&format!(
        "imports  {}",
        if imports.is_empty() { "none beyond the base".to_owned() } else { imports.join(", ") }
    ))?;
    if let Some(manifest) = plugin.manifest() {
        say(&format!("version  {}", manifest.version))?;
    }
    for line in plugin.grants().in_words() {
        say(&format!("requests to {line}"))?;
    }
    for spec in plugin.specs() {
        let annotations = &spec.annotations;
        let hints: Vec<&str> = [
            (annotations.read_only, "read-only"),
            (annotations.destructive, "destructive"),
            (annotations.idempotent, "idempotent"),
            (annotations.open_world, "open-world"),
            (annotations.requires_approval, "requires approval"),
        ]
        .into_iter()
        .filter_map(|(set, word)| set.then_some(word))
        .collect();
        say(&format!("\ntool     {}  [{}]", spec.name, hints.join(", ")))?;
        say(&format!("         {}", spec.description.replace('\n', "\n         ")))?;
        say(&format!("         arguments {}", spec.input_schema))?;
    }
    Ok(())
}
