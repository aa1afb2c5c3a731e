//! Tools by name: an immutable snapshot of what was loaded, and of what was not and why.
//!
//! To reload is to build a new registry and to swap it in. Calls under way keep the plugins they started
//! with.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::StreamExt as _;
use tokio::io::AsyncReadExt as _;

use crate::agent::Agent;
use crate::plugin::{LoadError, Plugin, PluginHost, PluginSettings, load};
use crate::tool::{Approval, ToolName, ToolSpec};

/// Files read and plugins described at once. How many compile at once is the plugin host's decision.
const MAX_LOADING: usize = 4;

/// All tools of all plugins.
#[derive(Clone, Default)]
pub struct ToolRegistry {
    plugins: Vec<Arc<Plugin>>,
    failed: Vec<FailedPlugin>,
    /// Places in `plugins` and in that plugin's specifications.
    tools: BTreeMap<ToolName, (usize, usize)>,
}

/// A file that is not a plugin of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedPlugin {
    pub id: String,
    /// For the operator: what to do about it. Holds no host paths.
    pub reason: String,
}

/// The plugin folder itself cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the plugin folder {folder} cannot be read")]
pub struct FolderError {
    folder: PathBuf,
    source: std::io::Error,
}

impl ToolRegistry {
    /// A registry of these plugins. No two tools can have one name, because a name starts with its plugin's
    /// id; of two plugins with one id, the second is refused.
    pub fn new(plugins: impl IntoIterator<Item = Plugin>, failed: Vec<FailedPlugin>) -> Self {
        let mut registry = Self { failed, ..Self::default() };
        for plugin in plugins {
            registry.add(plugin);
        }
        registry.plugins.sort_by(|a, b| a.id().cmp(b.id()));
        registry.failed.sort_by(|a, b| a.id.cmp(&b.id));
        registry.tools = index(&registry.plugins);
        registry
    }

    /// Loads every `*.wasm` in a folder; a plugin's id is its file's name without the ending. A plugin that
    /// does not load is logged and listed among the failed ones, and the others load all the same.
    pub async fn load_dir(
        host: &PluginHost,
        folder: &Path,
        settings: &BTreeMap<String, PluginSettings>,
    ) -> Result<Self, FolderError> {
        let files =
            files(folder).await.map_err(|source| FolderError { folder: folder.to_owned(), source })?;
        warn_of_strays(settings, &files);
        let (mut plugins, mut failed) = (Vec::new(), Vec::new());
        let mut loading = futures_util::stream::iter(files)
            .map(async |(id, path)| {
                let loaded = load_file(host, &id, &path, settings).await;
                (id, loaded)
            })
            .buffer_unordered(MAX_LOADING);
        while let Some((id, loaded)) = loading.next().await {
            match loaded {
                Ok(plugin) => plugins.push(plugin),
                Err(error) => {
                    tracing::error!(plugin.id = id, %error, "a plugin was not loaded");
                    let reason = error.to_string();
                    failed.push(FailedPlugin { id, reason });
                }
            }
        }
        Ok(Self::new(plugins, failed))
    }

    pub fn get(&self, name: &ToolName) -> Option<(&Arc<Plugin>, &ToolSpec)> {
        let (plugin, spec) = self.tools.get(name)?;
        let plugin = self.plugins.get(*plugin)?;
        Some((plugin, plugin.specs().get(*spec)?))
    }

    /// The tool of one very plugin: for a call that it began, and that no other version can go on with.
    pub fn get_of(&self, name: &ToolName, digest: &str) -> Option<(&Arc<Plugin>, &ToolSpec)> {
        self.get(name).filter(|(plugin, _)| plugin.digest() == digest)
    }

    /// The tools an agent may call, with or without a human's approval, by name.
    pub fn specs_for(&self, agent: &Agent) -> Vec<&ToolSpec> {
        self.specs().filter(|spec| agent.approval(spec) != Approval::Forbid).collect()
    }

    /// Every tool, by name.
    pub fn specs(&self) -> impl Iterator<Item = &ToolSpec> {
        self.tools.keys().filter_map(|name| self.get(name)).map(|(_, spec)| spec)
    }

    /// By id.
    pub fn plugins(&self) -> &[Arc<Plugin>] {
        &self.plugins
    }

    /// By id.
    pub fn failed(&self) -> &[FailedPlugin] {
        &self.failed
    }

    fn add(&mut self, plugin: Plugin) {
        if self.plugins.iter().any(|other| other.id() == plugin.id()) {
            self.failed.push(FailedPlugin {
                id: plugin.id().to_owned(),
                reason: "another plugin has the same id: rename one of the files".to_owned(),
            });
        } else {
            self.plugins.push(Arc::new(plugin));
        }
    }
}

fn index(plugins: &[Arc<Plugin>]) -> BTreeMap<ToolName, (usize, usize)> {
    let mut tools = BTreeMap::new();
    for (place, plugin) in plugins.iter().enumerate() {
        for (index, spec) in plugin.specs().iter().enumerate() {
            tools.insert(spec.name.clone(), (place, index));
        }
    }
    tools
}

/// A file could not become a plugin.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("the file cannot be read: {}", .0.kind())]
    Read(#[from] std::io::Error),
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// Ids and paths of the plugin files, by id.
async fn files(folder: &Path) -> std::io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    let mut entries = tokio::fs::read_dir(folder).await?;
    while let Some(entry) = entries.next_entry().await? {
        let path = entry.path();
        if path.extension() == Some(OsStr::new("wasm"))
            && let Some(stem) = path.file_stem()
        {
            found.push((stem.to_string_lossy().into_owned(), path));
        }
    }
    found.sort();
    Ok(found)
}

async fn load_file(
    host: &PluginHost,
    id: &str,
    path: &Path,
    settings: &BTreeMap<String, PluginSettings>,
) -> Result<Plugin, FileError> {
    let settings = settings.get(id).cloned().unwrap_or_default();
    let file = tokio::fs::File::open(path).await?;
    let length = file.metadata().await?.len();
    load::check_size(id, length, &settings.limits)?;
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    // One byte more than allowed, so that a file that grows meanwhile is still found too big.
    file.take(settings.limits.component_bytes.saturating_add(1)).read_to_end(&mut bytes).await?;
    Ok(host.load(id, bytes, &settings).await?)
}

/// Settings that no file answers to are most likely a misspelt name.
fn warn_of_strays(settings: &BTreeMap<String, PluginSettings>, files: &[(String, PathBuf)]) {
    for id in settings.keys() {
        if !files.iter().any(|(file, _)| file == id) {
            tracing::warn!(plugin.id = id, "there are settings for a plugin that is not in the folder");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::tests::guest::Guest;
    use crate::plugin::tests::home;

    #[tokio::test]
    async fn one_bad_file_does_not_keep_the_others_out() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
        write("good.wasm", &Guest::new().bytes());
        write("other.wasm", &Guest::new().bytes());
        write("big.wasm", &[0; 100]);
        write("a__b.wasm", &Guest::new().bytes());
        write("text.txt", b"no plugin");
        std::fs::create_dir(folder.path().join("dir.wasm")).unwrap();
        let mut small = PluginSettings::default();
        small.limits.component_bytes = 99;
        let settings = BTreeMap::from([("big".to_owned(), small)]);

        let registry = ToolRegistry::load_dir(&home().await.host, folder.path(), &settings).await.unwrap();

        let loaded: Vec<&str> = registry.plugins().iter().map(|plugin| plugin.id()).collect();
        assert_eq!(loaded, ["good", "other"]);
        let failed: Vec<&str> = registry.failed().iter().map(|failed| failed.id.as_str()).collect();
        assert_eq!(failed, ["a__b", "big", "dir"]);
        for failed in registry.failed() {
            let folder = folder.path().display().to_string();
            assert!(!failed.reason.contains(&folder), "{}", failed.reason);
        }
        let (plugin, spec) = registry.get(&"good__act".parse().unwrap()).unwrap();
        assert_eq!((plugin.id(), spec.name.tool()), ("good", "act"));
        assert!(registry.get(&"good__other".parse().unwrap()).is_none());
    }

    #[tokio::test]
    async fn a_missing_folder_is_an_error_and_not_an_empty_registry() {
        let missing = Path::new("/nonexistent/plugins");
        assert!(ToolRegistry::load_dir(&home().await.host, missing, &BTreeMap::new()).await.is_err());
    }
}
