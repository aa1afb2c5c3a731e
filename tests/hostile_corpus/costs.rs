//! Fixtures that cost the host more than they seem to: little of their own memory and CPU, and none of a limit's.

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use holdfast::plugin::{Limits, PluginSettings};
use serde_json::{Value, json};

use super::bench::{Bench, Fixture, Row, call, in_words};
use super::{calls, loads};
use crate::support::wat_guest::Guest;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = schemas();
    rows.extend(instances());
    rows.extend(names());
    rows.extend(branches());
    rows
}

/// A guest whose arguments have this schema, and room for large ones.
fn taking(schema: &Value) -> Guest {
    let guest = Guest::new().describing(&[("act", &schema.to_string())]);
    guest.start("(drop (memory.grow (i32.const 10)))")
}

fn schemas() -> Vec<Row> {
    let each = |keyword: &str, kind: &str| {
        let branches = vec![json!({"type": kind}); 1000];
        taking(&json!({"type": "object", "properties": {"x": {"items": {keyword: branches}}}}))
    };
    let mut levels = json!({"properties": {"b": {}}});
    for _ in 0..30 {
        levels = json!({"type": "object", "anyOf": [levels], "unevaluatedProperties": {"type": "integer"}});
    }
    vec![
        // 40 million errors of 400 bytes, if somebody collected them.
        eight("wrong in a thousand ways, 48,000 times", &each("anyOf", "string"), "invalid-args"),
        // Which has to be found out; and more at once than there are threads.
        eight("right in a thousand ways, 48,000 times", &each("allOf", "integer"), "ok"),
        loads::row(
            "30 levels of unevaluatedProperties",
            taking(&levels).bytes(),
            "`unevaluatedProperties` or `unevaluatedItems` within one another",
        ),
    ]
}

/// Eight calls at once with a large value.
fn eight(name: &str, guest: &Guest, outcome: &'static str) -> Row {
    let component = guest.bytes();
    Row {
        name: name.to_owned(),
        fixture: Fixture::Scene(Box::new(move |bench: &Bench| {
            at_once(bench, component.clone()).boxed_local()
        })),
        outcome,
        within: Duration::from_mins(1),
        peak_mib: 256,
    }
}

async fn at_once(bench: &Bench, component: Vec<u8>) -> String {
    let plugin = bench.load("evil", component, &PluginSettings::default()).await;
    let value = json!({"x": vec![1; 48_000]});
    let outcomes = join_all((0..8).map(|_| call(&plugin, "act", &value))).await;
    let mut words: Vec<String> = outcomes.iter().map(|outcome| in_words(&outcome.kind)).collect();
    words.dedup();
    words.join(", ")
}

/// What an instance takes besides memories and tables.
fn instances() -> Vec<Row> {
    let of = |module: &str, instances: usize| {
        let instances = "(core instance (instantiate $big (with \"\" (instance $small))))".repeat(instances);
        let small = "(core module $s (func (export \"f\"))) (core instance $small (instantiate $s))";
        Guest::new().with_items(&format!("{small} (core module $big {module}) {instances}"))
    };
    let globals = |n| "(global i64 (i64.const 1))".repeat(n);
    let segments = |n| "(data \"x\")".repeat(n);
    let elements = |n| format!("(func $f) (elem func {})", "$f ".repeat(n));
    let (over, within) = (33_000, 8_000);
    let refused = [
        ("33,000 globals, 100 times", globals(over)),
        ("33,000 segments of data, 100 times", segments(over)),
        ("33,000 elements, 100 times", elements(over)),
        (
            "33,000 elements as expressions, 100 times",
            format!("(func $f) (elem funcref {})", "(ref.func $f) ".repeat(over)),
        ),
        ("33,000 segments of no elements, 100 times", format!("(func $f) {}", "(elem func)".repeat(over))),
    ];
    let mut rows: Vec<Row> = refused
        .iter()
        .map(|(name, module)| {
            loads::row(name, of(module, 100).bytes(), "bytes in one instance, besides its memories")
        })
        .collect();
    let module = format!("{} {} {}", globals(within), segments(within), elements(within));
    // To make so many takes more CPU than other rows are given.
    let row = calls::wat("8,000 of each, 100 times", &of(&module, 100), "ok");
    rows.push(Row { peak_mib: 256, ..calls::limited(row, Limits::default()) });
    rows.push(loads::row("130 instances", of("", 130).bytes(), "instance count too high"));
    rows
}

/// Each frame of a trap holds a copy of its function's name.
fn names() -> Vec<Row> {
    let recursing = |bytes: usize| {
        let name = "n".repeat(bytes);
        let recursing = format!("(func ${name} (call ${name}) (call ${name})");
        // A function behind the one that the body is meant for.
        Guest::new().call(&format!("(call ${name}) (call $done)) {recursing}"))
    };
    vec![
        loads::row("a function's name of 100 KB", recursing(100_000).bytes(), "100000 bytes in one name"),
        calls::wat("a stack of names of 60 KB", &recursing(60_000), "limit stack"),
    ]
}

/// Values that branches carry: 14 KB of them took a minute to compile and 1.3 GB.
fn branches() -> Vec<Row> {
    let of = |name: &str, blocks: usize, values: usize, tables: usize, outcome: &'static str| {
        let results = format!("(result {})", "i32 ".repeat(values));
        let constants = "(i32.const 0) ".repeat(values);
        let targets: Vec<String> = (1..=blocks).map(|depth| depth.to_string()).collect();
        let targets = targets.join(" ");
        let table = format!("(if (local.get 0) (then {constants} local.get 0 br_table {targets}))");
        let opened = format!("(block {results} ").repeat(blocks + 1);
        let body = format!("{opened} {} {constants} {}", table.repeat(tables), ")".repeat(blocks + 1));
        let module = format!("(core module $big (func (param i32) {body} {}))", "drop ".repeat(values));
        loads::row(name, Guest::new().with_items(&module).bytes(), outcome)
    };
    let refused = "values carried by branches in one function";
    vec![
        of("100 values to 500 places, 10 times", 500, 100, 10, refused),
        of("1 value to 1,000 places, 100 times", 1000, 1, 100, refused),
        of("10 values to 100 places, 100 times", 100, 10, 100, refused),
        of("900 values to 30 places", 30, 900, 1, refused),
        of("3 values to 20 places, 100 times", 20, 3, 100, "loaded"),
        of("1 value to 900 places, 20 times", 900, 1, 20, "loaded"),
    ]
}
