//! The plugin folder: every `*.wasm` in it is a plugin, and its id is the file's name without the ending.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::plugin::{Code, Limits, LoadError, load};

/// A file as it was found: two that are equal have the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PluginFile {
    pub id: String,
    pub path: PathBuf,
    length: u64,
    modified: Option<SystemTime>,
    inode: u64,
}

/// A file could not become a plugin.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("the file cannot be read: {}", .0.kind())]
    Read(#[from] std::io::Error),
    #[error("it is no file")]
    NoFile,
    #[error(transparent)]
    Load(#[from] LoadError),
}

impl FileError {
    /// The file itself may be as good as any: it deserves another look.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, Self::Read(_) | Self::Load(LoadError::Busy))
    }
}

/// By id.
pub async fn files(folder: &Path) -> std::io::Result<Vec<PluginFile>> {
    use std::os::unix::fs::MetadataExt as _;

    let mut found = Vec::new();
    let mut entries = tokio::fs::read_dir(folder).await?;
    while let Some(entry) = entries.next_entry().await? {
        let path = entry.path();
        if path.extension() == Some(OsStr::new("wasm"))
            && let Some(stem) = path.file_stem()
            // A link is followed. One that went away a moment ago is no file.
            && let Ok(metadata) = tokio::fs::metadata(&path).await
        {
            let id = stem.to_string_lossy().into_owned();
            let modified = metadata.modified().ok();
            found.push(PluginFile { id, path, length: metadata.len(), modified, inode: metadata.ino() });
        }
    }
    found.sort();
    Ok(found)
}

/// The path of a plugin's file.
pub(crate) fn path(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("{id}.wasm"))
}

/// Reads a file, but never more of it than the plugin's limits allow.
pub(crate) async fn read(id: &str, path: &Path, limits: &Limits) -> Result<Code, FileError> {
    // Whoever opens a pipe waits for somebody to write into it.
    if !tokio::fs::metadata(path).await?.is_file() {
        return Err(FileError::NoFile);
    }
    let file = tokio::fs::File::open(path).await?;
    let length = file.metadata().await?.len();
    load::check_size(id, length, limits)?;
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    // One byte more than allowed, so that a file that grows meanwhile is still found too big.
    file.take(limits.component_bytes.saturating_add(1)).read_to_end(&mut bytes).await?;
    digested(bytes).await
}

/// Off the threads that answer requests.
pub(super) async fn digested(bytes: Vec<u8>) -> Result<Code, FileError> {
    let code = tokio::task::spawn_blocking(move || Code::new(bytes)).await;
    code.map_err(|error| FileError::Read(std::io::Error::other(error)))
}

/// How often this process has begun to write a file.
static WRITES: AtomicU64 = AtomicU64::new(0);

/// Puts a plugin's file in its place in one step: whoever looks finds the old bytes or the new ones.
pub(crate) async fn write(folder: &Path, id: &str, bytes: &[u8]) -> std::io::Result<()> {
    tokio::fs::create_dir_all(folder).await?;
    // Not `.wasm`: what is half written is no plugin. Others may be writing the same one.
    let number = WRITES.fetch_add(1, Ordering::Relaxed);
    let half = folder.join(format!(".{id}.{}.{number}.part", std::process::id()));
    let written = async {
        let mut file = tokio::fs::File::create(&half).await?;
        file.write_all(bytes).await?;
        file.sync_all().await?;
        drop(file);
        tokio::fs::rename(&half, path(folder, id)).await
    };
    let written = written.await;
    if written.is_err() {
        // The first error is the one to tell of.
        let _ = tokio::fs::remove_file(&half).await;
    }
    written
}
