//! Settings: flags and `HOLDFAST_*` environment, then the configuration file, then defaults.
//!
//! The only module that reads the environment. Everything is checked here, once, into types that cannot
//! be wrong later; a mistake in the file is reported with its name, its line and what is allowed there.

mod file;
mod limits;
mod plugins;
mod webhooks;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use self::file::File;
use self::webhooks::WebhooksTable;
use crate::agent::Agent;
use crate::budget::Budgets;
use crate::http::{HttpLimits, RateLimit};
use crate::model::{Provider, default_key_env};
use crate::plugin::{Network, PluginSettings, Signers};
use crate::runner::QueueSettings;
use crate::store::KillPoint;
use crate::webhook::Webhooks;

/// Everything a server is started with.
#[derive(Clone, Debug)]
pub struct Config {
    pub listen: SocketAddr,
    /// `sqlite://path`.
    pub database: String,
    /// Every `*.wasm` in it is a plugin.
    pub plugin_dir: PathBuf,
    /// `plugin_signers`. Nobody = plugins need no signature.
    pub signers: Signers,
    /// Where compiled plugins are kept between starts: beside the database, where nothing else is said.
    pub compile_cache: Option<PathBuf>,
    /// All calls of plugins together, beyond what each is assured of.
    pub plugin_memory_bytes: u64,
    /// The bootstrap token, with every right.
    pub admin_token: Option<String>,
    pub providers: BTreeMap<String, Provider>,
    pub agents: Vec<Agent>,
    pub plugins: BTreeMap<String, PluginSettings>,
    /// How plugins reach the network.
    pub network: Network,
    pub http: HttpLimits,
    /// None = no key is limited.
    pub rate_limit: Option<RateLimit>,
    pub budgets: Budgets,
    pub background: QueueSettings,
    pub webhooks: Webhooks,
    /// How long runs may go on after SIGTERM.
    pub shutdown_grace: Duration,
    /// Where a test has this process killed; none in release builds.
    pub kill_point: Option<KillPoint>,
}

/// The settings that a command line can give.
#[derive(Args, Clone, Debug, Default)]
pub struct ServerArgs {
    /// The configuration file (TOML). Default: ./holdfast.toml, where there is one
    #[arg(long, env = "HOLDFAST_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address and port to listen on. An address that is not loopback needs a key first
    #[arg(long, env = "HOLDFAST_LISTEN", value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// The database: `sqlite://path/to/file.db`
    #[arg(long, env = "HOLDFAST_DATABASE_URL", value_name = "URL")]
    pub database: Option<String>,
    /// The folder with the plugins (*.wasm)
    #[arg(long, env = "HOLDFAST_PLUGINS", value_name = "FOLDER")]
    pub plugins: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}", file.display())]
    Unreadable { file: PathBuf, source: std::io::Error },
    #[error("{}: {message}", file.display())]
    Invalid { file: PathBuf, message: String },
    #[error("HOLDFAST_ADMIN_TOKEN is too short: a token needs at least 16 characters")]
    WeakToken,
}

const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);

/// The configuration that `holdfast dev` uses where there is no file.
pub const SAMPLE: &str = include_str!("../../examples/quickstart/holdfast.toml");

impl Config {
    /// What `holdfast serve` runs with.
    pub fn load(args: &ServerArgs) -> Result<Self, ConfigError> {
        let (text, file) = read(args)?;
        Self::from_text(&text, &file, args)
    }

    /// For commands that serve nothing: without webhooks, whose secrets are the server's business.
    pub fn load_offline(args: &ServerArgs) -> Result<Self, ConfigError> {
        let (text, file) = read(args)?;
        Self::checked(&text, &file, args, |_| Ok(Webhooks::default()))
    }

    /// What `holdfast dev` runs with: the file, where there is one, else the sample, and state in
    /// `.holdfast/` of the working folder.
    pub fn load_dev(args: &ServerArgs) -> Result<Self, ConfigError> {
        Self::load_or_sample(args, Self::load)
    }

    /// The same for commands that serve nothing.
    pub fn load_dev_offline(args: &ServerArgs) -> Result<Self, ConfigError> {
        Self::load_or_sample(args, Self::load_offline)
    }

    fn load_or_sample(
        args: &ServerArgs,
        load: impl FnOnce(&ServerArgs) -> Result<Self, ConfigError>,
    ) -> Result<Self, ConfigError> {
        let mut args = args.clone();
        let has_file = args.config.is_some() || Path::new("holdfast.toml").exists();
        if has_file {
            return load(&args);
        }
        args.database.get_or_insert_with(|| format!("sqlite://{DEV_FOLDER}/dev.db"));
        args.plugins.get_or_insert_with(|| PathBuf::from("plugins/dist"));
        // The sample lets an agent fetch from this server itself, wherever it listens.
        let port = args.listen.unwrap_or(DEFAULT_LISTEN).port();
        let sample = SAMPLE.replace("port = 8080", &format!("port = {port}"));
        let mut config = Self::from_text(&sample, Path::new("examples/quickstart/holdfast.toml"), &args)?;
        config.compile_cache = Some(Path::new(DEV_FOLDER).join("cache"));
        Ok(config)
    }

    /// Checks the text of a configuration file.
    pub fn from_text(text: &str, file: &Path, args: &ServerArgs) -> Result<Self, ConfigError> {
        Self::checked(text, file, args, |table| table.check(variable))
    }

    fn checked(
        text: &str,
        file: &Path,
        args: &ServerArgs,
        webhooks: impl FnOnce(WebhooksTable) -> Result<Webhooks, String>,
    ) -> Result<Self, ConfigError> {
        let parsed =
            File::parse(text).map_err(|message| ConfigError::Invalid { file: file.to_owned(), message })?;
        let folder = file.parent().unwrap_or(Path::new("")).to_owned();
        let beside = |path: PathBuf| folder.join(path);
        let database = match (&args.database, parsed.database) {
            (Some(url), _) => url.clone(),
            (None, Some(url)) => relative_to(&folder, &url),
            (None, None) => relative_to(&folder, "sqlite://holdfast.db"),
        };
        let admin_token = admin_token()?;
        let webhooks = webhooks(parsed.webhooks)
            .map_err(|message| ConfigError::Invalid { file: file.to_owned(), message })?;
        let plugins = plugins::check(parsed.plugins, &folder, variable)
            .map_err(|message| ConfigError::Invalid { file: file.to_owned(), message })?;
        let network = network(parsed.egress_authorities.map(beside))
            .map_err(|message| ConfigError::Invalid { file: file.to_owned(), message })?;
        Ok(Self {
            listen: args.listen.or(parsed.listen).unwrap_or(DEFAULT_LISTEN),
            plugin_dir: args.plugins.clone().unwrap_or_else(|| {
                beside(parsed.plugin_dir.unwrap_or_else(|| PathBuf::from("plugins/dist")))
            }),
            compile_cache: parsed.compile_cache.map(beside).or_else(|| cache_beside(&database)),
            database,
            plugin_memory_bytes: parsed.plugin_memory_bytes,
            admin_token,
            signers: parsed.signers,
            providers: providers(parsed.providers, &parsed.agents),
            agents: parsed.agents,
            plugins,
            network,
            http: parsed.http,
            rate_limit: parsed.rate_limit,
            budgets: parsed.budgets,
            background: parsed.background,
            webhooks,
            shutdown_grace: Duration::from_millis(parsed.shutdown_grace_ms),
            kill_point: kill_point(),
        })
    }
}

/// The folder of the database is the server's own.
fn cache_beside(database: &str) -> Option<PathBuf> {
    let path = Path::new(database.strip_prefix("sqlite://")?.split('?').next()?);
    Some(path.parent()?.join("plugin-cache"))
}

/// The configuration file's text, where there is one, and where it is or would be.
fn read(args: &ServerArgs) -> Result<(String, PathBuf), ConfigError> {
    let usual = PathBuf::from("holdfast.toml");
    let Some(file) = args.config.clone().or_else(|| Some(usual.clone()).filter(|file| file.exists())) else {
        return Ok((String::new(), usual));
    };
    match std::fs::read_to_string(&file) {
        Ok(text) => Ok((text, file)),
        Err(source) => Err(ConfigError::Unreadable { file, source }),
    }
}

/// Where `holdfast dev` keeps its database, token and cache.
pub const DEV_FOLDER: &str = ".holdfast";

/// An environment variable that is set and not blank.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

fn admin_token() -> Result<Option<String>, ConfigError> {
    match variable("HOLDFAST_ADMIN_TOKEN") {
        Some(token) if token.len() < 16 => Err(ConfigError::WeakToken),
        token => Ok(token),
    }
}

/// With the authorities of `ca_file` trusted besides the system's.
fn network(ca_file: Option<PathBuf>) -> Result<Network, String> {
    let mut network = Network::default();
    if let Some(file) = ca_file {
        let read = CertificateDer::pem_file_iter(&file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let found = read.map_err(|error| error.to_string()).and_then(|found| {
            if found.is_empty() { Err("it holds none in the PEM format".to_owned()) } else { Ok(found) }
        });
        network.authorities = found.map_err(|error| {
            format!("[egress] ca_file: no certificates can be read from {}: {error}", file.display())
        })?;
    }
    Ok(network)
}

/// `HOLDFAST_TEST_KILL` of debug builds: `before:N` or `after:N`, of the events that this process writes.
fn kill_point() -> Option<KillPoint> {
    if cfg!(debug_assertions) { variable("HOLDFAST_TEST_KILL")?.parse().ok() } else { None }
}

/// The log filter: `HOLDFAST_LOG`, in the words of `RUST_LOG` (`info`, `holdfast=debug`, …).
pub fn log_filter() -> Option<String> {
    variable("HOLDFAST_LOG")
}

/// Where cargo keeps what it downloads: `CARGO_HOME`, or `.cargo` in the user's home.
pub fn cargo_home() -> Option<PathBuf> {
    let home = || Some(Path::new(&variable("HOME")?).join(".cargo"));
    variable("CARGO_HOME").map(PathBuf::from).or_else(home)
}

/// A relative path in a `sqlite://` URL of the file is relative to the file.
fn relative_to(folder: &Path, url: &str) -> String {
    match url.strip_prefix("sqlite://") {
        Some(path) if Path::new(path).is_relative() => format!("sqlite://{}", folder.join(path).display()),
        Some(_) | None => url.to_owned(),
    }
}

/// The configured providers with their keys, and those the environment has keys for.
fn providers(
    declared: BTreeMap<String, file::ProviderTable>,
    agents: &[Agent],
) -> BTreeMap<String, Provider> {
    let mut names: Vec<String> = declared.keys().cloned().collect();
    names.extend(agents.iter().map(|agent| agent.model.provider.clone()));
    names.extend(crate::model::known_providers().map(str::to_owned));
    names.sort();
    names.dedup();
    let mut declared = declared;
    let provider = |name: String| {
        let table = declared.remove(&name);
        let is_declared = table.is_some();
        let provider = table.unwrap_or_default().into_provider(&name);
        (is_declared || provider.api_key.is_some() || provider.base_url.is_some()).then_some((name, provider))
    };
    names.into_iter().filter_map(provider).collect()
}

impl file::ProviderTable {
    fn into_provider(self, name: &str) -> Provider {
        let key_variable = self.api_key_env.or_else(|| default_key_env(name).map(str::to_owned));
        let from_environment =
            || (name == "openai").then(|| variable("OPENAI_BASE_URL")?.parse().ok()).flatten();
        Provider {
            api_key: key_variable.as_deref().and_then(variable),
            base_url: self.base_url.or_else(from_environment),
            adapter: self.adapter,
            vision: self.vision,
            timeout_ms: self.timeout_ms,
        }
    }
}
