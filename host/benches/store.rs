//! What group commit is worth: the same saves, all runs at once and one after the other.
//!
//! `cargo bench --profile dev --bench store -- [RUNS] [SAVES]`; the database lies in `target/`, so that its
//! commits wait for a real disk.

use std::sync::Arc;
use std::time::{Duration, Instant};

use holdfast::agent::{Agent, Options};
use holdfast::budget::Budget;
use holdfast::clock::Clock;
use holdfast::event::NewRun;
use holdfast::id::{AgentId, Ids, OrgId, UserId};
use holdfast::run::Run;
use holdfast::session::{Owner, Reply};
use holdfast::store::{self, Store, Terms};
use holdfast::tool::{OutcomeKind, ToolCall, ToolOutcome};

/// Saves of one model turn with one tool call: replied, started, finished.
const SAVES_PER_TURN: usize = 3;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "a benchmark reports to the terminal")]
async fn main() -> anyhow::Result<()> {
    let mut numbers = std::env::args().skip(1).filter_map(|word| word.parse::<usize>().ok());
    let (runs, saves) = (numbers.next().unwrap_or(64), numbers.next().unwrap_or(30));
    let turns = saves / SAVES_PER_TURN;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let store = store::open(&format!("sqlite://{}/holdfast.db", folder.path().display())).await?;
    let ids = Ids::random(Clock::System);
    for round in 1..=3 {
        let alone = one_after_the_other(&store, &ids, runs, turns).await?;
        let together = at_once(&store, &ids, runs, turns).await?;
        let rate = |time: Duration| {
            let saves = u32::try_from(runs * turns * SAVES_PER_TURN).unwrap_or(u32::MAX);
            f64::from(saves) / time.as_secs_f64()
        };
        println!(
            "round {round}: {:.0} saves/s one transaction each, {:.0} saves/s by {runs} runs at once",
            rate(alone),
            rate(together)
        );
    }
    store.close().await;
    Ok(())
}

async fn one_after_the_other(
    store: &Arc<dyn Store>,
    ids: &Ids,
    runs: usize,
    turns: usize,
) -> anyhow::Result<Duration> {
    let mut made = create(store, ids, runs).await?;
    let start = Instant::now();
    for run in &mut made {
        drive(store, run, turns).await?;
    }
    Ok(start.elapsed())
}

async fn at_once(store: &Arc<dyn Store>, ids: &Ids, runs: usize, turns: usize) -> anyhow::Result<Duration> {
    let made = create(store, ids, runs).await?;
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for mut run in made {
        let store = Arc::clone(store);
        tasks.spawn(async move { drive(&store, &mut run, turns).await });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(start.elapsed())
}

async fn create(store: &Arc<dyn Store>, ids: &Ids, runs: usize) -> anyhow::Result<Vec<Run>> {
    let mut made = Vec::with_capacity(runs);
    for _ in 0..runs {
        let new = NewRun {
            id: ids.next(),
            session: ids.next(),
            owner: Owner { org: OrgId::from("default"), user: UserId::from("ann") },
            agent: Agent {
                id: AgentId::from("assistant"),
                name: "Assistant".to_owned(),
                description: String::new(),
                model: "demo".parse()?,
                instructions: "Be brief.".to_owned(),
                tools: Vec::new(),
                approval: Vec::new(),
                self_approval: true,
                vision: None,
                options: Options::default(),
                budget: Budget::default(),
                version: 0,
            },
            input: "What is 6 times 7?".to_owned(),
            media: Vec::new(),
            queued: false,
            generate_followups: false,
        };
        let mut run = Run::new(new, Clock::System.now());
        store.create(&mut run, &Terms::default()).await?;
        made.push(run);
    }
    Ok(made)
}

/// Turns as a runner would save them, with 500 bytes of text in each.
async fn drive(store: &Arc<dyn Store>, run: &mut Run, turns: usize) -> anyhow::Result<()> {
    let now = || Clock::System.now();
    for turn in 0..turns {
        let call = ToolCall {
            id: format!("call {turn}").into(),
            name: "calculator__multiply".to_owned(),
            arguments: r#"{"a": 6, "b": 7}"#.to_owned(),
        };
        let id = call.id.clone();
        let reply = Reply { content: "x".repeat(500), tool_calls: vec![call], ..Reply::default() };
        run.replied(reply, now())?;
        store.save(run).await?;
        run.started(&id, now())?;
        store.save(run).await?;
        run.finished(&id, ToolOutcome::of(OutcomeKind::Ok, "x".repeat(500)), 1, now())?;
        store.save(run).await?;
    }
    Ok(())
}
