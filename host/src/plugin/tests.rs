//! Guests made of a few lines of WAT, each misbehaving in its own way.

pub(crate) mod guest;
mod signature;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use self::guest::Guest;
use super::{Capabilities, Invocation, Limits, LoadError, Network, Plugin, PluginHost, PluginSettings};
use crate::clock::Clock;
use crate::id::{CallId, OrgId, RunId, SessionId, UserId};
use crate::session::Owner;
use crate::store::Store;
use crate::tool::{Limit, OutcomeKind, Returned, ToolName, ToolOutcome};

/// A host and its database, which is gone with it.
pub(crate) struct Home {
    pub(crate) host: PluginHost,
    pub(crate) store: Arc<dyn Store>,
    _folder: TempDir,
}

pub(crate) async fn home() -> Home {
    let (store, folder) = store().await;
    let host = PluginHost::new(store.clone(), Clock::manual(), None, Network::default()).unwrap();
    Home { host, store, _folder: folder }
}

pub(super) async fn store() -> (Arc<dyn Store>, TempDir) {
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite://{}", folder.path().join("test.db").display());
    (crate::store::open(&url).await.unwrap(), folder)
}

fn with_limits(change: impl FnOnce(&mut Limits)) -> PluginSettings {
    let mut settings = PluginSettings::default();
    change(&mut settings.limits);
    settings
}

async fn load(guest: &Guest, settings: &PluginSettings) -> Result<Plugin, LoadError> {
    home().await.host.load("test", guest.bytes(), settings).await
}

async fn refusal(guest: &Guest) -> String {
    match load(guest, &PluginSettings::default()).await {
        Ok(_) => "loaded".to_owned(),
        Err(error) => error.to_string(),
    }
}

async fn call(plugin: &Plugin) -> ToolOutcome {
    call_with(plugin, &json!({"n": 1}), CancellationToken::new()).await
}

pub(crate) async fn call_with(
    plugin: &Plugin,
    arguments: &Value,
    cancelled: CancellationToken,
) -> ToolOutcome {
    let owner = Owner { org: OrgId::from("acme"), user: UserId::from("ann") };
    let invocation = Invocation {
        run: &RunId::from("run-1"),
        session: &SessionId::from("session-1"),
        owner: &owner,
        call: &CallId::from("call-1"),
        attempt: 1,
        tool: &ToolName::new(plugin.id(), "act").unwrap(),
        arguments,
        answered: None,
        answer_within: Duration::from_mins(1),
        cancelled,
    };
    match plugin.call(invocation).await {
        Returned::Outcome(outcome) => outcome,
        Returned::Suspension(suspension) => panic!("{suspension:?}"),
    }
}

/// Loads a guest with default settings and calls it once.
async fn outcome(guest: &Guest) -> ToolOutcome {
    call(&load(guest, &PluginSettings::default()).await.unwrap()).await
}

fn limit(limit: Limit) -> OutcomeKind {
    OutcomeKind::Limit { limit }
}

fn trap(trap: &str) -> OutcomeKind {
    OutcomeKind::Trap { trap: trap.to_owned() }
}

#[tokio::test]
async fn a_good_guest_answers() {
    let plugin = load(&Guest::new(), &PluginSettings::default()).await.unwrap();
    assert_eq!(plugin.specs().len(), 1);
    assert_eq!(plugin.specs()[0].name.to_string(), "test__act");
    assert_eq!(plugin.digest().len(), 64);
    let outcome = call(&plugin).await;
    assert_eq!((outcome.kind, outcome.text.as_str()), (OutcomeKind::Ok, "done"));
    assert_eq!(outcome.usage.output_bytes, 4);
    assert_eq!(outcome.usage.memory_bytes, 2 * 65_536);
}

#[test]
fn a_plugin_works_on_a_runtime_of_any_kind_and_outlives_its_host() {
    for mut builder in
        [tokio::runtime::Builder::new_current_thread(), tokio::runtime::Builder::new_multi_thread()]
    {
        let runtime = builder.enable_all().build().unwrap();
        // `load` drops its host; the last part of it goes with the plugin, inside the runtime.
        let outcome = runtime.block_on(async { outcome(&Guest::new()).await });
        assert_eq!(outcome.kind, OutcomeKind::Ok);
    }
}

#[tokio::test]
async fn a_resumable_export_of_another_kind_is_refused() {
    let refused = refusal(&Guest::new().resumable("0.2.0")).await;
    assert!(refused.contains("it exports `holdfast:plugin/resumable@0.2.0`"), "{refused}");
    let refused = refusal(&Guest::new().resumable("0.1.0")).await;
    assert!(refused.contains("other types") && refused.contains("resumable"), "{refused}");
}

#[tokio::test]
async fn what_is_no_plugin_is_refused_with_a_hint() {
    let load = async |text: &str| {
        let bytes = wat::parse_str(text).unwrap();
        let loaded = home().await.host.load("test", bytes, &PluginSettings::default()).await;
        loaded.unwrap_err().to_string()
    };
    assert!(load("(module)").await.contains("core WebAssembly module"));
    assert!(load("(component)").await.contains("it exports: nothing"));
    let other = "(component (instance $i) (export \"acme:other/thing@1.0.0\" (instance $i)))";
    assert!(load(other).await.contains("it exports: acme:other/thing@1.0.0"));
    let newer = "(component (instance $i) (export \"holdfast:plugin/tools@0.2.0\" (instance $i)))";
    assert!(load(newer).await.contains("this host serves `holdfast:plugin/tools@0.1.0`"));
    let empty = "(component (instance $i) (export \"holdfast:plugin/tools@0.1.0\" (instance $i)))";
    assert!(load(empty).await.contains("other types"));

    let settings = with_limits(|limits| limits.component_bytes = 10);
    let error = home().await.host.load("test", vec![0; 11], &settings).await.unwrap_err();
    assert!(error.to_string().contains("component_bytes"));
    let error = home().await.host.load("a__b", vec![], &settings).await.unwrap_err();
    assert!(error.to_string().contains("not a legal name"));
    let error = home().await.host.load("test", vec![0; 5], &settings).await.unwrap_err();
    assert!(error.to_string().contains("not a WebAssembly component"));
}

#[tokio::test]
async fn imports_are_refused_by_name() {
    let importing = async |name: &str| refusal(&Guest::new().importing(name)).await;
    assert!(importing("holdfast:plugin/kv@0.1.0").await.contains("`kv = true` in [plugins.test.grants]"));
    assert!(importing("holdfast:plugin/log@0.2.0").await.contains("serves holdfast:plugin@0.1.0"));
    assert!(importing("holdfast:plugin/secrets@0.1.0").await.contains("grants.secrets]]`"));
    assert!(importing("wasi:http/outgoing-handler@0.2.6").await.contains("grants.http]]`"));
    assert!(importing("wasi:http/types@0.2.6").await.contains("`wasi:http/types@0.2.6`"));
    assert!(importing("wasi:keyvalue/store@0.2.0").await.contains("nothing in this host provides it"));
    assert!(importing("wasi:cli/environment@0.3.0").await.contains("nothing in this host provides it"));
    assert!(importing("wasi:cli/environment@0.2.x").await.contains("nothing in this host provides it"));
    assert_eq!(importing("wasi:cli/environment@0.2.6").await, "loaded");
    assert_eq!(importing("wasi:sockets/tcp@0.2.12").await, "loaded");
    assert_eq!(importing("holdfast:plugin/control@0.1.0").await, "loaded");

    let settings = PluginSettings { grants: kv(), ..PluginSettings::default() };
    let guest = Guest::new().importing("holdfast:plugin/kv@0.1.0");
    let plugin = load(&guest, &settings).await.unwrap();
    assert_eq!(plugin.prepared().imports(), ["holdfast:plugin/kv@0.1.0"]);
}

fn kv() -> Capabilities {
    toml::from_str("kv = true").unwrap()
}

#[tokio::test]
async fn bad_descriptions_are_refused() {
    let object = r#"{"type":"object"}"#;
    let described = async |tools: &[(&str, &str)]| refusal(&Guest::new().describing(tools)).await;
    assert!(described(&[]).await.contains("lists 0 tools"));
    assert!(described(&[("a__b", object)]).await.contains("not a legal name"));
    assert!(described(&[("a", object), ("a", object)]).await.contains("`test__a` twice"));
    assert!(described(&[("a", "{")]).await.contains("its input schema is not JSON"));
    assert!(described(&[("a", "{}")]).await.contains("must be an object"));
    let many: Vec<(String, &str)> = (0..129).map(|n| (format!("t{n}"), object)).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, schema)| (name.as_str(), *schema)).collect();
    assert!(described(&many).await.contains("lists 129 tools"));
    let long = format!(r#"{{"type":"object","title":"{}"}}"#, "x".repeat(70_000));
    assert!(described(&[("a", &long)]).await.contains("the most is 65536"));
    let dated = Guest::new().describe("(call $telling-time)");
    assert!(refusal(&dated).await.contains("differently"), "{}", refusal(&dated).await);
    let changing = Guest::new().describe("(call $changing)");
    assert!(refusal(&changing).await.contains("differently"), "{}", refusal(&changing).await);
    assert!(refusal(&Guest::new().describe("(unreachable)")).await.contains("it crashed (unreachable)"));
    // Far below the limit on time, which a busy machine reaches first.
    let settings = with_limits(|limits| limits.cpu_ms = 200);
    for slow in
        [Guest::new().describe("(loop $l (br $l)) (unreachable)"), Guest::new().start("(loop $l (br $l))")]
    {
        assert!(load(&slow, &settings).await.unwrap_err().to_string().contains("CPU time"));
    }
}

#[tokio::test]
async fn a_loop_ends_at_its_cpu_limit_and_disturbs_nobody() {
    let settings = with_limits(|limits| limits.cpu_ms = 300);
    let plugin = load(&Guest::new().call("(loop $l (br $l)) (unreachable)"), &settings).await.unwrap();
    let looping = tokio::spawn({
        let plugin = plugin.clone();
        async move { call(&plugin).await }
    });
    let mut ticks = 0;
    while !looping.is_finished() {
        tokio::time::sleep(Duration::from_millis(1)).await;
        ticks += 1;
    }
    let outcome = looping.await.unwrap();
    assert_eq!(outcome.kind, limit(Limit::Cpu));
    assert!((250..1000).contains(&outcome.usage.cpu_ms), "{:?}", outcome.usage);
    assert!(ticks > 30, "the neighbour came to run {ticks} times only");
}

#[tokio::test]
async fn a_good_plugin_answers_beside_many_bad_ones() {
    let home = home().await;
    let host = &home.host;
    let looping = Guest::new().call("(loop $l (br $l)) (unreachable)").bytes();
    let settings = with_limits(|limits| limits.cpu_ms = 60_000);
    let bad = host.load("test", looping, &settings).await.unwrap();
    let good = host.load("test", Guest::new().bytes(), &settings).await.unwrap();
    let mut bad_calls = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let bad = bad.clone();
        bad_calls.spawn(async move { call(&bad).await });
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let started = Instant::now();
    assert_eq!(call(&good).await.kind, OutcomeKind::Ok);
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    bad_calls.shutdown().await;
}

#[tokio::test]
async fn wall_time_covers_waiting() {
    let settings = with_limits(|limits| limits.wall_ms = 100);
    let plugin = load(&Guest::new().call("(loop $l (br $l)) (unreachable)"), &settings).await.unwrap();
    assert_eq!(call(&plugin).await.kind, limit(Limit::WallTime));
}

#[tokio::test]
async fn a_cancelled_call_ends_within_100_ms() {
    let guest = Guest::new().call("(loop $l (br $l)) (unreachable)");
    let plugin = load(&guest, &PluginSettings::default()).await.unwrap();
    let token = CancellationToken::new();
    let running = tokio::spawn({
        let (plugin, token) = (plugin.clone(), token.clone());
        async move { call_with(&plugin, &json!({"n": 1}), token).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let started = Instant::now();
    token.cancel();
    assert_eq!(running.await.unwrap().kind, OutcomeKind::Cancelled);
    assert!(started.elapsed() < Duration::from_millis(100), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_dropped_call_gives_its_place_back() {
    let guest = Guest::new().call("(loop $l (br $l)) (unreachable)");
    let settings = with_limits(|limits| limits.concurrent_calls = 1);
    let plugin = load(&guest, &settings).await.unwrap();
    let dropped = tokio::time::timeout(Duration::from_millis(50), call(&plugin)).await;
    assert!(dropped.is_err());
    let started = Instant::now();
    while plugin.0.running.available_permits() == 0 {
        assert!(started.elapsed() < Duration::from_millis(500), "the guest still runs");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_busy_plugin_answers_in_the_end() {
    let guest = Guest::new().call("(loop $l (br $l)) (unreachable)");
    let settings = with_limits(|limits| {
        limits.concurrent_calls = 1;
        limits.wall_ms = 100;
    });
    let plugin = load(&guest, &settings).await.unwrap();
    let held = plugin.0.running.acquire().await.unwrap();
    assert_eq!(call(&plugin).await.kind, OutcomeKind::Unavailable);
    drop(held);
}

#[tokio::test]
async fn memory_tables_and_handles_are_bounded() {
    let grow =
        "(if (i32.eq (memory.grow (i32.const 2000)) (i32.const -1)) (then (unreachable))) (unreachable)";
    assert_eq!(outcome(&Guest::new().call(grow)).await.kind, limit(Limit::Memory));
    let grow = "(drop (table.grow $t (ref.null func) (i32.const 1000000))) (unreachable)";
    assert_eq!(outcome(&Guest::new().call(grow)).await.kind, limit(Limit::Tables));
    let hoard = "(loop $l (drop (call $resource (i32.const 1))) (br $l)) (unreachable)";
    assert_eq!(outcome(&Guest::new().call(hoard)).await.kind, limit(Limit::Instances));
    // A guest that copes with the refusal is fine.
    let grow = "(drop (memory.grow (i32.const 2000))) (call $done)";
    let coped = outcome(&Guest::new().call(grow)).await;
    assert_eq!((coped.kind, coped.usage.limit), (OutcomeKind::Ok, Some(Limit::Memory)));
}

#[tokio::test]
async fn crashes_have_names() {
    assert_eq!(outcome(&Guest::new().call("(unreachable)")).await.kind, trap("unreachable"));
    let divide = "(i32.div_s (i32.const 1) (i32.const 0))";
    assert_eq!(outcome(&Guest::new().call(divide)).await.kind, trap("integer-division-by-zero"));
    let load = "(i32.load (i32.const -8))";
    assert_eq!(outcome(&Guest::new().call(load)).await.kind, trap("memory-out-of-bounds"));
    let recurse = "(call $recurse (i32.const 0))";
    assert_eq!(outcome(&Guest::new().call(recurse)).await.kind, limit(Limit::Stack));
}

#[tokio::test]
async fn answers_are_bounded_before_they_are_copied() {
    let huge = "(call $text (i32.const 0) (i32.const 60000000))";
    let settings = with_limits(|limits| limits.memory_bytes = 128 << 20);
    let guest = Guest::new().call(&format!("(drop (memory.grow (i32.const 1000))) {huge}"));
    let outcome = call(&load(&guest, &settings).await.unwrap()).await;
    assert_eq!(outcome.kind, limit(Limit::Output));
    let guest = Guest::new().call("(drop (memory.grow (i32.const 800))) (call $parts (i32.const 1000000))");
    assert_eq!(call(&load(&guest, &settings).await.unwrap()).await.kind, limit(Limit::Output));
    let settings = with_limits(|limits| limits.output_bytes = 3);
    assert_eq!(call(&load(&Guest::new(), &settings).await.unwrap()).await.kind, limit(Limit::Output));
}

#[tokio::test]
async fn answers_that_break_the_interface_are_invalid() {
    // A pointer past the end, bytes that are no UTF-8, a discriminant that does not exist.
    for body in [
        "(call $text (i32.const 0x7000000) (i32.const 8))",
        "(i32.store8 (i32.const 0) (i32.const 0xff)) (call $text (i32.const 0) (i32.const 1))",
        "(i32.store8 (i32.const 64) (i32.const 9)) (i32.const 64)",
    ] {
        assert_eq!(outcome(&Guest::new().call(body)).await.kind, OutcomeKind::InvalidOutput, "{body}");
    }
    let suspend =
        "(i32.store8 (i32.const 64) (i32.const 0)) (i32.store8 (i32.const 68) (i32.const 1)) (i32.const 64)";
    let outcome = outcome(&Guest::new().call(suspend)).await;
    assert_eq!(outcome.kind, OutcomeKind::InvalidOutput);
    assert!(outcome.text.contains("not valid"), "it does not export `resumable`");
}

#[tokio::test]
async fn host_calls_are_counted_and_log_lines_dropped() {
    let guest = Guest::new().logging().call(
        "(local $n i32)
         (loop $l
           (call $log (i32.const 2) (i32.const 16) (i32.const 4))
           (br_if $l (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 300))))
         (call $done)",
    );
    let plugin = load(&guest, &PluginSettings::default()).await.unwrap();
    assert_eq!(plugin.prepared().imports(), ["holdfast:plugin/log@0.1.0"]);
    let usage = call(&plugin).await.usage;
    assert_eq!((usage.host_calls, usage.log_lines, usage.log_lines_dropped), (300, 200, 100));

    let settings = with_limits(|limits| limits.host_calls = 100);
    assert_eq!(call(&load(&guest, &settings).await.unwrap()).await.kind, limit(Limit::HostCalls));

    let huge = "(drop (memory.grow (i32.const 500))) (call $log (i32.const 2) (i32.const 0) (i32.const 30000000)) (call $done)";
    let outcome = outcome(&Guest::new().logging().call(huge)).await;
    assert_eq!(outcome.kind, limit(Limit::HostCallBytes));
    let bad = "(i32.store8 (i32.const 0) (i32.const 0xff)) (call $log (i32.const 2) (i32.const 0) (i32.const 1)) (call $done)";
    assert_eq!(self::outcome(&Guest::new().logging().call(bad)).await.kind, trap("host-call"));
}

#[tokio::test]
async fn what_surrounds_a_call_is_the_guests_work_too() {
    let settings = with_limits(|limits| limits.cpu_ms = 200);
    for guest in [
        Guest::new().realloc("(loop $l (br $l)) (unreachable)"),
        Guest::new().after_call("(loop $l (br $l))"),
    ] {
        let plugin = load(&guest, &settings).await.unwrap();
        assert_eq!(call(&plugin).await.kind, limit(Limit::Cpu));
    }
    let large =
        Guest::new().with_items("(core module $big (memory 60000)) (core instance (instantiate $big))");
    assert!(refusal(&large).await.contains("limit: memory"), "{}", refusal(&large).await);
}

#[tokio::test]
async fn arguments_are_checked_first() {
    let plugin = load(&Guest::new().call("(unreachable)"), &PluginSettings::default()).await.unwrap();
    let outcome = call_with(&plugin, &json!({"n": "x"}), CancellationToken::new()).await;
    assert_eq!(outcome.kind, OutcomeKind::InvalidArgs);
    assert!(outcome.text.contains("schema: /n: \"x\" is not of type \"integer\""), "{}", outcome.text);
}

#[tokio::test]
async fn the_ticker_is_alive() {
    assert!(home().await.host.ticker_alive());
}
