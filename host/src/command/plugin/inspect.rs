//! What a component is, and what the plugins of the server are.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;

use super::say;
use crate::config::{Config, ServerArgs};
use crate::plugin::{Code, Limits, PluginHost, Prepared};
use crate::registry::{Admission, Words, files, read};
use crate::store;

#[derive(Args, Debug)]
pub(in crate::command) struct InspectArgs {
    /// The component (.wasm)
    file: PathBuf,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn run(args: InspectArgs) -> anyhow::Result<()> {
    let config = Config::load_offline(&args.server)?;
    let bytes = std::fs::read(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    let id = args.file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let settings = config.plugins.get(id).cloned().unwrap_or_default();
    let code = Arc::new(Code::new(bytes));
    describe(&PluginHost::for_inspection(None)?.prepare(id, code, &settings).await?)
}

fn describe(plugin: &Prepared) -> anyhow::Result<()> {
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
    for line in plugin.request().asked.in_words() {
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

pub(super) async fn list(args: &ServerArgs) -> anyhow::Result<()> {
    let config = Config::load_dev_offline(args)?;
    let store = store::open_shared(&config.database).await?;
    let words = Words::read(&config.plugins, store.as_ref()).await?;
    store.close().await;
    let found = files(&config.plugin_dir)
        .await
        .with_context(|| format!("cannot read the plugin folder {}", config.plugin_dir.display()))?;
    let host = PluginHost::for_inspection(config.compile_cache.as_deref())?;
    for file in found {
        let settings = words.settings(&file.id);
        let prepared = async {
            let code = read(&file.id, &file.path, &settings.limits).await?;
            if let Some(revocation) = words.revocation(code.digest()) {
                return Ok(Err(revocation.reason.clone()));
            }
            anyhow::Ok(Ok(host.prepare(&file.id, Arc::new(code), &settings).await?))
        };
        match prepared.await {
            Ok(Ok(prepared)) => list_one(&words, &prepared)?,
            Ok(Err(reason)) => say(&format!("{:<16} revoked  {reason}", file.id))?,
            Err(error) => say(&format!("{:<16} failed   {error}", file.id))?,
        }
    }
    Ok(())
}

fn list_one(words: &Words, plugin: &Prepared) -> anyhow::Result<()> {
    let (id, digest, request) = (plugin.id(), plugin.digest(), plugin.request());
    let tools: Vec<&str> = plugin.specs().iter().map(|spec| spec.name.tool()).collect();
    let version = plugin.manifest().map_or("-", |manifest| manifest.version.as_str());
    let (state, granted, missing) = match words.admit(id, digest, &request) {
        Admission::Granted(granted) | Admission::CarriedOver(granted) => match plugin.grant(&granted) {
            Ok(plugin) => ("loaded", plugin.grants().in_words(), Vec::new()),
            Err(error) => ("failed", Vec::new(), vec![error.to_string()]),
        },
        Admission::Waits(missing) => {
            let missing =
                missing.in_words().into_iter().map(|line| format!("waits for your word: may it {line}?"));
            ("waiting", Vec::new(), missing.collect())
        }
    };
    say(&format!("{id:<16} {state:<8} {}  {version}  {}", &digest[..12], tools.join(", ")))?;
    for line in granted {
        say(&format!("{:<16} may {line}", ""))?;
    }
    for line in missing {
        say(&format!("{:<16} {line}", ""))?;
    }
    say(&format!("{:<16} limits: {}", "", in_words(plugin.limits())))?;
    for (setting, limit) in plugin.limits().changed() {
        say(&format!("{:<16} limit {setting} = {limit}", ""))?;
    }
    Ok(())
}

/// Those that operators ask about, whatever they are; of the others, those that are set. The API lists them all.
fn in_words(limits: &Limits) -> String {
    format!(
        "{} MiB of memory, {} ms, of which {} ms of CPU, {} calls at once",
        limits.memory_bytes >> 20,
        limits.wall_ms,
        limits.cpu_ms,
        limits.concurrent_calls
    )
}
