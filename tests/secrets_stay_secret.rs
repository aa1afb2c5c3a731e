//! A secret goes to its audience, in the header that was granted, and comes back to nobody: not to the plugin that
//! may use it, not to the model, not into the journal.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::json;
use sha2::Sha256;

use crate::support::egress::{API, Sender, get};
use crate::support::host::ONE_AGENT;
use crate::support::web::{Reply, ok, raw};
use crate::support::{Script, TestHost, call, say};

const SECRET: &str = "tOp-s3cret/Value+42";

/// A setting with the secret in a file, and what is granted of it.
fn settings(folder: &tempfile::TempDir, grants: &str) -> String {
    let file = folder.path().join("key");
    std::fs::write(&file, format!("{SECRET}\n")).expect("a file");
    format!("{API}{grants}[plugins.egress.secrets]\nkey = {{ file = \"{}\" }}\n", file.display())
}

const HEADER: &str = "[[plugins.egress.grants.secrets]]\nuse = \"header\"\nname = \"key\"\nheader = \"X-Api-Key\"\n\
                      prefix = \"Key \"\naudience = \"http://api.test/v1/\"\n";

async fn sender(grants: &str, answer: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Sender {
    let folder = tempfile::tempdir().expect("a folder");
    Sender::new(&settings(&folder, grants), answer).await
}

fn has_secret(text: &str) -> bool {
    let hex = holdfast::tool::hex(SECRET.as_bytes());
    [SECRET, &hex, &STANDARD.encode(SECRET)].iter().any(|form| text.contains(form))
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_to_its_audience_and_nowhere_else() {
    let sender = sender(HEADER, |_| ok("fine")).await;
    for (path, goes) in [("/v1/a?b", true), ("/v1/", true), ("/v1", false), ("/v2/", false), ("/", false)] {
        let sent = sender.send(get(path)).await;
        assert_eq!(sent.outcome, "ok", "{path}: {}", sent.text);
        let request = sender.web.requests().pop().expect("a request");
        assert_eq!(request.contains(&format!("x-api-key: Key {SECRET}\r\n")), goes, "{path}: {request}");
        assert_eq!(has_secret(&request), goes, "{path}");
    }
    let before = sender.web.requests().len();
    for path in ["/v1/../v2/", "/v1/%2e%2e/", "/v1/%2E%2E/", "/v1%2f", "/v1\\a", "//v1/", "/v1/%252e"] {
        let sent = sender.send(get(path)).await;
        assert_eq!(sent.outcome, "denied", "{path}: {}", sent.text);
        assert!(sent.text.contains("(secrets)"), "{path}: {}", sent.text);
    }
    for name in ["X-Api-Key", "x-api-key", "x_api_key"] {
        let sent = sender.send(json!({"authority": "api.test", "headers": [[name, "mine"]]})).await;
        assert_eq!(sent.outcome, "denied", "{name}: {}", sent.text);
    }
    assert_eq!(sender.web.requests().len(), before);
    assert!(!has_secret(&sender.journal().await));
}

/// Without the grant the same request carries nothing, and with a grant but no value it is not sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_needs_a_grant_and_a_value() {
    let bare = sender("", |_| ok("fine")).await;
    assert_eq!(bare.send(get("/v1/")).await.outcome, "ok");
    assert!(!has_secret(&bare.web.requests()[0]));
    let missing = Sender::new(&format!("{API}{HEADER}"), |_| ok("never")).await;
    let sent = missing.send(get("/v1/")).await;
    assert_eq!(sent.outcome, "denied", "{}", sent.text);
    assert!(missing.web.requests().is_empty());
}

/// Every form of it, in all packets, is in the hostile corpus; this is what is written down of it.
#[tokio::test(flavor = "multi_thread")]
async fn an_echo_is_cut_off() {
    let sender = sender(HEADER, |_| ok(&format!("you sent {SECRET}, thank you"))).await;
    let sent = sender.send(get("/v1/")).await;
    assert_eq!(sent.outcome, "denied", "{}", sent.text);
    assert!(sent.text.contains("(secrets)"), "{}", sent.text);
    assert!(!has_secret(&sender.journal().await));
}

/// What is compressed cannot be searched: the host asks for the plain form, and takes no other.
#[tokio::test(flavor = "multi_thread")]
async fn compression_hides_nothing() {
    let sender =
        sender(HEADER, |_| raw("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\nzz"))
            .await;
    let arguments = json!({"authority": "api.test", "path": "/v1/",
                           "headers": [["accept-encoding", "gzip"], ["range", "bytes=0-3"]]});
    let sent = sender.send(arguments).await;
    assert_eq!(sent.outcome, "denied", "{}", sent.text);
    let request = &sender.web.requests()[0];
    assert!(request.contains("accept-encoding: identity\r\n") && !request.contains("range"), "{request}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_signs_where_that_is_granted() {
    let folder = tempfile::tempdir().expect("a folder");
    let hmac = "[[plugins.secrets.grants.secrets]]\nuse = \"hmac\"\nname = \"key\"\n";
    let sign = async |grants: &str, name: &str| {
        let settings =
            settings(&folder, grants).replace(API, "").replace("plugins.egress", "plugins.secrets");
        let script =
            Script::new([call("secrets__sign", json!({"name": name, "data": "a message"})), say("done")]);
        let host = TestHost::start(&["secrets"], &format!("{ONE_AGENT}{settings}"), script).await;
        host.run("go").await["tools"][0].clone()
    };
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("any length");
    mac.update(b"a message");
    let expected: Vec<u8> = mac.finalize().into_bytes().to_vec();
    let signed = sign(hmac, "key").await;
    assert_eq!(signed["toolOutput"], json!({"exists": true, "mac": expected}).to_string(), "{signed}");
    for (grants, name) in [(HEADER, "key"), (hmac, "other")] {
        let refused = sign(grants, name).await;
        assert_eq!(refused["outcome"], "denied", "{name}: {refused}");
    }
}
