//! Puts finished components, with their manifests, into the output folder, which a running host may be watching.
//!
//! A file appears whole or not at all, and one whose bytes are the same is not touched: each touch would
//! reload a plugin.

use std::{fs, io, path::Path, process};

use crate::plugin::{Code, Manifest};

use super::{BuildError, BuiltPlugin, cargo::Artifact, io_error};

/// The first bytes of a component; a core module has another version and layer.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

pub(super) fn install(out: &Path, artifacts: &[Artifact]) -> Result<Vec<BuiltPlugin>, BuildError> {
    fs::create_dir_all(out).map_err(io_error("create", out))?;
    artifacts.iter().map(|artifact| install_one(out, artifact)).collect()
}

/// A component that another toolchain made: the `plugin.toml` beside it says its id, else its file's name does.
pub(super) fn package(out: &Path, component: &Path) -> Result<BuiltPlugin, BuildError> {
    let folder = component.parent().unwrap_or(Path::new(""));
    let manifest = manifest(folder)?;
    let stem = component.file_stem().unwrap_or_default().to_string_lossy();
    let name = manifest.as_ref().map_or(stem.as_ref(), |manifest| manifest.id.as_str());
    let bytes = fs::read(component).map_err(io_error("read", component))?;
    fs::create_dir_all(out).map_err(io_error("create", out))?;
    finish(out, name, bytes, manifest.as_ref())
}

fn install_one(out: &Path, artifact: &Artifact) -> Result<BuiltPlugin, BuildError> {
    let bytes = fs::read(&artifact.path).map_err(io_error("read", &artifact.path))?;
    let manifest = manifest(&artifact.folder)?;
    if let Some(manifest) = manifest.as_ref().filter(|manifest| manifest.id != artifact.name) {
        return Err(BuildError::ManifestId { id: manifest.id.clone(), package: artifact.name.clone() });
    }
    finish(out, &artifact.name, bytes, manifest.as_ref())
}

fn finish(
    out: &Path,
    name: &str,
    mut bytes: Vec<u8>,
    manifest: Option<&Manifest>,
) -> Result<BuiltPlugin, BuildError> {
    if !bytes.starts_with(COMPONENT) {
        return Err(BuildError::NotAComponent { name: name.to_owned() });
    }
    if let Some(manifest) = manifest {
        let unfit = |detail: String| BuildError::Unfit { name: name.to_owned(), detail };
        let (embedded, _) = Code::new(bytes.clone()).read().map_err(|error| unfit(error.to_string()))?;
        if embedded.is_some() {
            return Err(unfit(
                "it has a manifest already: build from the component as its toolchain made it".to_owned(),
            ));
        }
        bytes = manifest.embed(bytes);
    }
    let path = out.join(format!("{name}.wasm"));
    let changed = fs::read(&path).map_or(true, |old| old != bytes);
    if changed {
        // Not named `*.wasm`, so that a host which watches the folder does not load half a file.
        let half = out.join(format!(".{name}.{}.new", process::id()));
        let written = fs::write(&half, &bytes).and_then(|()| fs::rename(&half, &path));
        if let Err(error) = written {
            let _ = fs::remove_file(&half);
            return Err(io_error("write", &path)(error));
        }
    }
    Ok(BuiltPlugin { name: name.to_owned(), path, bytes: bytes.len() as u64, changed })
}

/// The folder's `plugin.toml`, where there is one.
fn manifest(folder: &Path) -> Result<Option<Manifest>, BuildError> {
    let path = folder.join("plugin.toml");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", &path)(error)),
    };
    Manifest::parse(&text).map(Some).map_err(|error| BuildError::Manifest { path, detail: error.to_string() })
}
