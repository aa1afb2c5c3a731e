//! What every store promises, checked against every database there is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sqlx::{Connection as _, SqliteConnection};
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::*;
use crate::agent::{Agent, Options};
use crate::budget::Budget;
use crate::clock::Clock;
use crate::event::{Failure, FailureKind, NewRun};
use crate::id::{AgentId, Ids, UserId};
use crate::key::{Role, Token};
use crate::session::{Chunk, ChunkOf, Media, Owner, Reply, Tokens};
use crate::tool::{
    Decided, Decision, EditedArguments, Fingerprint, OutcomeKind, PendingApproval, ToolCall, ToolName,
    ToolOutcome, Usage,
};

mod outbox;
mod queue;

/// An empty database of each kind.
fn homes() -> Vec<Home> {
    vec![Home::sqlite()]
}

/// A database with a clock and ids for what goes into it.
struct Home {
    url: String,
    clock: Clock,
    ids: Ids,
    folder: TempDir,
}

impl Home {
    fn sqlite() -> Self {
        let folder = TempDir::new().unwrap();
        let clock = Clock::manual();
        Self {
            url: format!("sqlite://{}/new/holdfast.db", folder.path().display()),
            ids: Ids::seeded(clock.clone()),
            clock,
            folder,
        }
    }

    async fn open(&self) -> Arc<dyn Store> {
        open(&self.url).await.unwrap()
    }

    /// Around the store's back.
    async fn execute(&self, sql: &'static str) {
        let mut connection = SqliteConnection::connect(&self.url).await.unwrap();
        sqlx::query(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    /// The rows of a query whose columns are text, joined by `|`.
    async fn rows(&self, sql: &'static str) -> Vec<String> {
        let mut connection = SqliteConnection::connect(&self.url).await.unwrap();
        let rows: Vec<(String,)> = sqlx::query_as(sql).fetch_all(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        rows.into_iter().map(|(text,)| text).collect()
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn run_in(&self, session: &SessionId, input: &str) -> Run {
        let new = NewRun {
            id: self.ids.next(),
            session: session.clone(),
            owner: owner("ann"),
            agent: agent("assistant"),
            input: input.to_owned(),
            media: Vec::new(),
            queued: false,
            generate_followups: false,
        };
        Run::new(new, self.now())
    }

    fn queued_in(&self, session: &SessionId, input: &str) -> Run {
        let run = self.run_in(session, input);
        Run::new(NewRun { queued: true, ..run.spec().clone() }, self.now())
    }

    fn run(&self) -> Run {
        self.run_in(&self.ids.next(), "What is 6 times 7?")
    }

    async fn created(&self, store: &Arc<dyn Store>) -> Run {
        let mut run = self.run();
        assert_eq!(store.create(&mut run, &Terms::default()).await.unwrap(), Creation::Created);
        run
    }

    /// A stored run that waits for one approval per name.
    async fn paused(&self, store: &Arc<dyn Store>, names: &[&str]) -> Run {
        let mut run = self.created(store).await;
        let calls: Vec<ToolCall> = names.iter().map(|name| call(name)).collect();
        run.replied(asking(calls.clone()), self.now()).unwrap();
        let approvals = calls.into_iter().map(|call| self.approval(call)).collect();
        run.paused(approvals, self.now()).unwrap();
        store.save(&mut run).await.unwrap();
        run
    }

    fn approval(&self, call: ToolCall) -> PendingApproval {
        let tool: ToolName = "notes__delete".parse().unwrap();
        PendingApproval {
            question: crate::tool::Question::Approval,
            approvers: 1,
            self_approval: true,
            id: ApprovalId::from(format!("approval of {}", call.id)),
            fingerprint: Fingerprint::of("digest", &tool, &json!({})),
            digest: Some("digest".to_owned()),
            call,
            tool,
            message: "Delete the note?".to_owned(),
            expires_at: self.now().plus(Duration::from_mins(1)),
            inquiry: None,
        }
    }

    fn claim(&self, key: &str, request: &str) -> KeyClaim {
        KeyClaim {
            org: OrgId::from("default"),
            user: UserId::from("ann"),
            key: key.to_owned(),
            request: request.to_owned(),
            decides: Vec::new(),
            at: self.now(),
        }
    }
}

fn claiming(claim: &KeyClaim) -> Terms {
    Terms { claim: Some(claim.clone()), ..Terms::default() }
}

fn owner(user: &str) -> Owner {
    Owner { org: OrgId::from("default"), user: UserId::from(user) }
}

fn agent(id: &str) -> Agent {
    Agent {
        id: AgentId::from(id),
        name: "Assistant".to_owned(),
        description: String::new(),
        model: "openai::gpt-4o-mini".parse().unwrap(),
        instructions: "Be brief.".to_owned(),
        tools: Vec::new(),
        approval: Vec::new(),
        self_approval: true,
        vision: None,
        options: Options::default(),
        budget: Budget::default(),
        version: 0,
    }
}

fn call(name: &str) -> ToolCall {
    ToolCall { id: name.into(), name: "notes__delete".to_owned(), arguments: r#"{"id": 1}"#.to_owned() }
}

fn asking(tool_calls: Vec<ToolCall>) -> Reply {
    Reply {
        tool_calls,
        reasoning: Some("I have to look.".to_owned()),
        signatures: vec!["opaque".to_owned()],
        tokens: Tokens { input: Some(10), output: Some(5), reasoning: None },
        ..Reply::default()
    }
}

fn answer(content: &str) -> Reply {
    Reply { content: content.to_owned(), ..Reply::default() }
}

fn approve(approval: &PendingApproval, edited: Option<EditedArguments>) -> Decided {
    Decided {
        approval_id: approval.id.clone(),
        decision: Decision::Approve { comment: Some("go on".to_owned()), edited },
        by: UserId::from("boss"),
        key: None,
    }
}

fn space(scope_id: &str) -> KvSpace {
    KvSpace {
        run: None,
        plugin: "notes".to_owned(),
        org: OrgId::from("default"),
        scope: "user",
        scope_id: scope_id.to_owned(),
    }
}

fn condition(expected: Option<u64>) -> KvCondition {
    KvCondition { expected, max_bytes: 1000, max_entries: 100 }
}

/// Runs a write many times at once and counts the results.
async fn at_once<T: Ord + Send + 'static>(
    tasks: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> BTreeMap<T, usize> {
    let results = tasks.into_iter().collect::<JoinSet<T>>().join_all().await;
    results.into_iter().fold(BTreeMap::new(), |mut counts, result| {
        *counts.entry(result).or_default() += 1;
        counts
    })
}

fn assert_same(loaded: &Run, saved: &Run) {
    // A run that was loaded has nothing unsaved; neither has one that was saved.
    assert_eq!(format!("{loaded:#?}"), format!("{saved:#?}"));
}

#[tokio::test]
async fn every_kind_of_event_survives() {
    for home in homes() {
        let store = home.open().await;
        let mut seen = std::collections::BTreeSet::new();
        for mut run in [completed_run(&home), failed_run(&home), cancelled_run(&home)] {
            seen.extend(run.unsaved().iter().map(|recorded| recorded.event.kind()));
            assert_eq!(store.create(&mut run, &Terms::default()).await.unwrap(), Creation::Created);
            assert!(run.unsaved().is_empty());
            let loaded = store.load(&run.spec().id).await.unwrap().unwrap();
            assert_same(&loaded, &run);
        }
        assert_eq!(seen.len(), 11, "a new kind of event belongs in one of these runs: {seen:?}");
        assert!(store.load(&RunId::from("unknown")).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_journal_is_read_in_batches_and_watched() {
    for home in homes() {
        let store = home.open().await;
        let mut run = home.created(&store).await;
        let id = run.spec().id.clone();
        let mut watch = store.watch(&id);
        let partial = Reply {
            chunks: vec![Chunk { of: ChunkOf::Content, bytes: 4, at: home.now() }],
            ..answer("Half")
        };
        let failure = Failure { kind: FailureKind::ModelError, message: "it broke off".to_owned() };
        run.reply_broken(partial.clone(), failure, home.now()).unwrap();
        let written = run.unsaved().to_vec();
        store.save(&mut run).await.unwrap();
        watch.written().await;
        assert_eq!(store.events_after(&id, 1, 10).await.unwrap(), written);
        assert_eq!(store.events_after(&id, 1, 1).await.unwrap(), written[..1]);
        assert_eq!(store.events_after(&id, 2, 10).await.unwrap(), written[1..]);
        assert_eq!(store.events_after(&id, 0, 10).await.unwrap().len(), 3);
        for (id, seq) in [(&id, 3), (&RunId::from("unknown"), 0)] {
            assert_eq!(store.events_after(id, seq, 10).await.unwrap(), []);
        }
        assert_same(&store.load(&id).await.unwrap().unwrap(), &run);
    }
}

/// Everything but a failure and a cancellation.
fn completed_run(home: &Home) -> Run {
    let mut run = home.run();
    let mut new = run.spec().clone();
    new.media = vec![Media { mime: "image/png".to_owned(), base64: "AAAA".to_owned() }];
    new.input = "Ünïcode, 'quotes' and a \0 byte".to_owned();
    new.generate_followups = true;
    run = Run::new(new, home.now());
    run.replied(asking(vec![call("a"), call("b"), call("c")]), home.now()).unwrap();
    run.started(&"a".into(), home.now()).unwrap();
    home.clock.advance(Duration::from_millis(7));
    let outcome = ToolOutcome {
        kind: OutcomeKind::Trap { trap: "unreachable".to_owned() },
        text: "It crashed.".to_owned(),
        structured: Some(json!({"answer": 42})),
        usage: Usage { cpu_ms: 3, ..Usage::default() },
    };
    run.finished(&"a".into(), outcome, 7, home.now()).unwrap();
    run.claim(home.now()).unwrap();
    let approvals = vec![home.approval(call("b")), home.approval(call("c"))];
    run.paused(approvals.clone(), home.now()).unwrap();
    let edited =
        EditedArguments { arguments: json!({"id": 2}), fingerprint: approvals[0].fingerprint.clone() };
    let expire = Decided {
        approval_id: approvals[1].id.clone(),
        decision: Decision::Expire,
        by: UserId::from("system"),
        key: None,
    };
    run.decide(vec![approve(&approvals[0], Some(edited)), expire], home.now()).unwrap();
    run.started(&"b".into(), home.now()).unwrap();
    run.finished(&"b".into(), ToolOutcome::of(OutcomeKind::Ok, "gone"), 1, home.now()).unwrap();
    run.replied(answer("Done."), home.now()).unwrap();
    run.suggested(vec!["And now?".to_owned()], Tokens::default(), Some(7), home.now()).unwrap();
    run
}

fn failed_run(home: &Home) -> Run {
    let mut run = home.run();
    let failure = Failure {
        kind: FailureKind::NoApiKey,
        message: "No API key configured for provider openai.".to_owned(),
    };
    run.failed(failure, home.now()).unwrap();
    run
}

fn cancelled_run(home: &Home) -> Run {
    let mut run = home.run();
    run.cancel(UserId::from("ann"), home.now()).unwrap();
    run
}

#[tokio::test]
async fn a_save_on_a_stale_version_writes_nothing() {
    for home in homes() {
        let store = home.open().await;
        let mut first = home.paused(&store, &["a"]).await;
        let mut second = first.clone();
        let pending = first.pending().to_vec();
        first.cancel(UserId::from("ann"), home.now()).unwrap();
        store.save(&mut first).await.unwrap();

        second.decide(vec![approve(&pending[0], None)], home.now()).unwrap();
        assert!(matches!(store.save(&mut second).await, Err(StoreError::Conflict)));
        assert_eq!(second.unsaved().len(), 1, "the events are kept");
        let claim = home.claim("key", "request");
        let claimed = store.save_claiming(&mut second, &claim).await;
        assert!(matches!(claimed, Err(StoreError::Conflict)));
        assert_eq!(store.find_claim(&claim).await.unwrap(), None);
        assert_same(&store.load(&first.spec().id).await.unwrap().unwrap(), &first);
        assert_eq!(home.rows("select status from approvals").await, ["CANCELLED"]);

        // A run that was never stored has no version to follow either.
        let mut stranger = home.run();
        stranger.saved();
        stranger.cancel(UserId::from("ann"), home.now()).unwrap();
        assert!(matches!(store.save(&mut stranger).await, Err(StoreError::Conflict)));
        // One that is taken up by another process belongs to it.
        let mut mine = home.created(&store).await;
        let (mut theirs, mut third) = (mine.clone(), mine.clone());
        theirs.claim(home.now()).unwrap();
        store.save(&mut theirs).await.unwrap();
        mine.replied(answer("late"), home.now()).unwrap();
        assert!(matches!(store.save(&mut mine).await, Err(StoreError::Conflict)));
        let owned = store.load(&theirs.spec().id).await.unwrap().unwrap();
        assert_same(&owned, &theirs);
        assert_eq!((mine.attempt(), owned.attempt()), (1, 2));
        // Nor can two processes take it up.
        third.claim(home.now()).unwrap();
        assert!(matches!(store.save(&mut third).await, Err(StoreError::Conflict)));
        assert_same(&store.load(&theirs.spec().id).await.unwrap().unwrap(), &theirs);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_saves_of_one_version_one_wins() {
    for home in homes() {
        let store = home.open().await;
        let run = home.paused(&store, &["a"]).await;
        let saves = (0..64).map(|i| {
            let (store, mut run, at) = (Arc::clone(&store), run.clone(), home.now());
            async move {
                let mut decided = approve(&run.pending()[0].clone(), None);
                decided.by = UserId::from(format!("boss {i}"));
                run.decide(vec![decided], at).unwrap();
                match store.save(&mut run).await {
                    Ok(()) => "won",
                    Err(StoreError::Conflict) => "lost",
                    Err(error) => panic!("{error:?}"),
                }
            }
        });
        assert_eq!(at_once(saves).await, BTreeMap::from([("lost", 63), ("won", 1)]));
        assert_eq!(store.load(&run.spec().id).await.unwrap().unwrap().version(), run.version() + 1);
    }
}

#[tokio::test]
async fn an_idempotency_key_belongs_to_one_request() {
    for home in homes() {
        let store = home.open().await;
        let claim = home.claim("key", "request");
        assert_eq!(store.find_claim(&claim).await.unwrap(), None);
        let mut run = home.run();
        let id = run.spec().id.clone();
        assert_eq!(store.create(&mut run, &claiming(&claim)).await.unwrap(), Creation::Created);

        let mut repeat = home.run();
        let creation = store.create(&mut repeat, &claiming(&claim)).await.unwrap();
        assert_eq!(creation, Creation::Repeat(id.clone()));
        let other = home.claim("key", "another request");
        assert_eq!(store.create(&mut repeat, &claiming(&other)).await.unwrap(), Creation::KeyReused);
        assert!(store.load(&repeat.spec().id).await.unwrap().is_none());
        assert!(store.session(&repeat.spec().session).await.unwrap().is_none());
        assert_eq!(repeat.unsaved().len(), 1);

        run.cancel(UserId::from("ann"), home.now()).unwrap();
        assert_eq!(
            store.save_claiming(&mut run, &claim).await.unwrap(),
            Claim::Repeat { run: id.clone(), decides: Vec::new() }
        );
        assert_eq!(store.save_claiming(&mut run, &other).await.unwrap(), Claim::Reused);
        assert_eq!(run.unsaved().len(), 1);
        let fresh = home.claim("key 2", "request");
        assert_eq!(store.save_claiming(&mut run, &fresh).await.unwrap(), Claim::New);
        assert_eq!(
            store.find_claim(&fresh).await.unwrap(),
            Some(Claim::Repeat { run: id.clone(), decides: Vec::new() })
        );
        // Nothing but the key, for a request to which nothing is left to be done.
        let about = vec![ApprovalId::from("approval")];
        let late = KeyClaim { decides: about.clone(), ..home.claim("key 3", "request") };
        let repeat = Claim::Repeat { run: id.clone(), decides: about };
        assert_eq!(store.claim(&id, &late).await.unwrap(), Claim::New);
        assert_eq!(store.claim(&id, &late).await.unwrap(), repeat);
        assert_eq!(store.claim(&id, &home.claim("key 3", "other")).await.unwrap(), Claim::Reused);
        // Another user's key of the same name is another key.
        let theirs = KeyClaim { user: UserId::from("bob"), ..claim };
        assert_eq!(store.find_claim(&theirs).await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_creations_under_one_key_one_happens() {
    for home in homes() {
        let store = home.open().await;
        let creations = (0..32).map(|_| {
            let (store, mut run, claim) = (Arc::clone(&store), home.run(), home.claim("key", "request"));
            async move {
                match store.create(&mut run, &claiming(&claim)).await.unwrap() {
                    Creation::Created => (true, run.spec().id.clone()),
                    Creation::Repeat(id) => (false, id),
                    other => panic!("{other:?}"),
                }
            }
        });
        let counts = at_once(creations).await;
        assert_eq!(counts.values().copied().collect::<Vec<_>>(), [31, 1]);
        let ids: Vec<_> = counts.keys().map(|(_, id)| id).collect();
        assert_eq!(ids[0], ids[1], "all name the run that was created");
        assert_eq!(home.rows("select cast(count(*) as text) from runs").await, ["1"]);
    }
}

#[tokio::test]
async fn a_session_belongs_to_one_user_and_agent() {
    for home in homes() {
        let store = home.open().await;
        let mut run = home.created(&store).await;
        let session = run.spec().session.clone();
        let stored = store.session(&session).await.unwrap().unwrap();
        assert_eq!((stored.owner, stored.agent), (owner("ann"), AgentId::from("assistant")));
        let foreign = |change: fn(&mut NewRun)| {
            let mut new = home.run_in(&session, "Mine!").spec().clone();
            change(&mut new);
            Run::new(new, home.now())
        };
        let runs = [
            foreign(|new| new.owner.org = OrgId::from("other")),
            foreign(|new| new.owner = owner("bob")),
            foreign(|new| new.agent = agent("other")),
        ];
        for mut stranger in runs {
            let claim = home.claim("key", "request");
            let creation = store.create(&mut stranger, &claiming(&claim)).await.unwrap();
            assert_eq!(creation, Creation::ForeignSession);
            assert!(store.load(&stranger.spec().id).await.unwrap().is_none());
            assert_eq!(store.find_claim(&claim).await.unwrap(), None);
        }
        // The same run twice is no second run.
        run.cancel(UserId::from("ann"), home.now()).unwrap();
        store.save(&mut run).await.unwrap();
        run = Run::new(run.spec().clone(), home.now());
        assert!(matches!(store.create(&mut run, &Terms::default()).await, Err(StoreError::Conflict)));
    }
}

#[tokio::test]
async fn history_is_the_latest_completed_turns_oldest_first() {
    for home in homes() {
        let store = home.open().await;
        let session: SessionId = home.ids.next();
        let mut runs = Vec::new();
        for number in 1..=6 {
            // The manual clock stands still: the order is the turns', not the times'.
            let mut run = home.queued_in(&session, &format!("question {number}"));
            store.create(&mut run, &Terms::default()).await.unwrap();
            runs.push(run);
        }
        for (index, run) in runs.iter_mut().enumerate() {
            run.start(home.now()).unwrap();
            match index {
                1 => run.cancel(UserId::from("ann"), home.now()).unwrap(),
                3 => {}
                _ => run.replied(answer(&format!("answer {}", index + 1)), home.now()).unwrap(),
            }
            store.save(run).await.unwrap();
        }
        let inputs = async |run: &Run, turns| -> Vec<String> {
            let window = HistoryWindow { turns, bytes: 1000 };
            let turns = store.history(&run.spec().id, window).await.unwrap();
            turns.into_iter().map(|turn| format!("{}: {}", turn.input, turn.output)).collect()
        };
        let turns = ["question 1: answer 1", "question 3: answer 3", "question 5: answer 5"];
        assert_eq!(inputs(&runs[5], 10).await, turns);
        assert_eq!(inputs(&runs[5], 2).await, turns[1..]);
        assert_eq!(inputs(&runs[3], 10).await, turns[..2]);
        assert!(inputs(&runs[0], 10).await.is_empty());
        let running = store.running().await.unwrap();
        assert_eq!(running, [runs[3].spec().id.clone()]);
        let turns = home.rows("select cast(turn as text) from runs order by id").await;
        assert_eq!(turns, ["1", "2", "3", "4", "5", "6"]);
    }
}

#[tokio::test]
async fn approval_rows_follow_the_journal() {
    for home in homes() {
        let store = home.open().await;
        let rows = async || {
            home.rows(
                "select id || '|' || status || '|' || requested_by || '|' || coalesce(resolved_by, '-')
                     || '|' || coalesce(comment, '-') || '|' || coalesce(edited_arguments, '-')
                     || '|' || (resolved_at is not null)
                 from approvals order by id",
            )
            .await
        };
        let mut run = home.paused(&store, &["a", "b", "c", "d"]).await;
        let pending = run.pending().to_vec();
        let edited =
            EditedArguments { arguments: json!({"id": 2}), fingerprint: pending[0].fingerprint.clone() };
        let reject = Decided {
            approval_id: pending[1].id.clone(),
            decision: Decision::Reject { comment: None },
            by: UserId::from("boss"),
            key: None,
        };
        let expire = Decided {
            approval_id: pending[2].id.clone(),
            decision: Decision::Expire,
            by: UserId::from("system"),
            key: None,
        };
        let decisions = vec![approve(&pending[0], Some(edited)), reject, expire];
        run.decide(decisions, home.now()).unwrap();
        store.save(&mut run).await.unwrap();
        let decided = [
            r#"approval of a|APPROVED|ann|boss|go on|{"id":2}|1"#,
            "approval of b|REJECTED|ann|boss|-|-|1",
            "approval of c|EXPIRED|ann|system|-|-|1",
        ];
        let rest = "approval of d|PENDING|ann|-|-|-|0";
        assert_eq!(rows().await, [&decided[..], &[rest]].concat());

        run.cancel(UserId::from("ann"), home.now()).unwrap();
        store.save(&mut run).await.unwrap();
        let rest = "approval of d|CANCELLED|ann|ann|-|-|1";
        assert_eq!(rows().await, [&decided[..], &[rest]].concat());
    }
}

#[tokio::test]
async fn an_approval_expires_at_its_time() {
    for home in homes() {
        let store = home.open().await;
        let run = home.paused(&store, &["a", "b"]).await;
        let due = async || store.expired(home.now(), 10).await.unwrap();
        assert!(due().await.is_empty());
        home.clock.advance(Duration::from_mins(1));
        let ids: Vec<_> = due().await.into_iter().map(|(run, id)| (run, id.to_string())).collect();
        let id = &run.spec().id;
        let both = ["approval of a", "approval of b"].map(|name| (id.clone(), name.to_owned()));
        assert_eq!(ids, both);
        assert_eq!(store.expired(home.now(), 1).await.unwrap().len(), 1);
        let mut run = run;
        run.cancel(UserId::from("ann"), home.now()).unwrap();
        store.save(&mut run).await.unwrap();
        assert!(due().await.is_empty());
    }
}

#[tokio::test]
async fn the_row_says_what_lists_show() {
    for home in homes() {
        let store = home.open().await;
        let row = async || {
            home.rows(
                "select status || '|' || version || '|' || attempt || '|' || model || '|' || output || '|'
                     || coalesce(error_type, '-') || '|' || coalesce(input_tokens, '-') || '|' || model_calls
                     || '|' || (completed_at is not null) || '|' || active_ms
                 from runs order by id",
            )
            .await
        };
        let mut run = home.created(&store).await;
        assert_eq!(row().await, ["RUNNING|1|1|openai::gpt-4o-mini||-|-|0|0|0"]);
        home.clock.advance(Duration::from_millis(9));
        run.replied(asking(vec![call("a")]), home.now()).unwrap();
        run.claim(home.now()).unwrap();
        store.save(&mut run).await.unwrap();
        assert_eq!(row().await, ["RUNNING|3|2|openai::gpt-4o-mini||-|10|1|0|9"]);
        run.replied(answer("42"), home.now()).unwrap();
        store.save(&mut run).await.unwrap();
        store.save(&mut run).await.expect("nothing to save is no conflict");
        let mut failed = failed_run(&home);
        store.create(&mut failed, &Terms::default()).await.unwrap();
        let done = "COMPLETED|5|2|openai::gpt-4o-mini|42|-|10|2|1|9";
        let failed = "FAILED|2|1|openai::gpt-4o-mini||no_api_key|-|0|1|0";
        assert_eq!(row().await, [done, failed]);
    }
}

#[tokio::test]
async fn keys_are_found_by_hash_until_they_are_revoked() {
    for home in homes() {
        let store = home.open().await;
        let key = ApiKey {
            id: home.ids.next(),
            role: Role::Approver,
            owner: owner("ann"),
            label: "laptop".to_owned(),
            created_at: home.now(),
            revoked_at: None,
        };
        let hash = Token::hash("hf_secret");
        store.add_key(&key, &hash).await.unwrap();
        assert_eq!(store.key(&hash).await.unwrap(), Some(key.clone()));
        assert_eq!(store.key(&Token::hash("hf_other")).await.unwrap(), None);
        assert!(matches!(store.add_key(&key, "another").await, Err(StoreError::Database(_))));
        assert!(store.revoke_key(&key.id, home.now()).await.unwrap());
        assert!(!store.revoke_key(&key.id, home.now()).await.unwrap());
        assert_eq!(store.key(&hash).await.unwrap(), None);
        assert_eq!(store.keys().await.unwrap()[0].revoked_at, Some(home.now()));
    }
}

#[tokio::test]
async fn values_are_versioned() {
    for home in homes() {
        let store = home.open().await;
        let (ann, bob) = (space("ann"), space("bob"));
        let put =
            async |value: &[u8], expected| store.kv_put(&ann, "k", value, condition(expected)).await.unwrap();
        assert_eq!(put(b"1", Some(3)).await, Err(KvRefusal::Conflict(0)));
        assert_eq!(put(b"1", Some(0)).await, Ok(1));
        assert_eq!(put(b"2", Some(0)).await, Err(KvRefusal::Conflict(1)));
        assert_eq!(put(b"2", Some(1)).await, Ok(2));
        assert_eq!(put(b"", None).await, Ok(3));
        let entry = KvEntry { value: Vec::new(), version: 3 };
        assert_eq!(store.kv_get(&ann, "k").await.unwrap(), Some(entry));
        assert_eq!(store.kv_get(&bob, "k").await.unwrap(), None);
        let delete = async |expected| store.kv_delete(&ann, "k", expected).await.unwrap();
        assert_eq!(delete(Some(2)).await, Err(KvRefusal::Conflict(3)));
        assert_eq!(delete(Some(3)).await, Ok(true));
        assert_eq!(delete(None).await, Ok(false));
        assert_eq!(store.kv_get(&ann, "k").await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_increment_is_lost() {
    for home in homes() {
        let store = home.open().await;
        let tasks = (0..32).map(|_| {
            let store = Arc::clone(&store);
            async move {
                loop {
                    let entry = store.kv_get(&space("ann"), "n").await.unwrap();
                    let (number, version) = entry.map_or((0, 0), |entry| (entry.value[0], entry.version));
                    let next = condition(Some(version));
                    if store.kv_put(&space("ann"), "n", &[number + 1], next).await.unwrap().is_ok() {
                        return;
                    }
                }
            }
        });
        at_once(tasks).await;
        let entry = store.kv_get(&space("ann"), "n").await.unwrap().unwrap();
        assert_eq!((entry.value, entry.version), (vec![32], 32));
    }
}

#[tokio::test]
async fn a_run_that_has_ended_writes_nothing_more() {
    for home in homes() {
        let store = home.open().await;
        let mut run = home.run();
        store.create(&mut run, &Terms::default()).await.unwrap();
        let space = KvSpace { run: Some(run.spec().id.clone()), ..space("ann") };
        let condition = KvCondition { expected: None, max_bytes: 1000, max_entries: 10 };
        assert_eq!(store.kv_put(&space, "k", b"1", condition).await.unwrap(), Ok(1));
        run.cancel(UserId::from("ann"), home.now()).unwrap();
        store.save(&mut run).await.unwrap();
        assert_eq!(store.kv_put(&space, "k", b"2", condition).await.unwrap(), Err(KvRefusal::RunEnded));
        assert_eq!(store.kv_delete(&space, "k", None).await.unwrap(), Err(KvRefusal::RunEnded));
        let entry = store.kv_get(&space, "k").await.unwrap().unwrap();
        assert_eq!((entry.value, entry.version), (b"1".to_vec(), 1));
    }
}

#[tokio::test]
async fn a_space_holds_no_more_than_its_quota() {
    for home in homes() {
        let store = home.open().await;
        let put = async |key: &str, bytes: usize, max_bytes, max_entries| {
            let condition = KvCondition { expected: None, max_bytes, max_entries };
            store.kv_put(&space("ann"), key, &vec![0; bytes], condition).await.unwrap()
        };
        // Bytes, not characters: this key has two.
        assert_eq!(put("ü", 8, 9, 2).await, Err(KvRefusal::Bytes));
        assert_eq!(put("ü", 8, 10, 2).await, Ok(1));
        assert_eq!(put("ü", 9, 10, 2).await, Err(KvRefusal::Bytes));
        assert_eq!(put("ü", 4, 10, 2).await, Ok(2), "replacing counts the difference");
        assert_eq!(put("b", 3, 10, 2).await, Ok(1));
        assert_eq!(put("c", 0, 100, 2).await, Err(KvRefusal::Entries));
        assert_eq!(put("b", 3, 1, 1).await, Ok(2), "what is no larger fits a lowered quota");
        assert_eq!(put("b", 4, 1, 1).await, Err(KvRefusal::Bytes));
        store.kv_delete(&space("ann"), "ü", None).await.unwrap().unwrap();
        assert_eq!(put("c", 5, 10, 2).await, Ok(1));
        let held = "select bytes || '|' || entries from kv_spaces";
        assert_eq!(home.rows(held).await, ["10|2"]);
    }
}

#[tokio::test]
async fn keys_are_listed_by_prefix_in_byte_order() {
    for home in homes() {
        let store = home.open().await;
        let keys = ["a", "B", "a%", "a%b", "a_", "ab", "é", "éa", "z", "\u{10ffff}", "\u{10ffff}a"];
        for key in keys {
            store.kv_put(&space("ann"), key, b"", condition(None)).await.unwrap().unwrap();
            store.kv_put(&space("bob"), "a other", b"", condition(None)).await.unwrap().unwrap();
        }
        let list = async |prefix: &str, after, limit| {
            store.kv_list(&space("ann"), prefix, after, limit).await.unwrap()
        };
        let mut sorted = keys.to_vec();
        sorted.sort_unstable();
        assert_eq!(list("", None, 100).await, sorted);
        assert_eq!(list("a", None, 100).await, ["a", "a%", "a%b", "a_", "ab"]);
        assert_eq!(list("a%", None, 100).await, ["a%", "a%b"]);
        assert_eq!(list("a_", None, 100).await, ["a_"]);
        assert_eq!(list("é", None, 100).await, ["é", "éa"]);
        assert_eq!(list("\u{10ffff}", None, 100).await, ["\u{10ffff}", "\u{10ffff}a"]);
        assert_eq!(list("a", Some("a%b"), 1).await, ["a_"]);
        assert!(list("a", Some("b"), 100).await.is_empty());
    }
}

#[tokio::test]
async fn a_damaged_journal_is_an_error() {
    for home in homes() {
        let store = home.open().await;
        let mut run = home.created(&store).await;
        let id = run.spec().id.clone();
        run.replied(asking(vec![call("a")]), home.now()).unwrap();
        run.started(&"a".into(), home.now()).unwrap();
        store.save(&mut run).await.unwrap();
        let damages = [
            "update run_events set body = '{\"event\":\"dreamt\"}' where seq = 2",
            "update run_events set body = '{' where seq = 2",
            "update run_events set kind = 'completed' where seq = 3",
            "delete from run_events where seq = 2",
            "delete from run_events where seq = 3",
            "delete from run_events",
        ];
        for damage in damages {
            home.execute(damage).await;
            let loaded = store.load(&id).await;
            assert!(matches!(loaded, Err(StoreError::Damaged(_))), "{damage}: {loaded:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_is_there_after_a_crash() {
    for home in homes() {
        let store = home.open().await;
        let installation = store.installation().to_vec();
        assert_eq!(installation.len(), 32);
        let runs = (0..20).map(|_| {
            let (store, mut run) = (Arc::clone(&store), home.run());
            async move {
                store.create(&mut run, &Terms::default()).await.unwrap();
                run.spec().id.clone()
            }
        });
        let runs = at_once(runs).await;
        drop(store);
        let store = home.open().await;
        for id in runs.keys() {
            assert!(store.load(id).await.unwrap().is_some());
        }
        assert_eq!(store.installation(), installation);
    }
}

#[tokio::test]
async fn a_closed_store_says_so_and_what_was_queued_is_written() {
    for home in homes() {
        let store = home.open().await;
        let mut runs: Vec<Run> = (0..5).map(|_| home.run()).collect();
        {
            let terms = Terms::default();
            let creations = runs.iter_mut().map(|run| store.create(run, &terms));
            let creations = futures_util::future::join_all(creations);
            // Polled in order: the creations are queued before the queue closes.
            let (created, ()) = tokio::join!(creations, store.close());
            assert!(created.into_iter().all(|creation| creation.unwrap() == Creation::Created));
        }
        store.close().await;
        let id = &runs[0].spec().id;
        assert!(matches!(store.load(id).await, Err(StoreError::Closed)));
        assert!(matches!(store.ping().await, Err(StoreError::Closed)));
        let mut late = home.run();
        assert!(matches!(store.create(&mut late, &Terms::default()).await, Err(StoreError::Closed)));
        let again = home.open().await;
        assert!(again.load(id).await.unwrap().is_some());
        again.ping().await.unwrap();
    }
}

#[tokio::test]
async fn a_database_has_one_owner_and_any_number_of_key_makers() {
    for home in homes() {
        // The first key of an installation is made before its server ever ran.
        let tool = open_shared(&home.url).await.unwrap();
        let server = home.open().await;
        assert!(matches!(open(&home.url).await, Err(StoreError::InUse)));
        let second = open_shared(&home.url).await.unwrap();
        for (name, store) in [("one", &tool), ("two", &second)] {
            let key = ApiKey {
                id: home.ids.next(),
                role: Role::Admin,
                owner: owner(name),
                label: String::new(),
                created_at: home.now(),
                revoked_at: None,
            };
            store.add_key(&key, &Token::hash(name)).await.unwrap();
            assert_eq!(server.key(&Token::hash(name)).await.unwrap(), Some(key));
        }
        let created = tool.create(&mut home.run(), &Terms::default()).await;
        assert!(matches!(created, Err(StoreError::Shared)));
        server.close().await;
        home.open().await;
    }
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_left_alone() {
    for home in homes() {
        home.open().await.close().await;
        home.execute(
            "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
             values (7, 'of the future', true, x'00', 0)",
        )
        .await;
        let content = std::fs::read(home.folder.path().join("new/holdfast.db")).unwrap();
        for opened in [open(&home.url).await, open_shared(&home.url).await] {
            let Err(StoreError::Newer { found, known }) = opened else {
                panic!("it must not open");
            };
            assert_eq!((found, known), (7, 1));
        }
        assert!(std::fs::read(home.folder.path().join("new/holdfast.db")).unwrap() == content);
    }
}

#[tokio::test]
async fn what_is_no_database_is_refused_in_words_without_a_path() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("notes.txt");
    std::fs::write(&file, "Milk, eggs, and more than sixteen bytes.").unwrap();
    let url = |path: &str| format!("sqlite://{}/{path}", folder.path().display());
    let urls = [
        url("notes.txt"),
        url("notes.txt/holdfast.db"),
        url(""),
        url("a.db?mode=memory"),
        "sqlite::memory:".to_owned(),
        "sqlite:".to_owned(),
        "postgres://me:secret@localhost/x".to_owned(),
        "holdfast.db".to_owned(),
    ];
    let mut said = String::new();
    for url in urls {
        let error = open(&url).await.err().unwrap().to_string();
        said += &error;
        said.push('\n');
    }
    assert!(!said.contains(&folder.path().display().to_string()) && !said.contains("secret"));
    expect_test::expect![[r"
        the database's file is something else than a SQLite database: it was left as it is
        the database's file, its lock or its folder cannot be opened or made
        the database's file, its lock or its folder cannot be opened or made
        this build cannot open a SQLite database without a file, or with parameters: write sqlite://path/to/file.db
        this build cannot open a SQLite database without a file, or with parameters: write sqlite://path/to/file.db
        this build cannot open a SQLite database without a file, or with parameters: write sqlite://path/to/file.db
        this build cannot open a `postgres` database: write sqlite://path/to/file.db
        this build cannot open a database URL without a scheme: write sqlite://path/to/file.db
    "]].assert_eq(&said);
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("Milk"));
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_reads_the_files() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::sqlite();
    let store = home.open().await;
    home.created(&store).await;
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let new = home.folder.path().join("new");
    assert_eq!(mode(&new), 0o700);
    let files: Vec<_> = std::fs::read_dir(&new).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 4, "database, log, index of the log, lock: {files:?}");
    assert!(files.iter().all(|file| mode(file) == 0o600));
}

#[tokio::test]
async fn a_write_that_fails_does_not_touch_its_neighbours() {
    for home in homes() {
        let store = home.open().await;
        let key = |hash: &str| {
            let key = ApiKey {
                id: home.ids.next(),
                role: Role::User,
                owner: owner("ann"),
                label: String::new(),
                created_at: home.now(),
                revoked_at: None,
            };
            (key, hash.to_owned())
        };
        // One transaction: the queue is full before the writer is polled.
        let keys = ["a", "b", "a", "c"].map(key);
        let writes = keys.iter().map(|(key, hash)| store.add_key(key, hash));
        let results = futures_util::future::join_all(writes).await;
        let worked: Vec<bool> = results.iter().map(Result::is_ok).collect();
        assert_eq!(worked, [true, true, false, true]);
        assert_eq!(store.keys().await.unwrap().len(), 3);
    }
}

#[tokio::test]
async fn a_dropped_caller_does_not_stop_the_writer() {
    for home in homes() {
        let store = home.open().await;
        for _ in 0..10 {
            let mut run = home.run();
            let terms = Terms::default();
            let create = store.create(&mut run, &terms);
            // Polled once, then dropped.
            futures_util::future::select(create, std::future::ready(())).await;
        }
        home.created(&store).await;
    }
}

#[tokio::test]
async fn a_transaction_that_fails_fails_every_write_in_it() {
    let home = Home::sqlite();
    let store = home.open().await;
    home.execute(
        "create trigger no_boss before insert on api_keys when new.user_id = 'boss'
         begin select raise(rollback, 'the whole transaction is gone'); end",
    )
    .await;
    let key = |user: &str| ApiKey {
        id: home.ids.next(),
        role: Role::User,
        owner: owner(user),
        label: String::new(),
        created_at: home.now(),
        revoked_at: None,
    };
    let keys = ["ann", "boss", "bob"].map(key);
    let writes = keys.iter().map(|key| store.add_key(key, key.owner.user.as_str()));
    for result in futures_util::future::join_all(writes).await {
        assert!(matches!(result, Err(StoreError::Database(_))), "{result:?}");
    }
    assert!(store.keys().await.unwrap().is_empty());
    store.add_key(&keys[0], "ann").await.unwrap();
    assert_eq!(store.keys().await.unwrap().len(), 1);
}
