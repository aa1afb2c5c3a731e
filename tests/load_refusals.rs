//! What is no plugin of this host is refused at load, by name, and the others load all the same.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use expect_test::expect;
use serde_json::{Value, json};

use crate::support::guests::guest;
use crate::support::host::ONE_AGENT;
use crate::support::{Script, TestHost, call, say};

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
        ("http", "holdfast:plugin/tools@0.1.0"),
        ("Big__name", "legal name"),
        ("large", "4096"),
        ("liar", "describe"),
        ("describe_loop", "describe"),
        ("describe_trap", "describe"),
        ("names", "legal name"),
        ("schema_bad", "schema"),
        ("schema_remote", "schema"),
    ];
    for (id, word) in expected {
        let (state, error) = reason(id);
        assert_eq!(state, "failed", "{id}");
        assert!(error.contains(word), "{id}: {error}");
        assert!(!error.contains(&host.folder().display().to_string()), "{id}: {error}");
    }
    let (state, error) = reason("notes");
    assert_eq!(state, "waiting");
    assert!(
        error.contains("holdfast plugin grant notes") && error.contains("[plugins.notes.grants]"),
        "{error}"
    );
    assert_eq!((reason("probe").0.as_str(), reason("calculator").0.as_str()), ("loaded", "loaded"));
    let tools = host.get("/api/tools").await.body;
    let foreign =
        |tool: &Value| !["probe", "calculator"].contains(&tool["plugin"].as_str().unwrap_or_default());
    assert!(!tools.as_array().expect("tools").iter().any(foreign), "{tools}");
    assert_eq!(host.run("hello").await["content"], "fine");
    let ready = host.get("/api/v1/health/ready").await;
    assert_eq!((ready.status, &ready.body["plugins"]), (503, &Value::from("DOWN")), "{ready:?}");
}

/// The whole of what an operator reads, about components that no compiler of ours makes.
#[tokio::test(flavor = "multi_thread")]
async fn reasons_say_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let tools = r#"(instance $i) (export "holdfast:plugin/tools@0.1.0" (instance $i))"#;
    let newer = r#"(instance $i) (export "holdfast:plugin/tools@0.2.0" (instance $i))"#;
    let with_import = |name: &str| component(&format!(r#"(component (import "{name}" (instance)) {tools})"#));
    // Cut off in the middle.
    let whole = std::fs::read(guest("calculator")).expect("a component");
    let files: Vec<PathBuf> = [
        ("a_core", component("(module)")),
        ("b_unknown", with_import("evil:host/api")),
        ("c_http", with_import("wasi:http/outgoing-handler@0.2.0")),
        ("d_wasi3", with_import("wasi:filesystem/types@0.3.0")),
        ("e_future", with_import("holdfast:plugin/kv@0.9.0")),
        ("f_kv", with_import("holdfast:plugin/kv@0.1.0")),
        ("g_function", component(&format!(r#"(component (import "f" (func)) {tools})"#))),
        ("h_nothing", component("(component)")),
        ("i_newer", component(&format!("(component {newer})"))),
        ("j_large", vec![0; 1001]),
        ("k_script", b"#!/bin/sh\nexit 1\n".to_vec()),
    ]
    .into_iter()
    .map(|(id, bytes)| file(folder.path(), id, &bytes))
    .chain([
        file(folder.path(), "m_cut", &whole[..whole.len() / 2]),
        file(folder.path(), "l_untyped", &component(&format!("(component {tools})"))),
        guest("calculator"),
    ])
    .collect();
    let config = format!("{ONE_AGENT}[plugins.j_large.limits]\ncomponent_bytes = 1000\n");
    let model = Script::new([call("probe__effect", json!({"key": "k"})), say("done")]);
    let host = TestHost::with_files(&files, &config, model).await;

    let mut reasons = String::new();
    for plugin in host.get("/api/plugins").await.body.as_array().expect("plugins") {
        let (id, state) = (&plugin["id"], plugin["state"].as_str().expect("a state"));
        let Some(reason) = plugin["error"].as_str() else {
            assert_eq!((id, state), (&json!("calculator"), "loaded"));
            continue;
        };
        assert_eq!(
            (state, &plugin["digest"], &plugin["tools"]),
            ("failed", &Value::Null, &json!([])),
            "{plugin}"
        );
        for path in [folder.path(), host.folder(), &crate::support::guests::root()] {
            assert!(!reason.contains(path.to_str().expect("text")), "{reason}");
        }
        // Where a damaged file breaks off is the guest compiler's business.
        let shown = if id == "m_cut" { "…" } else { reason };
        writeln!(reasons, "{}: {shown}", id.as_str().expect("an id")).expect("a string takes it");
    }
    expect![[r"
        a_core: this is a core WebAssembly module, not a component: build for wasm32-wasip2
        b_unknown: it imports `evil:host/api`: nothing in this host provides it
        c_http: its imports or exports have other types than `holdfast:plugin@0.1.0`: instance export `holdfast:plugin/tools@0.1.0` does not have export `describe`
        d_wasi3: it imports `wasi:filesystem/types@0.3.0`: nothing in this host provides it
        e_future: it imports `holdfast:plugin/kv@0.9.0`: this host serves holdfast:plugin@0.1.0
        f_kv: its imports or exports have other types than `holdfast:plugin@0.1.0`: instance export `holdfast:plugin/tools@0.1.0` does not have export `describe`
        g_function: it imports `f`: only interfaces can be imported
        h_nothing: it does not export `holdfast:plugin/tools@0.1.0`, the version this host serves; it exports: nothing
        i_newer: it exports `holdfast:plugin/tools@0.2.0`, but this host serves `holdfast:plugin/tools@0.1.0`: build it against that version
        j_large: the file has 1001 bytes, the limit is 1000: raise `component_bytes` in [plugins.j_large.limits]
        k_script: this is not a WebAssembly component: it does not begin as WebAssembly files do
        l_untyped: its imports or exports have other types than `holdfast:plugin@0.1.0`: instance export `holdfast:plugin/tools@0.1.0` does not have export `describe`
        m_cut: …
    "]].assert_eq(&reasons);

    // A model that calls a tool of a plugin that is not there is told what is.
    let run = host.run("go").await;
    assert_eq!(run["status"], "COMPLETED");
    assert_eq!(run["tools"][0]["outcome"], "invalid-args", "{run}");
    let told = run["tools"][0]["toolOutput"].as_str().expect("a text");
    assert_eq!(told, "There is no tool `probe__effect`. You can call: calculator__evaluate.");
}

/// Without a refused one the server is ready.
#[tokio::test(flavor = "multi_thread")]
async fn good_plugins_alone_make_the_server_ready() {
    let host = TestHost::start(&["calculator", "probe"], ONE_AGENT, Script::new([say("done")])).await;
    assert_eq!(host.get("/api/v1/health/ready").await.status, 200);
}
