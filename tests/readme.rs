//! What the README and the examples tell people to type does what they say.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::guests::{PLUGINS, build, root};
use crate::support::host::{ADMIN, ONE_AGENT};
use crate::support::openai::{self, OpenAi};
use crate::support::process::HOOK_SECRET;
use crate::support::receiver::Receiver;
use crate::support::server::Server;
use crate::support::versions::version;
use crate::support::{Script, TestHost, call, say};

/// The `sh` blocks of a Markdown file, from the line that holds `from` on, as one script.
fn script(file: &str, from: &str) -> String {
    let text = std::fs::read_to_string(root().join(file)).expect(file);
    let start = text.find(from).expect("the section is there");
    let section = &text[start..];
    let end = section[1..].find("\n## ").map_or(section.len(), |end| end + 1);
    section[..end]
        .split("```sh\n")
        .skip(1)
        .map(|block| block.split("```").next().unwrap_or_default())
        .collect()
}

/// Runs a script as a newcomer's shell would, in `folder`.
async fn bash(script: &str, folder: &Path) -> String {
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", script])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .await
        .expect("bash runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    out.into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tour_of_the_readme_does_what_it_says() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir_all(folder.path().join("plugins")).expect("a folder for plugins");
    std::os::unix::fs::symlink(&*PLUGINS, folder.path().join("plugins/dist")).expect("a link to the plugins");
    // The sample's rule for the `http` plugin names the port, so it must be known before.
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let address = free.expect("a free port").to_string();
    let server = Server::launch(folder.path(), &["dev", "--listen", &address], &[]).await;

    let script =
        script("README.md", "## Five minutes with curl").replace("http://127.0.0.1:8080", &server.url);
    let list = r#"ask POST /api/agents/assistant/runs '{"message": "List my notes"}'"#;
    let out = bash(&format!("{script}\n{list}"), folder.path()).await;

    let lines: Vec<&str> = out.lines().collect();
    let expected = [
        "`calculator__evaluate` answered: 42",
        "`http__fetch` answered",
        "The tool may not do this (http)",
        "Saved as note 1",
        "Saved as note 2",
        r#""status":"PAUSED""#,
        r#""status":"PAUSED""#,
        "Deleted note 1",
        r#""status":"PAUSED""#,
        "Their comment: keep it",
        r#""status":"PAUSED""#,
        "Deleted note 2",
        r#""type":"TOOL_INPUT""#,
        "Booked 3 chairs for delivery on 2026-12-24",
        r#""status":"PAUSED""#,
        r#""status":"PENDING""#,
        r#""status":"APPROVED""#,
        r#""status":"PAUSED""#,
        "",
        r#""currentStatus":"CANCELLED""#,
        "18446744073709551616",
        "What is 2^64?",
        r#""role":"assistant""#,
        r#""status":"QUEUED""#,
        "answered: 144",
    ];
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.contains(expected), "expected {expected} in {line}");
    }
    let frames =
        |word: &str| lines.iter().filter(|line| line.contains(&format!(r#""event":"{word}""#))).count();
    assert_eq!(
        (frames("START"), frames("TOOL_END"), frames("STOP")),
        (1, 2, 2),
        "the stream, and its end again"
    );
    assert!(frames("CONTENT_DELTA") > 4, "word by word: {out}");
    let [.., first, second, notes] = lines[..] else { panic!("{out}") };
    assert_eq!(first, second, "one idempotency key, one run");
    assert!(notes.contains("once") && !notes.contains("never written"), "{notes}");
}

/// The text between a fence and its end, from the line that holds `from` on.
fn block(from: &str, fence: &str) -> String {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("README.md");
    let section = &readme[readme.find(from).expect("the section is there")..];
    let rest = section.split(fence).nth(1).and_then(|rest| rest.split("```").next());
    rest.expect("a block").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_as_json_of_the_readme_is_one() {
    let model = OpenAi::start(|_| openai::text("It is here:\n```json\n{\"city\": \"Paris\"}\n```")).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = model.config().replace("\"agent\"", "\"assistant\"");
    std::fs::write(folder.path().join("holdfast.toml"), config).expect("a configuration file");
    std::fs::create_dir(folder.path().join(".holdfast")).expect("a folder");
    std::fs::write(folder.path().join(".holdfast/token"), ADMIN).expect("a token");
    let token = [("HOLDFAST_ADMIN_TOKEN", ADMIN)];
    let server = Server::launch(folder.path(), &["serve", "--listen", "127.0.0.1:0"], &token).await;
    let ask = block("## Five minutes with curl", "```sh\n").replace("http://127.0.0.1:8080", &server.url);
    let out = bash(&format!("{ask}\n{}", script("README.md", "## Answers as JSON")), folder.path()).await;
    let run: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        (&run["content"], &run["metadata"]["structured"]),
        (&json!("{\"city\": \"Paris\"}"), &json!({"city": "Paris"})),
        "{run}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plugin_that_the_readme_signs_is_signed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let weather = version("calculator", "weather", "1.0.0", "");
    std::fs::write(folder.path().join("weather.wasm"), weather).expect("a component");
    let program = Path::new(env!("CARGO_BIN_EXE_holdfast")).parent().expect("a folder").display().to_string();
    let typed = block("### Signed plugins", "```sh\n");
    let out = bash(&format!("PATH=\"{program}:$PATH\"\n{typed}"), folder.path()).await;
    let by = out.lines().find(|line| line.starts_with("signed by")).expect("a signer");
    let by = by.strip_suffix(", as it says: not checked").expect("nobody is trusted yet").to_owned();

    let line = out.lines().find(|line| line.starts_with("plugin_signers = [")).expect("what to configure");
    std::fs::write(folder.path().join("holdfast.toml"), format!("{line}\n")).expect("a file");
    let inspect = typed.lines().last().expect("a line");
    let out = bash(&format!("PATH=\"{program}:$PATH\"\n{inspect}"), folder.path()).await;
    assert!(out.lines().any(|line| line == by), "{by} in {out}");
}

/// The configuration of the README makes a server tell, and its Python knows what is genuine.
#[tokio::test(flavor = "multi_thread")]
async fn the_webhook_of_the_readme_is_told_and_checked() {
    let receiver = Receiver::content().await;
    let config = block("### Webhooks", "```toml\n")
        .replace("\"https://example.com/holdfast\"", &format!("\"{}\"\nallow_private = true", receiver.url))
        .replace("\"acme\"", "\"default\"");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let agent = "[[agents]]\nid = \"agent\"\nmodel = \"demo\"\n";
    std::fs::write(folder.path().join("holdfast.toml"), format!("{config}\n{agent}")).expect("a file");
    let environment = [("HOLDFAST_ADMIN_TOKEN", ADMIN), ("OPS_WEBHOOK_SECRET", HOOK_SECRET)];
    let server = Server::launch(folder.path(), &["serve", "--listen", "127.0.0.1:0"], &environment).await;
    let body = json!({"message": "x", "options": {"responseSchema": {"type": "object"}}});
    let run = reqwest::Client::new().post(format!("{}/api/agents/agent/runs", server.url)).json(&body);
    run.bearer_auth(ADMIN).send().await.expect("an answer");
    let told = receiver.next().await;
    assert_eq!(told.kind(), "run.failed", "the demo model cannot write JSON to a schema");

    let headers =
        ["webhook-id", "webhook-timestamp", "webhook-signature"].map(|name| (name, told.header(name)));
    let headers = json!(headers.into_iter().collect::<BTreeMap<_, _>>());
    let checks = format!(
        "import json\nheaders, body, secret = {headers}, json.loads({:?}).encode(), \"{HOOK_SECRET}\"\n\
         print(is_genuine(secret, headers, body), is_genuine(secret, headers, body + b\" \"))\n\
         print(is_genuine(\"whsec_\" + \"A\" * 32, headers, body))\n\
         now = time.time()\ntime.time = lambda: now + 600\nprint(is_genuine(secret, headers, body))\n",
        json!(told.text).to_string()
    );
    let python = format!("{}{checks}", block("### Webhooks", "```python\n"));
    let output = match Command::new("python3").args(["-c", &python]).output().await {
        // The project needs no Python; only this snippet does.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("there is no python3 here: the README's snippet was not run");
            return;
        }
        output => output.expect("python3 runs"),
    };
    assert_eq!(String::from_utf8_lossy(&output.stdout), "True False\nFalse\nFalse\n", "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quickstart_example_runs() {
    let out = example("quickstart", |text| text).await;
    let lines: Vec<&str> = out.lines().filter(|line| !line.is_empty()).collect();
    assert!(lines[0].contains("357 days"), "{out}");
    assert!(lines[1].contains(r#""status":"PAUSED""#), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_openai_compatible_example_runs() {
    let model = OpenAi::start(|body| match openai::replied(body) {
        0 => openai::tool_calls(&[("call_1", "calculator__evaluate", json!({"expression": "6*7"}))]),
        _ => openai::text("It is 42."),
    })
    .await;
    let url = model.url.clone();
    let out = example("openai-compatible", |text| text.replace("http://127.0.0.1:8089/v1", &url)).await;
    assert!(out.contains(r#""content":"It is 42.""#), "{out}");
    let asked = model.asked();
    assert_eq!((asked.len(), &asked[0]["model"]), (2, &json!("real-llm")));
}

/// The plugin of the README, built from its text by the code behind `holdfast plugin build`, and called.
#[tokio::test(flavor = "multi_thread")]
async fn the_plugin_of_the_readme_builds_and_answers() {
    let block = |fence: &str| block("## Write a plugin", fence);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sdk = root().join("plugins/sdk").display().to_string();
    let manifest = block("```toml\n").replace("../holdfast/plugins/sdk", &sdk);
    std::fs::create_dir(folder.path().join("src")).expect("a folder");
    std::fs::write(folder.path().join("Cargo.toml"), manifest).expect("a manifest");
    std::fs::write(folder.path().join("src/lib.rs"), block("```rust\n")).expect("a source");
    let (source, out) = (folder.path().to_owned(), folder.path().join("dist"));
    let built = tokio::task::spawn_blocking(move || build(source, out)).await.expect("no panic");

    let model = Script::new([call("dice__roll", json!({"sides": 6})), say("rolled")]);
    let host = TestHost::with_files(&[built.join("dice.wasm")], ONE_AGENT, model).await;
    let run = host.run("roll").await;
    assert!(run["tools"][0]["toolOutput"].as_str().is_some_and(|text| text.starts_with("rolled ")), "{run}");
    let tools = host.get("/api/tools").await.body;
    assert_eq!(tools[0]["inputSchema"]["properties"]["sides"]["maximum"], 1000, "{tools}");
}

/// Serves an example's configuration and runs the curl lines of its README.
async fn example(name: &str, change: impl FnOnce(String) -> String) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = std::fs::read_to_string(root().join("examples").join(name).join("holdfast.toml")).expect(name);
    let text = change(text).replace("../../plugins/dist", &PLUGINS.display().to_string());
    std::fs::write(folder.path().join("holdfast.toml"), text).expect("a configuration file");
    let token = [("HOLDFAST_ADMIN_TOKEN", "choose-a-long-token")];
    let server = Server::launch(folder.path(), &["serve", "--listen", "127.0.0.1:0"], &token).await;
    let script =
        script(&format!("examples/{name}/README.md"), "# ").replace("http://127.0.0.1:8080", &server.url);
    // Without the line end that curl does not print, two answers would be one line.
    bash(&script.replace("curl -sS ", "echo; curl -sS "), folder.path()).await
}
