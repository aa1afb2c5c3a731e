//! Fixtures that mean harm by being loaded: what runs then, and what they say. What only has to be compiled is in
//! `bombs`.

use std::time::Duration;

use super::bench::{Fixture, Row};
use crate::support::wat_guest::Guest;

pub(super) const TOOLS: &str = "holdfast:plugin/tools@0.1.0";
/// A component that is only looked at ends here: it exports something under the right name.
pub(super) const UNTYPED: &str = "other types";

pub(super) fn row(name: &str, component: Vec<u8>, outcome: &'static str) -> Row {
    Row {
        name: name.to_owned(),
        fixture: Fixture::Load(component),
        outcome,
        within: Duration::from_mins(1),
        peak_mib: 128,
    }
}

fn wat(name: &str, guest: &Guest, outcome: &'static str) -> Row {
    row(name, guest.bytes(), outcome)
}

fn text(name: &str, text: &str, outcome: &'static str) -> Row {
    row(name, wat::parse_str(text).expect("valid text"), outcome)
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = starting();
    rows.extend(describing());
    rows.extend(schemas());
    rows.extend(pretending());
    rows.extend(proposals());
    rows
}

fn starting() -> Vec<Row> {
    let with = |items: &str| Guest::new().with_items(items);
    vec![
        wat("loop in init", &Guest::new().start("(loop $l (br $l))"), "reached a limit"),
        wat("trap in init", &Guest::new().start("(unreachable)"), "crashed"),
        wat("loop in describe", &Guest::new().describe("(loop $l (br $l)) (unreachable)"), "reached a limit"),
        wat("trap in describe", &Guest::new().describe("(unreachable)"), "crashed"),
        wat("stack overflow in describe", &Guest::new().describe("(call $recurse (i32.const 0))"), "stack"),
        wat(
            "memory above the limit from the start",
            &with("(core module $big (memory 60000)) (core instance (instantiate $big))"),
            "limit: memory",
        ),
        wat(
            "table above the limit from the start",
            &with("(core module $big (table 9000000 funcref)) (core instance (instantiate $big))"),
            "limit: tables",
        ),
        wat(
            "data beyond the memory",
            &with(
                "(core module $big (memory 1) (data (i32.const 65535) \"ab\")) (core instance (instantiate $big))",
            ),
            "crashed",
        ),
        wat(
            "100 memories",
            &with(&format!("(core module $m (memory 1)) {}", "(core instance (instantiate $m))".repeat(100))),
            "could not be started",
        ),
        wat(
            "900 inner instances",
            &with(&format!("(core module $m) {}", "(core instance (instantiate $m))".repeat(900))),
            "could not be started",
        ),
    ]
}

fn describing() -> Vec<Row> {
    let lies = |name, body: &str, outcome| wat(name, &Guest::new().describe(body), outcome);
    vec![
        wat("describe that differs", &Guest::new().describe("(call $changing)"), "differently"),
        wat("describe that tells the time", &Guest::new().describe("(call $telling-time)"), "differently"),
        lies(
            "5 MB schema",
            "(drop (memory.grow (i32.const 200))) (i32.store (i32.const 4112) (i32.const 200000))
             (i32.store (i32.const 4116) (i32.const 5000000)) (i32.const 160)",
            "output size",
        ),
        lies(
            "3 MB schema",
            "(drop (memory.grow (i32.const 200))) (i32.store (i32.const 4112) (i32.const 200000))
             (i32.store (i32.const 4116) (i32.const 3000000)) (i32.const 160)",
            "the most is 65536",
        ),
        lies(
            "4 billion tools",
            "(i32.store (i32.const 164) (i32.const -1)) (i32.const 160)",
            "could not be read",
        ),
        lies(
            "a tool's name out of bounds",
            "(i32.store (i32.const 4096) (i32.const -4)) (i32.const 160)",
            "could not be read",
        ),
    ]
}

fn schemas() -> Vec<Row> {
    let with = |name, schema: &str, outcome| wat(name, &Guest::new().describing(&[("act", schema)]), outcome);
    let property = |schema: &str| format!(r#"{{"type":"object","properties":{{"n":{schema}}}}}"#);
    vec![
        with("schema that is no JSON", "{", "not JSON"),
        with("schema of no object", r#"{"type":"string"}"#, "schema"),
        with("schema with a remote $ref", &property(r#"{"$ref":"http://127.0.0.1:1/x.json"}"#), "schema"),
        with("schema with a file $ref", &property(r#"{"$ref":"file:///etc/passwd"}"#), "schema"),
        with("schema that is no schema", &property(r#"{"type":"no-such-type"}"#), "schema"),
        with("catastrophic regex", &property(r#"{"type":"string","pattern":"^(a+)+$"}"#), "loaded"),
        with(
            "regex of a gigabyte",
            &property(r#"{"type":"string","pattern":"(((a{1,100}){1,100}){1,100}){1,100}"}"#),
            "schema",
        ),
        with("regex that looks back", &property(r#"{"type":"string","pattern":"(a)\\1"}"#), "schema"),
        with(
            "schema 5000 deep",
            &property(&format!("{}{{}}{}", r#"{"not":"#.repeat(5000), "}".repeat(5000))),
            "schema",
        ),
    ]
}

fn pretending() -> Vec<Row> {
    let empty = format!(r#"(instance $i) (export "{TOOLS}" (instance $i))"#);
    vec![
        text("a core module", "(module)", "core WebAssembly module"),
        row("no WebAssembly", b"#!/bin/sh\nexit 1\n".to_vec(), "not a WebAssembly component"),
        row("cut off", Guest::new().bytes()[..900].to_vec(), "not a WebAssembly component"),
        text("no export", "(component)", "does not export"),
        text("an export of another type", &format!("(component {empty})"), UNTYPED),
        text(
            "unknown import",
            &format!(r#"(component (import "evil:host/api" (instance)) {empty})"#),
            "evil:host/api",
        ),
        text(
            "WASI of another version",
            &format!(r#"(component (import "wasi:cli/environment@0.3.0" (instance)) {empty})"#),
            "wasi:cli/environment@0.3.0",
        ),
        wat("an interface without its function", &Guest::new().resumable("0.1.0"), UNTYPED),
        wat("WASI of another patch", &Guest::new().importing("wasi:cli/environment@0.2.99"), "loaded"),
        wat(
            "WASI that the base has not",
            &Guest::new().importing("wasi:sockets/tls@0.2.6"),
            "wasi:sockets/tls",
        ),
        wat("HTTP without a grant", &Guest::new().importing("wasi:http/outgoing-handler@0.2.6"), "wasi:http"),
        wat("kv without a grant", &Guest::new().importing("holdfast:plugin/kv@0.1.0"), "kv = true"),
        text(
            "WASI of another type",
            &format!(
                r#"(component (import "wasi:cli/environment@0.2.6" (instance (export "get-environment" (func (param "x" u64))))) {empty})"#
            ),
            UNTYPED,
        ),
        text(
            "a function as an import",
            &format!(r#"(component (import "f" (func)) {empty})"#),
            "only interfaces",
        ),
    ]
}

/// What the engine does not speak is refused before anything of it runs.
fn proposals() -> Vec<Row> {
    let refused = |name, module: &str, outcome| {
        let items = format!("(core module $m {module})");
        row(name, Guest::new().with_items(&items).bytes(), outcome)
    };
    let with = |name, module: &str| refused(name, module, "does not compile");
    // Types are counted, and so read, before anything is compiled.
    let typed = |name, module: &str| refused(name, module, "proposal not supported");
    vec![
        with("64-bit memory", "(memory i64 1)"),
        with("shared memory", "(memory 1 2 shared)"),
        with("exceptions", "(tag $t) (func (throw $t))"),
        typed("garbage-collected structs", "(type $s (struct (field i32))) (func (param (ref $s)))"),
        with(
            "relaxed SIMD",
            "(func (result v128) (f32x4.relaxed_min (v128.const i64x2 0 0) (v128.const i64x2 0 0)))",
        ),
        with("pages of one byte", "(memory 1 (pagesize 1))"),
        typed("stack switching", "(type $f (func)) (type $c (cont $f)) (func (param (ref $c)))"),
    ]
}
