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
    let token = match known_token(&config) {
        Some(token) => token,
        None => new_token()?,
    };
    config.admin_token = Some(token.clone());
    let server = Server::open(&config).await?;
    let listener = serve::listen(&config).await?;
    say(&welcome(&format!("http://{}", listener.local_addr()?), &token))?;
    server.serve(listener, server::signal()).await
}

/// The token of the environment, or else the one that a server of this folder was started with: the same at
/// every start, so that the calls in a shell's history go on working.
pub(super) fn known_token(config: &Config) -> Option<String> {
    let kept = || std::fs::read_to_string(token_file()).ok().map(|text| text.trim().to_owned());
    config.admin_token.clone().or_else(kept).filter(|token| token.len() >= 16)
}

fn new_token() -> anyhow::Result<String> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let token = Token::generate()?;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut opened = options.open(token_file()).context("cannot keep the token")?;
    opened.write_all(token.as_str().as_bytes())?;
    Ok(token.as_str().to_owned())
}

fn token_file() -> PathBuf {
    Path::new(DEV_FOLDER).join("token")
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
