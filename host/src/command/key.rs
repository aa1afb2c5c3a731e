//! `holdfast key`: API keys. Works beside a running server.

use clap::{Args, Subcommand};

use super::say;
use crate::clock::Clock;
use crate::config::{Config, ServerArgs};
use crate::id::{Ids, KeyId, OrgId, UserId};
use crate::key::{ApiKey, Role, Token};
use crate::session::Owner;
use crate::store::{self, Store};

#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Create a key and print its token, once
    Create(CreateArgs),
    /// List the keys, without their tokens
    List(StoreArgs),
    /// Revoke a key: its token stops working at once
    Revoke(RevokeArgs),
}

#[derive(Args, Debug)]
pub(super) struct StoreArgs {
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Args, Debug)]
pub(super) struct CreateArgs {
    /// user: runs agents and decides its own runs' approvals; approver: decides its organisation's; admin: acts for
    /// any user of it
    #[arg(long, value_enum, default_value = "user")]
    role: Role,
    /// The user whom the key is for
    #[arg(long)]
    user: String,
    /// The organisation (tenant) the key is bound to
    #[arg(long, default_value = "default")]
    org: String,
    /// What the key is for, in your words
    #[arg(long, default_value = "")]
    label: String,
    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Args, Debug)]
pub(super) struct RevokeArgs {
    /// The key's id, from `holdfast key list`
    id: String,
    #[command(flatten)]
    store: StoreArgs,
}

pub(super) async fn run(command: KeyCommand) -> anyhow::Result<()> {
    match command {
        KeyCommand::Create(args) => create(args).await,
        KeyCommand::List(args) => list(args).await,
        KeyCommand::Revoke(args) => revoke(args).await,
    }
}

async fn create(args: CreateArgs) -> anyhow::Result<()> {
    for (flag, value) in [("--user", &args.user), ("--org", &args.org)] {
        anyhow::ensure!(!value.trim().is_empty() && value.len() <= 255, "{flag} needs 1 to 255 characters");
    }
    let store = open(&args.store).await?;
    let clock = Clock::System;
    let key = ApiKey {
        id: Ids::random(clock.clone()).next(),
        role: args.role,
        owner: Owner { org: OrgId::from(args.org), user: UserId::from(args.user) },
        label: args.label,
        created_at: clock.now(),
        revoked_at: None,
    };
    let token = Token::generate()?;
    store.add_key(&key, &Token::hash(token.as_str())).await?;
    store.close().await;
    say(token.as_str())
}

async fn list(args: StoreArgs) -> anyhow::Result<()> {
    let store = open(&args).await?;
    let keys = store.keys().await?;
    store.close().await;
    say(
        "ID                                    ROLE      ORG            USER           CREATED                   REVOKED                   LABEL",
    )?;
    for key in keys {
        say(&format!(
            "{:<37} {:<9} {:<14} {:<14} {:<25} {:<25} {}",
            key.id.as_str(),
            key.role.as_str(),
            key.owner.org.as_str(),
            key.owner.user.as_str(),
            key.created_at.to_string(),
            key.revoked_at.map_or_else(|| "-".to_owned(), |at| at.to_string()),
            key.label
        ))?;
    }
    Ok(())
}

async fn revoke(args: RevokeArgs) -> anyhow::Result<()> {
    let store = open(&args.store).await?;
    let revoked = store.revoke_key(&KeyId::from(args.id), Clock::System.now()).await?;
    store.close().await;
    anyhow::ensure!(
        revoked,
        "there is no such key, or it was revoked before; `holdfast key list` shows them"
    );
    say("revoked")
}

async fn open(args: &StoreArgs) -> anyhow::Result<std::sync::Arc<dyn Store>> {
    let config = Config::load_offline(&args.server)?;
    Ok(store::open_shared(&config.database).await?)
}
