//! The command line: what each command is called, what it takes, and what it says.
//!
//! Commands print to standard output what was asked for, and nothing else; the log goes to standard error.

mod dev;
mod key;
mod plugin;
mod serve;

use std::io::Write as _;

use clap::{Parser, Subcommand};

use crate::config::ServerArgs;

/// A self-hosted agent host: runs agents over REST, with sandboxed tools and pauses for humans.
#[derive(Debug, Parser)]
#[command(
    name = "holdfast",
    version,
    about,
    after_help = "Start with `holdfast dev`: it builds the sample plugins, starts a server on 127.0.0.1:8080 with a \
                  built-in demo model, and prints the calls to try.\n\nFlags win over HOLDFAST_* environment \
                  variables, and those over the configuration file. HOLDFAST_ADMIN_TOKEN sets a token with every \
                  right; HOLDFAST_LOG sets what is logged (info, holdfast=debug, …)."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build the plugins and run a server to try things with
    ///
    /// Builds plugins/ into plugins/dist/, finding or fetching a WebAssembly toolchain by itself, then serves on
    /// 127.0.0.1:8080 with the sample agents on the built-in demo model (or with ./holdfast.toml, where there is one).
    /// Everything it keeps is in .holdfast/: stop it, even with kill -9, and start it again, and paused runs are
    /// still there.
    Dev(dev::DevArgs),
    /// Run the server: no builds, no demo defaults
    ///
    /// SIGTERM or Ctrl-C refuses new runs and gives running ones a grace period (`shutdown_grace_ms`, 20 s by default);
    /// what is not done by then goes on at the next start.
    Serve(ServerArgs),
    /// Build, inspect, install and list plugins, and decide what they may reach
    #[command(subcommand)]
    Plugin(plugin::PluginCommand),
    /// Create, list and revoke API keys
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Print the OpenAPI 3.1 document of the HTTP API
    Openapi,
}

impl Cli {
    /// The log filter of commands that serve is wordier than that of commands that print.
    pub fn default_log(&self) -> &'static str {
        match self.command {
            Command::Dev(_) | Command::Serve(_) => "info",
            Command::Plugin(_) | Command::Key(_) | Command::Openapi => "warn",
        }
    }
}

pub async fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Dev(args) => dev::run(args).await,
        Command::Serve(args) => serve::run(&args).await,
        Command::Plugin(command) => plugin::run(command).await,
        Command::Key(command) => key::run(command).await,
        Command::Openapi => say(&serde_json::to_string_pretty(&crate::http::openapi())?),
    }
}

/// Prints a line of the answer.
fn say(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}
