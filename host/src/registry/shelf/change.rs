//! What an operator does to plugins while the server runs. Each change is written down first, then takes effect.

use std::io::ErrorKind;
use std::sync::Arc;

use super::{Shelf, ShelfError};
use crate::audit::Actor;
use crate::id::OrgId;
use crate::plugin::{Limits, LoadError, Request, UnknownChoice};
use crate::registry::folder::{self, FileError};
use crate::registry::{Held, Words};
use crate::store::{PluginChange, PluginWrite, StoreError};

/// Whoever changes something.
#[derive(Clone, Debug)]
pub struct Operator {
    pub org: OrgId,
    pub actor: Actor,
}

/// Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    #[error("there is no such plugin")]
    NoSuchPlugin,
    /// Carries the version that is there.
    #[error("another version is installed: {0}")]
    OtherVersion(String),
    #[error("this version was revoked: {0}")]
    Revoked(String),
    #[error(transparent)]
    Choice(#[from] UnknownChoice),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("the plugin folder cannot be written")]
    Folder(#[source] std::io::Error),
    #[error(transparent)]
    Shelf(#[from] ShelfError),
}

impl From<StoreError> for ChangeError {
    fn from(error: StoreError) -> Self {
        Self::Shelf(error.into())
    }
}

impl From<FileError> for ChangeError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Load(error) => Self::Load(error),
            FileError::Read(error) => Self::Folder(error),
            FileError::NoFile => Self::NoSuchPlugin,
        }
    }
}

impl Shelf {
    pub fn limits(&self, id: &str) -> Limits {
        self.0.settings.get(id).map(|settings| settings.limits.clone()).unwrap_or_default()
    }

    /// Checks a component as a load does, puts it into the folder, and takes it up. True: there was no plugin
    /// of that id.
    pub async fn install(&self, id: &str, bytes: Vec<u8>, by: &Operator) -> Result<bool, ChangeError> {
        let code = Arc::new(folder::digested(bytes).await?);
        let words = self.words().await?;
        if let Some(revocation) = words.revocation(code.digest()) {
            return Err(ChangeError::Revoked(revocation.reason.clone()));
        }
        self.0.host.prepare(id, Arc::clone(&code), &words.settings(id)).await?;
        let is_new = !folder::path(&self.0.folder, id).exists();
        self.write(id, code.digest(), PluginChange::Install, by).await?;
        folder::write(&self.0.folder, id, code.bytes()).await.map_err(ChangeError::Folder)?;
        self.refresh().await?;
        Ok(is_new)
    }

    /// Takes the plugin's file out of the folder.
    pub async fn remove(&self, id: &str, by: &Operator) -> Result<(), ChangeError> {
        let path = folder::path(&self.0.folder, id);
        if crate::tool::check_name_part(id).is_err() || !path.exists() {
            return Err(ChangeError::NoSuchPlugin);
        }
        let registry = self.load_full();
        let digest = match (registry.held_of(id), registry.plugin(id)) {
            (Some(Held::Waiting { prepared, .. }), _) => prepared.digest(),
            (Some(Held::Revoked { digest, .. }), _) => digest,
            (None, Some(plugin)) => plugin.digest(),
            // Nobody could read it.
            (Some(Held::Failed { .. }) | None, _) => "",
        };
        self.write(id, digest, PluginChange::Remove, by).await?;
        tokio::fs::remove_file(path).await.map_err(|error| match error.kind() {
            // Somebody else was faster.
            ErrorKind::NotFound => ChangeError::NoSuchPlugin,
            _ => ChangeError::Folder(error),
        })?;
        Ok(self.refresh().await?)
    }

    /// Grants what the version asks for, or the part of it that is named.
    pub async fn grant(
        &self,
        id: &str,
        digest: &str,
        only: Option<&[String]>,
        by: &Operator,
    ) -> Result<(), ChangeError> {
        let words = self.words().await?;
        let request = self.installed(&words, id, digest)?;
        let change = words.grant(id, digest, &request, only)?;
        self.write(id, digest, change, by).await?;
        Ok(self.refresh().await?)
    }

    /// Takes the decision about a version back. False: there was none.
    pub async fn withdraw(&self, id: &str, digest: &str, by: &Operator) -> Result<bool, ChangeError> {
        let changed = self.write(id, digest, PluginChange::Withdraw, by).await?;
        self.refresh().await?;
        Ok(changed)
    }

    /// Stops a version for good, its calls in flight first.
    pub async fn revoke(
        &self,
        id: &str,
        digest: &str,
        reason: String,
        by: &Operator,
    ) -> Result<(), ChangeError> {
        self.write(id, digest, PluginChange::Revoke { reason }, by).await?;
        self.stop_revoked().await?;
        Ok(self.refresh().await?)
    }

    /// What the installed version asks for, if it is the one that is meant.
    fn installed(&self, words: &Words, id: &str, digest: &str) -> Result<Request, ChangeError> {
        let registry = self.load();
        if let Some(revocation) = words.revocation(digest) {
            return Err(ChangeError::Revoked(revocation.reason.clone()));
        }
        let installed = match (registry.held_of(id), registry.plugin(id)) {
            (Some(Held::Waiting { prepared, .. }), _) => prepared,
            (Some(Held::Failed { .. } | Held::Revoked { .. }), _) | (None, None) => {
                return Err(ChangeError::NoSuchPlugin);
            }
            (None, Some(plugin)) => plugin.prepared(),
        };
        if installed.digest() != digest {
            return Err(ChangeError::OtherVersion(installed.digest().to_owned()));
        }
        Ok(installed.request())
    }

    async fn write(
        &self,
        plugin: &str,
        digest: &str,
        change: PluginChange,
        by: &Operator,
    ) -> Result<bool, StoreError> {
        let write = PluginWrite {
            org: by.org.clone(),
            plugin: plugin.to_owned(),
            digest: digest.to_owned(),
            change,
            by: by.actor.clone(),
            at: self.0.clock.now(),
        };
        self.0.store.write_plugin(write).await
    }
}
