//! Requests to where nobody may go, that are two requests in one, or that meet a server that means harm. Each is
//! judged by how its call ends, by how far it comes ("unasked": not even a name was looked up), and by what the
//! operator's log says of it.

use std::time::Duration;

use futures_util::FutureExt as _;
use holdfast::plugin::{Limits, PluginSettings};
use serde_json::json;

use super::bench::{Fixture, Row, granted};
use super::internet::Attempt;
use crate::support::egress::get;
use crate::support::guests::guest;
use crate::support::web::{PUBLIC, raw};

/// To one host, over plain HTTP.
pub(super) fn api() -> PluginSettings {
    let rule = json!({"host": "api.test", "scheme": "http", "methods": ["GET", "POST"]});
    PluginSettings { limits: limits(), ..granted(json!({"http": [rule]})) }
}

/// To every host that is public.
fn anywhere() -> PluginSettings {
    PluginSettings { limits: limits(), ..granted(json!({"http": [{"host": "*", "scheme": "http"}]})) }
}

/// Low enough that running into them takes no time.
fn limits() -> Limits {
    Limits {
        http_requests: 3,
        http_request_bytes: 20_000,
        http_response_bytes: 100_000,
        http_header_bytes: 9000,
        http_idle_ms: 200,
        wall_ms: 2000,
        ..Limits::default()
    }
}

pub(super) fn row(name: impl Into<String>, attempt: Attempt, outcome: &'static str) -> Row {
    Row {
        name: name.into(),
        fixture: Fixture::Scene(Box::new(move |bench| {
            let attempt = attempt.clone();
            async move { bench.send(&attempt).await }.boxed_local()
        })),
        outcome,
        within: Duration::from_secs(20),
        // With the guest, which may have to be compiled, and whose cached code is compressed anew after many uses.
        peak_mib: 256,
    }
}

/// Each asks for the same of another authority.
fn asking(settings: &PluginSettings, authorities: &[&'static str], outcome: &'static str) -> Vec<Row> {
    let attempt = |authority: &&str| Attempt::new(settings.clone(), json!({"authority": authority}));
    authorities
        .iter()
        .map(|authority| row(format!("to {}", authority.escape_default()), attempt(authority), outcome))
        .collect()
}

const NO_RULE: &str =
    "denied http, unasked: no rule covers this host, port, scheme and method [plugins.evil.grants.http]";
const INSIDE: &str = "denied http, unasked: the address is not public, and the rule has no `private = true` [plugins.evil.grants.http]";
const ODD_HOST: &str = "denied http, unasked: the host is no";
/// Already the interface takes no such text.
const UNWRITABLE: &str = "guest-failure, unasked";
const ODD_PORT: &str = "denied http, unasked: the port is no number from 1 to 65535";

pub(super) fn rows() -> Vec<Row> {
    let mut rows = elsewhere();
    rows.extend(otherwise());
    rows.extend(asking(&anywhere(), &INSIDE_V4, INSIDE));
    rows.extend(asking(&anywhere(), &INSIDE_V6, INSIDE));
    rows.extend(asking(&anywhere(), &ODD_SPELLINGS, ODD_HOST));
    rows.extend(asking(&anywhere(), &UNWRITABLE_SPELLINGS, UNWRITABLE));
    rows.extend(led_inside());
    rows
}

/// Other hosts, and spellings of the granted one.
fn elsewhere() -> Vec<Row> {
    let api = api();
    let mut rows = asking(&api, &["api.test", "API.Test", "api.test.", "api.test:80"], "ok, sent");
    let others = [
        "other.test",
        "api.test.evil.com",
        "sub.api.test",
        "xapi.test",
        "api.tes",
        "test",
        "127.0.0.1",
        "[::1]",
        "xn--pi-7kc.test",
        "api.test:8080",
        "api.test:443",
    ];
    rows.extend(asking(&api, &others, NO_RULE));
    let odd = [
        "user@api.test",
        "user:word@api.test",
        "api.test@evil.test",
        "api.test:80@evil.test",
        "api.test..",
        ".api.test",
        "*",
        "*.test",
    ];
    rows.extend(asking(&api, &odd, ODD_HOST));
    rows.extend(asking(
        &api,
        &["api.test:", "api.test:0", "api.test:080", "api.test:65616", "api.test:+80"],
        ODD_PORT,
    ));
    // Cyrillic, full-width, a soft hyphen, an ideographic full stop; what ends a host elsewhere.
    let unwritable = [
        "",
        "api.test%40evil.test",
        "api%2etest",
        "\u{430}pi.test",
        "\u{ff41}pi.test",
        "api\u{ad}.test",
        "api\u{3002}test",
        "api.test\\@evil.test",
        "api.test/@evil.test",
        "api.test#@evil.test",
        "api.test\r\nx: y",
        "api.test x",
        "api.test:80:80",
    ];
    rows.extend(asking(&api, &unwritable, UNWRITABLE));
    rows
}

/// Other methods and schemes.
fn otherwise() -> Vec<Row> {
    let with = |name: &str, value: &str, outcome| {
        let mut arguments = get("/");
        arguments[name] = json!(value);
        row(format!("{name} {value}"), Attempt::new(api(), arguments), outcome)
    };
    let mut rows = vec![
        with("method", "POST", "ok, sent"),
        with("method", "DELETE", NO_RULE),
        with("method", "post", NO_RULE),
        with("method", "CONNECT", NO_RULE),
        with("method", "TRACE", NO_RULE),
        with("scheme", "https", NO_RULE),
        with("scheme", "ftp", UNWRITABLE),
        with("scheme", "HTTP", UNWRITABLE),
        with("scheme", "file", UNWRITABLE),
    ];
    let component = std::fs::read(guest("egress")).expect("a component");
    rows.push(super::loads::row("requests without a grant", component, "[[plugins.evil.grants.http]]"));
    rows
}

/// The last four are metadata services.
const INSIDE_V4: [&str; 31] = [
    "0.0.0.0",
    "0",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.0.0.1.",
    "127.255.255.254",
    "127.1",
    "127.0.1",
    "2130706433",
    "017700000001",
    "0177.0.0.1",
    "0177.0.0x0.1",
    "0x7f000001",
    "0X7F.1",
    "0x7f.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.2.1",
    "192.168.0.1",
    "3232235521",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "255.255.255.255",
    "169.254.169.254",
    "2852039166",
    "100.100.100.200",
    "168.63.129.16",
];

const INSIDE_V6: [&str; 20] = [
    "[::]",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::FFFF:169.254.169.254]",
    "[::127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::7f00:1]",
    "[100::1]",
    "[2001::7f00:1]",
    "[2001:db8::1]",
    "[2002:7f00:1::]",
    "[3fff::1]",
    "[5f00::1]",
    "[fd00:ec2::254]",
    "[fe80::1]",
    "[fec0::1]",
    "[ff02::1]",
];

const ODD_SPELLINGS: [&str; 6] =
    ["[::1%eth0]", "[fe80::1%25eth0]", "127.0.0.256", "0x100000000", "127.0.0.1,api.test", "[127.0.0.1]"];

const UNWRITABLE_SPELLINGS: [&str; 5] =
    ["[::1", "::1", "127.0.0.1%00.api.test", "127%2e0%2e0%2e1", "\u{ff11}27.0.0.1"];

/// Where names lead that anybody may ask for.
fn led_inside() -> Vec<Row> {
    const LED: &str = "denied http, looked up: a request to api.test: its address";
    let mut rows = Vec::new();
    for inside in [
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "192.168.0.1",
        "224.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::1",
        "fd00:ec2::254",
        "fe80::1",
    ] {
        for (what, answer) in [
            ("a name for", vec![inside]),
            ("a public address beside", vec![PUBLIC, inside]),
            ("a public v6 address behind", vec![inside, "2606:4700::1111"]),
        ] {
            let attempt = Attempt {
                addresses: vec![answer],
                hidden: inside.to_owned(),
                ..Attempt::new(api(), get("/"))
            };
            rows.push(row(format!("{what} {inside}"), attempt, LED));
        }
    }
    let named = |name, address| Attempt {
        name,
        addresses: vec![vec![address]],
        ..Attempt::new(anywhere(), json!({"authority": name}))
    };
    let led = "denied http, looked up: a request to";
    rows.push(row("localhost", named("localhost", "127.0.0.1"), led));
    rows.push(row("metadata.google.internal", named("metadata.google.internal", "169.254.169.254"), led));
    rows.push(row("127.0.0.1.nip.test", named("127.0.0.1.nip.test", "127.0.0.1"), led));
    // The second request is another one, and so is its answer.
    let rebinding = Attempt {
        addresses: vec![vec![PUBLIC], vec!["127.0.0.1"]],
        ..Attempt::new(api(), json!({"authority": "api.test", "times": 2}))
    };
    rows.push(row(
        "DNS rebinding",
        rebinding,
        "denied http, sent: a request to api.test: its address 127.0.0.1",
    ));
    let never = Attempt { addresses: Vec::new(), ..Attempt::new(api(), get("/")) };
    rows.push(row("a resolver that never answers", never, "limit http-idle, looked up"));
    rows.push(row(
        "a name that nobody knows",
        Attempt::new(anywhere(), json!({"authority": "no.test"})),
        "guest-failure, looked up",
    ));
    for to in
        ["http://169.254.169.254/latest/meta-data/", "//127.0.0.1/", "file:///etc/passwd", "http://api.test/"]
    {
        let reply = raw(&format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n"));
        rows.push(row(
            format!("redirect to {to}"),
            Attempt { reply, ..Attempt::new(api(), get("/")) },
            "ok, sent",
        ));
    }
    rows
}
