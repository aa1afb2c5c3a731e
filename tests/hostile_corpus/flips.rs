//! Components with one bit flipped, in the code, in the manifest or in between. Each is another file with another
//! digest, so it may well be another plugin; what it may not be is a plugin with more grants, or the host's end.

use std::ops::Range;
use std::time::Duration;

use futures_util::FutureExt as _;
use holdfast::plugin::{Limits, Manifest, PluginSettings, Signers, sign};
use holdfast::tool::OutcomeKind;
use minisign::KeyPair;
use serde_json::{Value, json};

use super::bench::{Bench, Fixture, Row, call, granted};
use crate::support::versions::version;
use crate::support::wat_guest::Guest;

const MANIFEST: &str = "id = \"evil\"\nversion = \"1.0.0\"\n[requests]\nkv = [\"user\"]\n";

pub(super) fn rows() -> Vec<Row> {
    let manifest = Manifest::parse(MANIFEST).expect("a manifest");
    let small = manifest.embed(Guest::new().bytes());
    let named = manifest.embed(Vec::new()).len();
    // The manifest is the file's last section.
    let all = 0..small.len();
    let last = small.len() - named..small.len();
    let rust = version("hostile", "evil", "1.0.0", "kv = [\"plugin\"]");
    let whole = 0..rust.len();
    let mut rows = vec![
        row("400 bits flipped in a small component", small.clone(), all, 400, ("act", json!({"n": 1}))),
        row("400 bits flipped in a manifest", small, last, 400, ("act", json!({"n": 1}))),
        row("100 bits flipped in a Rust guest", rust, whole, 100, ("output", json!({"bytes": 3}))),
    ];
    rows.extend(signed(&manifest.embed(Guest::new().bytes()), named));
    rows
}

/// Where signatures are asked for there is no other file with the same signature.
fn signed(component: &[u8], named: usize) -> Vec<Row> {
    let key = KeyPair::generate_unencrypted_keypair().expect("a key");
    let signers = Signers::parse(&[key.pk.to_base64()]).expect("a key");
    let file = sign(component, "evil", &key.sk).expect("it can be signed");
    let (code, end) = (component.len() - named, component.len());
    let places = [("the code", 0..code), ("the manifest", code..end), ("the signature", end..file.len())];
    let row = |(what, place): (&str, Range<usize>)| {
        let (file, signers) = (file.clone(), signers.clone());
        Row {
            name: format!("200 bits flipped in {what}, signed"),
            fixture: Fixture::Scene(Box::new(move |bench| {
                unsigned(bench, signers.clone(), file.clone(), place.clone()).boxed_local()
            })),
            outcome: "the whole file loads; of 200 none does",
            within: Duration::from_mins(1),
            peak_mib: 256,
        }
    };
    places.into_iter().map(row).collect()
}

async fn unsigned(bench: &Bench, signers: Signers, file: Vec<u8>, place: Range<usize>) -> String {
    let settings = granted(json!({"kv": ["user"]}));
    let loads = async |bytes| bench.try_signed("evil", bytes, &settings, &signers).await.is_some();
    if !loads(file.clone()).await {
        return "the whole file does not load".to_owned();
    }
    let mut loaded = 0;
    for step in 0..200 {
        let mut bytes = file.clone();
        bytes[place.start + step * place.len() / 200] ^= 1 << (step % 8);
        loaded += usize::from(loads(bytes).await);
    }
    let loaded = if loaded == 0 { "none does".to_owned() } else { format!("{loaded} do") };
    format!("the whole file loads; of 200 {loaded}")
}

fn row(
    name: &str,
    component: Vec<u8>,
    place: Range<usize>,
    times: usize,
    tool: (&'static str, Value),
) -> Row {
    Row {
        name: name.to_owned(),
        fixture: Fixture::Scene(Box::new(move |bench| {
            flipped(bench, component.clone(), place.clone(), times, tool.clone()).boxed_local()
        })),
        outcome: "none harms",
        within: Duration::from_secs(150),
        peak_mib: 256,
    }
}

async fn flipped(
    bench: &Bench,
    component: Vec<u8>,
    place: Range<usize>,
    times: usize,
    (tool, arguments): (&'static str, Value),
) -> String {
    let limits = Limits { cpu_ms: 300, wall_ms: 3000, ..Limits::default() };
    let settings = PluginSettings { limits, ..granted(json!({"kv": ["plugin", "user"]})) };
    // A linear congruential generator: the bits are the same in every run of this test.
    let mut seed = 20_261_124_u64;
    let (mut refused, mut well, mut badly) = (0, 0, 0);
    for _ in 0..times {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let random = usize::try_from(seed >> 33).expect("31 bits");
        let (at, bit) = (place.start + random / 8 % place.len(), random % 8);
        let mut bytes = component.clone();
        bytes[at] ^= 1 << bit;
        let Some(plugin) = bench.try_load("evil", bytes, &settings).await else {
            refused += 1;
            continue;
        };
        if plugin.grants().within(&settings.grants) != *plugin.grants() {
            return format!("more is granted with bit {bit} of byte {at} flipped");
        }
        // Its tools may have other names.
        let Some(name) =
            plugin.specs().iter().map(|spec| spec.name.tool().to_owned()).find(|name| name == tool)
        else {
            badly += 1;
            continue;
        };
        match call(&plugin, &name, &arguments).await.kind {
            OutcomeKind::HostFault => return format!("a host fault with bit {bit} of byte {at} flipped"),
            OutcomeKind::Ok => well += 1,
            _ => badly += 1,
        }
    }
    format!("none harms: {refused} refused, {well} as before, {badly} otherwise")
}
