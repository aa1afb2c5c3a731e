//! What a component is.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;

use super::say;
use crate::config::{Config, ServerArgs};
use crate::plugin::{Code, PluginHost, Prepared, Signed};

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
    describe(&PluginHost::for_inspection(None, config.signers)?.prepare(id, code, &settings).await?)
}

pub(super) fn in_words(signed: Signed) -> String {
    let Signed { by, checked } = signed;
    if checked { format!("signed by {by}") } else { format!("signed by {by}, as it says: not checked") }
}

fn describe(plugin: &Prepared) -> anyhow::Result<()> {
    say(&format!("plugin   {}", plugin.id()))?;
    say(&format!("digest   sha256:{}", plugin.digest()))?;
    say(&format!("size     {} KiB", plugin.size().div_ceil(1024)))?;
    say(&match plugin.signed() {
        Some(signed) => in_words(signed),
        None => "not signed".to_owned(),
    })?;
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
    for capability in &plugin.request().open {
        say(&format!("takes    whatever is granted of {}", capability.word()))?;
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
