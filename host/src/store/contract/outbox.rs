//! The outbox of webhooks: written with its events or not at all, and forgotten in time.

use std::time::Duration;

use super::*;
use crate::notice::{Content, NoticeKind};

fn everything(endpoint: &str) -> Subscription {
    Subscription {
        endpoint: endpoint.to_owned(),
        events: NoticeKind::ALL.to_vec(),
        org: None,
        content: Content::LeftOut,
    }
}

async fn due(store: &Arc<dyn Store>, endpoint: &str, now: Timestamp) -> Vec<String> {
    let due = store.due_webhooks(endpoint, now, 10).await.unwrap();
    due.into_iter().map(|due| due.event).collect()
}

async fn attempt(store: &Arc<dyn Store>, event: &str, at: Timestamp, then: WebhookThen) {
    let attempt = WebhookAttempt {
        event: event.to_owned(),
        endpoint: "a".to_owned(),
        status: Some(200),
        error: None,
        duration_ms: 3,
        at,
        then,
    };
    store.webhook_attempted(attempt).await.unwrap();
}

#[tokio::test]
async fn an_event_is_told_once_to_each_endpoint_and_a_lost_race_tells_nothing() {
    for home in homes() {
        let store = home.open().await;
        store.subscribe(vec![everything("a"), everything("b")]);
        let session = home.ids.next();
        let mut run = home.run_in(&session, "hello");
        store.create(&mut run, None).await.unwrap();
        assert_eq!(due(&store, "a", home.now()).await, Vec::<String>::new(), "a start is nothing to tell");
        let mut loser = store.load(&run.spec().id).await.unwrap().unwrap();
        run.cancel("ann".into(), home.now()).unwrap();
        loser.cancel("bob".into(), home.now()).unwrap();
        store.save(&mut run).await.unwrap();
        assert!(matches!(store.save(&mut loser).await, Err(StoreError::Conflict)));

        let told = due(&store, "a", home.now()).await;
        assert_eq!(told, [format!("evt_{}_2", run.spec().id)]);
        assert_eq!(due(&store, "b", home.now()).await, told);
        attempt(&store, &told[0], home.now(), WebhookThen::Delivered).await;
        assert!(due(&store, "a", home.now()).await.is_empty());
        assert_eq!(due(&store, "b", home.now()).await, told, "the other endpoint\'s is its own");
    }
}

#[tokio::test]
async fn old_events_are_forgotten_with_their_log_and_waiting_ones_only_where_nobody_serves_them() {
    for home in homes() {
        let store = home.open().await;
        store.subscribe(vec![everything("a"), everything("b"), everything("c")]);
        let session = home.ids.next();
        for _ in 0..3 {
            let mut run = home.run_in(&session, "hello");
            store.create(&mut run, None).await.unwrap();
            run.cancel("ann".into(), home.now()).unwrap();
            store.save(&mut run).await.unwrap();
        }
        let events = due(&store, "a", home.now()).await;
        attempt(&store, &events[0], home.now(), WebhookThen::Delivered).await;
        attempt(&store, &events[1], home.now(), WebhookThen::Dead).await;
        let prune = |days: u64, limit| WebhookPrune {
            before: home.now().plus(Duration::from_hours(24 * days)),
            limit,
            served: vec!["a".to_owned(), "b".to_owned()],
        };
        assert_eq!(store.prune_webhooks(prune(0, 9)).await.unwrap(), 0, "nothing is older than now");
        assert_eq!(store.prune_webhooks(prune(8, 1)).await.unwrap(), 2, "one of each kind");
        assert_eq!(store.prune_webhooks(prune(8, 9)).await.unwrap(), 3);
        assert_eq!(due(&store, "a", home.now()).await, [events[2].clone()]);
        assert_eq!(due(&store, "b", home.now()).await.len(), 3, "however old they are");
        assert!(due(&store, "c", home.now()).await.is_empty());
        let (log, total) = store.webhook_deliveries(&WebhookFilter::default(), 10, 0).await.unwrap();
        assert_eq!((log.len(), total), (0, 0));
    }
}
