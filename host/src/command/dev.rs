//! `holdfast dev`: everything a newcomer needs, from a fresh clone to the first curl.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use super::{plugin, say, serve};
use crate::config::{Config, DEV_FOLDER, ServerArgs};
use crate::key::Token;
use crate::server::{self, Server};

#[derive(Args, Debug)]
pub(super) struct DevArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    toolchain: plugin::ToolchainArgs,
    /// Serve the plugins that are there already
    #[arg(long)]
    no_build: bool,
}

/// The sources of the sample plugins, in a checkout.
const SOURCES: &str = "plugins";

pub(super) async fn run(args: DevArgs) -> anyhow::Result<()> {
    let mut config = Config::load_dev(&args.server)?;
    let sources = Path::new(SOURCES);
    if !args.no_build && sources.join("Cargo.toml").exists() {
        let out = config.plugin_dir.clone();
        let toolchain = args.toolchain.clone();
        tokio::task::spawn_blocking(move || plugin::build(sources, &out, &toolchain)).await??;
    }
    std::fs::create_dir_all(DEV_FOLDER).with_context(|| format!("cannot make the folder {DEV_FOLDER}"))?;
    let token = match config.admin_token.clone() {
        Some(token) => token,
        None => kept_token(&Path::new(DEV_FOLDER).join("token"))?,
    };
    config.admin_token = Some(token.clone());
    let server = Server::open(&config).await?;
    let listener = serve::listen(&config).await?;
    say(&welcome(&format!("http://{}", listener.local_addr()?), &token))?;
    server.serve(listener, server::signal()).await
}

/// The same token at every start, so that the calls in a shell's history go on working.
fn kept_token(file: &PathBuf) -> anyhow::Result<String> {
    use std::os::unix::fs::OpenOptionsExt as _;
    if let Ok(token) = std::fs::read_to_string(file)
        && token.trim().len() >= 16
    {
        return Ok(token.trim().to_owned());
    }
    let token = Token::generate()?;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut opened = options.open(file).context("cannot keep the token")?;
    opened.write_all(token.as_str().as_bytes())?;
    Ok(token.as_str().to_owned())
}

fn welcome(url: &str, token: &str) -> String {
    format!(
        r#"
holdfast listens on {url}    interactive API: {url}/docs

Try it in another terminal:

  export TOKEN={token}
  export AGENT={url}/api/agents/assistant

  # a run that uses a tool
  curl -s $AGENT/runs -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \
    -d '{{"message": "What is 6*7?"}}'

  # a run that pauses: deleting a note asks a human first
  curl -s $AGENT/runs -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \
    -d '{{"message": "Add a note: buy milk"}}'
  curl -s $AGENT/runs -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \
    -d '{{"message": "Delete note 1"}}'

  # approve it, with the runId of that answer; kill this server and start it again before, if you like
  curl -s $AGENT/runs/RUN_ID/continue -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \
    -d '{{"action": "APPROVE"}}'
"#
    )
}
