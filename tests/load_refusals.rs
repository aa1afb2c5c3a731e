//! What is no plugin of this host is refused at load, by name, and the others load all the same.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::guests::guest;
use crate::support::host::ONE_AGENT;
use crate::support::{Script, TestHost, say};

/// A file of these bytes, as a plugin of that id.
fn file(folder: &Path, id: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(format!("{id}.wasm"));
    std::fs::write(&path, bytes).expect("a file");
    path
}

fn component(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("valid text")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_is_refused_with_a_reason_and_the_good_ones_load() {
    let folder = tempfile::tempdir().expect("a folder");
    let make = |id: &str, bytes: &[u8]| file(folder.path(), id, bytes);
    let files = [
        make("core", &component("(module)")),
        make("garbage", b"not WebAssembly at all"),
        make("empty", b""),
        make("nothing", &component("(component)")),
        make("evil", &component(r#"(component (import "evil:host/api" (instance)))"#)),
        make("http", &component(r#"(component (import "wasi:http/outgoing-handler@0.2.6" (instance)))"#)),
        make("Big__name", &component("(component)")),
        make("large", &vec![0; 5000]),
        guest("liar"),
        guest("describe_loop"),
        guest("describe_trap"),
        guest("names"),
        guest("schema_bad"),
        guest("schema_remote"),
        guest("notes"),
        guest("probe"),
        guest("calculator"),
    ];
    let config = ONE_AGENT
        .replace("[plugins.notes.grants]\nkv = true\n", "[plugins.large.limits]\ncomponent_bytes = 4096\n");
    let host = TestHost::with_files(&files, &config, Script::new([say("fine")])).await;

    let plugins = host.get("/api/plugins").await.body;
    let reason = |id: &str| {
        let found = plugins.as_array().expect("plugins").iter().find(|plugin| plugin["id"] == id);
        let found = found.unwrap_or_else(|| panic!("{id} is listed: {plugins}"));
        (
            found["state"].as_str().unwrap_or_default().to_owned(),
            found["error"].as_str().unwrap_or_default().to_owned(),
        )
    };
    let expected = [
        ("core", "component"),
        ("garbage", "WebAssembly"),
        ("empty", "WebAssembly"),
        ("nothing", "holdfast:plugin/tools@0.1.0"),
        ("evil", "evil:host/api"),
        ("http", "wasi:http/outgoing-handler"),
        ("Big__name", "legal name"),
        ("large", "4096"),
        ("liar", "describe"),
        ("describe_loop", "describe"),
        ("describe_trap", "describe"),
        ("names", "legal name"),
        ("schema_bad", "schema"),
        ("schema_remote", "schema"),
        ("notes", "kv = true"),
    ];
    for (id, word) in expected {
        let (state, error) = reason(id);
        assert_eq!(state, "failed", "{id}");
        assert!(error.contains(word), "{id}: {error}");
        assert!(!error.contains(&host.folder().display().to_string()), "{id}: {error}");
    }
    assert_eq!((reason("probe").0.as_str(), reason("calculator").0.as_str()), ("loaded", "loaded"));
    let tools = host.get("/api/tools").await.body;
    let foreign =
        |tool: &Value| !["probe", "calculator"].contains(&tool["plugin"].as_str().unwrap_or_default());
    assert!(!tools.as_array().expect("tools").iter().any(foreign), "{tools}");
    assert_eq!(host.run("hello").await["content"], "fine");
    let ready = host.get("/api/v1/health/ready").await;
    assert_eq!((ready.status, &ready.body["plugins"]), (503, &Value::from("DOWN")), "{ready:?}");
}
