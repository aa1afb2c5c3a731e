//! Values of other people and of the host, and the machine.

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use holdfast::plugin::{Limits, PluginSettings};
use serde_json::{Value, json};

use super::bench::{ANN, Bench, Fixture, Row, Who, call, call_as, granted, in_words};
use super::loads;
use crate::support::guests::guest;

/// One call of a guest under an id of its own.
#[derive(Clone)]
struct Step(&'static str, Who, &'static str, Value);

/// Steps after each other, each in words: the outcome's kind and its text.
fn row(
    name: impl Into<String>,
    guest: &'static str,
    settings: PluginSettings,
    steps: Vec<Step>,
    outcome: &'static str,
) -> Row {
    scene(name, outcome, move |bench: &Bench| {
        let (settings, steps) = (settings.clone(), steps.clone());
        async move {
            bench.log.forget();
            let mut said = String::new();
            for Step(id, who, tool, arguments) in steps {
                let plugin = bench.guest(guest, id, &settings).await;
                let outcome = call_as(who, &plugin, tool, &arguments).await;
                said = format!("{}: {}", in_words(&outcome.kind), outcome.text);
                for line in bench.log.of(&format!("{id}__{tool}")) {
                    said = format!("{}: {line}", in_words(&outcome.kind));
                }
            }
            said
        }
        .boxed_local()
    })
}

fn scene(
    name: impl Into<String>,
    outcome: &'static str,
    scene: impl for<'a> Fn(&'a Bench) -> futures_util::future::LocalBoxFuture<'a, String> + 'static,
) -> Row {
    Row {
        name: name.into(),
        fixture: Fixture::Scene(Box::new(scene)),
        outcome,
        within: Duration::from_secs(20),
        // With the guest, which may have to be compiled, and whose cached code is compressed anew after many uses.
        peak_mib: 256,
    }
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = scopes();
    rows.extend(quotas());
    rows.push(scene("CAS race of 100 increments", "100 of 100", |bench| race(bench).boxed_local()));
    rows.push(scene("files, env, args, sockets, names", "all 7 refused", |bench| {
        machine(bench).boxed_local()
    }));
    let one = granted(json!({"secrets": [{"use": "hmac", "name": "key"}]}));
    let other = vec![Step("evil", ANN, "sign", json!({"name": "other", "data": "x"}))];
    rows.push(row("a secret that is not granted", "secrets", one, other, "denied secrets: "));
    let component = std::fs::read(guest("secrets")).expect("a component");
    rows.push(loads::row("secrets without a grant", component, "[[plugins.evil.grants.secrets]]"));
    rows
}

/// What was kept in a scope, and who gets to read it: she herself, she in another session, another user, the same
/// name in another organisation, the same guest as another plugin.
fn scopes() -> Vec<Row> {
    let all = || granted(json!({"kv": true}));
    let readers: [(&str, &str, Who); 5] = [
        ("herself", "evil", ANN),
        ("in another session", "evil", ("acme", "ann", "session-2")),
        ("by another user", "evil", ("acme", "bob", "session-3")),
        ("in another organisation", "evil", ("other", "ann", "session-4")),
        ("by another plugin", "other", ANN),
    ];
    let mut rows = Vec::new();
    for (scope, reads) in [
        ("plugin", [true, true, true, false, false]),
        ("user", [true, true, false, false, false]),
        ("session", [true, false, false, false, false]),
    ] {
        for ((how, id, who), reads) in readers.into_iter().zip(reads) {
            let keep = json!({"scope": scope, "key": "k", "value": "kept"});
            let steps = vec![
                Step("evil", ANN, "remember", keep),
                Step(id, who, "recall", json!({"scope": scope, "key": "k"})),
            ];
            let outcome = if reads { "ok: kept" } else { "ok: nothing" };
            rows.push(row(format!("kv of the {scope} read {how}"), "probe", all(), steps, outcome));
        }
    }
    let narrow = granted(json!({"kv": ["user"]}));
    let keep = json!({"scope": "plugin", "key": "k", "value": "kept"});
    rows.push(row(
        "kv of a scope that is not granted",
        "probe",
        narrow,
        vec![Step("evil", ANN, "remember", keep)],
        "denied kv: values of the scope plugin [plugins.evil.grants.kv = [\"plugin\"]]",
    ));
    rows
}

fn quotas() -> Vec<Row> {
    let limits = Limits { kv_bytes: 100_000, kv_entries: 20, ..Limits::default() };
    let settings = || PluginSettings { limits: limits.clone(), ..granted(json!({"kv": true})) };
    let fill = |id, who, entries: u64, bytes: u64| {
        Step(id, who, "kv_fill", json!({"entries": entries, "bytes": bytes}))
    };
    let eve = ("other", "eve", "session-9");
    [
        (
            "kv of too many entries",
            vec![fill("many", ANN, 100, 10)],
            "ok: stored 20, then Error::QuotaExceeded",
        ),
        (
            "kv of too many bytes",
            vec![fill("large", ANN, 100, 30_000)],
            "ok: stored 3, then Error::QuotaExceeded",
        ),
        (
            "a value above the quota",
            vec![fill("huge", ANN, 1, 200_000)],
            "ok: stored 0, then Error::QuotaExceeded",
        ),
        (
            "a full kv, and another organisation's",
            vec![fill("full", ANN, 100, 10), fill("full", eve, 20, 10)],
            "ok: stored 20",
        ),
        (
            "a full kv, and another plugin's",
            vec![fill("first", ANN, 100, 10), fill("second", ANN, 20, 10)],
            "ok: stored 20",
        ),
    ]
    .into_iter()
    .map(|(name, steps, outcome)| row(name, "hostile", settings(), steps, outcome))
    .collect()
}

/// Callers side by side, each of which reads, adds one, and writes if nobody else wrote.
async fn race(bench: &Bench) -> String {
    let plugin = bench.guest("probe", "race", &granted(json!({"kv": true}))).await;
    let callers = (0..10).map(|_| {
        let plugin = plugin.clone();
        tokio::spawn(async move {
            let mut succeeded = 0;
            for _ in 0..10 {
                let outcome = call(&plugin, "effect_ungated", &json!({"key": "k"})).await;
                succeeded += u32::from(!outcome.is_error());
            }
            succeeded
        })
    });
    let succeeded: u32 = join_all(callers).await.into_iter().map(|caller| caller.expect("no panic")).sum();
    format!("{} of {succeeded}", call(&plugin, "count", &json!({"key": "k"})).await.text)
}

/// Every field of what the probe sees that is a text says how an attempt ended.
async fn machine(bench: &Bench) -> String {
    let plugin = bench.guest("probe", "evil", &granted(json!({"kv": true}))).await;
    let text = call(&plugin, "env", &json!({})).await.text;
    let seen: Value = serde_json::from_str(&text).expect("JSON");
    let attempts: Vec<&str> =
        seen.as_object().expect("an object").values().filter_map(Value::as_str).collect();
    let refused = attempts.iter().filter(|ended| ended.starts_with("refused: ")).count();
    if refused == attempts.len() && seen["variables"] == json!([]) && seen["args"] == json!([]) {
        return format!("all {refused} refused");
    }
    text
}
