//! A mistake in the settings stops the start, with its file, its line and what is allowed there.

use std::path::Path;
use std::process::{Output, Stdio};

use crate::support::command::holdfast;
use crate::support::server::Server;

/// What `holdfast serve` says about this file, having refused it.
async fn refused(text: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("holdfast.toml"), text).expect("a file");
    let output = holdfast(folder.path(), &["serve", "--listen", "127.0.0.1:0"], &[]).await;
    assert!(!output.status.success(), "it was taken: {text}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let said = String::from_utf8(output.stderr).expect("text");
    for inside in ["panicked", "backtrace", ".rs:", "Error {", "ConfigError", "FileTable", "AgentTable"] {
        assert!(!said.contains(inside), "{inside} in {said}");
    }
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mistake_is_named_with_its_place_and_what_is_allowed() {
    // After two lines.
    let agent = |line: &str| format!("\n\n[[agents]]\nid = \"a\"\nmodel = \"demo\"\n{line}\n");
    let table: [(String, &[&str]); 28] = [
        ("\nlisten_on = 1\n".to_owned(), &["line 2, column 1", "unknown field `listen_on`", "`listen`"]),
        ("listen = \"localhost\"\n".to_owned(), &["line 1", "socket address"]),
        ("listen = 8080\n".to_owned(), &["line 1", "invalid type", "8080"]),
        ("shutdown_grace_ms = -1\n".to_owned(), &["line 1", "-1"]),
        ("database = true\n".to_owned(), &["line 1", "invalid type", "a string"]),
        ("listen = \n".to_owned(), &["line 1, column 10"]),
        ("[http]\nmax_body = 1\n".to_owned(), &["line 2", "unknown field `max_body`", "`max_body_bytes`"]),
        ("[providers.x]\nkey = \"s\"\n".to_owned(), &["line 2", "unknown field `key`", "`api_key_env`"]),
        ("[providers.x]\nbase_url = \"nowhere\"\n".to_owned(), &["line 2", "URL"]),
        ("[plugins.a.grants]\nfiles = true\n".to_owned(), &["line 2", "unknown field `files`", "`kv`"]),
        ("[plugins.a.limits]\nmemory = 1\n".to_owned(), &["line 2", "`memory`", "`memory_bytes`"]),
        ("[plugins.a.limits]\ncpu_ms = \"1 s\"\n".to_owned(), &["line 2", "invalid type", "u64"]),
        (
            "[plugins.a.secrets]\nk = { env = \"NO_SUCH_KEY\" }\n".to_owned(),
            &["[plugins.a] the secret `k`: the environment variable NO_SUCH_KEY is not set"],
        ),
        ("[plugins.a.secrets]\nk = \"value\"\n".to_owned(), &["line 2", "a secret is { env = \"NAME\" }"]),
        ("[egress]\nca_file = \"none.pem\"\n".to_owned(), &["[egress] ca_file", "none.pem"]),
        ("[plugins.a.config]\nk = []\n".to_owned(), &["line 2", "a setting must be a text"]),
        ("[plugins.A]\n".to_owned(), &["[plugins.A]", "is not a legal name"]),
        ("[background]\nworkers = 0\n".to_owned(), &["workers must be from 1 to 10000, not 0"]),
        ("[[agents]]\nid = \"a\"\n".to_owned(), &["line 1", "missing field `model`"]),
        (agent("modell = \"x\""), &["line 6", "unknown field `modell`", "`model`"]),
        (agent("tools = [\"calculator\"]"), &["line 6", "`calculator` names no tools", "plugin.*"]),
        (agent("approval = { \"a.b\" = \"never\" }"), &["line 6", "`allow`, `ask`, `deny`"]),
        (agent("max_steps = 101"), &["line 3", "max_steps of agent `a` must be from 1 to 100, not 101"]),
        (agent("temperature = 2.5"), &["line 3", "temperature of agent `a` must be from 0 to 2"]),
        (agent("timeout_ms = 0"), &["line 3", "timeout_ms of agent `a` must be from 1 to"]),
        (agent("[[agents]]\nid = \"a\"\nmodel = \"demo\""), &["line 6", "another agent with the id `a`"]),
        (agent("[[agents]]\nid = \"b c\"\nmodel = \"demo\""), &["line 6", "letters, digits"]),
        (agent("[[agents]]\nid = \"b\"\nmodel = \"gpt-4o\""), &["line 8", "`gpt-4o`", "provider::model"]),
    ];
    for (text, expected) in table {
        let said = refused(&text).await;
        assert!(said.contains("holdfast.toml"), "{said}");
        for part in expected {
            assert!(said.contains(part), "{part} is not in what is said about\n{text}\n{said}");
        }
    }
}

/// What can only be seen when the parts are put together names its agent or its provider.
#[tokio::test(flavor = "multi_thread")]
async fn unknown_providers_and_adapters_list_the_known_ones() {
    let said = refused("[[agents]]\nid = \"a\"\nmodel = \"nobody::x\"\n").await;
    for part in ["agent `a`", "`nobody`", "openai", "providers.<name>.base_url"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let said = refused("[providers.x]\nadapter = \"soap\"\nbase_url = \"http://127.0.0.1:1/\"\n").await;
    for part in ["providers.x.adapter", "`soap`", "openai", "anthropic"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_read_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let said = |output: Output| {
        assert!(!output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).expect("text")
    };
    let missing = said(holdfast(folder.path(), &["serve", "--config", "none.toml"], &[]).await);
    assert!(missing.contains("cannot read none.toml") && missing.contains("No such file"), "{missing}");
    let by_variable = said(holdfast(folder.path(), &["serve"], &[("HOLDFAST_CONFIG", "none.toml")]).await);
    assert!(by_variable.contains("cannot read none.toml"), "{by_variable}");
    std::fs::write(folder.path().join("holdfast.toml"), [0xff, 0xfe]).expect("a file");
    let binary = said(holdfast(folder.path(), &["serve"], &[]).await);
    assert!(binary.contains("cannot read holdfast.toml") && binary.contains("UTF-8"), "{binary}");
    std::fs::remove_file(folder.path().join("holdfast.toml")).expect("it is there");

    let database = ["serve", "--listen", "127.0.0.1:0", "--database", "mysql://x"];
    let database = said(holdfast(folder.path(), &database, &[]).await);
    assert!(database.contains("sqlite://"), "{database}");
    let listen = said(holdfast(folder.path(), &["serve", "--listen", "here"], &[]).await);
    assert!(listen.contains("--listen") && listen.contains("ADDRESS:PORT"), "{listen}");
}

/// Every command explains itself, with the variables that it reads.
#[tokio::test(flavor = "multi_thread")]
async fn every_command_has_help() {
    let folder = tempfile::tempdir().expect("a folder");
    let server: &[&str] =
        &["HOLDFAST_CONFIG", "HOLDFAST_LISTEN", "HOLDFAST_DATABASE_URL", "HOLDFAST_PLUGINS"];
    let toolchain: &[&str] = &["HOLDFAST_GUEST_TOOLCHAIN"];
    let table: [(&[&str], &[&str]); 13] = [
        (&[], &["HOLDFAST_ADMIN_TOKEN", "HOLDFAST_LOG"]),
        (&["serve"], server),
        (&["dev"], server),
        (&["dev"], toolchain),
        (&["plugin"], &["build", "inspect", "list", "install", "remove", "grant", "revoke"]),
        (&["plugin", "build"], toolchain),
        (&["plugin", "inspect"], server),
        (&["plugin", "list"], server),
        (&["key"], &["create", "list", "revoke"]),
        (&["key", "create"], server),
        (&["key", "list"], server),
        (&["key", "revoke"], server),
        (&["openapi"], &[]),
    ];
    for (command, mentioned) in table {
        for flag in ["--help", "-h"] {
            let args: Vec<&str> = command.iter().copied().chain([flag]).collect();
            let output = holdfast(folder.path(), &args, &[]).await;
            assert!(output.status.success() && output.stderr.is_empty(), "{args:?}: {output:?}");
            let text = String::from_utf8(output.stdout).expect("text");
            for word in mentioned {
                assert!(text.contains(word), "{args:?} does not mention {word}: {text}");
            }
        }
    }
    let version = holdfast(folder.path(), &["--version"], &[]).await;
    assert!(String::from_utf8_lossy(&version.stdout).starts_with("holdfast 0."), "{version:?}");
    assert!(!holdfast(folder.path(), &["sevre"], &[]).await.status.success());
}

/// Arguments, variables, and the URL and the database that must come of them.
type Row<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str, &'a str);

/// A flag wins over a variable, and that over the file; what is nowhere has its default.
#[tokio::test(flavor = "multi_thread")]
async fn flags_beat_variables_beat_the_file() {
    let file = "listen = \"127.0.0.2:0\"\ndatabase = \"sqlite://file.db\"\n";
    let variables = [("HOLDFAST_LISTEN", "127.0.0.3:0"), ("HOLDFAST_DATABASE_URL", "sqlite://variable.db")];
    let flags = ["serve", "--listen", "127.0.0.4:0", "--database", "sqlite://flag.db"];
    let table: [Row<'_>; 3] = [
        (&["serve"], &[], "http://127.0.0.2:", "file.db"),
        (&["serve"], &variables, "http://127.0.0.3:", "variable.db"),
        (&flags, &variables, "http://127.0.0.4:", "flag.db"),
    ];
    for (args, environment, url, database) in table {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("holdfast.toml"), file).expect("a file");
        let server = Server::launch(folder.path(), args, environment).await;
        assert!(server.url.starts_with(url), "{} for {args:?} {environment:?}", server.url);
        let databases: Vec<String> = std::fs::read_dir(folder.path())
            .expect("the folder")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .filter(|name| Path::new(name).extension().is_some_and(|ending| ending == "db"))
            .collect();
        assert_eq!(databases, [database], "{args:?} {environment:?}");
    }
}

/// Paths in the file are relative to the file, wherever the program is started.
#[tokio::test(flavor = "multi_thread")]
async fn paths_in_the_file_start_at_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = folder.path().join("settings");
    std::fs::create_dir(&settings).expect("a folder");
    let text = "listen = \"127.0.0.1:0\"\ndatabase = \"sqlite://kept.db\"\n";
    std::fs::write(settings.join("holdfast.toml"), text).expect("a file");
    let args = ["serve", "--config", "settings/holdfast.toml"];
    let _server = Server::launch(folder.path(), &args, &[]).await;
    assert!(settings.join("kept.db").exists());
}

#[test]
fn a_reader_that_has_had_enough_is_no_error() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_holdfast"));
    let mut printing =
        command.arg("openapi").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    drop(printing.stdout.take());
    let output = printing.wait_with_output().expect("it ends");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
