//! The outbox of webhooks: written with its events or not at all, settled attempt by attempt, forgotten in time.

use super::*;
use crate::audit::{Action, Actor, ObjectType};
use crate::notice::{Content, NoticeKind, Subscription};

const DAY: Duration = Duration::from_hours(24);

fn everything(endpoint: &str) -> Subscription {
    Subscription {
        endpoint: endpoint.to_owned(),
        events: NoticeKind::ALL.to_vec(),
        org: None,
        content: Content::LeftOut,
    }
}

async fn listening(home: &Home, endpoints: &[&str]) -> Arc<dyn Store> {
    let store = home.open().await;
    store.subscribe(endpoints.iter().map(|id| everything(id)).collect());
    store
}

async fn cancelled(home: &Home, store: &Arc<dyn Store>) -> Run {
    let mut run = home.created(store).await;
    run.cancel(UserId::from("ann"), home.now()).unwrap();
    store.save(&mut run).await.unwrap();
    run
}

async fn due(store: &Arc<dyn Store>, endpoint: &str, now: Timestamp) -> Vec<String> {
    let due = store.due_webhooks(endpoint, now, 10).await.unwrap();
    due.into_iter().map(|due| due.event).collect()
}

fn attempt(due: &DueWebhook, at: Timestamp, then: WebhookThen) -> WebhookAttempt {
    let failed = then != WebhookThen::Delivered;
    WebhookAttempt {
        event: due.event.clone(),
        endpoint: "a".to_owned(),
        due_at: due.due_at,
        status: Some(if failed { 500 } else { 200 }),
        error: failed.then_some("status"),
        duration_ms: 3,
        at,
        then,
    }
}

async fn log(store: &Arc<dyn Store>, filter: WebhookFilter) -> Vec<WebhookDelivery> {
    let listed = store.webhook_deliveries(&filter, Range { limit: 10, offset: 0 }).await.unwrap();
    assert_eq!(listed.rows.len() as u64, listed.total);
    listed.rows
}

fn redelivery(event: &str, at: Timestamp) -> Redelivery {
    let by = Actor::from(UserId::from("ada"));
    Redelivery { event: event.to_owned(), endpoint: None, org: None, by, at }
}

#[tokio::test]
async fn an_event_is_told_once_to_each_endpoint_and_a_lost_race_tells_nothing() {
    for home in homes() {
        let store = listening(&home, &["a", "b"]).await;
        let mut written = store.watch_outbox();
        let mut run = home.created(&store).await;
        assert_eq!(due(&store, "a", home.now()).await, [""; 0], "a start is nothing to tell");
        let mut loser = store.load(&run.spec().id).await.unwrap().unwrap();
        run.cancel(UserId::from("ann"), home.now()).unwrap();
        loser.cancel(UserId::from("bob"), home.now()).unwrap();
        store.save(&mut run).await.unwrap();
        assert!(matches!(store.save(&mut loser).await, Err(StoreError::Conflict)));
        tokio::time::timeout(Duration::from_secs(5), written.written()).await.unwrap();

        let told = due(&store, "a", home.now()).await;
        assert_eq!(told, [format!("evt_{}_2", run.spec().id)]);
        assert_eq!(due(&store, "b", home.now()).await, told);
        store.close().await;

        let store = listening(&home, &["a", "b"]).await;
        let waiting = store.due_webhooks("a", home.now(), 10).await.unwrap();
        let delivered = attempt(&waiting[0], home.now(), WebhookThen::Delivered);
        store.webhook_attempted(delivered).await.unwrap();
        assert_eq!(due(&store, "a", home.now()).await, [""; 0]);
        assert_eq!(due(&store, "b", home.now()).await, told, "the other endpoint's is its own");
    }
}

#[tokio::test]
async fn attempts_are_logged_and_say_when_the_next_one_is_due() {
    for home in homes() {
        let store = listening(&home, &["a"]).await;
        let run = cancelled(&home, &store).await;
        let first = store.due_webhooks("a", home.now(), 10).await.unwrap().remove(0);
        assert_eq!((first.failures, first.by_hand), (0, false));
        let later = home.now().plus(Duration::from_secs(5));
        store.webhook_attempted(attempt(&first, home.now(), WebhookThen::Retry(later))).await.unwrap();
        assert_eq!(due(&store, "a", home.now()).await, [""; 0]);
        let second = store.due_webhooks("a", later, 10).await.unwrap().remove(0);
        assert_eq!((&second.body, second.failures, second.by_hand), (&first.body, 1, false));
        store.webhook_attempted(attempt(&second, later, WebhookThen::Dead)).await.unwrap();

        let entries = log(&store, WebhookFilter::default()).await;
        let said: Vec<_> =
            entries.iter().map(|entry| (entry.attempt, entry.status, entry.state.as_str())).collect();
        assert_eq!(said, [(2, Some(500), "DEAD"), (1, Some(500), "DEAD")]);
        assert_eq!(
            (&entries[0].run, &*entries[0].kind, entries[0].next_attempt_at),
            (&run.spec().id, "run.cancelled", None)
        );
        let own = |org: &str| WebhookFilter { org: Some(org.into()), ..WebhookFilter::default() };
        assert_eq!(log(&store, own("default")).await.len(), 2);
        assert_eq!(log(&store, own("acme")).await, []);
    }
}

#[tokio::test]
async fn a_redelivery_is_audited_and_no_attempt_that_began_before_it_undoes_it() {
    for home in homes() {
        let store = listening(&home, &["a", "b"]).await;
        cancelled(&home, &store).await;
        let under_way = store.due_webhooks("a", home.now(), 10).await.unwrap().remove(0);
        let later = home.now().plus(Duration::from_secs(1));
        let wish = redelivery(&under_way.event, later);
        let foreign = Redelivery { org: Some("acme".into()), ..wish.clone() };
        assert_eq!(store.redeliver_webhook(foreign).await.unwrap(), [""; 0]);
        assert_eq!(store.redeliver_webhook(redelivery("evt_none", later)).await.unwrap(), [""; 0]);
        assert_eq!(store.redeliver_webhook(wish).await.unwrap(), ["a", "b"]);

        store.webhook_attempted(attempt(&under_way, later, WebhookThen::Dead)).await.unwrap();
        let again = store.due_webhooks("a", later, 10).await.unwrap().remove(0);
        assert_eq!((&again.event, again.failures, again.by_hand), (&under_way.event, 0, true));
        store.webhook_attempted(attempt(&again, later, WebhookThen::Delivered)).await.unwrap();
        assert_eq!(due(&store, "a", later.plus(DAY)).await, [""; 0]);

        let filter = AuditFilter { action: Some(Action::WebhookRedelivered), ..AuditFilter::default() };
        let audited = store.audit_log(&filter, Range { limit: 10, offset: 0 }).await.unwrap().rows;
        assert_eq!(audited.len(), 1, "what was not found leaves no row");
        let entry = &audited[0].entry;
        assert_eq!(
            (entry.org.as_str(), entry.by.user.as_str(), entry.object, &entry.object_id, &entry.details),
            ("default", "ada", ObjectType::Webhook, &again.event, &json!({"endpoints": ["a", "b"]}))
        );
    }
}

/// Whoever decides between the look and the announcement is first.
#[tokio::test]
async fn an_approval_is_announced_once_and_not_once_it_is_decided() {
    for home in homes() {
        let store = listening(&home, &["a"]).await;
        let mut run = home.paused(&store, &["one", "two"]).await;
        let paused = due(&store, "a", home.now()).await;
        let until = home.now().plus(Duration::from_mins(1));
        let expiring = store.expiring(home.now(), until, 10).await.unwrap();
        assert_eq!(expiring.len(), 2);
        assert_eq!(store.expiring(home.now(), home.now(), 10).await.unwrap(), []);
        assert_eq!(store.expiring(until, until.plus(DAY), 10).await.unwrap(), [], "its time is up");

        let first = run.pending()[0].clone();
        run.decide(vec![approve(&first, None)], home.now()).unwrap();
        store.save(&mut run).await.unwrap();
        assert_eq!(store.announce_expiring(&expiring, home.now()).await.unwrap(), 1);
        assert_eq!(store.announce_expiring(&expiring, home.now()).await.unwrap(), 0, "once");
        assert_eq!(store.expiring(home.now(), until, 10).await.unwrap(), []);
        let told = due(&store, "a", home.now()).await;
        let announced: Vec<&String> = told.iter().filter(|event| !paused.contains(event)).collect();
        assert_eq!(announced, ["evt_approval of two_expiring"]);
    }
}

#[tokio::test]
async fn old_events_are_forgotten_with_their_log_and_waiting_ones_only_where_nobody_serves_them() {
    for home in homes() {
        let store = listening(&home, &["a", "b", "c"]).await;
        for _ in 0..3 {
            cancelled(&home, &store).await;
        }
        let events = store.due_webhooks("a", home.now(), 10).await.unwrap();
        for (event, then) in events.iter().zip([WebhookThen::Delivered, WebhookThen::Dead]) {
            store.webhook_attempted(attempt(event, home.now(), then)).await.unwrap();
        }
        let prune =
            |before, limit| WebhookPrune { before, limit, served: vec!["a".to_owned(), "b".to_owned()] };
        let later = home.now().plus(DAY);
        assert_eq!(store.prune_webhooks(prune(home.now(), 9)).await.unwrap(), 0, "nothing is older than now");
        assert_eq!(store.prune_webhooks(prune(later, 1)).await.unwrap(), 2, "one of each kind");
        assert_eq!(store.prune_webhooks(prune(later, 9)).await.unwrap(), 3);
        assert_eq!(due(&store, "a", home.now()).await, [events[2].event.clone()]);
        assert_eq!(due(&store, "b", home.now()).await.len(), 3, "however old they are");
        assert_eq!(due(&store, "c", home.now()).await, [""; 0]);
        assert_eq!(log(&store, WebhookFilter::default()).await, []);
    }
}

/// Somebody else holds the database's one write lock for as long as this takes.
#[tokio::test]
async fn where_nothing_is_due_nothing_is_written() {
    for home in homes() {
        let store = listening(&home, &["a"]).await;
        home.created(&store).await;
        let mut other = SqliteConnection::connect(&home.url).await.unwrap();
        sqlx::query("begin immediate").execute(&mut other).await.unwrap();
        let (now, later) = (home.now(), home.now().plus(DAY));
        assert_eq!(due(&store, "a", later).await, [""; 0]);
        let expiring = store.expiring(now, later, 10).await.unwrap();
        assert_eq!(store.announce_expiring(&expiring, now).await.unwrap(), 0);
        let prune = WebhookPrune { before: later, limit: 9, served: Vec::new() };
        assert_eq!(store.prune_webhooks(prune).await.unwrap(), 0);
        sqlx::query("rollback").execute(&mut other).await.unwrap();
        other.close().await.unwrap();
    }
}
