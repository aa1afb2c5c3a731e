//! Where the configuration names signers, nothing runs that none of them signed, whichever way it came.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use holdfast::plugin::{KeyId, sign};
use minisign::KeyPair;
use serde_json::{Value, json};

use crate::support::guests::guest;
use crate::support::host::ONE_AGENT;
use crate::support::openai::{self, OpenAi};
use crate::support::process::Process;
use crate::support::versions::{digest, version};
use crate::support::{Script, TestHost, call, say, until};

fn key() -> KeyPair {
    KeyPair::generate_unencrypted_keypair().expect("a key")
}

fn signers(pair: &KeyPair) -> String {
    format!("plugin_signers = [\"{}\"]\n", pair.pk.to_base64())
}

fn signature(pair: &KeyPair, checked: bool) -> Value {
    json!({"keyId": KeyId::from(&pair.pk).to_string(), "checked": checked})
}

fn signed(bytes: &[u8], id: &str, pair: &KeyPair) -> Vec<u8> {
    sign(bytes, id, &pair.sk).expect("it can be signed")
}

/// A version of the calculator.
fn calculator(number: &str) -> Vec<u8> {
    version("calculator", "calculator", number, "")
}

/// Names signers in the configuration of a server that is to be started again.
fn configure(host: &Process, signers: &str) {
    let file = host.folder.path().join("holdfast.toml");
    let text = std::fs::read_to_string(&file).expect("a configuration file");
    std::fs::write(file, format!("{signers}{text}")).expect("it can be written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_plugin_serves_and_no_other_comes_in() {
    let (pair, stranger) = (key(), key());
    let folder = tempfile::tempdir().expect("a folder");
    let first = signed(&calculator("1.0.0"), "calculator", &pair);
    let file = folder.path().join("calculator.wasm");
    std::fs::write(&file, &first).expect("a file");
    let config = format!("{}{ONE_AGENT}", signers(&pair));
    let model = Script::new([call("calculator__evaluate", json!({"expression": "6*7"})), say("42")]);
    let host = TestHost::with_files(&[file, guest("probe")], &config, model).await;

    let plugins = host.get("/api/plugins").await.body;
    assert_eq!(
        (&plugins[0]["state"], &plugins[0]["signature"]),
        (&json!("loaded"), &signature(&pair, true)),
        "{plugins}"
    );
    assert_eq!((&plugins[1]["state"], &plugins[1]["signature"]), (&json!("failed"), &Value::Null));
    let reason = plugins[1]["error"].as_str().unwrap_or_default();
    assert!(
        reason.contains("it is not signed") && reason.contains(&KeyId::from(&pair.pk).to_string()),
        "{reason}"
    );
    let run = host.run("6*7").await;
    assert_eq!((&run["status"], &run["tools"][0]["outcome"]), (&json!("COMPLETED"), &json!("ok")), "{run}");

    // Over HTTP.
    let mut flipped = signed(&calculator("2.0.0"), "calculator", &pair);
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    for (bytes, expected) in [
        (calculator("2.0.0"), "it is not signed"),
        (signed(&calculator("2.0.0"), "calculator", &stranger), "which is not in `plugin_signers`"),
        (signed(&calculator("2.0.0"), "probe", &pair), "it was signed as `plugin:probe`"),
        (
            [signed(&calculator("2.0.0"), "calculator", &pair), vec![0, 2, 1, b'x']].concat(),
            "at the very end",
        ),
        (flipped, ""),
    ] {
        let answer = host.install("calculator", bytes).await;
        let detail = answer.body["detail"].as_str().unwrap_or_default();
        assert_eq!(answer.status, 422, "{answer:?}");
        assert!(answer.body["type"].as_str().is_some_and(|it| it.ends_with("plugin-refused")), "{answer:?}");
        assert!(detail.contains(expected), "{expected}: {detail}");
    }
    let anonymous = std::fs::read(guest("probe")).expect("a component");
    let renamed = host.install("probe", signed(&anonymous, "other", &pair)).await;
    assert!(
        renamed.body["detail"].as_str().is_some_and(|it| it.contains("signed as `plugin:other`")),
        "{renamed:?}"
    );
    let answer = host.install("probe", signed(&anonymous, "probe", &pair)).await;
    assert_eq!(
        (&answer.body["state"], &answer.body["signature"]),
        (&json!("loaded"), &signature(&pair, true))
    );

    // Through the folder, beside a running server: what served before serves on.
    host.drop_in("calculator", &calculator("3.0.0"));
    let held = host.plugin_once("calculator", |plugin| plugin["state"] == "failed").await;
    assert!(held["error"].as_str().is_some_and(|error| error.contains("it is not signed")), "{held}");
    assert_eq!(held["digest"], json!(digest(&first)));
    let new = signed(&calculator("3.0.0"), "calculator", &pair);
    host.drop_in("calculator", &new);
    host.plugin_once("calculator", |plugin| plugin["digest"] == digest(&new)).await;
}

/// A signature is what it says about itself, where nobody is trusted.
#[tokio::test(flavor = "multi_thread")]
async fn without_signers_nothing_is_claimed() {
    let pair = key();
    let host = TestHost::start(&["probe"], ONE_AGENT, Script::new([])).await;
    assert_eq!(host.plugin("probe").await["signature"], Value::Null);
    let answer = host.install("calculator", signed(&calculator("1.0.0"), "calculator", &pair)).await;
    assert_eq!(
        (&answer.body["state"], &answer.body["signature"]),
        (&json!("loaded"), &signature(&pair, false))
    );
    // It is checked for its form all the same: a file that nobody could check later does not come in.
    let broken = [signed(&calculator("2.0.0"), "calculator", &pair), vec![0, 2, 1, b'x']].concat();
    assert_eq!(host.install("calculator", broken).await.status, 422);
}

/// The run was paused before the operator asked for signatures.
#[tokio::test(flavor = "multi_thread")]
async fn a_kept_version_needs_a_signature_as_well() {
    for is_signed in [false, true] {
        let pair = key();
        let model = OpenAi::start(|body| match openai::replied(body) {
            0 => openai::tool_calls(&[("call_abc", "probe__effect", json!({"key": "k"}))]),
            _ => openai::text("It is done."),
        })
        .await;
        let mut host = Process::start(&[], &model.config()).await;
        let file = host.folder.path().join("plugins/probe.wasm");
        let bytes = std::fs::read(guest("probe")).expect("a component");
        let old = if is_signed { signed(&bytes, "probe", &pair) } else { bytes };
        let serves = async |host: &Process, bytes: &[u8]| {
            let wanted = digest(bytes);
            until("it serves", async || host.get("/api/plugins").await.body[0]["digest"] == wanted).await;
        };
        replace(&file, &old);
        serves(&host, &old).await;
        let paused = host.run("go").await;
        assert_eq!(paused["status"], "PAUSED", "{paused}");
        // Another version serves, so that the paused call depends on what is kept in the database.
        let other = signed(&version("calculator", "probe", "2.0.0", ""), "probe", &pair);
        replace(&file, &other);
        serves(&host, &other).await;

        configure(&host, &signers(&pair));
        host.restart().await;
        serves(&host, &other).await;
        let run = paused["runId"].as_str().expect("an id");
        let done = host.resume(run, None, &json!({"action": "APPROVE"})).await.body;
        let expected = if is_signed { "ok" } else { "denied" };
        assert_eq!(
            (&done["status"], &done["tools"][0]["outcome"]),
            (&json!("COMPLETED"), &json!(expected)),
            "{done}"
        );
        assert_eq!(host.effects("k").await, u64::from(is_signed));
        if !is_signed {
            host.wait_for_log(&["a kept version of a plugin was not loaded", "it is not signed"]).await;
            let told = model.asked().pop().expect("a request").to_string();
            assert!(told.contains("not signed by anybody whom the operator trusts"), "{told}");
        }
    }
}

fn replace(file: &Path, bytes: &[u8]) {
    let part = file.with_extension("part");
    std::fs::write(&part, bytes).expect("a file");
    std::fs::rename(part, file).expect("it moves");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_signs_and_checks() {
    let mut host = Process::start(&[], ONE_AGENT_ON_DEMO).await;
    let folder = host.folder.path().to_owned();
    let unsigned = calculator("1.0.0");
    std::fs::write(folder.join("calculator.wasm"), &unsigned).expect("a file");
    let ok = async |host: &Process, args: &[&str]| {
        let (out, err) = host.holdfast(args).await;
        assert_eq!(err, "", "{args:?}");
        out
    };
    let refused = async |host: &Process, args: &[&str], expected: &str| {
        let (out, err) = host.holdfast(args).await;
        assert!(err.contains(expected), "{args:?}: {expected} in {err}");
        out
    };

    let made = ok(&host, &["plugin", "keygen", "signer.key", "--no-password"]).await;
    let rights = std::fs::metadata(folder.join("signer.key")).expect("a key").permissions().mode();
    assert_eq!(rights & 0o777, 0o600);
    refused(&host, &["plugin", "keygen", "signer.key", "--no-password"], "is there already").await;
    let line = made.lines().find(|line| line.starts_with("plugin_signers")).expect("what to configure");
    let public = std::fs::read_to_string(folder.join("signer.pub")).expect("a public key");
    assert!(line.contains(public.lines().nth(1).expect("two lines")), "{line} {public}");
    configure(&host, &format!("{line}\n"));

    let install = ["plugin", "install", "calculator.wasm"];
    refused(&host, &install, "holdfast plugin sign FILE --key KEY").await;
    refused(&host, &["plugin", "inspect", "calculator.wasm"], "it is not signed").await;
    ok(&host, &["plugin", "sign", "calculator.wasm", "--key", "signer.key"]).await;
    let id = public.lines().next().and_then(|line| line.split(' ').next_back()).expect("a key id");
    let shown = ok(&host, &["plugin", "inspect", "calculator.wasm"]).await;
    assert!(shown.lines().any(|line| line == format!("signed by {id}")), "{shown}");
    ok(&host, &install).await;

    // Put there by somebody who did not ask.
    std::fs::copy(guest("notes"), folder.join("plugins/notes.wasm")).expect("a copy");
    let list = ok(&host, &["plugin", "list"]).await;
    assert!(
        list.contains(&format!("signed by {id}\n")) && list.contains("failed   it is not signed"),
        "{list}"
    );
    refused(&host, &["plugin", "grant", "notes", "--yes"], "it is not signed").await;
    host.restart().await;
    let plugins = host.get("/api/plugins").await.body;
    assert_eq!(
        (&plugins[0]["state"], &plugins[0]["signature"]["keyId"]),
        (&json!("loaded"), &json!(id)),
        "{plugins}"
    );
    assert_eq!(plugins[1]["state"], "failed", "{plugins}");

    // A key with a password; the signature of the other key goes.
    std::fs::write(folder.join("password"), "correct horse\n").expect("a file");
    std::fs::write(folder.join("wrong"), "battery staple\n").expect("a file");
    ok(&host, &["plugin", "keygen", "other.key", "--password-file", "password"]).await;
    let sign = ["plugin", "sign", "calculator.wasm", "--key", "other.key"];
    let before = std::fs::read(folder.join("calculator.wasm")).expect("a component");
    refused(&host, &sign, "say --password-file").await;
    refused(&host, &[&sign[..], &["--password-file", "wrong"]].concat(), "Wrong password").await;
    refused(
        &host,
        &["plugin", "sign", "calculator.wasm", "--key", "signer.pub"],
        "cannot be used as a minisign secret key",
    )
    .await;
    refused(&host, &["plugin", "sign", "signer.key", "--key", "signer.key"], "must end in .wasm").await;
    assert_eq!(std::fs::read(folder.join("calculator.wasm")).expect("a component"), before);
    ok(&host, &[&sign[..], &["--password-file", "password"]].concat()).await;
    let again = std::fs::read(folder.join("calculator.wasm")).expect("a component");
    assert_eq!((again.len(), &again[..unsigned.len()]), (before.len(), &unsigned[..]));
    refused(
        &host,
        &["plugin", "install", "calculator.wasm", "--replace"],
        "which is not in `plugin_signers`",
    )
    .await;
}

const ONE_AGENT_ON_DEMO: &str = "[[agents]]\nid = \"agent\"\nmodel = \"demo\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_signer_who_is_none_stops_the_server_from_starting() {
    for (setting, expected) in [
        ("plugin_signers = []\n", "plugin_signers names nobody"),
        ("plugin_signers = [\"RWQ\"]\n", "plugin_signers \"RWQ\" is no minisign public key"),
    ] {
        let host = Process::start(&[], ONE_AGENT_ON_DEMO).await;
        configure(&host, setting);
        let (_, err) = host.holdfast(&["plugin", "list"]).await;
        assert!(err.contains(expected), "{expected} in {err}");
        let (_, err) =
            host.holdfast(&["serve", "--listen", "127.0.0.1:0", "--database", "sqlite://other.db"]).await;
        assert!(err.contains(expected), "{expected} in {err}");
    }
}
