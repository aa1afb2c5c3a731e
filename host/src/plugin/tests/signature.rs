//! A signed component is loaded as it was signed, or not at all.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use expect_test::{Expect, expect};
use minisign::{KeyPair, SecretKey};
use wasm_encoder::{ComponentSection as _, CustomSection, Encode as _};

use super::guest::Guest;
use super::home;
use crate::plugin::manifest::Manifest;
use crate::plugin::{Code, KeyId, LoadError, PluginHost, PluginSettings, Prepared, Signers, sign, signature};

/// Of each part of the file.
const FLIPS: usize = 200;

struct Desk {
    host: PluginHost,
    key: SecretKey,
}

impl Desk {
    async fn new() -> Self {
        let KeyPair { pk, sk } = KeyPair::generate_unencrypted_keypair().unwrap();
        let signers = Signers::parse(&[pk.to_base64()]).unwrap();
        Self { host: home().await.host.with_signers(signers), key: sk }
    }

    async fn prepare(&self, bytes: Vec<u8>) -> Result<Prepared, LoadError> {
        self.host.prepare("test", Arc::new(Code::new(bytes)), &PluginSettings::default()).await
    }

    async fn refuses(&self, bytes: Vec<u8>, expected: Expect) {
        expected.assert_eq(&self.prepare(bytes).await.unwrap_err().to_string());
    }

    fn signed(&self) -> Vec<u8> {
        sign(&whole(), "test", &self.key).unwrap()
    }
}

fn whole() -> Vec<u8> {
    Manifest::parse("id = \"test\"\nversion = \"1.0.0\"").unwrap().embed(Guest::new().bytes())
}

/// The text of a component's signature.
fn text(signed: &[u8]) -> String {
    let at = place(signed, signature::SECTION.as_bytes()) + signature::SECTION.len();
    String::from_utf8(signed[at..].to_vec()).unwrap()
}

fn place(bytes: &[u8], part: &[u8]) -> usize {
    bytes.windows(part.len()).position(|window| window == part).unwrap()
}

fn section(name: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    CustomSection { name: Cow::Borrowed(name), data: Cow::Borrowed(data) }.append_to_component(&mut bytes);
    bytes
}

/// A custom section with its header in another encoding.
fn with_long_length(data: &[u8]) -> Vec<u8> {
    let plain = section(signature::SECTION, data);
    let mut length = Vec::new();
    (plain.len() - 3).encode(&mut length);
    assert_eq!(length.len(), 2, "the header is an id and two bytes");
    [&[0, length[0], length[1] | 0x80, 0], &plain[3..]].concat()
}

#[tokio::test]
async fn what_a_signer_signed_is_loaded() {
    let desk = Desk::new().await;
    let prepared = desk.prepare(desk.signed()).await.unwrap();
    let signed = prepared.signed().unwrap();
    let by = u64::from_le_bytes(desk.key.keynum().try_into().unwrap());
    assert_eq!((signed.by.to_string(), signed.checked), (format!("{by:016X}"), true));
    // Where nobody asks for signatures there is none that counts.
    let host = desk.host.clone().with_signers(Signers::default());
    let prepare = |bytes| {
        let code = Arc::new(Code::new(bytes));
        let host = host.clone();
        async move { host.prepare("test", code, &PluginSettings::default()).await.unwrap() }
    };
    assert!(!prepare(desk.signed()).await.signed().unwrap().checked);
    assert!(prepare(whole()).await.signed().is_none());
}

#[tokio::test]
async fn signing_again_replaces_the_signature() {
    let desk = Desk::new().await;
    let other = KeyPair::generate_unencrypted_keypair().unwrap();
    let twice = sign(&sign(&whole(), "test", &other.sk).unwrap(), "test", &desk.key).unwrap();
    assert!(desk.prepare(twice.clone()).await.is_ok());
    assert_eq!(twice.len(), desk.signed().len());
    assert_eq!(twice[..whole().len()], whole());
}

/// Also the bytes that a signature says nothing about: the comment that minisign leaves unsigned, and the section's header.
#[tokio::test]
async fn no_byte_can_change() {
    let desk = Desk::new().await;
    let signed = desk.signed();
    let [manifest, end] = [place(&signed, b"holdfast:manifest"), whole().len()];
    let mut tried = 0;
    for part in [0..manifest, manifest..end, end..signed.len()] {
        for at in spread(&part) {
            for bit in [at % 8, 5] {
                let mut bytes = signed.clone();
                bytes[at] ^= 1 << bit;
                let prepared = desk.prepare(bytes).await;
                assert!(prepared.is_err(), "byte {at} of {}, bit {bit}", signed.len());
                tried += 1;
            }
        }
    }
    assert!(desk.prepare(signed).await.is_ok());
    assert_eq!(tried, 2 * 2 * FLIPS + 2 * (end - manifest).min(FLIPS));
}

/// As many places as are tried, all of them where there are not more.
fn spread(part: &Range<usize>) -> Vec<usize> {
    let count = part.len().min(FLIPS);
    (0..count).map(|n| part.start + n * part.len() / count).collect()
}

#[tokio::test]
async fn a_signature_that_is_cut_is_none() {
    let desk = Desk::new().await;
    let signed = desk.signed();
    for length in whole().len()..signed.len() {
        assert!(desk.prepare(signed[..length].to_vec()).await.is_err(), "{length}");
    }
    // With a section of the length that is left.
    let text = text(&signed);
    for length in 0..text.len() {
        let bytes = [whole(), section(signature::SECTION, &text.as_bytes()[..length])].concat();
        assert!(desk.prepare(bytes).await.is_err(), "{length}");
    }
}

#[tokio::test]
async fn whose_signature_it_is_decides() {
    let desk = Desk::new().await;
    let other = KeyPair::generate_unencrypted_keypair().unwrap();
    let [known, strange] =
        [KeyId::from(&minisign::PublicKey::from_secret_key(&desk.key).unwrap()), KeyId::from(&other.pk)]
            .map(|id| id.to_string());
    let reason = async |bytes: Vec<u8>| {
        let error = desk.prepare(bytes).await.unwrap_err().to_string();
        error.replace(&known, "<known>").replace(&strange, "<strange>")
    };
    expect!["it is not signed, and `plugin_signers` in the configuration asks for a signature with one of these keys: <known>. Sign it with `holdfast plugin sign FILE --key KEY`"]
        .assert_eq(&reason(whole()).await);
    expect!["it is signed with the key <strange>, which is not in `plugin_signers`; those are <known>. Have it signed with one of them (`holdfast plugin sign`), or add the public key of whom you trust"]
        .assert_eq(&reason(sign(&whole(), "test", &other.sk).unwrap()).await);
    // A signature of another file.
    let moved =
        [Guest::new().logging().bytes(), section(signature::SECTION, text(&desk.signed()).as_bytes())];
    expect!["its signature with the key <known> is not of these bytes: they were changed after it was signed. Get the file again, or sign it again with `holdfast plugin sign`"]
        .assert_eq(&reason(moved.concat()).await);
    // One that says that it is the known key's.
    let mut fake = KeyPair::generate_unencrypted_keypair().unwrap().sk.to_bytes();
    fake[54..62].copy_from_slice(desk.key.keynum());
    let fake = SecretKey::from_bytes(&fake).unwrap();
    expect!["its signature with the key <known> is not of these bytes: they were changed after it was signed. Get the file again, or sign it again with `holdfast plugin sign`"]
        .assert_eq(&reason(sign(&whole(), "test", &fake).unwrap()).await);
}

/// Without a manifest nothing in the component says which plugin it is.
#[tokio::test]
async fn a_signed_file_cannot_become_another_plugin() {
    let desk = Desk::new().await;
    let anonymous = sign(&Guest::new().bytes(), "other", &desk.key).unwrap();
    desk.refuses(anonymous, expect!["it was signed as `plugin:other`, and this is `plugin:test`: give it its name back, or sign it again under this one"]).await;
    assert!(desk.prepare(sign(&Guest::new().bytes(), "test", &desk.key).unwrap()).await.is_ok());
}

#[tokio::test]
async fn there_is_one_place_for_it() {
    let desk = Desk::new().await;
    let signed = desk.signed();
    let text = text(&signed);
    let one = section(signature::SECTION, text.as_bytes());
    desk.refuses([signed.clone(), one.clone()].concat(), expect!["its signature is there twice"]).await;
    let misplaced = || {
        expect![
            "its signature is not at the very end of the component, where `holdfast plugin sign` puts it: sign the component when nothing is added to it any more"
        ]
    };
    desk.refuses([signed.clone(), section("name", b"x")].concat(), misplaced()).await;
    desk.refuses([&whole()[..8], &one, &whole()[8..]].concat(), misplaced()).await;
    // At the file's end, but in a component of its own.
    let nested = [b"\0asm\x0d\0\x01\0".as_slice(), &one].concat();
    let mut inner = vec![4];
    nested.as_slice().encode(&mut inner);
    desk.refuses([whole(), inner].concat(), misplaced()).await;
    // The length in more bytes than it needs.
    desk.refuses([whole(), with_long_length(text.as_bytes())].concat(), misplaced()).await;
}

#[tokio::test]
async fn there_is_one_text_for_it() {
    let desk = Desk::new().await;
    let text = text(&desk.signed());
    let with = |data: &[u8]| [whole(), section(signature::SECTION, data)].concat();
    desk.refuses(with(&[b'x'; 1025]), expect!["its signature has 1025 bytes; the most is 1024"]).await;
    desk.refuses(with(b"\xff\xfe"), expect!["its signature is not text"]).await;
    let form =
        || expect!["its signature cannot be read: it is not in the form that `holdfast plugin sign` writes"];
    for other in [
        String::new(),
        format!("{text}\n"),
        text.replace('\n', "\r\n"),
        text.trim_end().to_owned(),
        text.replace("of a Holdfast", "of another"),
        text.replace("plugin:test", " plugin:test"),
        text.replace("==\n", "AA\n"),
        text.replace("==\n", "\n"),
    ] {
        assert_ne!(other, text);
        desk.refuses(with(other.as_bytes()), form()).await;
    }
}
