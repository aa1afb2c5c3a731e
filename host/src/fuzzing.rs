//! Inputs that nobody thought of, for everything that reads what others wrote: components, the values that
//! cross the boundary, schemas and URLs.
//!
//! Each target runs for a moment in every test run. `HOLDFAST_FUZZ_SECONDS=600 cargo test --lib fuzzing`
//! gives each as long as it says. A failure names its seed, and the seed alone repeats it.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use arbitrary::{Arbitrary as _, Unstructured};
use minisign::KeyPair;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use url::Url;
use wasm_encoder::Encode as _;

use crate::outbound::{Reach, check_url};
use crate::plugin::tests::guest::Guest;
use crate::plugin::tests::{call_with, home};
use crate::plugin::{Limits, Plugin, PluginHost, PluginSettings, Signers, sign};
use crate::schema::{PatternBudget, Schema};
use crate::tool::OutcomeKind;

/// Bytes of one input.
const INPUT: usize = 4096;
/// Of a component's section that holds a module.
const CORE_MODULE: u8 = 1;

/// Tries inputs until the time is over.
fn fuzz(target: &str, mut check: impl FnMut(&mut Unstructured<'_>) -> arbitrary::Result<()>) {
    let seconds = option_env!("HOLDFAST_FUZZ_SECONDS").and_then(|text| text.parse().ok()).unwrap_or(3);
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut seed, mut whole) = (0_u64, 0);
    while Instant::now() < end {
        let bytes = input(seed);
        let result = catch_unwind(AssertUnwindSafe(|| check(&mut Unstructured::new(&bytes))));
        match result {
            // A generator that ran out of input made nothing.
            Ok(checked) => whole += u32::from(checked.is_ok()),
            Err(panic) => {
                eprintln!("{target} fails with seed {seed}");
                resume_unwind(panic);
            }
        }
        seed += 1;
    }
    eprintln!("{target}: {whole} of {seed} inputs were whole");
    assert!(whole > 5, "{target}: {whole} of {seed} inputs were whole");
}

fn input(seed: u64) -> Vec<u8> {
    let block = |number: u64| Sha256::digest([seed.to_be_bytes(), number.to_be_bytes()].concat());
    (0..INPUT as u64 / 32).flat_map(block).collect()
}

struct Sandbox {
    runtime: Runtime,
    host: PluginHost,
    settings: PluginSettings,
}

impl Sandbox {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let host = runtime.block_on(async { home().await.host.clone() });
        let limits = Limits { cpu_ms: 200, wall_ms: 2000, memory_bytes: 16 << 20, ..Limits::default() };
        Self { runtime, host, settings: PluginSettings { limits, ..PluginSettings::default() } }
    }

    /// Whatever the bytes are, there is an answer in time, and never a fault of the host.
    fn load_and_call(&self, bytes: Vec<u8>) {
        let started = Instant::now();
        self.runtime.block_on(async {
            if let Ok(plugin) = self.host.load("test", bytes, &self.settings).await {
                call(&plugin).await;
            }
        });
        assert!(started.elapsed() < Duration::from_secs(30), "it took {:?}", started.elapsed());
    }
}

async fn call(plugin: &Plugin) {
    let outcome = call_with(plugin, &json!({"n": 1}), CancellationToken::new()).await;
    assert_ne!(outcome.kind, OutcomeKind::HostFault, "{outcome:?}");
}

#[test]
fn components_that_a_generator_makes() {
    let sandbox = Sandbox::new();
    fuzz("generated components", |input| {
        let component = wasm_smith::Component::new(wasm_smith::Config::arbitrary(input)?, input)?;
        sandbox.load_and_call(component.to_bytes());
        Ok(())
    });
}

#[test]
fn modules_inside_a_plugin_that_a_generator_makes() {
    let sandbox = Sandbox::new();
    let whole = Guest::new().bytes();
    fuzz("generated modules", |input| {
        let module = wasm_smith::Module::new(wasm_smith::Config::arbitrary(input)?, input)?.to_bytes();
        let mut bytes = whole.clone();
        let section = wasm_encoder::RawSection { id: CORE_MODULE, data: &module };
        bytes.push(section.id);
        section.encode(&mut bytes);
        sandbox.load_and_call(bytes);
        Ok(())
    });
}

#[test]
fn a_plugin_with_bytes_changed() {
    let sandbox = Sandbox::new();
    let whole = Guest::new().logging().bytes();
    fuzz("changed bytes", |input| {
        sandbox.load_and_call(changed(input, &whole, 0)?);
        Ok(())
    });
}

/// What the parser of the signature lets through is loaded as it was signed, or not at all.
#[test]
fn a_signature_with_bytes_changed() {
    let sandbox = Sandbox::new();
    let KeyPair { pk, sk } = KeyPair::generate_unencrypted_keypair().unwrap();
    let code = Guest::new().bytes();
    let whole = sign(&code, "test", &sk).unwrap();
    let host = sandbox.host.clone().with_signers(Signers::parse(&[pk.to_base64()]).unwrap());
    let loads = |bytes| sandbox.runtime.block_on(host.load("test", bytes, &sandbox.settings)).is_ok();
    assert!(loads(whole.clone()));
    fuzz("changed signatures", |input| {
        let bytes = changed(input, &whole, code.len())?;
        if bytes != whole {
            assert!(!loads(bytes.clone()), "{}", bytes[code.len()..].escape_ascii());
        }
        sandbox.load_and_call(bytes);
        Ok(())
    });
}

/// Changes bytes from there on.
fn changed(input: &mut Unstructured<'_>, whole: &[u8], from: usize) -> arbitrary::Result<Vec<u8>> {
    let mut bytes = whole.to_vec();
    for _ in 0..input.int_in_range(1..=4)? {
        let at = from + input.choose_index(bytes.len() - from)?;
        match input.int_in_range(0..=3)? {
            0 => bytes.truncate(at.max(8)),
            1 => bytes[at] ^= 1 << input.int_in_range(0..=7)?,
            2 => bytes[at] = input.arbitrary()?,
            _ => {
                let to = from + input.choose_index(bytes.len() - from)?;
                let piece = bytes[at.min(to)..at.max(to)].to_vec();
                bytes.splice(to..to, piece.into_iter().take(64));
            }
        }
    }
    Ok(bytes)
}

/// Words around the addresses that mean something in a guest, and around the ends of numbers.
fn word(input: &mut Unstructured<'_>) -> arbitrary::Result<i64> {
    let near = *input.choose(&[0, 1, 64, 128, 160, 200, 4096, 65_536, 131_072, 0x7fff_ffff, 0xffff_ffff])?;
    Ok((near + input.int_in_range(-9_i64..=9)?) & 0xffff_ffff)
}

fn stores(input: &mut Unstructured<'_>, from: u32, to: u32) -> arbitrary::Result<String> {
    let mut text = String::new();
    for at in (from..to).step_by(4) {
        if input.ratio(1_u8, 2_u8)? {
            let word = word(input)?;
            let _ = write!(text, "(i32.store (i32.const {at}) (i32.const {word})) ");
        }
    }
    Ok(text)
}

#[test]
fn values_that_cross_the_boundary() {
    let sandbox = Sandbox::new();
    fuzz("values", |input| {
        let called = format!("(drop (call $done)) {} (i32.const 64)", stores(input, 64, 160)?);
        let guest = if input.ratio(1_u8, 4_u8)? {
            let described = format!("{} (i32.const {})", stores(input, 160, 168)?, word(input)?);
            Guest::new().describe(&described)
        } else {
            Guest::new().call(&called)
        };
        sandbox.load_and_call(guest.bytes());
        Ok(())
    });
}

const KEYWORDS: [&str; 18] = [
    "type",
    "properties",
    "items",
    "$ref",
    "$defs",
    "pattern",
    "enum",
    "const",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "minimum",
    "maxLength",
    "required",
    "additionalProperties",
    "patternProperties",
    "$id",
];

const TEXTS: [&str; 14] = [
    "object",
    "string",
    "integer",
    "#",
    "#/$defs/a",
    "#/$defs/a/items",
    "a",
    "^(a+)+$",
    "[",
    "(?<=a)b",
    "\\w{1,64}",
    "http://example.com/x",
    "file:///etc/passwd",
    "2020-12",
];

fn value(input: &mut Unstructured<'_>, deep: u32) -> arbitrary::Result<Value> {
    let most = if deep == 0 { 3 } else { 6 };
    Ok(match input.int_in_range(0..=most)? {
        0 => json!(input.arbitrary::<bool>()?),
        1 => json!(*input.choose(&[0, 1, -1, i64::MAX, i64::MIN])?),
        2 => Value::Null,
        3 => json!(*input.choose(&TEXTS)?),
        4 => {
            let length = input.int_in_range(0..=3)?;
            Value::Array((0..length).map(|_| value(input, deep - 1)).collect::<Result<_, _>>()?)
        }
        _ => {
            let mut map = serde_json::Map::new();
            for _ in 0..input.int_in_range(0..=4)? {
                let key = *input.choose(&KEYWORDS)?;
                let key = if input.ratio(1_u8, 4_u8)? { "a" } else { key };
                map.insert(key.to_owned(), value(input, deep - 1)?);
            }
            Value::Object(map)
        }
    })
}

#[test]
fn schemas_and_values() {
    fuzz("schemas", |input| {
        let mut schema = value(input, 6)?;
        if let Some(map) = schema.as_object_mut() {
            map.insert("type".to_owned(), json!("object"));
        }
        let started = Instant::now();
        if let Ok(schema) = Schema::of_arguments(&schema.to_string(), &mut PatternBudget::default()) {
            let checked = value(input, 6)?;
            assert!(schema.problems(&checked, 3).len() <= 3, "{checked}");
        }
        assert!(started.elapsed() < Duration::from_secs(5), "{schema} took {:?}", started.elapsed());
        Ok(())
    });
}

const HOSTS: [&str; 22] = [
    "127.0.0.1",
    "127.1",
    "0x7f000001",
    "2130706433",
    "017700000001",
    "10.0.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:a9fe:a9fe]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "[fd00::1]",
    "[fe80::1]",
    "0.0.0.0",
    "[::]",
    "localhost",
    "LOCALHOST.",
    "example.com",
    "8.8.8.8",
    "[2606:4700::1111]",
];

const AROUND: [&str; 8] = ["", ".", "@", "%2e", ":80", "\t", "/", "#"];

/// Written apart from `address.rs`, for the addresses that matter most.
fn is_inside(host: &url::Host<&str>) -> bool {
    match host {
        url::Host::Ipv4(v4) => {
            let [a, b, ..] = v4.octets();
            matches!((a, b), (0 | 10 | 127, _) | (169, 254) | (192, 168) | (172, 16..=31) | (100, 64..=127))
        }
        url::Host::Ipv6(v6) => {
            let embedded = v6.to_ipv4_mapped().is_some_and(|v4| is_inside(&url::Host::Ipv4(v4)));
            embedded || v6.is_loopback() || v6.is_unspecified() || v6.segments()[0] & 0xfe00 == 0xfc00
        }
        url::Host::Domain(name) => name.trim_end_matches('.').eq_ignore_ascii_case("localhost"),
    }
}

#[test]
fn urls_of_others() {
    fuzz("URLs", |input| {
        let scheme = *input.choose(&["https", "http", "HTTPS", "file", "ftp", "gopher"])?;
        let [before, after] = [*input.choose(&AROUND)?, *input.choose(&AROUND)?];
        let (user, host) = (*input.choose(&HOSTS)?, *input.choose(&HOSTS)?);
        let text = if input.ratio(1_u8, 3_u8)? {
            format!("{scheme}://{user}{before}{host}{after}/x")
        } else {
            format!("{scheme}://{host}{after}/x")
        };
        let Ok(url) = Url::parse(&text) else { return Ok(()) };
        if check_url(&url, Reach::allowing_private(false)).is_ok() {
            let host = url.host().expect("what may be reached has a host");
            assert!(!is_inside(&host), "{text} would reach {host}");
            assert!(["http", "https"].contains(&url.scheme()), "{text}");
        }
        Ok(())
    });
}
