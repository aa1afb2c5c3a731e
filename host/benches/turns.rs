//! What a turn of a long session costs beside one of a short session: processor time and bytes stored.
//!
//! `cargo bench --profile dev --bench turns -- [ROUNDS] [TURNS]`. In each round a new session takes its 10th turn,
//! and the long one, which has had TURNS before, its next. Side by side, so that whatever else the machine does
//! is as likely to hit the one as the other; the middle one of each is shown.

use std::sync::Arc;
use std::time::Duration;

use holdfast::agent::{Agent, Options};
use holdfast::budget::Budget;
use holdfast::clock::Clock;
use holdfast::event::NewRun;
use holdfast::id::{AgentId, Ids, OrgId, SessionId, UserId};
use holdfast::model::{Model, ModelError, Models, Request};
use holdfast::plugin::{Network, PluginHost};
use holdfast::registry::Shelf;
use holdfast::runner::{Admission, OnBusy, OnPaused, Parts, QueueSettings, Runner};
use holdfast::session::{Owner, Reply};
use holdfast::store::{self, Lane};
use rustix::time::{ClockId, clock_gettime};

/// Which turn of a short session is measured.
const SHORT: usize = 10;

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
    let (rounds, turns) = (numbers.next().unwrap_or(100), numbers.next().unwrap_or(300));
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let store = store::open(&format!("sqlite://{}/holdfast.db", folder.path().display())).await?;
    let ids = Ids::random(Clock::System);
    let plugins = PluginHost::new(store.clone(), Clock::System, None, Network::default())?;
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
    let turn = async |session: &SessionId| -> anyhow::Result<Duration> {
        let before = processor_time();
        let id = runner.start(message(&ids, session)?, admission()).await?;
        runner.settled(&id).await?;
        Ok(processor_time().saturating_sub(before))
    };
    let long = ids.next();
    for _ in 0..turns {
        turn(&long).await?;
    }
    let (mut in_short, mut in_long) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let short = ids.next();
        for _ in 1..SHORT {
            turn(&short).await?;
        }
        in_short.push(turn(&short).await?);
        in_long.push(turn(&long).await?);
    }
    println!("turn {SHORT}: {} us of processor time", middle(in_short));
    println!("turns after {turns}: {} us of processor time", middle(in_long));
    store.close().await;
    let bytes = std::fs::metadata(folder.path().join("holdfast.db"))?.len();
    println!("{} bytes stored for a turn", bytes / (turns + rounds * (SHORT + 1)).max(1) as u64);
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

/// In microseconds.
fn middle(mut costs: Vec<Duration>) -> u128 {
    costs.sort_unstable();
    costs.get(costs.len() / 2).map_or(0, Duration::as_micros)
}

/// Of the whole process.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}
