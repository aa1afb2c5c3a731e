//! More hostile plugins: what one takes from the host beside its own memory and CPU, and from the plugins next
//! to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use holdfast::clock::Clock;
use holdfast::id::{CallId, OrgId, RunId, SessionId, UserId};
use holdfast::plugin::{Code, Invocation, LoadError, Network, Plugin, PluginHost, PluginSettings};
use holdfast::session::Owner;
use holdfast::store::Store;
use holdfast::tool::{Limit, OutcomeKind, Returned, ToolName, ToolOutcome};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::support::wat_guest::Guest;
use crate::support::{own_process, resident_bytes};

/// Most time for a call of microseconds beside them, on a machine that does other things as well.
const NEIGHBOUR: Duration = Duration::from_secs(3);

struct Bench {
    host: PluginHost,
    _folder: TempDir,
}

impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite://{}", folder.path().join("test.db").display());
        let store: Arc<dyn Store> = holdfast::store::open(&url).await.expect("it opens");
        let host = PluginHost::new(store, Clock::System, None, Network::default()).expect("a host");
        Self { host, _folder: folder }
    }

    async fn load(&self, id: &str, guest: &Guest) -> Result<Plugin, LoadError> {
        let settings = PluginSettings::default();
        self.host.prepare(id, Arc::new(Code::new(guest.bytes())), &settings).await?.grant(&settings.grants)
    }
}

async fn call(plugin: &Plugin, arguments: &Value) -> ToolOutcome {
    let owner = Owner { org: OrgId::from("acme"), user: UserId::from("ann") };
    let invocation = Invocation {
        run: &RunId::from("run-1"),
        session: &SessionId::from("session-1"),
        owner: &owner,
        call: &CallId::from("call-1"),
        attempt: 1,
        tool: &ToolName::new(plugin.id(), "act").expect("a name"),
        arguments,
        answered: None,
        answer_within: Duration::from_mins(1),
        cancelled: CancellationToken::new(),
    };
    match plugin.call(invocation).await {
        Returned::Outcome(outcome) => outcome,
        Returned::Suspension(suspension) => panic!("nobody was to be asked: {suspension:?}"),
    }
}

fn resident() -> u64 {
    resident_bytes(std::process::id()).expect("Linux")
}

/// The slowest of a good plugin's calls while something else goes on, and what the process grew by.
async fn beside(good: &Plugin, work: impl Future<Output = ()>) -> (Duration, u64) {
    let before = resident();
    let (done, peak) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let neighbour = tokio::spawn({
        let (good, done, peak) = (good.clone(), Arc::clone(&done), Arc::clone(&peak));
        async move {
            let mut slowest = Duration::ZERO;
            while !done.load(Ordering::Relaxed) {
                let started = Instant::now();
                assert_eq!(call(&good, &json!({"n": 1})).await.kind, OutcomeKind::Ok);
                slowest = slowest.max(started.elapsed());
                peak.fetch_max(resident(), Ordering::Relaxed);
            }
            slowest
        }
    });
    work.await;
    done.store(true, Ordering::Relaxed);
    let slowest = neighbour.await.expect("the neighbour answers");
    (slowest, peak.load(Ordering::Relaxed).saturating_sub(before) >> 20)
}

#[test]
fn a_schema_costs_the_host_neither_its_memory_nor_its_threads() {
    own_process("hostile_extra::schemas_beside_a_neighbour");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the test above, in a process of its own"]
async fn schemas_beside_a_neighbour() {
    let bench = Bench::new().await;
    let good = bench.load("good", &Guest::new()).await.expect("it loads");
    let with = async |schema: Value| {
        let guest = Guest::new().describing(&[("act", &schema.to_string())]);
        // Room for large arguments.
        bench.load("evil", &guest.start("(drop (memory.grow (i32.const 10)))")).await
    };

    // Every element is wrong in a thousand ways: 40 million errors of 400 bytes.
    let wrong = vec![json!({"type": "string"}); 1000];
    let wrong = with(json!({"type": "object", "properties": {"x": {"items": {"anyOf": wrong}}}})).await;
    // Every element is right in a thousand ways, which has to be found out.
    let right = vec![json!({"type": "integer"}); 1000];
    let right = with(json!({"type": "object", "properties": {"x": {"items": {"allOf": right}}}})).await;
    let (wrong, right) = (wrong.expect("it loads"), right.expect("it loads"));
    let value = json!({"x": vec![1; 48_000]});
    let (slowest, grown) = beside(&good, async {
        for _ in 0..3 {
            let refused = call(&wrong, &value).await;
            assert_eq!(refused.kind, OutcomeKind::InvalidArgs);
            assert!(refused.text.contains("too large to say where"), "{}", refused.text);
            // More than there are threads.
            let calls = (0..8).map(|_| call(&right, &value));
            let outcomes = futures_util::future::join_all(calls).await;
            assert!(outcomes.iter().all(|outcome| outcome.kind == OutcomeKind::Ok));
        }
    })
    .await;
    eprintln!("the neighbour took {slowest:?}, the host grew by {grown} MiB");
    assert!(slowest < NEIGHBOUR, "{slowest:?}");
    assert!(grown < 200, "{grown} MiB");

    // What is evaluated and what is not: each level asks the one below twice for every member.
    let mut levels = json!({"properties": {"b": {}}});
    for _ in 0..30 {
        levels = json!({"type": "object", "anyOf": [levels], "unevaluatedProperties": {"type": "integer"}});
    }
    let refusal = with(levels).await.expect_err("it never ends").to_string();
    assert!(
        refusal.contains("`unevaluatedProperties` or `unevaluatedItems` within one another"),
        "{refusal}"
    );
}

#[test]
fn instances_are_small_beside_their_memories() {
    own_process("hostile_extra::a_hundred_instances");
}

/// Each takes nothing of a call's memory and of its tables, and before this was counted 4 GB of the host.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the test above, in a process of its own"]
async fn a_hundred_instances() {
    let bench = Bench::new().await;
    let good = bench.load("good", &Guest::new()).await.expect("it loads");
    let of = |module: &str, instances: usize| {
        let instances = "(core instance (instantiate $big (with \"\" (instance $small))))".repeat(instances);
        let small = "(core module $s (func (export \"f\"))) (core instance $small (instantiate $s))";
        Guest::new().with_items(&format!("{small} (core module $big {module}) {instances}"))
    };
    let (over, within) = (33_000, 8_000);
    let globals = |n| "(global i64 (i64.const 1))".repeat(n);
    let segments = |n| "(data \"x\")".repeat(n);
    let elements = |n| format!("(func $f) (elem func {})", "$f ".repeat(n));
    let expressions = |n| format!("(func $f) (elem funcref {})", "(ref.func $f) ".repeat(n));
    let empty = |n| format!("(func $f) {}", "(elem func)".repeat(n));
    for module in [globals(over), segments(over), elements(over), expressions(over), empty(over)] {
        let refusal = bench.load("evil", &of(&module, 100)).await.expect_err("it is refused").to_string();
        assert!(refusal.contains("bytes in one instance, besides its memories"), "{refusal}");
    }
    let module = format!("{} {} {}", globals(within), segments(within), elements(within));
    let evil = bench.load("evil", &of(&module, 100)).await.expect("it loads");
    let (slowest, grown) = beside(&good, async {
        for _ in 0..3 {
            assert_eq!(call(&evil, &json!({"n": 1})).await.kind, OutcomeKind::Ok);
        }
    })
    .await;
    eprintln!("the neighbour took {slowest:?}, the host grew by {grown} MiB");
    assert!(slowest < NEIGHBOUR, "{slowest:?}");
    assert!(grown < 100, "{grown} MiB");
    let refusal = bench.load("evil", &of("", 130)).await.expect_err("there are too many").to_string();
    assert!(refusal.contains("instance count too high"), "{refusal}");
}

/// Each frame of a trap holds a copy of its function's name.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_not_a_way_into_the_hosts_memory() {
    let bench = Bench::new().await;
    let load = async |bytes: usize| {
        let name = "n".repeat(bytes);
        let recursing = format!("(func ${name} (call ${name}) (call ${name}))");
        // A function behind the one that the body is meant for.
        let body = format!("(call ${name}) (call $done)) {}", recursing.trim_end_matches(')'));
        bench.load("evil", &Guest::new().call(&format!("{body})"))).await
    };
    let refusal = load(100_000).await.expect_err("it is refused").to_string();
    assert!(refusal.contains("100000 bytes in one name"), "{refusal}");
    let outcome = call(&load(60_000).await.expect("it loads"), &json!({"n": 1})).await;
    assert_eq!(outcome.kind, OutcomeKind::Limit { limit: Limit::Stack });
    assert!(outcome.text.len() < 100, "{}", outcome.text);
}

/// A component of 14 KB took a minute to compile and 1.3 GB; one of 110 KB did not end in two.
#[tokio::test(flavor = "multi_thread")]
async fn values_on_branches_are_not_a_compile_bomb() {
    let bench = Bench::new().await;
    let big = |blocks: usize, values: usize, tables: usize| {
        let results = format!("(result {})", "i32 ".repeat(values));
        let constants = "(i32.const 0) ".repeat(values);
        let targets: Vec<String> = (1..=blocks).map(|depth| depth.to_string()).collect();
        let targets = targets.join(" ");
        let table = format!("(if (local.get 0) (then {constants} local.get 0 br_table {targets}))");
        let opened = format!("(block {results} ").repeat(blocks + 1);
        let body = format!("{opened} {} {constants} {}", table.repeat(tables), ")".repeat(blocks + 1));
        let module = format!("(core module $big (func (param i32) {body} {}))", "drop ".repeat(values));
        Guest::new().with_items(&module)
    };
    for (blocks, values, tables) in [(500, 100, 10), (1000, 1, 100), (100, 10, 100), (30, 900, 1)] {
        let refusal =
            bench.load("evil", &big(blocks, values, tables)).await.expect_err("refused").to_string();
        assert!(refusal.contains("values carried by branches in one function"), "{refusal}");
    }
    let started = Instant::now();
    bench.load("evil", &big(20, 3, 100)).await.expect("it loads");
    bench.load("evil", &big(900, 1, 20)).await.expect("it loads");
    eprintln!("the largest took {:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_mins(1));
}
