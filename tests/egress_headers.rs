//! What a guest writes into a request stays what it is: one request, to one host, without credentials of its own
//! choice; and of a response it sees what is meant for it.

use serde_json::json;

use crate::support::egress::{API, Sender, get};
use crate::support::web::{ok, raw};

/// The deny twins are in the hostile corpus.
#[tokio::test(flavor = "multi_thread")]
async fn a_guests_own_headers_are_sent() {
    let sender = Sender::new(API, |_| ok("fine")).await;
    let fine = json!({"authority": "api.test", "headers": [["accept", "text/html"], ["x-request-id", "7"]]});
    let sent = sender.send(fine).await;
    assert_eq!(sent.outcome, "ok", "{}", sent.text);
    let request = "GET / HTTP/1.1\r\naccept: text/html\r\nx-request-id: 7\r\nhost: api.test\r\n\r\n";
    assert_eq!(sender.web.requests(), [request]);
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
