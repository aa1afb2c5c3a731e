//! The `http` plugin reads pages and JSON for an agent: as text, over redirects, and only where it may go.

use serde_json::json;

use crate::support::host::ONE_AGENT;
use crate::support::web::{Web, ok, raw};
use crate::support::{Script, TestHost, calls, say};

fn page(kind: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}")
}

#[tokio::test(flavor = "multi_thread")]
async fn it_reads_what_it_may() {
    let web = Web::start(|request| match request.split(' ').nth(1).unwrap_or_default() {
        "/old" => raw("HTTP/1.1 301 Moved\r\nlocation: /new\r\ncontent-length: 0\r\n\r\n"),
        "/new" => raw(&page("text/html; charset=utf-8", "<h1>Title</h1><script>no()</script><p>Some text.")),
        "/long" => raw(&page("text/plain", &"word ".repeat(1000))),
        "/api" => raw(&page("application/json", "{\"answer\": 42}")),
        "/away" => raw("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"),
        _ => ok("nothing"),
    })
    .await;
    let port = web.address.port();
    let grant = format!(
        "[[plugins.http.grants.http]]\nhost = \"127.0.0.1\"\nport = {port}\nscheme = \"http\"\nprivate = true\n"
    );
    let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
    let script = Script::new([
        calls([
            ("http__fetch", json!({"url": url("/old#part")})),
            ("http__fetch", json!({"url": url("/long"), "max_chars": 100})),
            ("http__fetch_json", json!({"url": url("/api")})),
            ("http__fetch_json", json!({"url": url("/new")})),
            ("http__fetch", json!({"url": url("/away")})),
        ]),
        say("done"),
    ]);
    let host = TestHost::start(&["http"], &format!("{ONE_AGENT}{grant}"), script).await;
    let run = host.run("go").await;
    let said = |index: usize| {
        let tool = &run["tools"][index];
        (tool["outcome"].as_str().unwrap_or_default(), tool["toolOutput"].as_str().unwrap_or_default())
    };
    assert_eq!(said(0), ("ok", "# Title\n\nSome text.\n"), "{run}");
    let (outcome, text) = said(1);
    assert!(outcome == "ok" && text.len() < 200 && text.ends_with("[cut here: there is more]"), "{text}");
    assert_eq!(said(2), ("ok", "{\"answer\":42}"));
    let (outcome, text) = said(3);
    assert!(outcome == "tool-error" && text.contains("is not JSON"), "{text}");
    assert_eq!(said(4).0, "denied", "a redirect leads nowhere else");
}
