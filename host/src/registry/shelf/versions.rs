//! Versions beside the ones in force: paused calls are bound to them, so their components are kept in the
//! database until nobody needs them, and are found there after a restart.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::Shelf;
use crate::plugin::{LoadError, Plugin, Prepared};
use crate::registry::folder::{self, FileError, PluginFile};
use crate::registry::words::Words;
use crate::store::{ServedComponent, StoreError};
use crate::tool::ToolName;

/// How soon the same versions are tried again: a run that needs one of them may be paused for days, and each try
/// takes the database's one writer.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// The version that a call is bound to.
#[derive(Clone, Debug)]
pub enum Version {
    There(Arc<Plugin>),
    Revoked,
    /// By none of `plugin_signers`, who may have been named since.
    Unsigned,
    Gone,
}

impl Shelf {
    /// The version with this digest of the tool's plugin: the one in force, or else one that was kept.
    pub async fn plugin_for(&self, tool: &ToolName, digest: &str) -> Result<Version, StoreError> {
        let id = tool.plugin();
        if let Some(plugin) = self.load().plugin(id).filter(|plugin| plugin.digest() == digest) {
            return Ok(Version::There(Arc::clone(plugin)));
        }
        let words = self.words().await?;
        self.version(&words, id, digest).await
    }

    /// Stops every version that the operator revoked, also in the middle of its calls.
    pub async fn stop_revoked(&self) -> Result<(), StoreError> {
        let revocations = self.0.store.revocations().await?;
        let live: Vec<Arc<Plugin>> = self.versions().live.iter().filter_map(Weak::upgrade).collect();
        for plugin in live {
            if let Some(found) = revocations.iter().find(|it| it.digest == plugin.digest()) {
                plugin.stop(&found.reason);
            }
        }
        Ok(())
    }

    /// Forgets kept versions that do not serve any more and that no unfinished run is bound to. Whatever was not
    /// idle at the last look already is left: a call may be about to pause on it.
    pub async fn tidy(&self) -> Result<(), StoreError> {
        let kept = self.0.store.components().await?;
        let mut seen = self.0.seen.lock().await;
        let registry = self.load_full();
        let serves = |id: &str, digest: &str| {
            let last = kept.iter().rev().find(|kept| kept.plugin == id).map(|kept| kept.digest.as_str());
            registry.plugin(id).is_some_and(|plugin| plugin.digest() == digest)
                || (registry.held_of(id).is_some() && last == Some(digest))
        };
        let idle: Vec<(String, String)> = kept
            .iter()
            .filter(|kept| !serves(&kept.plugin, &kept.digest))
            .map(|kept| (kept.plugin.clone(), kept.digest.clone()))
            .collect();
        let still: Vec<_> = idle.iter().filter(|version| seen.idle.contains(version)).cloned().collect();
        seen.idle = idle;
        let asked = seen.asked_to_drop.as_ref();
        if still.is_empty() || asked.is_some_and(|(same, at)| *same == still && at.elapsed() < ASK_AGAIN) {
            return Ok(());
        }
        if self.0.store.drop_components(still.clone()).await? > 0 {
            self.versions().kept.retain(|version, _| !still.contains(version));
        }
        seen.asked_to_drop = Some((still, Instant::now()));
        Ok(())
    }

    /// A version that is not in the folder any more, or not in force yet again.
    pub(super) async fn version(&self, words: &Words, id: &str, digest: &str) -> Result<Version, StoreError> {
        let key = (id.to_owned(), digest.to_owned());
        if words.revocation(digest).is_some() {
            return Ok(Version::Revoked);
        }
        if let Some(known) = self.versions().kept.get(&key) {
            return Ok(Version::There(Arc::clone(known)));
        }
        let in_force = self.load().plugin(id).filter(|plugin| plugin.digest() == digest).cloned();
        let prepared = match in_force {
            Some(plugin) => plugin.prepared().clone(),
            None => match self.prepare_kept(words, id, digest).await? {
                Ok(prepared) => prepared,
                Err(why) => return Ok(why),
            },
        };
        let Some(granted) = words.granted(id, digest, &prepared.request()) else { return Ok(Version::Gone) };
        Ok(match self.granted(&prepared, &granted) {
            Ok(plugin) => {
                self.versions().kept.insert(key, Arc::clone(&plugin));
                Version::There(plugin)
            }
            Err(error) => not_loaded(id, digest, &error.into()),
        })
    }

    async fn prepare_kept(
        &self,
        words: &Words,
        id: &str,
        digest: &str,
    ) -> Result<Result<Prepared, Version>, StoreError> {
        let Some(bytes) = self.0.store.component(id, digest).await? else { return Ok(Err(Version::Gone)) };
        let prepared = async {
            let code = folder::digested(bytes).await?;
            if code.digest() != digest {
                return Err(FileError::Read(std::io::Error::other(
                    "the bytes are not the ones that were kept",
                )));
            }
            Ok(self.0.host.prepare(id, Arc::new(code), &words.settings(id)).await?)
        };
        Ok(prepared.await.map_err(|error| not_loaded(id, digest, &error)))
    }

    /// Keeps the bytes of what serves: calls may be bound to them when the file has changed. A version that
    /// cannot be kept serves all the same.
    pub(super) async fn keep(&self, words: &Words, file: &PluginFile, plugin: &Plugin) {
        let (id, digest) = (plugin.id(), plugin.digest());
        let known = words.kept().iter().any(|kept| kept.plugin == id && kept.digest == digest);
        if known && words.served_last(id) == Some(digest) {
            return;
        }
        let kept = async {
            let mut bytes = None;
            if !known {
                let code = folder::read(id, &file.path, plugin.prepared().limits()).await?;
                if code.digest() != digest {
                    // It has changed again: the next look finds that.
                    return Ok(());
                }
                bytes = Some(code.bytes().to_vec());
            }
            let (plugin, digest, at) = (id.to_owned(), digest.to_owned(), self.0.clock.now());
            self.0.store.serve_component(ServedComponent { plugin, digest, bytes, at }).await?;
            Ok::<_, anyhow::Error>(())
        };
        if let Err(error) = kept.await {
            tracing::error!(plugin.id = id, digest, %error, "a plugin's component could not be kept in the database");
        }
    }
}

/// The operator reads why in the log; whoever is bound to the version cannot do anything about it.
fn not_loaded(id: &str, digest: &str, error: &FileError) -> Version {
    tracing::error!(plugin.id = id, digest, %error, "a kept version of a plugin was not loaded");
    match error {
        FileError::Load(LoadError::Signer(_)) => Version::Unsigned,
        FileError::Load(_) | FileError::Read(_) | FileError::NoFile => Version::Gone,
    }
}
