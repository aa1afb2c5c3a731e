//! The nested cargo: which packages of a source are plugins, and compiling them with visible progress.
//!
//! Artifacts are taken from cargo's own report, so a `.wasm` left behind by a crate that is gone is never
//! mistaken for a plugin.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use super::{
    BuildError, GuestBuild, TARGET,
    command::{Event, clean, failed, stdout_of, stream},
};

/// Packages that yield a plugin, by cargo's package id.
pub(super) struct Plugins {
    names: BTreeMap<String, String>,
    has_lock_file: bool,
    has_profile: bool,
}

/// The release profile where an author chose none: small, and the one that the compiled standard library of
/// the sample plugins has, so that it is compiled once.
const PROFILE: [(&str, &str); 5] = [
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "s"),
    ("CARGO_PROFILE_RELEASE_LTO", "true"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
    ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
    ("CARGO_PROFILE_RELEASE_STRIP", "true"),
];

/// What cargo compiled for one plugin.
pub(super) struct Artifact {
    pub(super) name: String,
    pub(super) path: PathBuf,
    /// Where its `Cargo.toml` is.
    pub(super) folder: PathBuf,
}

/// Reads the workspace, so that a source without plugins is refused before anything is compiled.
pub(super) fn plugins_in(build: &GuestBuild) -> Result<Plugins, BuildError> {
    let mut command = clean(&build.cargo);
    command.args(["metadata", "--no-deps", "--format-version", "1"]).current_dir(&build.source);
    let text = stdout_of(&mut command)?;
    let metadata: Value = serde_json::from_str(&text).map_err(|error| failed(&command, error.to_string()))?;
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let names: BTreeMap<String, String> = packages
        .iter()
        .filter(|package| package["targets"].as_array().is_some_and(|targets| targets.iter().any(is_cdylib)))
        .filter_map(|package| Some((text_of(&package["id"])?, text_of(&package["name"])?)))
        .collect();
    if names.is_empty() {
        return Err(BuildError::NoPlugin { folder: build.source.clone() });
    }
    let root = Path::new(metadata["workspace_root"].as_str().unwrap_or_default());
    Ok(Plugins { names, has_lock_file: root.join("Cargo.lock").is_file(), has_profile: has_profile(root) })
}

/// An author who wrote a release profile means it.
fn has_profile(root: &Path) -> bool {
    let text = std::fs::read_to_string(root.join("Cargo.toml")).unwrap_or_default();
    // What cannot be parsed is cargo's to complain about.
    let manifest: toml::Table = text.parse().unwrap_or_default();
    manifest.get("profile").and_then(|profile| profile.get("release")).is_some()
}

/// Compiles; `command` is a `cargo build` that already says with which compiler and where to.
pub(super) fn compile(
    build: &GuestBuild,
    plugins: &Plugins,
    mut command: Command,
    say: &mut dyn FnMut(&str),
) -> Result<Vec<Artifact>, BuildError> {
    command.args(["--release", "--target", TARGET, "--message-format=json-render-diagnostics"]);
    if !plugins.has_profile {
        command.envs(PROFILE);
    }
    if plugins.has_lock_file {
        command.arg("--locked");
    }
    command.current_dir(&build.source);
    // The progress bar is the only place where cargo says how much there is to do.
    command.env("CARGO_TERM_COLOR", "never");
    command.env("CARGO_TERM_PROGRESS_WHEN", "always").env("CARGO_TERM_PROGRESS_WIDTH", "80");

    let mut artifacts = Vec::new();
    let mut progress = String::new();
    let status = stream(&mut command, &mut |event| match event {
        Event::Stdout(line) => artifacts.extend(artifact(line, plugins)),
        Event::Stderr(line) => match bar(line) {
            Some(done) => progress = done,
            None => say(&with_progress(line, &progress)),
        },
        Event::Quiet(time) => say(&format!("still compiling ({progress}), quiet for {} s", time.as_secs())),
    })?;
    if !status.success() {
        return Err(BuildError::DoesNotCompile { folder: build.source.clone() });
    }
    if artifacts.is_empty() {
        return Err(BuildError::NoPlugin { folder: build.source.clone() });
    }
    artifacts.sort_by(|a: &Artifact, b| a.name.cmp(&b.name));
    Ok(artifacts)
}

fn artifact(line: &str, plugins: &Plugins) -> Option<Artifact> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message["reason"] != "compiler-artifact" || !is_cdylib(&message["target"]) {
        return None;
    }
    let name = plugins.names.get(message["package_id"].as_str()?)?.clone();
    let files = message["filenames"].as_array()?.iter().filter_map(Value::as_str);
    let path = files.map(PathBuf::from).find(|path| path.extension().is_some_and(|it| it == "wasm"))?;
    let folder = Path::new(message["manifest_path"].as_str()?).parent()?.to_owned();
    Some(Artifact { name, path, folder })
}

fn is_cdylib(target: &Value) -> bool {
    target["crate_types"].as_array().is_some_and(|types| types.iter().any(|it| it == "cdylib"))
}

fn text_of(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// `12/59` out of `Building [====>   ] 12/59: core`.
fn bar(line: &str) -> Option<String> {
    let (head, tail) = line.split_once("] ")?;
    if !head.contains("Building [") {
        return None;
    }
    Some(tail.split(':').next().unwrap_or_default().trim().to_owned())
}

fn with_progress(line: &str, progress: &str) -> String {
    let line = line.trim_start_matches("\x1b[K");
    if line.trim_start().starts_with("Compiling ") && !progress.is_empty() {
        format!("{line} ({progress})")
    } else {
        line.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_progress_bar_is_read() {
        assert_eq!(bar("    Building [=====>     ] 12/59: core, alloc").as_deref(), Some("12/59"));
        assert_eq!(bar("   Compiling core v0.0.0"), None);
        assert_eq!(with_progress("   Compiling core v0.0.0", "12/59"), "   Compiling core v0.0.0 (12/59)");
    }

    #[test]
    fn only_plugins_of_the_workspace_are_artifacts() {
        let names = BTreeMap::from([("path+file:///w/a-b#0.1.0".to_owned(), "a-b".to_owned())]);
        let plugins = Plugins { names, has_lock_file: true, has_profile: true };
        let line = |id: &str, kind: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","package_id":"{id}","manifest_path":"/w/a-b/Cargo.toml","target":{{"crate_types":["{kind}"]}},"filenames":["/t/a_b.wasm"]}}"#
            )
        };
        let found = artifact(&line("path+file:///w/a-b#0.1.0", "cdylib"), &plugins);
        assert_eq!(found.map(|it| it.name).as_deref(), Some("a-b"));
        assert!(artifact(&line("path+file:///w/a-b#0.1.0", "rlib"), &plugins).is_none());
        assert!(artifact(&line("registry+x#dep@1.0.0", "cdylib"), &plugins).is_none());
        assert!(artifact("not json", &plugins).is_none());
    }
}
