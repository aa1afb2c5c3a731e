//! What a guest writes into a request stays what it is: one request, to one host, without credentials of its own
//! choice; and of a response it sees what is meant for it.

use serde_json::json;

use crate::support::egress::{API, Sender, get};
use crate::support::web::{ok, raw};

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_are_the_hosts_are_denied() {
    let sender = Sender::new(API, |_| ok("never")).await;
    for name in [
        "Authorization",
        "authorization",
        "Proxy-Authorization",
        "Cookie",
        "Host",
        "HOST",
        "Connection",
        "Keep-Alive",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "transfer_encoding",
        "Upgrade",
        "Expect",
        "Content_Length",
        "HTTP2-Settings",
        "Proxy-Connection",
        "Forwarded",
        "Via",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X_Forwarded_For",
        "X-Real-IP",
        "X-HTTP-Method-Override",
        "X-Original-URL",
        "X-Rewrite-URL",
        "Sec-WebSocket-Key",
    ] {
        let sent = sender.send(json!({"authority": "api.test", "headers": [[name, "x"]]})).await;
        assert_eq!(sent.outcome, "denied", "{name}: {}", sent.text);
        assert!(sent.seen.look_ups.is_empty(), "{name}");
    }
    let fine = json!({"authority": "api.test", "headers": [["accept", "text/html"], ["x-request-id", "7"]]});
    let sent = sender.send(fine).await;
    assert_eq!(sent.outcome, "ok", "{}", sent.text);
    let request = "GET / HTTP/1.1\r\naccept: text/html\r\nx-request-id: 7\r\nhost: api.test\r\n\r\n";
    assert_eq!(sender.web.requests(), [request]);
}

/// None of these gets a second line, let alone a second request, past the guest's own interface.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_makes_two_requests_of_one() {
    let sender = Sender::new(API, |_| ok("fine")).await;
    for arguments in [
        json!({"headers": [["x-a", "1\r\nx-b: 2"]]}),
        json!({"headers": [["x-a", "1\nx-b: 2"]]}),
        json!({"headers": [["x-a", "1\r\n\r\nGET /admin HTTP/1.1"]]}),
        json!({"headers": [["x-a", "1\u{0}2"]]}),
        json!({"headers": [["x-a\r\nx-b", "1"]]}),
        json!({"headers": [["x a", "1"]]}),
        json!({"headers": [["x-a:", "1"]]}),
        json!({"headers": [["", "1"]]}),
        json!({"headers": [["content-length", "5"], ["content-length", "6"]], "method": "POST", "body": 5}),
        json!({"headers": [["content-length", "+5"]], "method": "POST", "body": 5}),
        json!({"path": "/ HTTP/1.1\r\nhost: evil\r\n\r\n"}),
        json!({"path": "/a b"}),
        json!({"path": "http://evil.test/"}),
        json!({"path": "*"}),
        json!({"method": "GET /admin HTTP/1.1\r\nx:"}),
        json!({"method": "GE T"}),
    ] {
        let mut whole = arguments.clone();
        whole["authority"] = json!("api.test");
        let sent = sender.send(whole).await;
        assert_ne!(sent.outcome, "ok", "{arguments}: {}", sent.text);
    }
    // A body that is longer than it says is not sent.
    let longer =
        json!({"authority": "api.test", "headers": [["content-length", "0"]], "body": 40, "method": "POST"});
    sender.send(longer).await;
    for request in sender.web.requests() {
        assert!(request.starts_with("POST / HTTP/1.1\r\n") && request.ends_with("\r\n\r\n"), "{request:?}");
    }
    let sent = sender.send(json!({"authority": "api.test", "method": "POST", "trailers": true})).await;
    assert_eq!(sent.outcome, "denied", "trailers: {}", sent.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_response_a_guest_sees_what_is_meant_for_it() {
    let head = "HTTP/1.1 200 OK\r\nset-cookie: session=1\r\nconnection: close\r\nkeep-alive: timeout=5\r\n\
                upgrade: h2c\r\nproxy-authenticate: Basic\r\nx-kind: mine\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunked = format!("{head}3;name=value\r\nabc\r\n0\r\nx-trailer: 1\r\n\r\n");
    let sender = Sender::new(API, move |_| raw(&chunked)).await;
    let sent = sender.send(get("/")).await;
    assert_eq!((sent.outcome.as_str(), sent.text.as_str()), ("ok", "200\nx-kind: mine\n\nabc"));
}

/// Responses that two readers could read in two ways, and ones that are none.
#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_is_not_plain_http_is_an_error() {
    for text in [
        "",
        "\r\n\r\n",
        "hello",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx y: z\r\n\r\n",
    ] {
        let sender = Sender::new(API, move |_| raw(text)).await;
        let sent = sender.send(get("/")).await;
        assert_eq!(sent.outcome, "guest-failure", "{text:?}: {}", sent.text);
    }
}
