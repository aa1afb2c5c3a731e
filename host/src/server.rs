//! Puts the parts together: opens the store, loads the plugins, takes up what was under way, serves.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio::net::TcpListener;

use crate::agent::Agent;
use crate::clock::Clock;
use crate::config::Config;
use crate::http::{AgentBook, App, MediaChecker, RateLimiter, router};
use crate::id::{Ids, OrgId};
use crate::key::Token;
use crate::metrics::Metrics;
use crate::model::Models;
use crate::plugin::{PluginHost, PluginSettings};
use crate::registry::ToolRegistry;
use crate::runner::{Parts, Runner};
use crate::store::{self, Store};
use crate::webhook::{Dispatcher, Endpoint, Webhooks};

/// How often `holdfast dev` looks for rebuilt plugins.
const RELOAD_EVERY: Duration = Duration::from_secs(1);

/// A server that is ready to serve.
pub struct Server {
    app: App,
    webhooks: Webhooks,
    shutdown_grace: Duration,
}

impl Server {
    /// With the system's clock, random ids and the configured providers.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        let clock = Clock::System;
        let ids = Ids::random(clock.clone());
        Self::open_with(config, Models::new(config.providers.clone())?, clock, ids).await
    }

    /// With parts of the caller's choice: for tests.
    pub async fn open_with(config: &Config, models: Models, clock: Clock, ids: Ids) -> anyhow::Result<Self> {
        let store = store::open_with(&config.database, config.kill_point)
            .await
            .context("cannot open the database")?;
        refuse_open_door(config, store.as_ref()).await?;
        store.subscribe(config.webhooks.endpoints.iter().map(Endpoint::subscription).collect());
        for agent in &config.agents {
            models.check(&agent.model).with_context(|| format!("agent `{}`", agent.id))?;
        }
        refuse_unpriced(config)?;
        let plugins = PluginHost::new(
            store.clone(),
            clock.clone(),
            config.compile_cache.as_deref(),
            config.network.clone(),
        )?;
        let registry = load_plugins(&plugins, config).await;
        report(&registry, &config.agents);
        let registry = Arc::new(ArcSwap::from_pointee(registry));
        let metrics =
            Metrics::new(registry.clone(), config.agents.iter().map(|agent| agent.model.to_string()));
        store.observe(Box::new({
            let metrics = metrics.clone();
            move |run, took| metrics.saved(run, took)
        }));
        let models = Arc::new(models.observed_by({
            let metrics = metrics.clone();
            move |model, took, result| metrics.replied(model, took, result)
        }));
        let budgets = Arc::new(config.budgets.clone());
        let runner = Runner::new(Parts {
            store: store.clone(),
            models: models.clone(),
            registry: registry.clone(),
            clock: clock.clone(),
            ids: ids.clone(),
            budgets: budgets.clone(),
            queue: config.background,
        });
        let agents = AgentBook::open(&config.agents, store.clone()).await?;
        let app = App {
            runner,
            store,
            registry,
            plugins,
            metrics,
            agents,
            budgets,
            rate: RateLimiter::new(config.rate_limit, clock.clone()),
            models,
            media: MediaChecker::new(config.http.media)?,
            clock,
            ids,
            admin_token_hash: config.admin_token.as_deref().map(Token::hash),
            limits: config.http,
        };
        Ok(Self { app, webhooks: config.webhooks.clone(), shutdown_grace: config.shutdown_grace })
    }

    #[cfg(test)]
    pub(crate) fn app(&self) -> App {
        self.app.clone()
    }

    /// Serves until `shutdown` resolves, then lets what runs come to rest.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        let Self { app, webhooks, shutdown_grace } = self;
        let runner = app.runner.clone();
        let store = app.store.clone();
        let under_way = runner.recover().await.context("cannot take up the runs of the last start")?;
        if under_way > 0 {
            tracing::info!(runs = under_way, "taking up runs that were under way");
        }
        runner.work();
        let expiry = tokio::spawn({
            let runner = runner.clone();
            async move { runner.expire_forever().await }
        });
        let dispatcher = Dispatcher::start(&webhooks, &store, &app.clock)?;
        let (stop_accepting, stopped) = tokio::sync::oneshot::channel::<()>();
        let service = axum::serve(listener, router(app)).with_graceful_shutdown(async move {
            // An error means that the sender is gone: stop, too.
            let _ = stopped.await;
        });
        let service = tokio::spawn(service.into_future());
        shutdown.await;
        tracing::info!("shutting down: no new runs");
        // Callers who wait for a run get its answer before the connections are closed.
        runner.drain(shutdown_grace).await;
        drop(stop_accepting);
        // Idle keep-alive connections end at once; a response under way gets a moment.
        if let Ok(result) = tokio::time::timeout(Duration::from_secs(5), service).await {
            result?.context("the HTTP server failed")?;
        }
        expiry.await?;
        dispatcher.stop().await;
        store.close().await;
        Ok(())
    }

    /// Looks for changed files in the plugin folder, and loads the folder anew when there are.
    pub fn reload_when_rebuilt(&self, config: &Config) {
        let app = self.app.clone();
        let (folder, settings) = (config.plugin_dir.clone(), config.plugins.clone());
        let agents = config.agents.clone();
        tokio::spawn(async move {
            let mut seen = fingerprint(&folder).await;
            loop {
                tokio::time::sleep(RELOAD_EVERY).await;
                let now = fingerprint(&folder).await;
                if now != seen {
                    reload(&app, &folder, &settings, &agents).await;
                    seen = now;
                }
            }
        });
    }
}

/// A server without plugins is a server all the same: its agents just have no tools.
async fn load_plugins(host: &PluginHost, config: &Config) -> ToolRegistry {
    match ToolRegistry::load_dir(host, &config.plugin_dir, &config.plugins).await {
        Ok(registry) => registry,
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "no plugins are loaded");
            ToolRegistry::default()
        }
    }
}

async fn reload(
    app: &App,
    folder: &std::path::Path,
    settings: &BTreeMap<String, PluginSettings>,
    agents: &[Agent],
) {
    tracing::info!("a plugin was rebuilt: loading the plugin folder again");
    let registry = match ToolRegistry::load_dir(&app.plugins, folder, settings).await {
        Ok(registry) => registry,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "keeping the plugins that are loaded");
            return;
        }
    };
    report(&registry, agents);
    // Calls under way keep the plugin they started with.
    app.registry.store(Arc::new(registry));
}

/// Names, sizes and times of the folder's files; empty where there is no such folder.
async fn fingerprint(folder: &std::path::Path) -> Vec<(PathBuf, u64, Option<std::time::SystemTime>)> {
    let mut files = Vec::new();
    let Ok(mut entries) = tokio::fs::read_dir(folder).await else { return files };
    while let Ok(Some(entry)) = entries.next_entry().await {
        if let Ok(metadata) = entry.metadata().await {
            files.push((entry.path(), metadata.len(), metadata.modified().ok()));
        }
    }
    files.sort();
    files
}

/// Whoever can reach the port could run every tool.
async fn refuse_open_door(config: &Config, store: &dyn Store) -> anyhow::Result<()> {
    if config.admin_token.is_some() {
        return Ok(());
    }
    let has_key = store.keys().await?.iter().any(|key| key.revoked_at.is_none());
    if has_key {
        return Ok(());
    }
    anyhow::ensure!(
        config.listen.ip().is_loopback(),
        "refusing to listen on {}, which others can reach, without any key: set HOLDFAST_ADMIN_TOKEN, make a key with \
         `holdfast key create --user NAME`, or listen on 127.0.0.1",
        config.listen
    );
    tracing::warn!(
        "there is no key yet, so every call will be refused: set HOLDFAST_ADMIN_TOKEN, or make one with `holdfast key \
         create --user NAME`"
    );
    Ok(())
}

/// A limit on cost that nothing can be measured against would be no limit. Agents run for every
/// organisation; limits that only some organisations have are checked as runs start.
fn refuse_unpriced(config: &Config) -> anyhow::Result<()> {
    let every_org = crate::budget::Budgets { orgs: BTreeMap::new(), ..config.budgets.clone() };
    for agent in &config.agents {
        let problem =
            every_org.unmeasurable(&agent.model.to_string(), &agent.budget, &OrgId::from("default"));
        if let Some(problem) = problem {
            anyhow::bail!("agent `{}`: {problem}", agent.id);
        }
    }
    Ok(())
}

/// Says what an operator should know about plugins and agents that do not fit together.
fn report(registry: &ToolRegistry, agents: &[Agent]) {
    for agent in agents {
        for pattern in &agent.tools {
            if !registry.specs().any(|spec| pattern.matches(&spec.name)) {
                tracing::warn!(agent.id = %agent.id, %pattern, "no loaded plugin has a tool that the agent may use by this");
            }
        }
        for spec in registry.specs().filter(|spec| agent.allows_in_vain(spec)) {
            tracing::warn!(
                agent.id = %agent.id, tool = %spec.name,
                "the agent's approval says allow, but the plugin itself requires approval: it still asks"
            );
        }
    }
}

/// SIGTERM or Ctrl-C.
pub async fn signal() {
    let interrupt = tokio::signal::ctrl_c();
    match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = interrupt => {}
                _ = terminate.recv() => {}
            }
        }
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "cannot wait for SIGTERM; Ctrl-C works");
            let _ = interrupt.await;
        }
    }
}
