//! Puts compiled components into the output folder, which a running host may be watching.
//!
//! A file appears whole or not at all, and one whose bytes are the same is not touched: each touch would
//! reload a plugin.

use std::{fs, io, path::Path, process};

use crate::plugin::Manifest;

use super::{BuildError, BuiltPlugin, cargo::Artifact, io_error};

/// The first bytes of a component; a core module has another version and layer.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

pub(super) fn install(out: &Path, artifacts: &[Artifact]) -> Result<Vec<BuiltPlugin>, BuildError> {
    fs::create_dir_all(out).map_err(io_error("create", out))?;
    artifacts.iter().map(|artifact| install_one(out, artifact)).collect()
}

fn install_one(out: &Path, artifact: &Artifact) -> Result<BuiltPlugin, BuildError> {
    let mut bytes = fs::read(&artifact.path).map_err(io_error("read", &artifact.path))?;
    if !bytes.starts_with(COMPONENT) {
        return Err(BuildError::NotAComponent { name: artifact.name.clone() });
    }
    if let Some(manifest) = manifest(artifact)? {
        bytes = manifest.embed(bytes);
    }
    let path = out.join(format!("{}.wasm", artifact.name));
    let changed = fs::read(&path).map_or(true, |old| old != bytes);
    if changed {
        // Not named `*.wasm`, so that a host which watches the folder does not load half a file.
        let half = out.join(format!(".{}.{}.new", artifact.name, process::id()));
        let written = fs::write(&half, &bytes).and_then(|()| fs::rename(&half, &path));
        if let Err(error) = written {
            let _ = fs::remove_file(&half);
            return Err(io_error("write", &path)(error));
        }
    }
    Ok(BuiltPlugin { name: artifact.name.clone(), path, bytes: bytes.len() as u64, changed })
}

/// The `plugin.toml` beside the crate's `Cargo.toml`, where there is one.
fn manifest(artifact: &Artifact) -> Result<Option<Manifest>, BuildError> {
    let path = artifact.folder.join("plugin.toml");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", &path)(error)),
    };
    let manifest =
        Manifest::parse(&text).map_err(|error| BuildError::Manifest { path, detail: error.to_string() })?;
    if manifest.id != artifact.name {
        return Err(BuildError::ManifestId { id: manifest.id, package: artifact.name.clone() });
    }
    Ok(Some(manifest))
}
