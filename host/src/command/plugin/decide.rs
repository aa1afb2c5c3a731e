//! The operator's word about a plugin: what it may reach, and that a version is to stop.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;

use super::say;
use crate::audit::Actor;
use crate::clock::Clock;
use crate::config::{Config, ServerArgs};
use crate::id::OrgId;
use crate::plugin::{Code, Manifest, Request};
use crate::registry::{Difference, Words, path, read};
use crate::store::{self, PluginChange, PluginWrite, Store};

#[derive(Args, Debug)]
pub(in crate::command) struct GrantArgs {
    /// The plugin's id
    id: String,
    /// Grant without asking
    #[arg(long)]
    yes: bool,
    /// Grant only this of what it asks for: `kv`, `kv:SCOPE`, `http:HOST` or `secrets:NAME`. Can be repeated
    ///
    /// A HOST can also be one of those that a wider rule such as `*` covers.
    #[arg(long, value_name = "WHAT")]
    only: Vec<String>,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Args, Debug)]
pub(in crate::command) struct RevokeArgs {
    /// The plugin's id, for the version in the plugin folder; or a version's digest
    version: String,
    /// Why, for the log and for whoever asks later
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn grant(args: GrantArgs) -> anyhow::Result<()> {
    let desk = Desk::open(&args.server).await?;
    let code = desk.installed(&args.id).await?;
    let digest = code.digest();
    let (manifest, request) = code.read()?;
    code.signed(&args.id, &desk.config.signers)?;
    if let Some(revocation) = desk.words.revocation(digest) {
        anyhow::bail!("this version was revoked, and a revoked one never runs again: {}", revocation.reason);
    }
    let difference = desk.words.difference(&args.id, digest, &request);
    say(shown(&args.id, digest, manifest.as_ref(), &request, &difference).trim_end())?;
    if difference.added.is_empty() {
        say("There is nothing to decide: it has what it asks for.")?;
        return desk.close().await;
    }
    let only = (!args.only.is_empty()).then_some(args.only.as_slice());
    let change = desk.words.grant(&args.id, digest, &request, only)?;
    if !args.yes && !asked(only.is_some())? {
        say("Nothing was granted.")?;
        return desk.close().await;
    }
    desk.write(&args.id, digest, change).await?;
    say("Granted. A running server takes it up within a second or two.")?;
    desk.close().await
}

pub(super) async fn revoke(args: RevokeArgs) -> anyhow::Result<()> {
    let reason = args.reason.trim();
    anyhow::ensure!(!reason.is_empty() && reason.len() <= 500, "--reason needs 1 to 500 bytes");
    let desk = Desk::open(&args.server).await?;
    let (plugin, digest) = desk.version(&args.version).await?;
    let change = PluginChange::Revoke { reason: reason.to_owned() };
    if desk.write(&plugin, &digest, change).await? {
        say(&format!("Revoked {plugin} sha256:{digest}. A running server stops it within a second or two."))?;
    } else {
        say("It was revoked before.")?;
    }
    desk.close().await
}

/// What the operator reads before deciding.
fn shown(
    id: &str,
    digest: &str,
    manifest: Option<&Manifest>,
    request: &Request,
    difference: &Difference,
) -> String {
    use std::fmt::Write as _;

    let version = manifest.map_or("without a version", |manifest| manifest.version.as_str());
    let mut text = format!("{id} {version}\nsha256:{digest}\n");
    if manifest.is_none() {
        text.push_str("\nIt has no manifest: what it asks for is what its imports can do at most.\n");
    } else if !request.open.is_empty() {
        let open: Vec<&str> = request.open.iter().map(|capability| capability.word()).collect();
        let open = open.join(", ");
        // Writing to a `String` cannot fail.
        let _ = writeln!(
            text,
            "\nOf {open} it takes whatever you grant: what it asks for is a proposal. Narrow it with --only, or write \
             rules of your own into [plugins.{id}.grants]."
        );
    }
    for (title, mark, lines) in [
        ("It may already:", ' ', &difference.already),
        ("It asks to, in addition:", '+', &difference.added),
        ("It does not ask any more to:", '-', &difference.dropped),
    ] {
        if !lines.is_empty() {
            // Writing to a `String` cannot fail.
            let _ = write!(text, "\n{title}\n");
            for line in lines {
                let _ = writeln!(text, "  {mark} {line}");
            }
        }
    }
    if difference.added.iter().chain(&difference.already).any(|line| line.contains('"')) {
        text.push_str("\nWhat stands in quotes is what its author says.\n");
    }
    text
}

/// On a terminal; anything but a yes is a no.
fn asked(in_part: bool) -> anyhow::Result<bool> {
    anyhow::ensure!(
        std::io::stdin().is_terminal(),
        "nobody can be asked here, because standard input is no terminal: say --yes to grant this"
    );
    let mut out = std::io::stderr();
    write!(
        out,
        "{} [y/N] ",
        if in_part { "Grant the part that you named?" } else { "Grant what is marked +?" }
    )?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
}

/// The configuration and the database of a server, which may be running.
pub(super) struct Desk {
    pub(super) config: Config,
    pub(super) words: Words,
    store: Arc<dyn Store>,
}

impl Desk {
    pub(super) async fn open(args: &ServerArgs) -> anyhow::Result<Self> {
        let config = Config::load_dev_offline(args)?;
        let store = store::open_shared(&config.database).await?;
        let words = Words::read(&config.plugins, store.as_ref()).await?;
        Ok(Self { config, words, store })
    }

    /// The file of the plugin folder.
    pub(super) async fn installed(&self, id: &str) -> anyhow::Result<Code> {
        crate::tool::check_name_part(id).with_context(|| "the plugin's id".to_owned())?;
        let path = path(&self.config.plugin_dir, id);
        let code = read(id, &path, &self.words.settings(id).limits).await;
        code.with_context(|| {
            format!("there is no plugin `{id}` that can be read in {}", self.config.plugin_dir.display())
        })
    }

    pub(super) async fn write(
        &self,
        plugin: &str,
        digest: &str,
        change: PluginChange,
    ) -> anyhow::Result<bool> {
        let write = PluginWrite {
            org: OrgId::from("default"),
            plugin: plugin.to_owned(),
            digest: digest.to_owned(),
            change,
            by: Actor::command_line(),
            at: Clock::System.now(),
        };
        Ok(self.store.write_plugin(write).await?)
    }

    pub(super) async fn close(self) -> anyhow::Result<()> {
        self.store.close().await;
        Ok(())
    }

    /// The plugin and digest that a word of the operator's means.
    async fn version(&self, word: &str) -> anyhow::Result<(String, String)> {
        let digest = word.strip_prefix("sha256:").unwrap_or(word);
        let is_digest = digest.len() >= 12 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_digest || path(&self.config.plugin_dir, word).exists() {
            let code = self.installed(word).await?;
            return Ok((word.to_owned(), code.digest().to_owned()));
        }
        let mut found =
            self.words.versions().filter(|(_, known)| known.starts_with(digest)).collect::<Vec<_>>();
        found.sort_unstable();
        found.dedup();
        match found[..] {
            [(plugin, digest)] => Ok((plugin.to_owned(), digest.to_owned())),
            [] => anyhow::bail!(
                "no version with the digest {digest} has ever served or been decided about here"
            ),
            _ => anyhow::bail!("several versions have a digest that begins with {digest}: write more of it"),
        }
    }
}
