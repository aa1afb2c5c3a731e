//! `holdfast serve`: the server with the operator's configuration.

use anyhow::Context as _;
use tokio::net::TcpListener;

use super::say;
use crate::config::{Config, ServerArgs};
use crate::server::{self, Server};

pub(super) async fn run(args: &ServerArgs) -> anyhow::Result<()> {
    let config = Config::load(args)?;
    let server = Server::open(&config).await?;
    let listener = listen(&config).await?;
    say(&format!("holdfast listens on http://{}", listener.local_addr()?))?;
    server.serve(listener, server::signal()).await
}

pub(super) async fn listen(config: &Config) -> anyhow::Result<TcpListener> {
    TcpListener::bind(config.listen).await.with_context(|| {
        format!(
            "cannot listen on {}: is another server running there? Choose another with --listen",
            config.listen
        )
    })
}
