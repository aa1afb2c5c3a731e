//! A request goes where the operator said that it may, and nowhere else: no other host, port, scheme, method or
//! address, and not where a response points.

use std::sync::Arc;

use holdfast::plugin::Network;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::support::egress::{API, Sender, get};
use crate::support::host::ONE_AGENT;
use crate::support::web::{PUBLIC, Web, World, ok, raw};
use crate::support::{Script, TestHost, call, say};

#[tokio::test(flavor = "multi_thread")]
async fn a_granted_request_is_sent_to_the_address_that_was_checked() {
    let sender = Sender::new(API, |_| ok("hello")).await;
    let sent = sender
        .send(json!({"method": "POST", "authority": "API.Test.:80", "path": "/a?b=c", "body": 3,
                     "headers": [["content-type", "text/plain"], ["content-length", "3"]]}))
        .await;
    assert_eq!((sent.outcome.as_str(), sent.text.as_str()), ("ok", "200\ncontent-length: 5\n\nhello"));
    assert_eq!(sent.seen.look_ups, ["api.test"]);
    assert_eq!(sent.seen.connections, [format!("{PUBLIC}:80")]);
    let request =
        "POST /a?b=c HTTP/1.1\r\ncontent-type: text/plain\r\ncontent-length: 3\r\nhost: api.test\r\n\r\nxxx";
    assert_eq!(sender.web.requests(), [request]);
    let received = sent.usage["httpReceivedBytes"].as_u64();
    assert_eq!((&sent.usage["httpRequests"], received), (&json!(1), Some(43)), "{}", sent.usage);
    assert_eq!(sent.usage["httpSentBytes"], request.len(), "{}", sent.usage);
}

/// What is not granted is in the hostile corpus, one by one; this is what the model reads of it, and what it costs.
#[tokio::test(flavor = "multi_thread")]
async fn a_denial_is_told_and_not_sent() {
    let sender = Sender::new(API, |_| ok("never")).await;
    let sent = sender.send(json!({"authority": "other.test"})).await;
    assert_eq!((sent.outcome.as_str(), &sent.usage["httpRequests"]), ("denied", &json!(0)), "{}", sent.text);
    assert!(sent.text.starts_with("The tool may not do this (http)."), "{}", sent.text);
    let coped = sender.send(json!({"authority": "other.test", "cope": true})).await;
    assert_eq!(coped.outcome, "ok", "a guest that copes is not denied: {}", coped.text);
    assert!(sender.web.requests().is_empty());
}

/// A name is looked up once, and what is checked is what is connected to.
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

/// `private = true` is about one rule's hosts, and about nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn addresses_inside_need_a_rule_that_says_so() {
    let web = Web::start(|_| ok("inside")).await;
    let here = web.address;
    for (private, outcome) in [(true, "ok"), (false, "denied")] {
        let settings = format!(
            "[[plugins.egress.grants.http]]\nhost = \"127.0.0.1\"\nport = {}\nscheme = \"http\"\nprivate = {private}\n",
            here.port()
        );
        // The machine's own network: this one is really connected to.
        let script = Script::new([call("egress__send", json!({"authority": here.to_string()})), say("done")]);
        let host = TestHost::start(&["egress"], &format!("{ONE_AGENT}{settings}"), script).await;
        let run = host.run("go").await;
        assert_eq!(run["tools"][0]["outcome"], outcome, "{run}");
    }
    assert_eq!(web.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_the_guests_to_follow_and_is_decided_again() {
    let to = "http://169.254.169.254/latest/meta-data/";
    let sender = Sender::new(API, move |_| {
        raw(&format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n"))
    })
    .await;
    let sent = sender.send(get("/")).await;
    assert_eq!(sent.outcome, "ok");
    assert_eq!(sent.text, format!("302\nlocation: {to}\ncontent-length: 0\n\n"));
    assert_eq!(sent.seen.connections.len(), 1, "it was not followed");
    let followed = sender.send(json!({"authority": "169.254.169.254", "path": "/latest/meta-data/"})).await;
    assert_eq!(followed.outcome, "denied");
}

/// An authority, and a server with a certificate of its for `api.test`.
fn authority() -> (CertificateDer<'static>, TlsAcceptor) {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority =
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed");
    let key = KeyPair::generate().expect("a key");
    let names = CertificateParams::new(vec!["api.test".to_owned()]).expect("a name");
    let certificate = names.signed_by(&key, &authority).expect("signed");
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
        )
        .expect("a certificate");
    (authority.der().clone(), TlsAcceptor::from(Arc::new(server)))
}

#[tokio::test(flavor = "multi_thread")]
async fn https_needs_a_certificate_for_the_name_from_somebody_trusted() {
    let (certificate, tls) = authority();
    let web = Web::start_tls(tls, |_| ok("secure")).await;
    let world = World::new(web.address).name("api.test", &[&[PUBLIC]]).name("other.test", &[&[PUBLIC]]);
    let config = format!("{ONE_AGENT}[[plugins.egress.grants.http]]\nhost = \"*\"\n");
    let ask = async |name: &str, network: Network| -> Value {
        let arguments = json!({"scheme": "https", "authority": name});
        let script = Script::new([call("egress__send", arguments), say("done")]);
        let host = TestHost::with_network(&["egress"], &config, script, network).await;
        host.run("go").await["tools"][0].clone()
    };
    let trusting = || {
        let mut network = world.network();
        network.authorities = vec![certificate.clone()];
        network
    };
    let answer = ask("api.test", trusting()).await;
    assert_eq!(answer["toolOutput"], "200\ncontent-length: 6\n\nsecure", "{answer}");
    assert_eq!(world.seen().connections, [format!("{PUBLIC}:443")]);
    for (name, network) in [("other.test", trusting()), ("api.test", world.network())] {
        let answer = ask(name, network).await;
        assert_eq!(answer["outcome"], "guest-failure", "{name}: {answer}");
        assert!(answer["toolOutput"].as_str().is_some_and(|text| text.contains("Tls")), "{answer}");
    }
    assert_eq!(web.requests().len(), 1, "nothing is said to a server that is not who it should be");
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
