//! One tenant's backlog does not keep another's runs waiting.

use serde_json::json;

use crate::support::TestHost;
use crate::support::gated::Gated;
use crate::support::host::ONE_AGENT;

async fn queue(host: &TestHost, org: &str, message: &str) {
    let body = json!({"message": message, "orgId": org, "userId": "ann"});
    let answer = host.post("/api/agents/agent/runs/background", &body).await;
    assert_eq!(answer.status, 202, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_take_turns_and_inside_one_the_oldest_is_first() {
    let (model, mut arrivals) = Gated::new();
    let host = TestHost::start(&[], &format!("[background]\nworkers = 1\n{ONE_AGENT}"), model.clone()).await;
    queue(&host, "a", "a1").await;
    let mut order = vec![arrivals.next().await];
    for (org, message) in [("a", "a2"), ("a", "a3"), ("a", "a4"), ("b", "b1"), ("b", "b2"), ("c", "c1")] {
        queue(&host, org, message).await;
    }
    for _ in 0..6 {
        model.answer(1);
        order.push(arrivals.next().await);
    }
    assert_eq!(order, ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]);
    assert_eq!(model.peak(), 1);
}

/// With two workers, a tenant that has one run at work waits for one that has none.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_fewer_at_work_is_next() {
    let (model, mut arrivals) = Gated::new();
    let host = TestHost::start(&[], &format!("[background]\nworkers = 2\n{ONE_AGENT}"), model.clone()).await;
    queue(&host, "a", "a1").await;
    assert_eq!(arrivals.next().await, "a1");
    queue(&host, "a", "a2").await;
    assert_eq!(arrivals.next().await, "a2");
    queue(&host, "a", "a3").await;
    queue(&host, "b", "b1").await;
    queue(&host, "b", "b2").await;
    // The gate is fair: a1 is answered first, and a2 is still at work.
    model.answer(1);
    assert_eq!(arrivals.next().await, "b1", "a has one at work, b none");
}
