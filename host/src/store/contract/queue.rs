//! The queue and the sessions, on every database.

use super::*;

fn queued(home: &Home, org: &str, agent_id: &str) -> Run {
    let spec = home.run().spec().clone();
    let owner = Owner { org: OrgId::from(org), user: UserId::from("ann") };
    Run::new(NewRun { queued: true, owner, agent: agent(agent_id), ..spec }, home.now())
}

fn background() -> Terms {
    Terms { lane: Lane::Background, ..Terms::default() }
}

const CAPS: Caps = Caps { per_agent: 1, per_model: 10 };

async fn start(home: &Home, store: &Arc<dyn Store>, run: &mut Run) {
    run.start(home.now()).unwrap();
    store.save(run).await.unwrap();
}

#[tokio::test]
async fn only_the_first_of_a_session_may_start() {
    for home in homes() {
        let store = home.open().await;
        let session: SessionId = home.ids.next();
        let mut first = home.run_in(&session, "first");
        assert_eq!(store.create(&mut first, &Terms::default()).await.unwrap(), Creation::Created);
        let first_id = first.spec().id.clone();
        let mut direct = home.run_in(&session, "direct");
        let creation = store.create(&mut direct, &Terms::default()).await.unwrap();
        assert_eq!(
            creation,
            Creation::SessionBusy(first_id.clone()),
            "a run that begins at once needs it free"
        );
        let mut second = home.queued_in(&session, "second");
        let idle = Terms { idle_session: true, ..Terms::default() };
        assert_eq!(store.create(&mut second, &idle).await.unwrap(), Creation::SessionBusy(first_id.clone()));
        assert_eq!(store.create(&mut second, &Terms::default()).await.unwrap(), Creation::Created);
        assert_eq!(store.next_in_line(&[]).await.unwrap(), None);

        first.replied(asking(vec![call("a")]), home.now()).unwrap();
        first.paused(vec![home.approval(call("a"))], home.now()).unwrap();
        store.save(&mut first).await.unwrap();
        let mut third = home.queued_in(&session, "third");
        let creation = store.create(&mut third, &Terms::default()).await.unwrap();
        assert_eq!(creation, Creation::SessionPaused(first_id.clone()));
        assert_eq!(store.paused_in(&session).await.unwrap(), Some(first_id));
        assert_eq!(store.next_in_line(&[]).await.unwrap(), None, "nor behind a paused one");

        first.cancel(UserId::from("ann"), home.now()).unwrap();
        store.save(&mut first).await.unwrap();
        assert_eq!(store.paused_in(&session).await.unwrap(), None);
        let second_id = second.spec().id.clone();
        assert_eq!(store.next_in_line(&[]).await.unwrap(), Some(second_id.clone()));
        assert_eq!(store.next_in_line(&[second_id]).await.unwrap(), None);
    }
}

#[tokio::test]
async fn the_next_in_the_background_is_the_oldest_that_may_start() {
    for home in homes() {
        let store = home.open().await;
        let mut runs = Vec::new();
        for (org, agent) in [("b", "x"), ("a", "x"), ("a", "x"), ("a", "y")] {
            home.clock.advance(Duration::from_secs(1));
            let mut run = queued(&home, org, agent);
            assert_eq!(store.create(&mut run, &background()).await.unwrap(), Creation::Created);
            runs.push(run);
        }
        let id = |index: usize| runs[index].spec().id.clone();
        let (of_b, a1, a2, other_agent) = (id(0), id(1), id(2), id(3));
        let state = store.queue().await.unwrap();
        assert_eq!(state, QueueState { at_work: vec![], waiting: vec![OrgId::from("a"), OrgId::from("b")] });
        assert_eq!(store.next_in_line(&[]).await.unwrap(), None, "no caller waits for these");
        let next = async |org: &str, skip: &[RunId]| {
            store.next_in_background(&OrgId::from(org), CAPS, skip).await.unwrap()
        };
        assert_eq!(next("b", &[]).await, Some(of_b));
        assert_eq!(next("a", &[]).await, Some(a1.clone()));
        assert_eq!(next("a", &[a1]).await, Some(a2));
        start(&home, &store, &mut runs[1]).await;
        assert_eq!(next("a", &[]).await, Some(other_agent), "agent x has its one at work");
        assert_eq!(next("b", &[]).await, None, "in whatever organisation");
        let one = Caps { per_agent: 10, per_model: 1 };
        assert_eq!(store.next_in_background(&OrgId::from("a"), one, &[]).await.unwrap(), None);
        assert_eq!(store.queue().await.unwrap().at_work, [(OrgId::from("a"), 1)]);
    }
}

#[tokio::test]
async fn an_agent_can_say_how_many_of_it_may_run() {
    for home in homes() {
        let store = home.open().await;
        let mut runs = [queued(&home, "a", "x"), queued(&home, "a", "x"), queued(&home, "a", "x")];
        for run in &mut runs {
            let mut new = run.spec().clone();
            new.agent.options.max_concurrent = Some(2);
            *run = Run::new(new, home.now());
            store.create(run, &background()).await.unwrap();
        }
        for run in &mut runs[..2] {
            let next = store.next_in_background(&OrgId::from("a"), CAPS, &[]).await.unwrap();
            assert_eq!(next, Some(run.spec().id.clone()));
            start(&home, &store, run).await;
        }
        assert_eq!(store.next_in_background(&OrgId::from("a"), CAPS, &[]).await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_holds_no_more_than_it_may_under_races() {
    for home in homes() {
        let store = home.open().await;
        let creations = (0..32).map(|_| {
            let (store, mut run) = (Arc::clone(&store), queued(&home, "a", "x"));
            async move {
                let terms = Terms { max_queued: 5, ..background() };
                match store.create(&mut run, &terms).await.unwrap() {
                    Creation::Created => "created",
                    Creation::QueueFull => "full",
                    other => panic!("{other:?}"),
                }
            }
        });
        assert_eq!(at_once(creations).await, BTreeMap::from([("created", 5), ("full", 27)]));
        assert_eq!(home.rows("select cast(count(*) as text) from sessions").await, ["5"]);
    }
}

#[tokio::test]
async fn idempotency_keys_are_forgotten_after_a_day() {
    for home in homes() {
        let store = home.open().await;
        let claim = home.claim("key", "request");
        let mut first = home.run();
        store.create(&mut first, &claiming(&claim)).await.unwrap();
        let short = Duration::from_millis(1);
        home.clock.advance(CLAIM_AGE.saturating_sub(short));
        let old = home.claim("key", "request");
        assert_eq!(
            store.find_claim(&old).await.unwrap(),
            Some(Claim::Repeat { run: first.spec().id.clone(), decides: Vec::new() })
        );
        assert_eq!(store.prune_claims(home.now().minus(CLAIM_AGE)).await.unwrap(), 0);

        home.clock.advance(short);
        let new = home.claim("key", "another request");
        assert_eq!(store.find_claim(&new).await.unwrap(), None);
        let mut second = home.run();
        assert_eq!(store.create(&mut second, &claiming(&new)).await.unwrap(), Creation::Created);
        assert_eq!(
            store.find_claim(&new).await.unwrap(),
            Some(Claim::Repeat { run: second.spec().id.clone(), decides: Vec::new() })
        );
        let mut third = home.run();
        store.create(&mut third, &claiming(&home.claim("other", "request"))).await.unwrap();
        home.clock.advance(CLAIM_AGE);
        assert_eq!(store.prune_claims(home.now().minus(CLAIM_AGE)).await.unwrap(), 2);
    }
}

#[tokio::test]
async fn history_stops_at_the_first_turn_that_does_not_fit() {
    for home in homes() {
        let store = home.open().await;
        let session: SessionId = home.ids.next();
        // The second is large: what is before it would fit, and is left out all the same.
        for input in ["a", &"b".repeat(500), "c", "dé"] {
            let mut run = home.run_in(&session, input);
            store.create(&mut run, &Terms::default()).await.unwrap();
            run.replied(answer("ok"), home.now()).unwrap();
            store.save(&mut run).await.unwrap();
        }
        let mut last = home.run_in(&session, "e");
        store.create(&mut last, &Terms::default()).await.unwrap();
        let inputs = async |bytes, turns| -> Vec<usize> {
            let window = HistoryWindow { turns, bytes };
            let history = store.history(&last.spec().id, window).await.unwrap();
            history.iter().map(|turn| turn.input.len()).collect()
        };
        assert_eq!(inputs(1000, 10).await, [1, 500, 1, 3]);
        assert_eq!(inputs(100, 10).await, [1, 3]);
        assert_eq!(inputs(8, 10).await, [1, 3], "5 bytes and 3");
        assert_eq!(inputs(7, 10).await, [3]);
        assert_eq!(inputs(4, 10).await, [0_usize; 0]);
        assert_eq!(inputs(1000, 1).await, [3]);
    }
}

#[tokio::test]
async fn a_deleted_session_takes_its_runs_and_values_with_it() {
    for home in homes() {
        let store = home.open().await;
        let mut run = home.created(&store).await;
        let (session, id) = (run.spec().session.clone(), run.spec().id.clone());
        let space = |scope, scope_id: &str| KvSpace { scope, ..space(scope_id) };
        let mine = space("session", session.as_str());
        for kept in [&mine, &space("session", "another"), &space("user", session.as_str())] {
            store.kv_put(kept, "key", b"value", condition(None)).await.unwrap().unwrap();
        }
        assert_eq!(store.delete_session(&session).await.unwrap(), Deletion::Busy(id.clone()));
        run.replied(asking(vec![call("a")]), home.now()).unwrap();
        run.paused(vec![home.approval(call("a"))], home.now()).unwrap();
        store.save(&mut run).await.unwrap();
        assert_eq!(store.session_runs(&session).await.unwrap()[0].pending.len(), 1);

        assert_eq!(store.delete_session(&session).await.unwrap(), Deletion::Deleted);
        assert_eq!(store.delete_session(&session).await.unwrap(), Deletion::NoSuchSession);
        assert!(store.load(&id).await.unwrap().is_none() && store.session(&session).await.unwrap().is_none());
        assert_eq!(store.kv_get(&mine, "key").await.unwrap(), None);
        let left = home
            .rows(
                "select id from sessions union all select id from runs union all select id from approvals
                 union all select run_id from run_events",
            )
            .await;
        assert!(left.is_empty(), "{left:?}");
        let kept = home.rows("select scope || ':' || (scope_id = 'another') from kv order by 1").await;
        assert_eq!(kept, ["session:1", "user:0"]);
        // A decision that was on its way finds nothing to decide.
        run.cancel(UserId::from("ann"), home.now()).unwrap();
        assert!(matches!(store.save(&mut run).await, Err(StoreError::Conflict)));
    }
}

/// What a plan scans grows with the table; what it searches does not.
#[tokio::test]
async fn hot_queries_use_an_index() {
    for home in homes() {
        drop(home.open().await);
        for query in [
            "explain query plan select id, status from runs where session_id = 's' and status in ('QUEUED', 'RUNNING', 'PAUSED') order by turn limit 1",
            "explain query plan select count(*) from runs where status = 'QUEUED'",
            "explain query plan select org_id, count(*) from runs where status = 'RUNNING' and background = 1 group by org_id",
            "explain query plan select id from runs where status = 'QUEUED' and background = 1 and org_id = 'a' order by created_at, id limit 1",
            "explain query plan select id from sessions where org_id = 'a' and user_id = 'u' order by updated_at desc, id desc limit 20",
        ] {
            let mut connection = SqliteConnection::connect(&home.url).await.unwrap();
            let plan: Vec<(i64, i64, i64, String)> =
                sqlx::query_as(query).fetch_all(&mut connection).await.unwrap();
            let plan: Vec<String> = plan.into_iter().map(|row| row.3).collect();
            assert!(plan.iter().all(|step| step.contains("INDEX")), "{query}: {plan:?}");
        }
    }
}
