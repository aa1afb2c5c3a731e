//! Each key has its own share of requests, and is told when there is more.

use std::time::Duration;

use holdfast::key::Role;

use crate::support::{Caller, Script, TestHost, say};

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_asks_too_often_waits_and_nobody_else_does() {
    let config =
        format!("rate_limit = {{ requests_per_minute = 6, burst = 2 }}\n{}", crate::support::host::ONE_AGENT);
    let host = TestHost::start(&[], &config, Script::new([say("hi")])).await;
    let ann = Caller::new(&host, Role::User, "acme", "ann").await;
    let joe = Caller::new(&host, Role::User, "acme", "joe").await;
    for _ in 0..2 {
        assert_eq!(ann.get("/api/agents").await.status, 200);
    }
    let mut refused = ann.get("/api/agents").await;
    assert_eq!((refused.status, &refused.headers["retry-after"]), (429, &"10".parse().unwrap()));
    assert!(refused.body["requestId"].take().is_string());
    insta::assert_json_snapshot!(refused.body, @r#"
    {
      "type": "urn:problem-type:rate-limit-exceeded",
      "title": "Too many requests",
      "status": 429,
      "detail": "This key has made too many requests. Try again in 10 s.",
      "instance": "/api/agents",
      "requestId": null
    }
    "#);
    assert_eq!(joe.get("/api/agents").await.status, 200, "another key");
    assert_eq!(host.get("/api/agents").await.status, 200, "the bootstrap token");
    for path in ["/api/v1/health", "/api/v1/health/ready", "/openapi.json"] {
        for _ in 0..5 {
            assert_eq!(ann.get(path).await.status, 200, "{path}");
        }
    }
    host.clock.advance(Duration::from_millis(9_999));
    assert_eq!(ann.get("/api/agents").await.headers["retry-after"], "1");
    host.clock.advance(Duration::from_millis(1));
    assert_eq!((ann.get("/api/agents").await.status, ann.get("/api/agents").await.status), (200, 429));
}

/// Of requests at once, as many pass as there are tokens.
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_is_counted_exactly() {
    let config = format!("rate_limit = {{ requests_per_minute = 10 }}\n{}", crate::support::host::ONE_AGENT);
    let host = TestHost::start(&[], &config, Script::new([say("hi")])).await;
    let ann = Caller::new(&host, Role::User, "acme", "ann").await;
    let answers = futures_util::future::join_all((0..40).map(|_| ann.get("/api/agents"))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 10);
    assert_eq!(answers.iter().filter(|answer| answer.status == 429).count(), 30);
}
