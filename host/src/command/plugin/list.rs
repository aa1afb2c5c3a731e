//! What the plugins of the server are: what the folder and the decisions say, and what a running server counted.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;

use super::say;
use crate::command::dev;
use crate::config::{Config, ServerArgs};
use crate::outbound::{self, Reach};
use crate::plugin::{Limits, PluginHost, Prepared};
use crate::registry::{Admission, Words, files, read};
use crate::store;

/// How long a running server may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// Of one plugin, as `GET /api/plugins` tells it.
#[derive(Deserialize)]
struct Live {
    id: String,
    digest: Option<String>,
    breaker: Option<String>,
    calls: u64,
    failures: u64,
    running: u64,
}

pub(super) async fn run(args: &ServerArgs) -> anyhow::Result<()> {
    let config = Config::load_dev_offline(args)?;
    let store = store::open_shared(&config.database).await?;
    let words = Words::read(&config.plugins, store.as_ref()).await?;
    store.close().await;
    let (mut live, unknown) = match ask(&config).await {
        Ok(live) => (live, None),
        Err(why) => (BTreeMap::new(), Some(why)),
    };
    let found = files(&config.plugin_dir)
        .await
        .with_context(|| format!("cannot read the plugin folder {}", config.plugin_dir.display()))?;
    let host = PluginHost::for_inspection(config.compile_cache.as_deref(), config.signers.clone())?;
    for file in found {
        let settings = words.settings(&file.id);
        let prepared = async {
            let code = read(&file.id, &file.path, &settings.limits).await?;
            if let Some(revocation) = words.revocation(code.digest()) {
                return Ok(Err(revocation.reason.clone()));
            }
            anyhow::Ok(Ok(host.prepare(&file.id, Arc::new(code), &settings).await?))
        };
        match prepared.await {
            Ok(Ok(prepared)) => list_one(&words, &prepared)?,
            Ok(Err(reason)) => say(&format!("{:<16} revoked  {reason}", file.id))?,
            Err(error) => say(&format!("{:<16} failed   {error}", file.id))?,
        }
        if let Some(live) = live.remove(&file.id) {
            say(&format!("{:<16} {}", "", live.in_words()))?;
        }
    }
    if let Some(why) = unknown {
        say(&format!("\nCalls, failures and breakers are what a running server knows: {why}."))?;
    }
    Ok(())
}

/// What the server on this database counted since its start, by plugin; or why nobody knows.
async fn ask(config: &Config) -> Result<BTreeMap<String, Live>, String> {
    // Whoever else listens there must not get the token.
    if !store::in_use(&config.database).map_err(|error| error.to_string())? {
        return Err("none is running on this database".to_owned());
    }
    let Some(token) = dev::known_token(config) else {
        return Err("set HOLDFAST_ADMIN_TOKEN to ask it".to_owned());
    };
    let url = format!("http://{}/api/plugins", reachable(config.listen));
    let asked = async {
        let client = outbound::client(Reach::Private, ANSWER_TIME)?;
        let answer = client.get(&url).bearer_auth(token).send().await?.error_for_status()?;
        answer.json::<Vec<Live>>().await
    };
    match asked.await {
        Ok(plugins) => Ok(plugins.into_iter().map(|live| (live.id.clone(), live)).collect()),
        Err(error) => match error.status() {
            Some(status) => Err(format!("it answered {status} at {url}")),
            None => Err(format!("it does not answer at {url}; say with --listen where it listens")),
        },
    }
}

/// Where this machine reaches a server that listens there.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

impl Live {
    fn in_words(&self) -> String {
        let Self { calls, failures, running, .. } = self;
        let counts = format!("{calls} calls, {failures} failed, {running} running");
        match (self.digest.as_deref().and_then(|digest| digest.get(7..19)), &self.breaker) {
            (Some(digest), Some(breaker)) => format!("serves {digest}: {counts}, breaker {breaker}"),
            _ => format!("does not serve: {counts}"),
        }
    }
}

fn list_one(words: &Words, plugin: &Prepared) -> anyhow::Result<()> {
    let (id, digest, request) = (plugin.id(), plugin.digest(), plugin.request());
    let tools: Vec<&str> = plugin.specs().iter().map(|spec| spec.name.tool()).collect();
    let version = plugin.manifest().map_or("-", |manifest| manifest.version.as_str());
    let (state, granted, missing) = match words.admit(id, digest, &request) {
        Admission::Granted(granted) | Admission::CarriedOver(granted) => match plugin.grant(&granted) {
            Ok(plugin) => ("loaded", plugin.grants().in_words(), Vec::new()),
            Err(error) => ("failed", Vec::new(), vec![error.to_string()]),
        },
        Admission::Waits(missing) => {
            let missing =
                missing.in_words().into_iter().map(|line| format!("waits for your word: may it {line}?"));
            ("waiting", Vec::new(), missing.collect())
        }
    };
    say(&format!("{id:<16} {state:<8} {}  {version}  {}", &digest[..12], tools.join(", ")))?;
    if let Some(signed) = plugin.signed() {
        say(&format!("{:<16} {}", "", super::inspect::in_words(signed)))?;
    }
    for line in granted {
        say(&format!("{:<16} may {line}", ""))?;
    }
    for line in missing {
        say(&format!("{:<16} {line}", ""))?;
    }
    say(&format!("{:<16} limits: {}", "", in_words(plugin.limits())))?;
    for (setting, limit) in plugin.limits().changed() {
        say(&format!("{:<16} limit {setting} = {limit}", ""))?;
    }
    Ok(())
}

/// Those that operators ask about, whatever they are; of the others, those that are set. The API lists them all.
fn in_words(limits: &Limits) -> String {
    format!(
        "{} MiB of memory, {} ms, of which {} ms of CPU, {} calls at once",
        limits.memory_bytes >> 20,
        limits.wall_ms,
        limits.cpu_ms,
        limits.concurrent_calls
    )
}
