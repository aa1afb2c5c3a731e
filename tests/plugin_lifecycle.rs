//! Plugins come, change and go while runs are under way: a paused run goes on with the version that paused it, and a
//! revoked version stops at once. That no call fails by it is in the hostile corpus.

use serde_json::{Value, json};

use crate::support::guests::guest;
use crate::support::host::ONE_AGENT;
use crate::support::openai::{self, OpenAi};
use crate::support::process::Process;
use crate::support::versions::{digest, version};
use crate::support::{Script, Speaker, TestHost, asked, call, replied, say, until};

const KV: &str = "kv = [\"plugin\"]";

fn probe(number: &str) -> Vec<u8> {
    version("probe", "probe", number, KV)
}

/// What the tools of a run came to.
fn outcomes(run: &Value) -> Vec<&str> {
    let tools = run["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
    tools.iter().map(|tool| tool["outcome"].as_str().unwrap_or_default()).collect()
}

/// Which versions the database holds.
async fn kept(host: &TestHost) -> Vec<String> {
    host.texts("select 'sha256:' || digest from components order by digest").await
}

/// The folder has another plugin, or none: the approved call runs on the code that was asked about, and then nobody
/// needs that any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_paused_run_goes_on_with_the_version_that_paused_it() {
    for removed in [false, true] {
        let model = Script::new([call("probe__effect", json!({"key": "k"})), say("done")]);
        let host = TestHost::start(&["probe"], ONE_AGENT, model).await;
        let old = digest(&std::fs::read(guest("probe")).expect("the component"));
        let paused = host.run("go").await;
        assert_eq!(paused["status"], "PAUSED");
        // Nobody is bound to this one: that it goes says that housekeeping has come by.
        let between = probe("1.5.0");
        assert_eq!(host.install("probe", between.clone()).await.body["state"], "loaded");
        if removed {
            assert_eq!(host.delete("/api/admin/plugins/probe").await.status, 204);
            assert_eq!(host.delete("/api/admin/plugins/probe").await.status, 404);
            assert_eq!(host.get("/api/tools").await.body, json!([]));
        } else {
            // It has none of the probe's tools.
            let other = version("calculator", "probe", "2.0.0", "");
            assert_eq!(host.install("probe", other).await.body["state"], "loaded");
        }
        until("housekeeping", async || !kept(&host).await.contains(&digest(&between))).await;
        assert!(kept(&host).await.contains(&old));
        let run = host.resume(&paused, json!({"action": "APPROVE"})).await.body;
        assert_eq!((&run["status"], outcomes(&run)), (&json!("COMPLETED"), vec!["ok"]), "{run}");
        assert_eq!(host.effects("k").await, 1);
        until("the old version goes", async || !kept(&host).await.contains(&old)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_version_that_paused_a_run_survives_a_kill() {
    let model = OpenAi::start(|body| match openai::replied(body) {
        0 => openai::tool_calls(&[("call_abc", "probe__effect", json!({"key": "k"}))]),
        _ => openai::text("It is done."),
    })
    .await;
    let mut host = Process::start(&["probe"], &model.config()).await;
    let paused = host.run("go").await;
    assert_eq!(paused["status"], "PAUSED");
    let other = version("calculator", "probe", "2.0.0", "");
    std::fs::write(host.folder.path().join("plugins/probe.wasm"), &other).expect("it can be replaced");
    let serves = async |host: &Process| host.get("/api/plugins").await.body[0]["digest"].clone();
    until("it is replaced", async || serves(&host).await == digest(&other)).await;

    host.restart().await;
    assert_eq!(serves(&host).await, digest(&other));
    let run = paused["runId"].as_str().expect("an id");
    let done = host.resume(run, None, &json!({"action": "APPROVE"})).await.body;
    assert_eq!((&done["status"], outcomes(&done)), (&json!("COMPLETED"), vec!["ok"]), "{done}");
    assert_eq!(host.effects("k").await, 1);
}

/// In the middle of a call, and before an approved one; the neighbour does not notice.
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_version_stops_at_once_and_for_good() {
    let model = Speaker::new(|request| {
        Ok(match (replied(request), asked(request).as_str()) {
            (0, "slow") => call("probe__slow_read", json!({"ms": 20_000, "key": "s"})),
            (0, "gated") => call("probe__effect", json!({"key": "k"})),
            (0, _) => call("calculator__evaluate", json!({"expression": "6*7"})),
            _ => say("done"),
        })
    });
    let mut host = TestHost::start(&["probe", "calculator"], ONE_AGENT, model).await;
    let bytes = std::fs::read(guest("probe")).expect("the component");
    let paused = host.run("gated").await;
    let slow = host.begin("/api/agents/agent/runs", &json!({"message": "slow"}));
    host.running_call().await;
    let begun = std::time::Instant::now();

    let revoke = json!({"digest": digest(&bytes), "reason": "it phones home"});
    for (body, field) in [
        (json!({"digest": "x", "reason": "y"}), "digest"),
        (json!({"digest": digest(&bytes), "reason": " "}), "reason"),
    ] {
        let answer = host.post("/api/admin/plugins/probe/revoke", &body).await;
        assert_eq!(
            (answer.status, &answer.body["invalidParams"][0]["field"]),
            (400, &json!(field)),
            "{answer:?}"
        );
    }
    assert_eq!(host.post("/api/admin/plugins/probe/revoke", &revoke).await.status, 204);

    let run = slow.await.expect("no panic").body;
    assert_eq!((&run["status"], outcomes(&run)), (&json!("COMPLETED"), vec!["denied"]), "{run}");
    assert!(begun.elapsed().as_secs() < 10, "it did not wait for the guest");
    let approved = host.resume(&paused, json!({"action": "APPROVE"})).await.body;
    assert_eq!(
        (&approved["status"], outcomes(&approved)),
        (&json!("COMPLETED"), vec!["denied"]),
        "{approved}"
    );
    assert_eq!(host.effects("k").await, 0);
    assert_eq!(outcomes(&host.run("neighbour").await), ["ok"]);

    // Neither the folder nor the API nor a restart brings it back.
    let answer = host.install("probe", bytes.clone()).await;
    assert_eq!((answer.status, &answer.body["type"]), (409, &json!("urn:problem-type:plugin-revoked")));
    host.restart().await;
    let plugin = host.plugin("probe").await;
    assert_eq!((&plugin["state"], &plugin["digest"]), (&json!("revoked"), &Value::Null), "{plugin}");
    assert_eq!(plugin["error"], "this version was revoked: it phones home");
    let grant = host.post("/api/admin/plugins/probe/grants", &json!({"digest": digest(&bytes)})).await;
    assert_eq!((grant.status, &grant.body["type"]), (409, &json!("urn:problem-type:plugin-revoked")));
    // Another version is another matter.
    assert_eq!(host.install("probe", probe("2.0.0")).await.body["state"], "loaded");
}

/// A refused component changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_installed() {
    let config = format!("{ONE_AGENT}[plugins.small.limits]\ncomponent_bytes = 1000\n");
    let host = TestHost::start(&["probe"], &config, Script::new([say("unused")])).await;
    let before = host.get("/api/plugins").await.body;
    let table = [
        ("probe", b"not WebAssembly".to_vec(), 422, "begin as WebAssembly"),
        ("probe", std::fs::read(guest("liar")).expect("a component"), 422, "describe"),
        ("probe", version("probe", "other", "1.0.0", ""), 422, "is for the plugin `other`"),
        ("a__b", probe("1.0.0"), 422, "legal name"),
        ("small", vec![0; 1001], 413, "component_bytes"),
    ];
    for (id, bytes, status, word) in table {
        let answer = host.install(id, bytes).await;
        assert_eq!(answer.status, status, "{id}: {answer:?}");
        assert!(answer.body["detail"].as_str().is_some_and(|detail| detail.contains(word)), "{answer:?}");
    }
    let request = host.request(reqwest::Method::PUT, "/api/admin/plugins/probe").body(probe("1.0.0"));
    assert_eq!(host.send(request).await.status, 415);
    assert_eq!(host.get("/api/admin/plugins/nobody").await.status, 404);
    assert_eq!(host.get("/api/plugins").await.body, before);
    let files = std::fs::read_dir(host.folder().join("plugins")).expect("the folder").count();
    assert_eq!(files, 1, "nothing half written is left");
}

/// Several at once: one of them is there in the end, whole.
#[tokio::test(flavor = "multi_thread")]
async fn installs_at_once_do_not_mix() {
    let host = TestHost::start(&[], ONE_AGENT, Script::new([])).await;
    let large = |number: u8| {
        let mut bytes = probe(&format!("{number}.0.0"));
        // A custom section, so that writing takes many steps.
        let data = vec![number; 3 << 20];
        bytes.extend([0, 0x82, 0x80, 0xc0, 0x01, 1, b'n']);
        bytes.extend(data);
        bytes
    };
    let versions: Vec<Vec<u8>> = (1..=6).map(large).collect();
    for _ in 0..3 {
        let installing = versions.iter().map(|bytes| host.install("probe", bytes.clone()));
        for answer in futures_util::future::join_all(installing).await {
            assert!([200, 201].contains(&answer.status), "{answer:?}");
        }
        let file = std::fs::read(host.folder().join("plugins/probe.wasm")).expect("a file");
        assert!(versions.contains(&file), "{} bytes of several versions", file.len());
        let serving = host.plugin_once("probe", |plugin| plugin["digest"] == json!(digest(&file))).await;
        assert_eq!(serving["state"], "loaded", "{serving}");
    }
    let removing = (0..4).map(|_| host.delete("/api/admin/plugins/probe"));
    let mut statuses: Vec<u16> =
        futures_util::future::join_all(removing).await.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [204, 404, 404, 404]);
    let left = std::fs::read_dir(host.folder().join("plugins")).expect("a folder").count();
    assert_eq!(left, 0, "nothing half written is left");
}
