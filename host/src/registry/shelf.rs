//! The registry in force, and the versions behind it: loads the plugin folder, notices what changes, and finds
//! the version that a paused call is bound to.
//!
//! What a plugin may reach is the operator's word (`words.rs`), what becomes of it by that is `admission.rs`'s
//! to say; this file reads, loads and remembers. Whatever does not load, or has to wait, leaves the version in
//! force that served before.

mod change;
#[cfg(test)]
mod tests;
mod versions;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use futures_util::StreamExt as _;

pub use self::change::{ChangeError, Operator};
pub use self::versions::Version;
use super::folder::{self, FileError, PluginFile};
use super::words::Words;
use super::{Admission, Held, HeldPlugin, ToolRegistry};
use crate::audit::Actor;
use crate::clock::{Clock, Timestamp};
use crate::id::OrgId;
use crate::plugin::{Capabilities, LoadError, Plugin, PluginHost, PluginSettings, Prepared};
use crate::store::{PluginChange, PluginWrite, Store, StoreError};

/// Files read and plugins described at once. How many compile at once is the plugin host's decision.
const MAX_LOADING: usize = 4;

/// When a file that could not be read, or not be compiled for want of a place, is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// Cheap to clone; all clones are the same shelf.
#[derive(Clone)]
pub struct Shelf(Arc<Inner>);

struct Inner {
    host: PluginHost,
    store: Arc<dyn Store>,
    clock: Clock,
    folder: PathBuf,
    settings: BTreeMap<String, PluginSettings>,
    current: ArcSwap<ToolRegistry>,
    /// One at a time looks at the folder.
    seen: tokio::sync::Mutex<Seen>,
    versions: Mutex<Versions>,
}

/// What the last look at the folder found.
#[derive(Default)]
struct Seen {
    /// None before the first look, or where there is no folder.
    files: Option<Vec<PluginFile>>,
    /// By id.
    candidates: BTreeMap<String, (PluginFile, Candidate)>,
    /// When something failed that may work at another time.
    passing: Option<Timestamp>,
    /// Kept components that nothing seemed to need; dropped if that is still so at the next look.
    idle: Vec<(String, String)>,
    /// When the database was last asked to drop some of them, and which.
    asked_to_drop: Option<(Vec<(String, String)>, Instant)>,
    /// The audit log's latest row at the time: whatever was decided until then is taken into account.
    changes: u64,
}

#[derive(Default)]
struct Versions {
    /// Not in force any more, but paused calls are bound to them.
    kept: BTreeMap<(String, String), Arc<Plugin>>,
    /// Every version that a call may be using.
    live: Vec<Weak<Plugin>>,
}

/// What a file of the folder is, before anybody asks what it may reach.
#[derive(Clone)]
enum Candidate {
    Ready(Prepared),
    Revoked {
        digest: String,
        reason: String,
    },
    /// `passing`: it is to be looked at again, although nothing about it changed.
    Failed {
        reason: String,
        passing: bool,
    },
}

impl Candidate {
    fn is_passing(&self) -> bool {
        matches!(self, Self::Failed { passing: true, .. })
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    #[error("the plugin folder {} cannot be read", folder.display())]
    Folder { folder: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Shelf {
    /// Empty, until it is looked at for the first time.
    pub fn new(
        host: PluginHost,
        store: Arc<dyn Store>,
        clock: Clock,
        folder: PathBuf,
        settings: BTreeMap<String, PluginSettings>,
    ) -> Self {
        Self(Arc::new(Inner {
            host,
            store,
            clock,
            folder,
            settings,
            current: ArcSwap::default(),
            seen: tokio::sync::Mutex::default(),
            versions: Mutex::default(),
        }))
    }

    /// The registry in force.
    pub fn load(&self) -> Guard<Arc<ToolRegistry>> {
        self.0.current.load()
    }

    /// The same, to be kept.
    pub fn load_full(&self) -> Arc<ToolRegistry> {
        self.0.current.load_full()
    }

    pub fn host(&self) -> &PluginHost {
        &self.0.host
    }

    pub async fn words(&self) -> Result<Words, StoreError> {
        Words::read(&self.0.settings, self.0.store.as_ref()).await
    }

    /// Loads what changed in the folder or was decided since. What did not change stays as it is.
    pub async fn refresh(&self) -> Result<(), ShelfError> {
        let mut seen = self.0.seen.lock().await;
        // Before the words are read: one that comes in between is found at the next look.
        let (changes, _) = self.0.store.plugin_changes(seen.changes).await?;
        let files = match folder::files(&self.0.folder).await {
            Ok(files) => files,
            Err(source) => {
                (seen.files, seen.changes) = (None, changes);
                return Err(ShelfError::Folder { folder: self.0.folder.clone(), source });
            }
        };
        self.load_folder(&mut seen, files).await?;
        seen.changes = changes;
        Ok(())
    }

    /// The same, where there is a new file or a new decision. True: something was loaded.
    pub async fn look_again(&self) -> Result<bool, ShelfError> {
        let files = folder::files(&self.0.folder).await.ok();
        let seen = self.0.seen.lock().await;
        let (_, decided) = self.0.store.plugin_changes(seen.changes).await?;
        let news = decided || seen.files != files;
        let due = seen.passing.is_some_and(|failed| failed.plus(AGAIN_AFTER) <= self.0.clock.now());
        if !news && !due {
            return Ok(false);
        }
        drop(seen);
        self.refresh().await?;
        Ok(news || self.0.seen.lock().await.passing.is_none())
    }

    async fn load_folder(&self, seen: &mut Seen, files: Vec<PluginFile>) -> Result<(), ShelfError> {
        let words = self.words().await?;
        warn_of_strays(&self.0.settings, &files, seen.files.is_none());
        let (mut known, mut candidates) = (seen.candidates.clone(), BTreeMap::new());
        let new: Vec<PluginFile> = files
            .iter()
            .filter(|file| match known.remove(&file.id) {
                Some((before, candidate)) if before == **file && !candidate.is_passing() => {
                    candidates.insert(file.id.clone(), (before, candidate));
                    false
                }
                Some(_) | None => true,
            })
            .cloned()
            .collect();
        let mut examining = futures_util::stream::iter(new)
            .map(async |file| (self.examine(&words, &file).await, file))
            .buffer_unordered(MAX_LOADING);
        while let Some((candidate, file)) = examining.next().await {
            candidates.insert(file.id.clone(), (file, candidate));
        }
        drop(examining);
        let (mut plugins, mut held) = (Vec::new(), Vec::new());
        for (id, (file, candidate)) in &candidates {
            match self.place(&words, file, candidate).await? {
                Ok(plugin) => plugins.push(plugin),
                Err((why, before)) => {
                    plugins.extend(before);
                    held.push(HeldPlugin { id: id.clone(), why });
                }
            }
        }
        log(&self.load(), &held);
        self.0.current.store(Arc::new(ToolRegistry::new(plugins, held)));
        // They are found again where they are still needed, with what was decided since.
        self.versions().kept.clear();
        let passing = candidates.values().any(|(_, candidate)| candidate.is_passing());
        seen.passing = passing.then(|| self.0.clock.now());
        seen.files = Some(files);
        seen.candidates = candidates;
        // What was revoked while this was loading.
        self.stop_revoked().await?;
        Ok(())
    }

    async fn examine(&self, words: &Words, file: &PluginFile) -> Candidate {
        match examine(&self.0.host, words, file).await {
            Ok(candidate) => candidate,
            Err(error) => Candidate::Failed { reason: error.to_string(), passing: error.is_passing() },
        }
    }

    /// The plugin that serves by this file; or why it does not, and which version serves in its place.
    async fn place(
        &self,
        words: &Words,
        file: &PluginFile,
        candidate: &Candidate,
    ) -> Result<Result<Arc<Plugin>, (Held, Option<Arc<Plugin>>)>, StoreError> {
        let id = file.id.as_str();
        let (why, digest) = match candidate {
            Candidate::Failed { reason, .. } => (Held::Failed { reason: reason.clone() }, None),
            Candidate::Revoked { digest, reason } => {
                let why = Held::Revoked { digest: digest.clone(), reason: reason.clone() };
                (why, Some(digest.as_str()))
            }
            Candidate::Ready(prepared) => match self.admitted(words, prepared).await? {
                Ok(plugin) => {
                    self.keep(words, file, &plugin).await;
                    return Ok(Ok(plugin));
                }
                Err(why) => (why, Some(prepared.digest())),
            },
        };
        let before = match words.served_last(id) {
            Some(last) if Some(last) != digest => match self.version(words, id, last).await? {
                Version::There(plugin) => Some(plugin),
                Version::Revoked | Version::Unsigned | Version::Gone => None,
            },
            Some(_) | None => None,
        };
        Ok(Err((why, before)))
    }

    async fn admitted(
        &self,
        words: &Words,
        prepared: &Prepared,
    ) -> Result<Result<Arc<Plugin>, Held>, StoreError> {
        let (id, digest) = (prepared.id(), prepared.digest());
        if let Some(revocation) = words.revocation(digest) {
            let (digest, reason) = (digest.to_owned(), revocation.reason.clone());
            return Ok(Err(Held::Revoked { digest, reason }));
        }
        let granted = match words.admit(id, digest, &prepared.request()) {
            Admission::Granted(granted) => granted,
            Admission::CarriedOver(granted) => {
                self.carry_over(words, prepared).await?;
                granted
            }
            Admission::Waits(missing) => {
                let reason = waits_because(words, prepared, &missing);
                return Ok(Err(Held::Waiting { prepared: prepared.clone(), missing, reason }));
            }
        };
        Ok(self.granted(prepared, &granted).map_err(|error| match &error {
            // It could be prepared, so all that it lacks is a grant.
            LoadError::Import { .. } => Held::Waiting {
                prepared: prepared.clone(),
                missing: prepared.request().missing(&granted),
                reason: error.to_string(),
            },
            _ => Held::Failed { reason: error.to_string() },
        }))
    }

    /// The same plugin as before where nothing about it changed.
    fn granted(&self, prepared: &Prepared, granted: &Capabilities) -> Result<Arc<Plugin>, LoadError> {
        let grants = prepared.request().within(granted);
        let registry = self.load();
        if let Some(plugin) = registry.plugin(prepared.id())
            && plugin.digest() == prepared.digest()
            && *plugin.grants() == grants
        {
            return Ok(Arc::clone(plugin));
        }
        let plugin = Arc::new(prepared.grant(granted)?);
        let mut versions = self.versions();
        versions.live.retain(|live| live.strong_count() > 0);
        versions.live.push(Arc::downgrade(&plugin));
        Ok(plugin)
    }

    async fn carry_over(&self, words: &Words, prepared: &Prepared) -> Result<(), StoreError> {
        let Some(decision) = words.carried(prepared.id(), prepared.digest()) else { return Ok(()) };
        let write = PluginWrite {
            org: OrgId::from("default"),
            plugin: prepared.id().to_string(),
            digest: prepared.digest().to_owned(),
            change: PluginChange::Grant {
                requested: prepared.request().asked.to_json(),
                granted: decision.granted.to_json(),
                carried_from: Some(decision.stored.digest.clone()),
            },
            by: Actor::system(),
            at: self.0.clock.now(),
        };
        self.0.store.write_plugin(write).await?;
        Ok(())
    }

    fn versions(&self) -> std::sync::MutexGuard<'_, Versions> {
        // Each change of it is whole, whatever its holder died of.
        self.0.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn examine(host: &PluginHost, words: &Words, file: &PluginFile) -> Result<Candidate, FileError> {
    let settings = words.settings(&file.id);
    let code = folder::read(&file.id, &file.path, &settings.limits).await?;
    if let Some(revocation) = words.revocation(code.digest()) {
        // Nothing of it is run, not even to describe itself.
        let (digest, reason) = (code.digest().to_owned(), revocation.reason.clone());
        return Ok(Candidate::Revoked { digest, reason });
    }
    Ok(Candidate::Ready(host.prepare(&file.id, Arc::new(code), &settings).await?))
}

/// For the operator. Of a component without a manifest all that is known is what it imports.
fn waits_because(words: &Words, prepared: &Prepared, missing: &Capabilities) -> String {
    let id = prepared.id();
    if prepared.manifest().is_none()
        && let Err(error) = prepared.grant(&words.settings(id).grants)
    {
        return error.to_string();
    }
    format!(
        "it waits for your decision, because it wants to {}. `holdfast plugin grant {id}` shows what it asks for and \
         grants it; so does [plugins.{id}.grants] in the configuration",
        missing.in_words().join("; ")
    )
}

/// What is held back is said once.
fn log(before: &ToolRegistry, held: &[HeldPlugin]) {
    for HeldPlugin { id, why } in held {
        let reason = why.in_words();
        if before.held_of(id).is_some_and(|before| before.in_words() == reason) {
            continue;
        }
        match why {
            Held::Failed { .. } => tracing::error!(plugin.id = id, reason, "a plugin was not loaded"),
            Held::Waiting { .. } | Held::Revoked { .. } => {
                tracing::warn!(plugin.id = id, reason, "a plugin is held back");
            }
        }
    }
}

/// Settings that no file answers to are most likely a misspelt name.
fn warn_of_strays(settings: &BTreeMap<String, PluginSettings>, files: &[PluginFile], first: bool) {
    for id in settings.keys().filter(|_| first) {
        if !files.iter().any(|file| file.id == *id) {
            tracing::warn!(plugin.id = id, "there are settings for a plugin that is not in the folder");
        }
    }
}
