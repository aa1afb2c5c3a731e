//! The OpenAPI document is made from the code, and a change of it is a decision.

use std::collections::BTreeSet;

use crate::support::guests::root;
use crate::support::{Script, TestHost, say};

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "the variable is the test's own")]
async fn the_served_document_is_the_recorded_one() {
    let host = TestHost::start(&[], "", Script::new([say("")])).await;
    let served = host.get("/openapi.json").await.body;
    assert_eq!(served["openapi"], "3.1.0");
    assert_eq!(host.get("/v3/api-docs").await.body, served, "the alias says the same");

    let text = format!("{}\n", serde_json::to_string_pretty(&served).expect("JSON"));
    let file = root().join("tests/openapi.json");
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(&file, &text).expect("it can be written");
    }
    let recorded = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(recorded == text, "the API changed: read the change, then run the test with UPDATE_OPENAPI=1");

    let printed =
        std::process::Command::new(env!("CARGO_BIN_EXE_holdfast")).arg("openapi").output().expect("it runs");
    assert_eq!(String::from_utf8_lossy(&printed.stdout), text, "`holdfast openapi` prints the same");

    let mut ids = BTreeSet::new();
    for (path, methods) in served["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let id = operation["operationId"].as_str().expect("an id").to_owned();
            assert!(ids.insert(id), "{method} {path} has another's operationId");
            let public = operation["security"][0].as_object().is_some_and(serde_json::Map::is_empty);
            assert_eq!(operation["responses"]["401"].is_null(), public, "{method} {path}");
        }
    }
}

/// The interactive pages work on a machine without a network, and tell nobody that they were opened.
#[tokio::test(flavor = "multi_thread")]
async fn the_interactive_documentation_needs_nobody_else() {
    let host = TestHost::start(&[], "", Script::new([say("")])).await;
    let anonymous = async |path: &str| {
        let response = reqwest::get(format!("{}{path}", host.url)).await.expect("an answer");
        assert_eq!(response.status(), 200, "{path}");
        response.text().await.expect("text")
    };
    let html = anonymous("/docs/").await;
    let mut assets = BTreeSet::new();
    for part in html.split("src=\"").skip(1).chain(html.split("href=\"").skip(1)) {
        let target = part.split('"').next().unwrap_or_default();
        assert!(!target.contains("//"), "{target} is elsewhere");
        assets.insert(target.trim_start_matches("./").to_owned());
    }
    assert!(assets.contains("swagger-ui-bundle.js"), "{assets:?}");
    for asset in &assets {
        let path = format!("/docs/{asset}");
        let response = reqwest::get(format!("{}{path}", host.url)).await.expect("an answer");
        assert_eq!(response.status(), 200, "{path}");
    }
    let init = anonymous("/docs/swagger-initializer.js").await;
    assert!(
        init.contains("/openapi.json") && !init.contains("//validator") && !init.contains("http"),
        "{init}"
    );
    // By default the pages send the document's address to a validator of swagger.io.
    assert!(init.replace(' ', "").contains("\"validatorUrl\":\"none\""), "{init}");
}
