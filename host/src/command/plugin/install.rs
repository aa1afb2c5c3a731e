//! Into the plugin folder, and out of it.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;

use super::decide::Desk;
use super::say;
use crate::config::ServerArgs;
use crate::plugin::{Code, PluginHost};
use crate::registry::{Admission, path, write};
use crate::store::PluginChange;

#[derive(Args, Debug)]
pub(in crate::command) struct InstallArgs {
    /// The component (.wasm)
    file: PathBuf,
    /// Put it in the place of the plugin of the same id
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Args, Debug)]
pub(in crate::command) struct RemoveArgs {
    /// The plugin's id
    id: String,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn install(args: InstallArgs) -> anyhow::Result<()> {
    let bytes = std::fs::read(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    let code = Arc::new(Code::new(bytes));
    let (manifest, _) = code.read()?;
    let stem = args.file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let id = manifest.map_or_else(|| stem.to_owned(), |manifest| manifest.id);
    let desk = Desk::open(&args.server).await?;
    if let Some(revocation) = desk.words.revocation(code.digest()) {
        anyhow::bail!("this version was revoked, and a revoked one never runs again: {}", revocation.reason);
    }
    let settings = desk.words.settings(&id);
    let host = PluginHost::for_inspection(None, desk.config.signers.clone())?;
    let prepared = host.prepare(&id, Arc::clone(&code), &settings).await?;
    let folder = &desk.config.plugin_dir;
    anyhow::ensure!(
        args.replace || !path(folder, &id).exists(),
        "there is a plugin `{id}` in {}: say --replace to put this one in its place",
        folder.display()
    );
    write(folder, &id, code.bytes())
        .await
        .with_context(|| format!("cannot write to the plugin folder {}", folder.display()))?;
    desk.write(&id, code.digest(), PluginChange::Install).await?;
    say(&format!("Installed {id}, sha256:{}", code.digest()))?;
    let request = prepared.request();
    for line in request.asked.in_words() {
        say(&format!("It asks to {line}"))?;
    }
    match desk.words.admit(&id, code.digest(), &request) {
        Admission::Granted(_) | Admission::CarriedOver(_) => {
            say("A running server takes it up within a second or two.")?;
        }
        Admission::Waits(_) => {
            say(&format!("It waits until you grant what it asks for: holdfast plugin grant {id}"))?;
        }
    }
    desk.close().await
}

pub(super) async fn remove(args: RemoveArgs) -> anyhow::Result<()> {
    let desk = Desk::open(&args.server).await?;
    let code = desk.installed(&args.id).await?;
    tokio::fs::remove_file(path(&desk.config.plugin_dir, &args.id)).await?;
    desk.write(&args.id, code.digest(), PluginChange::Remove).await?;
    say(&format!("Removed {}. Runs that are paused on it still finish with it.", args.id))?;
    desk.close().await
}
