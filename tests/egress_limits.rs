//! Each limit on requests has a server or a guest that runs into it: the call ends with the limit's name, and what
//! was sent before is in its usage.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::support::egress::{API, Sender, get};
use crate::support::web::{Reply, ok, raw};

const LIMITS: &str = "[plugins.egress.limits]\nhttp_requests = 3\nhttp_request_bytes = 20000\n\
                      http_response_bytes = 100000\nhttp_header_bytes = 9000\nhttp_idle_ms = 200\nwall_ms = 3000\n";

/// What a server sends, what is asked of it, and what the model reads of the limit.
struct Row(Reply, Value, &'static str);

fn bytes(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

/// A response with so many headers.
fn headers(count: usize, length: usize) -> Reply {
    let mut text = "HTTP/1.1 200 OK\r\n".to_owned();
    for index in 0..count {
        write!(text, "x-{index}: {}\r\n", "v".repeat(length)).expect("a string takes everything");
    }
    raw(&format!("{text}content-length: 0\r\n\r\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_limit_ends_its_call() {
    let endless = |start: &str, piece: &str| Reply::Endless(bytes(start), bytes(piece));
    let silence = |start: &str| Reply::Silence(bytes(start));
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let received = "bytes received over HTTP";
    let waiting = "time of waiting for an HTTP server";
    let header = "size of HTTP headers";
    let post = |body: u64| json!({"authority": "api.test", "method": "POST", "body": body});
    for Row(reply, arguments, limit) in [
        Row(endless("HTTP/1.1 200 OK\r\n\r\n", &"x".repeat(1000)), get("/"), received),
        Row(endless("HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n", "xxxx"), get("/"), received),
        // Small chunks, interim responses without end: what frames a message are bytes as well.
        Row(endless(chunked, &"1\r\nx\r\n".repeat(100)), get("/"), received),
        Row(endless("", "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"), get("/"), received),
        Row(headers(1, 20_000), get("/"), header),
        Row(headers(100, 100), get("/"), header),
        Row(headers(200, 1), get("/"), header),
        Row(endless("HTTP/1.1 200 OK\r\n", "x-more: and more\r\n"), get("/"), header),
        Row(silence(""), get("/"), waiting),
        Row(silence("HTTP/1.1 200"), get("/"), waiting),
        Row(silence("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"), get("/"), waiting),
        Row(silence(&format!("{chunked}5\r\nab")), get("/"), waiting),
        Row(ok(""), post(30_000), "bytes sent over HTTP"),
        Row(ok(""), json!({"authority": "api.test", "times": 4}), "number of HTTP requests"),
        Row(ok(""), get(&format!("/{}", "p".repeat(10_000))), header),
    ] {
        let shown = format!("{reply:.60?}");
        let sender = Sender::new(&format!("{API}{LIMITS}"), move |_| reply.clone()).await;
        let sent = sender.send(arguments.clone()).await;
        assert_eq!(sent.outcome, "limit", "{limit}, {arguments}: {}", sent.text);
        assert!(sent.text.contains(limit), "{limit}, {arguments}, {shown}: {}", sent.text);
        let received = sent.usage["httpReceivedBytes"].as_u64().unwrap_or(u64::MAX);
        assert!(received < 150_000, "no more is read than is allowed, and what came with it: {received}");
    }
}

/// Small chunks with big extensions: these are refused before any limit on bytes is reached.
#[tokio::test(flavor = "multi_thread")]
async fn chunk_extensions_have_an_end() {
    let chunk = format!("1;{}\r\nx\r\n", "e".repeat(500));
    let start = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let sender = Sender::new(API, move |_| Reply::Endless(start.clone(), chunk.clone().into_bytes())).await;
    let sent = sender.send(get("/")).await;
    assert_eq!(sent.outcome, "guest-failure", "{}", sent.text);
    assert!(sent.usage["httpReceivedBytes"].as_u64().is_some_and(|bytes| bytes < 200_000), "{}", sent.usage);
}

/// The same requests within the limits.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_is_not_reached_costs_nothing() {
    let sender = Sender::new(&format!("{API}{LIMITS}"), |_| ok(&"x".repeat(90_000))).await;
    let sent = sender.send(get("/")).await;
    assert_eq!(sent.outcome, "ok", "{}", sent.text);
    let sent = sender.send(json!({"authority": "api.test", "method": "POST", "body": 19_000})).await;
    assert_eq!(sent.outcome, "ok", "{}", sent.text);
    let sent = sender.send(json!({"authority": "api.test", "times": 4, "cope": true})).await;
    assert_eq!((sent.outcome.as_str(), &sent.usage["httpRequests"]), ("ok", &json!(3)), "{}", sent.text);
}

/// What waits in the host for requests that are never sent is bounded.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_held_back_are_bounded() {
    let sender = Sender::new(API, |_| ok("never")).await;
    let sent = sender.call("egress__hold", json!({"count": 5000})).await;
    assert!(["limit", "trap"].contains(&sent.outcome.as_str()), "{}: {}", sent.outcome, sent.text);
    assert!(sender.web.requests().is_empty());
}
