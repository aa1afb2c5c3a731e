//! A plugin that cannot be trusted is not loaded, the operator reads why, and the others work.

use std::path::{Path, PathBuf};

use expect_test::expect;
use serde_json::{Value, json};

use crate::support::guests::guest;
use crate::support::{Script, TestHost, call, say};

/// No grants: the probe asks for kv.
const CONFIG: &str = r#"
[[agents]]
id = "agent"
model = "script::v1"
tools = ["*"]
[plugins.describe_loop.limits]
cpu_ms = 100
[plugins.too_large.limits]
component_bytes = 1000
"#;

/// Files that no compiler of ours makes.
fn made_by_hand(folder: &Path) -> Vec<PathBuf> {
    let tools = r#"(instance $i) (export "holdfast:plugin/tools@0.1.0" (instance $i))"#;
    let newer = r#"(instance $i) (export "holdfast:plugin/tools@0.2.0" (instance $i))"#;
    let wat = |text: &str| wat::parse_str(text).expect("WAT");
    let with_import = |name: &str| wat(&format!(r#"(component (import "{name}" (instance)) {tools})"#));
    let files: [(&str, Vec<u8>); 11] = [
        ("core_module", wat("(module)")),
        ("unknown_import", with_import("evil:host/api")),
        ("http_import", with_import("wasi:http/outgoing-handler@0.2.0")),
        ("files_import", with_import("wasi:filesystem/types@0.3.0")),
        ("future_import", with_import("holdfast:plugin/kv@0.9.0")),
        ("no_tools", wat("(component)")),
        ("newer_world", wat(&format!("(component {newer})"))),
        ("empty_tools", wat(&format!("(component {tools})"))),
        ("too_large", vec![0; 1001]),
        ("garbage", b"#!/bin/sh\nexit 1\n".to_vec()),
        ("empty", Vec::new()),
    ];
    files
        .into_iter()
        .map(|(id, bytes)| {
            let file = folder.join(format!("{id}.wasm"));
            std::fs::write(&file, bytes).expect("a file");
            file
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_names_its_reason_and_the_good_ones_load() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut files = made_by_hand(folder.path());
    let guests = ["liar", "describe_loop", "describe_trap", "names", "schema_bad", "schema_remote", "probe"];
    files.extend(guests.into_iter().chain(["calculator", "clock"]).map(guest));
    // A flipped byte in the code.
    let mut flipped = std::fs::read(guest("calculator")).expect("a component");
    let middle = flipped.len() / 2;
    flipped[..middle].reverse();
    std::fs::write(folder.path().join("flipped.wasm"), flipped).expect("a file");
    files.push(folder.path().join("flipped.wasm"));
    let model = Script::new([call("calculator__evaluate", json!({"expression": "6*7"})), say("done")]);
    let host = TestHost::with_files(&files, CONFIG, model).await;

    let plugins = host.get("/api/plugins").await;

    assert_eq!(plugins.status, 200);
    let mut seen = String::new();
    for plugin in plugins.body.as_array().expect("an array") {
        let (id, state) = (plugin["id"].as_str().expect("an id"), plugin["state"].as_str().expect("a state"));
        let reason = plugin["error"].as_str().unwrap_or("-");
        seen.push_str(&format!("{id}: {state}: {}\n", reason.lines().next().unwrap_or_default()));
        if state == "failed" {
            assert_eq!((&plugin["digest"], &plugin["tools"]), (&Value::Null, &json!([])), "{plugin}");
            no_host_path(reason, &host, folder.path());
        }
    }
    expect![[r#"
        calculator: loaded: -
        clock: loaded: -
        core_module: failed: this is a core WebAssembly module, not a component: build for wasm32-wasip2
        describe_loop: failed: `describe` did not answer: it reached a limit: CPU time
        describe_trap: failed: `describe` did not answer: it crashed (unreachable): wasm trap: wasm `unreachable` instruction executed (error while executing at wasm backtrace:\n    0:   0x37e1 - <unknown>!<wasm function 21>\n    1:    0x77f - <unknown>!<wasm function 9>\n    2:    0x61e - <unknown>!<wasm function 4>\n    3:    0x62e - <unknown>!<wasm function 5>)
        empty: failed: this is not a WebAssembly component: unexpected end-of-file (at offset 0x0)
        empty_tools: failed: its imports or exports have other types than `holdfast:plugin@0.1.0`: instance export `holdfast:plugin/tools@0.1.0` does not have export `describe`
        files_import: failed: it imports `wasi:filesystem/types@0.3.0`: nothing in this host provides it
        flipped: failed: this is not a WebAssembly component: magic header not detected: bad magic number - expected=[\n    0x0,\n    0x61,\n    0x73,\n    0x6d,\n] actual=[\n    0x20,\n    0xa,\n    0x20,\n    0x2,\n] (at offset 0x0)
        future_import: failed: it imports `holdfast:plugin/kv@0.9.0`: this host serves holdfast:plugin@0.1.0
        garbage: failed: this is not a WebAssembly component: magic header not detected: bad magic number - expected=[\n    0x0,\n    0x61,\n    0x73,\n    0x6d,\n] actual=[\n    0x23,\n    0x21,\n    0x2f,\n    0x62,\n] (at offset 0x0)
        http_import: failed: it imports `wasi:http/outgoing-handler@0.2.0`: HTTP egress is not offered by this version
        liar: failed: `describe` answered differently the second time; it must always list the same tools
        names: failed: a tool's name: `a__b` is not a legal name: use lower-case letters, digits, `-` and `_`, without `__` and not starting or ending with `_`
        newer_world: failed: it exports `holdfast:plugin/tools@0.2.0`, but this host serves `holdfast:plugin/tools@0.1.0`: build it against that version
        no_tools: failed: it does not export `holdfast:plugin/tools@0.1.0`, the version this host serves; it exports: nothing
        probe: failed: it imports `holdfast:plugin/kv@0.1.0`: grant it with `kv = true` in [plugins.probe.grants]
        schema_bad: failed: tool `schema_bad__bad`: its input schema is not a valid JSON Schema: "numeral" is not valid under any of the schemas listed in the 'anyOf' keyword
        schema_remote: failed: tool `schema_remote__remote`: its input schema uses `$ref: http://127.0.0.1:9/schema.json`: only references into the schema itself, such as `#/$defs/name`, work
        too_large: failed: the file has 1001 bytes, the limit is 1000: raise `component_bytes` in [plugins.too_large.limits]
        unknown_import: failed: it imports `evil:host/api`: nothing in this host provides it
    "#]].assert_eq(&seen);

    let run = host.run("go").await;
    assert_eq!(run["tools"][0]["outcome"], "ok", "{run}");
    let tools = host.get("/api/tools").await.body;
    let offered: Vec<&str> =
        tools.as_array().expect("an array").iter().filter_map(|tool| tool["plugin"].as_str()).collect();
    assert!(offered.iter().all(|plugin| ["calculator", "clock"].contains(plugin)), "{offered:?}");

    let ready = host.get("/api/v1/health/ready").await;
    assert_eq!(ready.status, 503);
    expect![[r#"
        {
          "status": "DOWN",
          "database": "UP",
          "plugins": "DOWN",
          "epochTicker": "UP",
          "intake": "UP"
        }"#]].assert_eq(&format!("{:#}", ready.body));
    assert_eq!(host.get("/api/v1/health").await.status, 200, "it lives all the same");
}

fn no_host_path(reason: &str, host: &TestHost, folder: &Path) {
    let root = crate::support::guests::root();
    for path in [host.folder(), folder, &root] {
        let path = path.to_str().expect("text");
        assert!(!reason.contains(path), "{reason}");
    }
    for word in ["/home", "/root", ".cargo", "/tmp", ".rs:"] {
        assert!(!reason.contains(word), "{reason}");
    }
}

/// Without a refused one the server is ready.
#[tokio::test(flavor = "multi_thread")]
async fn good_plugins_alone_make_the_server_ready() {
    let host = TestHost::start(&["calculator", "clock"], CONFIG, Script::new([say("done")])).await;
    assert_eq!(host.get("/api/v1/health/ready").await.status, 200);
}

/// A model that calls a tool of a refused plugin is told what it can call.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_plugin_has_no_tools() {
    let model = Script::new([call("probe__effect", json!({"key": "k"})), say("done")]);
    let host = TestHost::start(&["probe", "calculator"], CONFIG, model).await;
    let run = host.run("go").await;
    assert_eq!(run["status"], "COMPLETED");
    assert_eq!(run["tools"][0]["outcome"], "invalid-args");
    assert_eq!(
        run["tools"][0]["toolOutput"],
        "There is no tool `probe__effect`. You can call: calculator__evaluate."
    );
}
