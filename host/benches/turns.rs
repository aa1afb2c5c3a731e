//! What a turn of a long session costs beside one of a short session: processor time and bytes stored.
//!
//! `cargo bench --profile dev --bench turns -- [SESSIONS] [TURNS]`. All sessions take their n-th turn before
//! any takes the next, and the processor time of ten turns around the 10th and the last is compared.

use std::sync::Arc;
use std::time::Duration;

use holdfast::agent::{Agent, Options};
use holdfast::budget::Budget;
use holdfast::clock::Clock;
use holdfast::event::NewRun;
use holdfast::id::{AgentId, Ids, OrgId, SessionId, UserId};
use holdfast::model::{Model, ModelError, Models, Request};
use holdfast::plugin::PluginHost;
use holdfast::registry::Shelf;
use holdfast::runner::{Admission, OnBusy, OnPaused, Parts, QueueSettings, Runner};
use holdfast::session::{Owner, Reply};
use holdfast::store::{self, Lane};
use rustix::time::{ClockId, clock_gettime};

/// Turns measured together, so that one of them weighs little.
const SPAN: usize = 10;

struct Constant;

#[async_trait::async_trait]
impl Model for Constant {
    async fn reply(&self, _: &Request) -> Result<Reply, ModelError> {
        Ok(Reply { content: "a".repeat(500), ..Reply::default() })
    }
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "a benchmark reports to the terminal")]
async fn main() -> anyhow::Result<()> {
    let mut numbers = std::env::args().skip(1).filter_map(|word| word.parse::<usize>().ok());
    let (sessions, turns) = (numbers.next().unwrap_or(10), numbers.next().unwrap_or(300));
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let store = store::open(&format!("sqlite://{}/holdfast.db", folder.path().display())).await?;
    let ids = Ids::random(Clock::System);
    let plugins = PluginHost::new(store.clone(), Clock::System, None)?;
    let registry = Shelf::new(
        plugins,
        store.clone(),
        Clock::System,
        "plugins".into(),
        std::collections::BTreeMap::new(),
    );
    let runner = Runner::new(Parts {
        store: store.clone(),
        models: Arc::new(Models::new(std::collections::BTreeMap::new())?.with("script", Arc::new(Constant))),
        registry,
        clock: Clock::System,
        ids: ids.clone(),
        queue: QueueSettings::default(),
        budgets: Arc::default(),
    });
    let sessions: Vec<SessionId> = (0..sessions).map(|_| ids.next()).collect();
    let mut costs = Vec::with_capacity(turns);
    for _ in 0..turns {
        let before = processor_time();
        for session in &sessions {
            let id = runner.start(message(&ids, session)?, admission()).await?;
            runner.settled(&id).await?;
        }
        costs.push(processor_time().saturating_sub(before));
    }
    let around = |turn: usize| -> f64 {
        let from = turn.saturating_sub(SPAN / 2);
        let span = costs.get(from..(from + SPAN).min(turns)).unwrap_or_default();
        let count = u32::try_from(span.len() * sessions.len()).unwrap_or(1).max(1);
        span.iter().sum::<Duration>().as_secs_f64() * 1e6 / f64::from(count)
    };
    for turn in [10, 50, 100, 200, turns - SPAN / 2] {
        println!("turn {turn}: {:.0} us of processor time", around(turn));
    }
    store.close().await;
    let bytes = std::fs::metadata(folder.path().join("holdfast.db"))?.len();
    println!("{} bytes stored for a turn", bytes / (sessions.len() * turns).max(1) as u64);
    Ok(())
}

fn message(ids: &Ids, session: &SessionId) -> anyhow::Result<NewRun> {
    Ok(NewRun {
        id: ids.next(),
        session: session.clone(),
        owner: Owner { org: OrgId::from("default"), user: UserId::from("ann") },
        agent: Agent {
            id: AgentId::from("assistant"),
            name: "Assistant".to_owned(),
            description: String::new(),
            model: "script::v1".parse()?,
            instructions: "Be brief.".to_owned(),
            tools: Vec::new(),
            approval: Vec::new(),
            vision: None,
            self_approval: true,
            budget: Budget::default(),
            version: 0,
            options: Options::default(),
        },
        input: "q".repeat(200),
        media: Vec::new(),
        queued: false,
        generate_followups: false,
    })
}

fn admission() -> Admission {
    Admission {
        claim: None,
        lane: Lane::Direct,
        on_busy: OnBusy::Enqueue,
        on_paused: OnPaused::Reject,
        by: UserId::from("ann").into(),
    }
}

/// Of the whole process.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}
