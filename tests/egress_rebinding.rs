//! A name is looked up once, and what is checked is what is connected to: a resolver that changes its mind, that
//! mixes its answers or that never answers gets nobody inside.

use serde_json::json;

use crate::support::egress::{API, Sender, get};
use crate::support::web::{PUBLIC, ok};

#[tokio::test(flavor = "multi_thread")]
async fn a_second_answer_is_never_asked_for() {
    let sender = Sender::new(API, |_| ok("public")).await;
    sender.world.name("api.test", &[&[PUBLIC], &["127.0.0.1"]]);
    let first = sender.send(get("/")).await;
    assert_eq!(first.outcome, "ok", "{}", first.text);
    assert_eq!(first.seen.look_ups, ["api.test"], "once");
    assert_eq!(first.seen.connections, [format!("{PUBLIC}:80")]);
    // The next request is another one: it gets the second answer, and that is checked like the first.
    let second = sender.send(get("/")).await;
    assert_eq!(second.outcome, "denied", "{}", second.text);
    assert_eq!(second.seen.look_ups, ["api.test"]);
    assert!(second.seen.connections.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_inside_spoils_the_answer() {
    let sender = Sender::new(API, |_| ok("never")).await;
    for inside in [
        "127.0.0.1",
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "192.168.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::1",
        "fe80::1",
        "fd00:ec2::254",
    ] {
        for answer in [&[inside][..], &[PUBLIC, inside], &[inside, PUBLIC], &["2606:4700::1111", inside]] {
            sender.world.name("api.test", &[answer]);
            let sent = sender.send(get("/")).await;
            assert_eq!(sent.outcome, "denied", "{answer:?}: {}", sent.text);
            assert!(sent.seen.connections.is_empty(), "{answer:?}");
            assert!(!sent.text.contains(inside), "the model does not read what is inside: {}", sent.text);
        }
    }
    assert!(sender.web.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolver_that_does_not_answer_is_not_waited_for() {
    let settings = format!("{API}[plugins.egress.limits]\nhttp_idle_ms = 100\n");
    let sender = Sender::new(&settings, |_| ok("never")).await;
    sender.world.name("api.test", &[]);
    let sent = sender.send(get("/")).await;
    assert_eq!(sent.outcome, "limit", "{}", sent.text);
    assert!(sent.text.contains("waiting for an HTTP server"), "{}", sent.text);
    // And one that knows nothing is the guest's to handle.
    let any = API.replace("api.test", "*");
    let unknown = Sender::new(&any, |_| ok("never")).await.send(json!({"authority": "unknown.test"})).await;
    assert_eq!(unknown.outcome, "guest-failure", "{}", unknown.text);
    assert!(unknown.text.contains("DnsError"), "{}", unknown.text);
}

/// The system's resolver keeps a thread for each look-up until it ends, whoever waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn look_ups_that_never_end_do_not_pile_up() {
    let settings = format!("{API}[plugins.egress.limits]\nhttp_idle_ms = 50\nbreaker_failures = 0\n");
    let sender = Sender::new(&settings, |_| ok("never")).await;
    sender.world.name("api.test", &[]);
    let mut look_ups = 0;
    for _ in 0..12 {
        let sent = sender.send(get("/")).await;
        assert_eq!(sent.outcome, "limit", "{}", sent.text);
        look_ups += sent.seen.look_ups.len();
    }
    assert_eq!(look_ups, 8);
}
