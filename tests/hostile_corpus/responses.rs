//! What is written into requests, and what servers that mean harm answer.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use holdfast::plugin::{PluginSettings, SecretValue};
use serde_json::{Value, json};

use super::bench::Row;
use super::internet::Attempt;
use super::requests::{api, row};
use crate::support::egress::get;
use crate::support::web::{Reply, ok, raw};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = of_the_hosts_headers();
    rows.extend(two_in_one());
    rows.extend(not_plain_http());
    rows.extend(without_end());
    rows.extend(too_large());
    rows.extend(echoes());
    rows
}

fn sending(arguments: Value) -> Attempt {
    let mut whole = arguments;
    whole["authority"] = json!("api.test");
    Attempt::new(api(), whole)
}

fn answering(reply: Reply) -> Attempt {
    Attempt { reply, ..Attempt::new(api(), get("/")) }
}

fn of_the_hosts_headers() -> Vec<Row> {
    [
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
    ]
    .into_iter()
    .map(|name| {
        let attempt = sending(json!({"headers": [[name, "x"]]}));
        row(format!("header {name}"), attempt, "denied http, unasked: to write the header `")
    })
    .collect()
}

/// None of these gets a second line, let alone a second request, past the guest's own interface.
fn two_in_one() -> Vec<Row> {
    let refused = "guest-failure, unasked";
    let mut rows: Vec<Row> = [
        json!({"headers": [["x-a", "1\r\nx-b: 2"]]}),
        json!({"headers": [["x-a", "1\nx-b: 2"]]}),
        json!({"headers": [["x-a", "1\r\n\r\nGET /admin HTTP/1.1"]]}),
        json!({"headers": [["x-a", "1\u{0}2"]]}),
        json!({"headers": [["x-a\r\nx-b", "1"]]}),
        json!({"headers": [["x a", "1"]]}),
        json!({"headers": [["x-a:", "1"]]}),
        json!({"headers": [["", "1"]]}),
        json!({"path": "/ HTTP/1.1\r\nhost: evil\r\n\r\n"}),
        json!({"path": "/a b"}),
        json!({"path": "http://evil.test/"}),
        json!({"path": "*"}),
        json!({"method": "GET /admin HTTP/1.1\r\nx:"}),
        json!({"method": "GE T"}),
    ]
    .into_iter()
    .map(|arguments| row(format!("smuggled: {arguments}"), sending(arguments.clone()), refused))
    .collect();
    for (name, lengths, body, outcome) in [
        ("two lengths", json!([["content-length", "5"], ["content-length", "6"]]), 5, refused),
        ("a length with a sign", json!([["content-length", "+5"]]), 5, refused),
        // What is too much is not sent.
        ("a body longer than it says", json!([["content-length", "0"]]), 40, "ok, sent"),
        ("a body shorter than it says", json!([["content-length", "50"]]), 40, "guest-failure, sent"),
    ] {
        rows.push(row(name, sending(json!({"method": "POST", "headers": lengths, "body": body})), outcome));
    }
    let trailers = sending(json!({"method": "POST", "trailers": true}));
    rows.push(row("trailers", trailers, "denied http, sent: trailers behind a request's body"));
    rows
}

/// Responses that two readers could read in two ways, and ones that are none.
fn not_plain_http() -> Vec<Row> {
    [
        ("no response", ""),
        ("two empty lines", "\r\n\r\n"),
        ("no HTTP", "hello"),
        ("another protocol", "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"),
        ("chunks of gzip", "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        ("two lengths answered", "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd"),
        ("less than it said", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort"),
        ("less than nothing", "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n"),
        ("a chunk of no size", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n"),
        (
            "a chunk of 2^68",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        ),
        ("a header with a space", "HTTP/1.1 200 OK\r\nx y: z\r\n\r\n"),
    ]
    .into_iter()
    .map(|(name, text)| row(name, answering(raw(text)), "guest-failure, sent"))
    .collect()
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

fn without_end() -> Vec<Row> {
    let bytes = |text: &str| text.as_bytes().to_vec();
    let endless = |start: &str, piece: &str| answering(Reply::Endless(bytes(start), bytes(piece)));
    let silence = |start: &str| answering(Reply::Silence(bytes(start)));
    let drip = |start: &str, piece: &str| {
        let mut attempt = answering(Reply::Drip(bytes(start), bytes(piece)));
        // A busy machine may be late with a byte, though not by this much.
        attempt.settings.limits.http_idle_ms = 1500;
        attempt
    };
    let received = "limit http-response-bytes, sent";
    let idle = "limit http-idle, sent";
    // Nobody is silent for long, so that only the whole call's time ends it.
    let wall = "limit wall-time, sent";
    vec![
        row("endless body", endless("HTTP/1.1 200 OK\r\n\r\n", &"x".repeat(1000)), received),
        row(
            "endless, of a length",
            endless("HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n", "xxxx"),
            received,
        ),
        row("endless small chunks", endless(CHUNKED, &"1\r\nx\r\n".repeat(100)), received),
        row(
            "endless chunk extensions",
            endless(CHUNKED, &format!("1;{}\r\nx\r\n", "e".repeat(500))),
            "guest-failure, sent",
        ),
        row("endless early hints", endless("", "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"), received),
        row(
            "endless headers",
            endless("HTTP/1.1 200 OK\r\n", "x-more: and more\r\n"),
            "limit http-headers, sent",
        ),
        row("silence", silence(""), idle),
        row("silence in the status", silence("HTTP/1.1 200"), idle),
        row("silence in the body", silence("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"), idle),
        row("silence in a chunk", silence(&format!("{CHUNKED}5\r\nab")), idle),
        row("a body byte by byte", drip("HTTP/1.1 200 OK\r\n\r\n", "x"), wall),
        row("chunks byte by byte", drip(CHUNKED, "1\r\nx\r\n"), wall),
        row("headers byte by byte", drip("HTTP/1.1 200 OK\r\n", "x-more: and more\r\n"), wall),
        row("early hints byte by byte", drip("", "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"), wall),
    ]
}

/// A response with so many headers.
fn headers(count: usize, length: usize) -> Attempt {
    let mut text = "HTTP/1.1 200 OK\r\n".to_owned();
    for index in 0..count {
        let _ = write!(text, "x-{index}: {}\r\n", "v".repeat(length));
    }
    answering(raw(&format!("{text}content-length: 0\r\n\r\n")))
}

fn too_large() -> Vec<Row> {
    let hold = Attempt { tool: "hold", ..sending(json!({"count": 5000})) };
    let post = |body: u64| sending(json!({"method": "POST", "body": body}));
    let within = "ok, sent";
    vec![
        row("20 KB in one header", headers(1, 20_000), "limit http-headers, sent"),
        row("10 KB of headers", headers(100, 100), "limit http-headers, sent"),
        row("200 headers", headers(200, 1), "limit http-headers, sent"),
        row("100 headers", headers(100, 1), within),
        row("a response of 200 KB", answering(ok(&"x".repeat(200_000))), "limit http-response-bytes, sent"),
        row("a response of 90 KB", answering(ok(&"x".repeat(90_000))), within),
        row("a request of 30 KB", post(30_000), "limit http-request-bytes, sent"),
        row("a request of 19 KB", post(19_000), within),
        row(
            "a path of 10 KB",
            sending(json!({"path": format!("/{}", "p".repeat(10_000))})),
            "limit http-headers",
        ),
        row("4 requests, coped with", sending(json!({"times": 4, "cope": true})), "ok, 3 sent"),
        row("4 requests", sending(json!({"times": 4})), "limit http-requests, 3 sent"),
        row("5000 bodies that are not sent", hold, "limit instances, unasked"),
    ]
}

const SECRET: &str = "tOp-s3cret/Value+42";

/// The secret goes to one path of the server.
fn with_secret() -> PluginSettings {
    let mut settings = api();
    let rule =
        json!([{"use": "header", "name": "key", "header": "X-Api-Key", "audience": "http://api.test/v1/"}]);
    settings.grants.secrets = serde_json::from_value(rule).expect("a rule");
    let name = serde_json::from_value(json!("key")).expect("a name");
    settings.secrets.insert(name, SecretValue::new(SECRET).expect("a secret"));
    settings
}

/// Forms in which a server could give the secret back, also one that it was never sent to.
fn echoes() -> Vec<Row> {
    let hex = holdfast::tool::hex(SECRET.as_bytes());
    let each = |one: fn(u8) -> String| SECRET.bytes().map(one).collect::<String>();
    let percent = each(|byte| format!("%{byte:02x}"));
    let forms = [
        ("plain", SECRET.to_owned()),
        ("base64", STANDARD.encode(SECRET)),
        ("base64 behind a name", STANDARD.encode(format!("user:{SECRET}"))),
        ("base64 between", STANDARD.encode(format!("Bearer {SECRET}!"))),
        ("base64 for URLs", URL_SAFE_NO_PAD.encode(format!("a{SECRET}b"))),
        ("HEX", hex.to_uppercase()),
        ("hex", hex),
        ("PERCENT", percent.to_uppercase()),
        ("percent", percent),
        ("percent where it must be", SECRET.replace('/', "%2F").replace('+', "%2b")),
        ("JSON", SECRET.replace('/', "\\/")),
        ("JSON in numbers", each(|byte| format!("\\u00{byte:02x}"))),
        ("HTML in numbers", each(|byte| format!("&#{byte};"))),
        ("a list of bytes", each(|byte| format!("{byte}, "))),
        ("letter by letter", each(|byte| format!("{} ", char::from(byte)))),
    ];
    forms.iter().flat_map(|(form, echo)| echoed(form, echo)).collect()
}

fn echoed(form: &str, echo: &str) -> Vec<Row> {
    let body = format!("you sent {echo}, thank you");
    let pieces = |size: usize| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        let body = body.as_bytes().chunks(size).map(<[u8]>::to_vec);
        Reply::Pieces(std::iter::once(head.into_bytes()).chain(body).collect())
    };
    let chunks: String = body.as_bytes().chunks(5).fold(String::new(), |text, piece| {
        format!("{text}{:x}\r\n{}\r\n", piece.len(), String::from_utf8_lossy(piece))
    });
    [
        ("", ok(&body)),
        (", byte by byte", pieces(1)),
        (", in packets", pieces(16)),
        (", in chunks", raw(&format!("{CHUNKED}{chunks}0\r\n\r\n"))),
        (
            ", in a header",
            raw(&format!("HTTP/1.1 401 Unauthorized\r\nx-you-sent: {echo}\r\ncontent-length: 0\r\n\r\n")),
        ),
        (
            ", in a redirect",
            raw(&format!(
                "HTTP/1.1 302 Found\r\nlocation: http://api.test/?k={echo}\r\ncontent-length: 0\r\n\r\n"
            )),
        ),
    ]
    .into_iter()
    .zip(["/v1/", "/"].into_iter().cycle())
    .map(|((how, reply), path)| {
        let attempt = Attempt {
            reply,
            hidden: echo[..echo.len() / 2].to_owned(),
            ..Attempt::new(with_secret(), get(path))
        };
        row(
            format!("secret as {form}{how}"),
            attempt,
            "denied secrets, sent: a response of api.test with the secret `key` in it; it was cut off there",
        )
    })
    .collect()
}
