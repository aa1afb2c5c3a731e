//! A component that another toolchain made gets the `plugin.toml` beside it, and is a plugin like any other.

use std::path::Path;

use holdfast::plugin::Code;

use crate::support::command::holdfast;
use crate::support::wat_guest::Guest;

const MANIFEST: &str = "id = \"weather\"\nversion = \"1.2.0\"\n[[requests.http]]\nhost = \"api.example\"\n";

/// `holdfast plugin build ARGS`: whether it worked, and what it said.
async fn build(folder: &Path, args: &[&str]) -> (bool, String) {
    let output = holdfast(folder, &[&["plugin", "build"], args].concat(), &[]).await;
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).expect("text"))
}

#[tokio::test]
async fn the_manifest_beside_a_component_is_built_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).expect("a file");
    write("app.wasm", &Guest::new().bytes());
    write("plugin.toml", MANIFEST.as_bytes());
    let (built, said) = build(folder.path(), &["app.wasm"]).await;
    assert!(built && said.starts_with("built dist/weather.wasm"), "{said}");
    let made = folder.path().join("dist/weather.wasm");
    let code = Code::new(std::fs::read(&made).expect("a file"));
    let (manifest, request) = code.read().expect("a component");
    assert_eq!(manifest.map(|manifest| manifest.version).as_deref(), Some("1.2.0"));
    assert_eq!(request.asked.in_words(), ["send GET, HEAD requests to https://api.example"]);
    let (_, said) = build(folder.path(), &["app.wasm"]).await;
    assert!(said.starts_with("unchanged"), "{said}");
    let shown = holdfast(folder.path(), &["plugin", "inspect", "dist/weather.wasm"], &[]).await;
    assert!(String::from_utf8_lossy(&shown.stdout).contains("version  1.2.0"), "{shown:?}");

    let before = std::fs::read(&made).expect("a file");
    let copied = folder.path().join("weather.wasm");
    std::fs::copy(&made, copied).expect("a file");
    let (built, said) = build(folder.path(), &["weather.wasm"]).await;
    assert!(!built && said.contains("it has a manifest already"), "{said}");
    write("app.wasm", b"\0asm\x01\0\0\0");
    let (built, said) = build(folder.path(), &["app.wasm"]).await;
    assert!(!built && said.contains("weather was built as a core module"), "{said}");
    write("plugin.toml", b"id = \"weather\"\n");
    let (built, said) = build(folder.path(), &["app.wasm"]).await;
    assert!(!built && said.contains("missing field `version`"), "{said}");
    assert_eq!(std::fs::read(&made).expect("a file"), before, "what was there stays");

    std::fs::remove_file(folder.path().join("plugin.toml")).expect("it was there");
    write("plain.wasm", &Guest::new().bytes());
    let (built, said) = build(folder.path(), &["plain.wasm", "--out", "elsewhere"]).await;
    assert!(built && said.starts_with("built elsewhere/plain.wasm"), "{said}");
}
