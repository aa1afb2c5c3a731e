//! Fixtures that load like any other plugin and misbehave when called.

use std::time::Duration;

use holdfast::plugin::{Limits, PluginSettings};
use serde_json::{Value, json};

use super::bench::{Fixture, Row, granted};
use crate::support::guests::guest;
use crate::support::wat_guest::Guest;

const LOOP: &str = "(loop $l (br $l)) (unreachable)";
/// Room for the largest answers, and the answer itself at 64.
const GROW: &str = "(drop (memory.grow (i32.const 2000)))";

/// Low enough that running into them takes no time.
fn limits() -> Limits {
    Limits { cpu_ms: 300, wall_ms: 3000, memory_bytes: 160 << 20, ..Limits::default() }
}

fn row(name: &str, component: Vec<u8>, tool: &'static str, arguments: Value, outcome: &'static str) -> Row {
    // Those made of WAT import nothing of it.
    let settings = Box::new(PluginSettings { limits: limits(), ..granted(json!({"kv": true})) });
    Row {
        name: name.to_owned(),
        fixture: Fixture::Call { component, settings, tool, arguments, times: 3 },
        outcome,
        within: Duration::from_secs(20),
        peak_mib: 96,
    }
}

pub(super) fn wat(name: &str, guest: &Guest, outcome: &'static str) -> Row {
    row(name, guest.bytes(), "act", json!({"n": 1}), outcome)
}

fn body(name: &str, call: &str, outcome: &'static str) -> Row {
    wat(name, &Guest::new().call(call), outcome)
}

fn rust(name: &str, tool: &'static str, arguments: Value, outcome: &'static str) -> Row {
    let component = std::fs::read(guest("hostile")).expect("a component");
    Row { within: Duration::from_secs(40), peak_mib: 256, ..row(name, component, tool, arguments, outcome) }
}

/// The same with other limits.
pub(super) fn limited(mut row: Row, limits: Limits) -> Row {
    if let Fixture::Call { settings, .. } = &mut row.fixture {
        settings.limits = limits;
    }
    row
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = never_ending();
    rows.extend(greedy());
    rows.extend(crashing());
    rows.extend(lying());
    rows.extend(noisy());
    rows
}

fn never_ending() -> Vec<Row> {
    vec![
        body("loop in call", LOOP, "limit cpu"),
        wat("loop in cabi_realloc", &Guest::new().realloc(LOOP), "limit cpu"),
        wat("loop in post-return", &Guest::new().after_call("(loop $l (br $l))"), "limit cpu"),
        limited(
            body("loop with CPU to spare", LOOP, "limit wall-time"),
            Limits { cpu_ms: 60_000, wall_ms: 300, ..limits() },
        ),
        body(
            "one instruction after another",
            "(local $n i64) (loop $l (local.set $n (i64.div_u (i64.const 7) (i64.or (local.get $n) (i64.const 1)))) (br $l)) (unreachable)",
            "limit cpu",
        ),
        Row {
            peak_mib: 400,
            ..body(
                "bulk fill without end",
                "(drop (memory.grow (i32.const 2000))) (loop $l (memory.fill (i32.const 200000) (i32.const 1) (i32.const 130000000)) (br $l)) (unreachable)",
                "limit cpu",
            )
        },
        limited(
            rust("host call beyond the deadline", "sleep", json!({"ms": 600_000}), "limit wall-time"),
            Limits { wall_ms: 300, ..limits() },
        ),
    ]
}

fn greedy() -> Vec<Row> {
    let wide = |name, call: &str, outcome| Row { peak_mib: 400, ..body(name, call, outcome) };
    vec![
        wide(
            "memory bomb",
            "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)",
            "limit memory",
        ),
        wide(
            "memory bomb, written to",
            "(local $at i32) (loop $l
               (local.set $at (i32.mul (memory.grow (i32.const 16)) (i32.const 65536)))
               (memory.fill (local.get $at) (i32.const 1) (i32.const 1048576)) (br $l)) (unreachable)",
            "limit memory",
        ),
        body(
            "memory refused, and coped with",
            "(drop (memory.grow (i32.const 60000))) (call $done)",
            "ok",
        ),
        body(
            "table bomb",
            "(loop $l (br_if $l (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1)))) (unreachable)",
            "limit tables",
        ),
        body("resource bomb", "(loop $l (drop (call $resource (i32.const 1))) (br $l)) (unreachable)", "limit instances"),
        body("stack overflow", "(drop (call $recurse (i32.const 0))) (call $done)", "limit stack"),
        wide("100 MB of output", &format!("{GROW} (call $text (i32.const 200000) (i32.const 100000000))"), "limit output"),
        wide(
            "1M parts",
            &format!("{GROW} (i32.store (i32.const 72) (i32.const 200000)) (call $parts (i32.const 1000000))"),
            "limit output",
        ),
        wide(
            "4 billion parts",
            "(i32.store (i32.const 72) (i32.const 0)) (call $parts (i32.const -1))",
            "invalid-output",
        ),
        rust("random of 4 GB", "random", json!({"bytes": 4_000_000_000_u64}), "trap host-call"),
        rust("random of 4 GB at once, again", "random", json!({"bytes": 2_000_000}), "trap host-call"),
        wat(
            "30 MB to a host call",
            &Guest::new().logging().call(
                "(drop (memory.grow (i32.const 500))) (call $log (i32.const 2) (i32.const 0) (i32.const 30000000)) (call $done)",
            ),
            "limit host-call-bytes",
        ),
        wat(
            "1M host calls",
            &Guest::new().logging().call("(loop $l (call $log (i32.const 0) (i32.const 16) (i32.const 4)) (br $l)) (unreachable)"),
            "limit host-calls",
        ),
        rust("a Rust guest's memory", "memory", json!({}), "limit memory"),
        rust("a Rust guest's stack", "stack", json!({}), "limit stack"),
    ]
}

fn crashing() -> Vec<Row> {
    let mut storm = body("trap storm, 2000 of them", "(unreachable)", "trap unreachable");
    if let Fixture::Call { times, .. } = &mut storm.fixture {
        *times = 2000;
    }
    vec![
        body("trap in call", "(unreachable)", "trap unreachable"),
        storm,
        wat("trap in cabi_realloc", &Guest::new().realloc("(unreachable)"), "trap unreachable"),
        wat("trap in post-return", &Guest::new().after_call("(unreachable)"), "trap unreachable"),
        body("division by zero", "(i32.div_u (i32.const 1) (i32.const 0))", "trap integer-division-by-zero"),
        body("read out of bounds", "(i32.load (i32.const -8))", "trap memory-out-of-bounds"),
        body("call of nothing", "(call_indirect (result i32) (i32.const 0))", "trap indirect-call-to-null"),
        rust("panic", "panic", json!({}), "trap unreachable"),
    ]
}

fn lying() -> Vec<Row> {
    let deep = |open: &str| {
        format!(
            "{GROW} (memory.fill (i32.const 200000) (i32.const {open}) (i32.const 500000))
             (drop (call $text (i32.const 200000) (i32.const 500000)))
             (i32.store8 (i32.const 128) (i32.const 1)) (i32.const 64)"
        )
    };
    vec![
        body("invalid UTF-8", "(i32.store8 (i32.const 16) (i32.const 0xff)) (call $done)", "invalid-output"),
        body(
            "wrong discriminant of an outcome",
            "(i32.store8 (i32.const 68) (i32.const 7)) (i32.const 64)",
            "invalid-output",
        ),
        body(
            "wrong discriminant of a result",
            "(i32.store8 (i32.const 64) (i32.const 99)) (i32.const 64)",
            "invalid-output",
        ),
        body(
            "wrong discriminant of a part",
            "(drop (call $done)) (i32.store8 (i32.const 128) (i32.const 9)) (i32.const 64)",
            "invalid-output",
        ),
        body("answer out of bounds", "(i32.const -8)", "invalid-output"),
        body("answer unaligned", "(i32.const 65)", "invalid-output"),
        body("text out of bounds", "(call $text (i32.const -16) (i32.const 64))", "invalid-output"),
        wat("realloc out of bounds", &Guest::new().realloc("(i32.const -16)"), "invalid-output"),
        body("deep JSON", &deep("0x5b"), "invalid-output"),
        rust("JSON that is none", "bad_json", json!({}), "invalid-output"),
    ]
}

fn noisy() -> Vec<Row> {
    vec![
        rust("log flood with ANSI", "log_flood", json!({"lines": 9000}), "ok"),
        limited(
            rust("stdout flood", "stdout_flood", json!({"bytes": 20_000_000}), "ok"),
            Limits { cpu_ms: 10_000, wall_ms: 30_000, ..limits() },
        ),
        rust("a failure of its own", "fail", json!({"code": "\u{1b}[2J<script>"}), "guest-failure"),
    ]
}
