//! Puts the parts together: opens the store, loads the plugins, takes up what was under way, serves.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::agent::Agent;
use crate::clock::Clock;
use crate::config::Config;
use crate::http::{AgentBook, App, MediaChecker, RateLimiter, router};
use crate::id::{Ids, OrgId};
use crate::key::Token;
use crate::metrics::Metrics;
use crate::model::Models;
use crate::plugin::PluginHost;
use crate::registry::{Shelf, ToolRegistry};
use crate::runner::{Parts, Runner};
use crate::store::{self, Store};
use crate::webhook::{Dispatcher, Endpoint, Webhooks};

/// How often somebody looks for new plugins and new decisions about them.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A server that is ready to serve.
pub struct Server {
    app: App,
    /// The configuration file's agents.
    declared: Vec<Agent>,
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
        )?
        .with_memory(config.plugin_memory_bytes)
        .with_signers(config.signers.clone());
        let registry = Shelf::new(
            plugins,
            store.clone(),
            clock.clone(),
            config.plugin_dir.clone(),
            config.plugins.clone(),
        );
        if let Err(error) = registry.refresh().await {
            // A server without plugins is a server all the same: its agents just have no tools.
            tracing::warn!(error = &error as &dyn std::error::Error, "no plugins are loaded");
        }
        report(&registry.load(), &config.agents);
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
        Ok(Self {
            app,
            declared: config.agents.clone(),
            webhooks: config.webhooks.clone(),
            shutdown_grace: config.shutdown_grace,
        })
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
        let Self { app, declared, webhooks, shutdown_grace } = self;
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
        let watch = AbortOnDropHandle::new(tokio::spawn(watch(app.registry.clone(), declared)));
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
        drop(watch);
        dispatcher.stop().await;
        store.close().await;
        Ok(())
    }
}

/// Takes up new files of the plugin folder and new decisions about plugins, as long as it is polled.
async fn watch(shelf: Shelf, agents: Vec<Agent>) {
    let loading = async {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            match shelf.look_again().await {
                Ok(true) => report(&shelf.load(), &agents),
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "keeping the plugins that are loaded"
                    );
                }
            }
            if let Err(error) = shelf.tidy().await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "cannot forget old versions of plugins"
                );
            }
        }
    };
    // Beside it: to compile takes time, and what is revoked stops at once.
    let stopping = async {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if let Err(error) = shelf.stop_revoked().await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "cannot see which plugins are revoked"
                );
            }
        }
    };
    tokio::join!(loading, stopping);
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
