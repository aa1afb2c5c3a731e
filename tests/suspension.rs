//! A tool asks a human in mid-call: the run waits, the answer is checked, and the same call goes on with it.

use serde_json::{Value, json};

use crate::support::host::ONE_AGENT;
use crate::support::{Answer, Script, TestHost, call, calls, say};

/// A run that waits for how many apples there are.
async fn asking(tool: &str) -> (TestHost, Value) {
    let host = TestHost::with_probe(Script::new([call(tool, json!({"key": "apples"})), say("done")])).await;
    let paused = host.run("go").await;
    assert_eq!(paused["status"], "PAUSED", "{paused}");
    (host, paused)
}

fn action(run: &Value) -> &Value {
    &run["metadata"]["requiredAction"]
}

fn answer(count: u8) -> Value {
    json!({"action": "APPROVE", "answer": {"count": count}})
}

/// How often the call was begun, gone on with, and brought to its end.
async fn counts(host: &TestHost) -> [u64; 3] {
    [
        host.effects("apples.asked").await,
        host.effects("apples.resumed").await,
        host.effects("apples.finished").await,
    ]
}

/// The problem's one invalid parameter.
fn invalid(answer: &Answer) -> (&str, &str) {
    let [param] = answer.body["invalidParams"].as_array().map(Vec::as_slice).unwrap_or_default() else {
        panic!("{answer:?}")
    };
    assert_eq!((answer.status, &answer.body["type"]), (400, &json!("urn:problem-type:invalid-request")));
    (param["field"].as_str().expect("a field"), param["message"].as_str().expect("a message"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_asks_and_goes_on_with_the_answer() {
    let (host, paused) = asking("probe__ask").await;
    let asked = action(&paused);
    let schema = json!({
        "type": "object",
        "properties": {"count": {"type": "integer", "minimum": 1, "maximum": 99}},
        "required": ["count"],
    });
    assert_eq!(
        (&asked["type"], &asked["prompt"], &asked["answerSchema"], &asked["toolName"], &asked["args"]),
        (
            &json!("TOOL_INPUT"),
            &json!("How many apples?"),
            &schema,
            &json!("probe__ask"),
            &json!("{\"key\":\"apples\"}")
        )
    );
    assert_eq!((&paused["tools"], &paused["metadata"]["message"]), (&json!([]), &json!("How many apples?")));
    assert_eq!(counts(&host).await, [1, 0, 0]);
    let listed = host.get("/api/runs?status=PAUSED").await.body["content"][0].clone();
    assert_eq!(action(&listed), asked, "the list says the same");
    assert_eq!(action(&host.read(&paused).await), asked);

    let done = host.resume(&paused, answer(5)).await.body;

    assert_eq!((&done["status"], &done["content"]), (&json!("COMPLETED"), &json!("done")), "{done}");
    let [tool] = done["tools"].as_array().map(Vec::as_slice).unwrap_or_default() else { panic!("{done}") };
    assert_eq!(
        (&tool["outcome"], &tool["toolOutput"], &tool["id"]),
        (&json!("ok"), &json!("5 apples, attempt 1"), &asked["toolCallId"])
    );
    assert_eq!(done["metrics"]["toolCallCount"], 1);
    assert_eq!(counts(&host).await, [1, 1, 1]);
    let usage = async |kind: &'static str| {
        let events = host.texts(kind).await;
        serde_json::from_str::<Value>(&events[0]).expect("JSON")
    };
    let asked = usage("select body from run_events where kind = 'call_suspended'").await;
    let ended = usage("select body from run_events where kind = 'call_finished'").await;
    let host_calls = |usage: &Value| usage["hostCalls"].as_u64().expect("a number");
    let before = host_calls(&asked["suspension"]["usage"]);
    assert!(before > 0 && host_calls(&ended["outcome"]["usage"]) > before, "both parts: {asked} {ended}");
    let audited = host.get("/api/admin/audit-logs?action=approval.decided").await.body.to_string();
    assert!(audited.contains("\"ANSWER\"") && !audited.contains("\"count\""), "{audited}");
}

/// One call has one start and one end, whatever was asked between.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_shows_one_call() {
    let (host, paused) = asking("probe__ask").await;
    host.resume(&paused, answer(5)).await;
    let frames = host.events(paused["runId"].as_str().expect("an id"), "").await.rest().await;
    let words: Vec<&str> = frames.iter().map(|frame| frame.event.as_str()).collect();
    assert_eq!(
        words,
        ["START", "TOOL_START", "PAUSED", "TOOL_END", "CONTENT_DELTA", "CONTENT_DONE", "METRICS", "STOP"]
    );
    let data: Value = serde_json::from_str(&frames[2].data).expect("JSON");
    assert_eq!(data["type"], "TOOL_INPUT");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_answer_is_refused_and_the_question_stays() {
    let (host, paused) = asking("probe__ask").await;
    let id = action(&paused)["approvalId"].clone();
    let approve = |more: Value| {
        let mut body = json!({"action": "APPROVE"});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        body
    };
    for (body, field, part) in [
        (json!({"action": "APPROVE"}), "answer", "is required"),
        (
            approve(json!({"answer": {"count": 100}})),
            "answer",
            "/count: 100 is greater than the maximum of 99",
        ),
        (approve(json!({"answer": {"count": "5"}})), "answer", "/count"),
        (approve(json!({"answer": {}})), "answer", "\"count\" is a required property"),
        (approve(json!({"answer": null})), "answer", "null is not of type \"object\""),
        (
            approve(json!({"answer": {"count": 5}, "arguments": {"key": "x"}})),
            "arguments",
            "cannot be edited",
        ),
        (json!({"action": "REJECT", "answer": {"count": 5}}), "answer", "only be given with APPROVE"),
        (json!({"action": "RETRY"}), "action", "APPROVE (with answer) or REJECT"),
        (json!({"action": "RESULT", "output": "5"}), "action", "APPROVE (with answer) or REJECT"),
        (json!({"decisions": [{"approvalId": id, "action": "APPROVE"}]}), "answer", "is required"),
        (
            json!({"decisions": [{"approvalId": id, "action": "APPROVE", "answer": 5}]}),
            "answer",
            "5 is not of type \"object\"",
        ),
    ] {
        let refused = host.resume(&paused, body.clone()).await;
        let (named, message) = invalid(&refused);
        assert!(named == field && message.contains(part), "{body}: {refused:?}");
    }
    assert_eq!(action(&host.read(&paused).await), action(&paused), "it still waits");
    assert_eq!(counts(&host).await, [1, 0, 0]);
    assert_eq!(host.resume(&paused, answer(99)).await.body["status"], "COMPLETED");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_takes_no_answer() {
    let host =
        TestHost::with_probe(Script::new([call("probe__effect", json!({"key": "k"})), say("done")])).await;
    let paused = host.run("go").await;
    let refused = host.resume(&paused, answer(5)).await;
    assert_eq!(invalid(&refused).0, "answer");
    assert_eq!((host.read(&paused).await["status"].as_str(), host.effects("k").await), (Some("PAUSED"), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_approvals_api_lists_and_rejects_but_does_not_answer() {
    let (host, paused) = asking("probe__ask").await;
    let listed = host.get("/api/v1/approvals/pending").await.body["content"][0].clone();
    assert_eq!(
        (&listed["type"], &listed["contextualMessage"], &listed["answerSchema"], &listed["id"]),
        (
            &json!("TOOL_INPUT"),
            &json!("How many apples?"),
            &action(&paused)["answerSchema"],
            &action(&paused)["approvalId"]
        )
    );
    let path = format!("/api/v1/approvals/{}/resolve", listed["id"].as_str().expect("an id"));

    let refused = host.post(&path, &json!({"decision": "APPROVED"})).await;
    let (field, message) = invalid(&refused);
    assert!(field == "decision" && message.contains("continue"), "{refused:?}");
    let bulk = json!({"ids": [listed["id"]], "decision": "APPROVED"});
    let bulk = host.post("/api/v1/approvals/bulk-resolve", &bulk).await.body;
    assert_eq!((&bulk["resolved"], &bulk["failed"]), (&json!(0), &json!(1)), "{bulk}");

    let rejected = host.post(&path, &json!({"decision": "REJECTED", "comment": "none of them"})).await;
    assert_eq!((rejected.status, &rejected.body["status"]), (200, &json!("REJECTED")));
    let done = host.settled(&paused).await;
    let told = done["tools"][0]["toolOutput"].as_str().expect("a text");
    assert!(told.contains("did not answer") && told.contains("none of them"), "{told}");
    assert_eq!((&done["status"], &done["tools"][0]["outcome"]), (&json!("COMPLETED"), &json!("rejected")));
    assert_eq!(counts(&host).await, [1, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_is_rejected_expired_or_cancelled_ends_its_call() {
    let (host, paused) = asking("probe__ask").await;
    let done = host.resume(&paused, json!({"action": "REJECT", "comment": "no"})).await.body;
    assert_eq!((&done["status"], &done["tools"][0]["outcome"]), (&json!("COMPLETED"), &json!("rejected")));
    assert_eq!(host.resume(&paused, answer(5)).await.status, 409);
    assert_eq!(counts(&host).await, [1, 0, 0]);

    let (host, paused) = asking("probe__ask").await;
    host.clock.advance(std::time::Duration::from_hours(25));
    let late = host.resume(&paused, answer(5)).await;
    assert_eq!((late.status, &late.body["type"]), (410, &json!("urn:problem-type:approval-expired")));
    let done = host.settled(&paused).await;
    assert_eq!((&done["status"], &done["tools"][0]["outcome"]), (&json!("COMPLETED"), &json!("rejected")));
    assert!(done["tools"][0]["toolOutput"].to_string().contains("Nobody answered in time"), "{done}");
    assert_eq!(counts(&host).await, [1, 0, 0]);

    let (host, paused) = asking("probe__ask").await;
    assert_eq!(host.cancel(&paused).await.status, 204);
    assert_eq!(host.resume(&paused, answer(5)).await.status, 409);
    assert_eq!(host.read(&paused).await["status"], "CANCELLED");
    assert_eq!(host.texts("select status from approvals").await, ["CANCELLED"]);
    assert_eq!(counts(&host).await, [1, 0, 0]);
}

/// Whoever says the same is told the same; whoever says something else learns that it was answered.
#[tokio::test(flavor = "multi_thread")]
async fn of_racing_answers_one_counts() {
    let (host, paused) = asking("probe__ask").await;
    let path = format!("/api/agents/agent/runs/{}/continue", paused["runId"].as_str().expect("an id"));
    let id = action(&paused)["approvalId"].clone();
    let body = |count: u8| json!({"approvalId": id, "action": "APPROVE", "answer": {"count": count}});
    let racing: Vec<_> = (0..12).map(|n| (n % 3 + 1, host.begin(&path, &body(n % 3 + 1)))).collect();
    let mut won = Vec::new();
    for (count, sent) in racing {
        let answer = sent.await.expect("no panic");
        match answer.status {
            200 => won.push((count, answer.body["tools"][0]["toolOutput"].clone())),
            status => assert_eq!(status, 409, "{answer:?}"),
        }
    }
    assert_eq!(won.len(), 4, "those who said the same: {won:?}");
    let winner = won[0].0;
    assert!(
        won.iter().all(|said| *said == (winner, json!(format!("{winner} apples, attempt 1")))),
        "{won:?}"
    );
    assert_eq!(counts(&host).await, [1, 1, 1]);
    assert_eq!(host.resume(&paused, body(winner)).await.status, 200, "long after, too");
    assert_eq!(host.resume(&paused, body(winner % 3 + 1)).await.status, 409);
    assert_eq!(counts(&host).await, [1, 1, 1]);
}

/// What the question asks beside other pending calls is decided beside them.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_waits_beside_an_approval() {
    let model = Script::new([
        calls([
            ("probe__ask", json!({"key": "apples"})),
            ("probe__effect", json!({"key": "gated"})),
            ("probe__effect_ungated", json!({"key": "free"})),
        ]),
        say("done"),
    ]);
    let host = TestHost::with_probe(model).await;
    let paused = host.run("go").await;
    let actions = paused["metadata"]["requiredActions"].as_array().expect("actions").clone();
    let types: Vec<&Value> = actions.iter().map(|action| &action["type"]).collect();
    assert_eq!(types, ["TOOL_INPUT", "TOOL_APPROVAL"]);
    assert_eq!((host.effects("free").await, host.effects("gated").await), (1, 0));

    assert_eq!(invalid(&host.resume(&paused, answer(5)).await).0, "answer", "it is for one of them only");
    assert_eq!(invalid(&host.resume(&paused, json!({"action": "APPROVE"})).await).0, "answer");
    assert_eq!(host.effects("gated").await, 0, "all or none");
    let decisions = json!({"decisions": [
        {"approvalId": actions[0]["approvalId"], "action": "APPROVE", "answer": {"count": 7}},
        {"approvalId": actions[1]["approvalId"], "action": "REJECT"},
    ]});
    let done = host.resume(&paused, decisions).await.body;
    let outcomes: Vec<&Value> =
        done["tools"].as_array().expect("tools").iter().map(|t| &t["outcome"]).collect();
    assert_eq!(outcomes, ["ok", "rejected", "ok"], "{done}");
    assert_eq!((counts(&host).await, host.effects("gated").await), ([1, 1, 1], 0));
}

/// An approval comes first, then the question; and a budget of one call is enough for all of it.
#[tokio::test(flavor = "multi_thread")]
async fn an_approved_call_can_ask_and_is_one_call_of_the_budget() {
    let config = ONE_AGENT.replace("tools = [\"*\"]", "tools = [\"*\"]\nbudget = { max_tool_calls = 1 }");
    let model = Script::new([call("probe__ask_gated", json!({"key": "apples"})), say("done")]);
    let host = TestHost::start(&["probe"], &config, model).await;
    let gated = host.run("go").await;
    assert_eq!((&action(&gated)["type"], counts(&host).await), (&json!("TOOL_APPROVAL"), [0, 0, 0]));
    let asked = host.resume(&gated, json!({"action": "APPROVE"})).await.body;
    assert_eq!((&action(&asked)["type"], counts(&host).await), (&json!("TOOL_INPUT"), [1, 0, 0]), "{asked}");
    let done = host.resume(&gated, answer(5)).await.body;
    assert_eq!((&done["status"], counts(&host).await), (&json!("COMPLETED"), [1, 1, 1]), "{done}");
    assert_eq!(done["tools"].as_array().map(Vec::len), Some(1));
}

/// What a hostile guest may ask, and what comes of it; a good plugin beside it answers all the same.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_questions_end_their_call_and_nothing_else() {
    let limits = "[plugins.hostile.limits]\nstate_bytes = 1000\noutput_bytes = 4000000\ncpu_ms = 300\n";
    let nested = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let text = |text: &str| json!({"prompt": 9, "state": 0, "text": text});
    for (arguments, outcome) in [
        (json!({"prompt": 9, "state": 1000}), "asks"),
        (json!({"prompt": 4096, "state": 0}), "asks"),
        (json!({"prompt": 9, "state": 1001}), "limit"),
        (json!({"prompt": 9, "state": 10_000_000}), "limit"),
        (json!({"prompt": 4097, "state": 0}), "invalid-output"),
        (json!({"prompt": 1_000_000, "state": 0}), "invalid-output"),
        (json!({"prompt": 0, "state": 0}), "invalid-output"),
        (text("{\"type\":\"objet\"}"), "invalid-output"),
        (text("not JSON"), "invalid-output"),
        (text("true"), "invalid-output"),
        (text("{\"$ref\":\"https://example.com/s.json\"}"), "invalid-output"),
        (text("{\"$ref\":\"#\"}"), "invalid-output"),
        (text("{\"pattern\":\"(?=(a+)+)b\"}"), "invalid-output"),
        (text(&nested), "invalid-output"),
        (text(&format!("{{\"description\":\"{}\"}}", "x".repeat(70_000))), "invalid-output"),
    ] {
        let both = [("hostile__suspend", arguments), ("calculator__evaluate", json!({"expression": "6*7"}))];
        let model = Script::new([calls(both.clone()), say("done")]);
        let host = TestHost::start(&["hostile", "calculator"], &format!("{ONE_AGENT}{limits}"), model).await;
        let run = host.run("go").await;
        let shown: String = both[0].1.to_string().chars().take(80).collect();
        if outcome == "asks" {
            let done = host.resume(&run, json!({"action": "APPROVE", "answer": true})).await.body;
            let said = format!("{} bytes, true", both[0].1["state"]);
            assert_eq!(done["tools"][0]["toolOutput"], json!(said), "{shown}: {done}");
            continue;
        }
        assert_eq!(
            (&run["status"], &run["tools"][0]["outcome"]),
            (&json!("COMPLETED"), &json!(outcome)),
            "{shown}"
        );
        assert_eq!(run["tools"][1]["toolOutput"], "42", "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_misbehaves_with_its_answer_ends_its_call() {
    let limits = "[plugins.hostile.limits]\ncpu_ms = 300\n";
    for (then, outcome) in [("loop", "limit"), ("trap", "trap"), ("fail", "guest-failure"), ("other", "ok")] {
        let model = Script::new([call("hostile__suspend_then", json!({"text": then})), say("done")]);
        let host = TestHost::start(&["hostile"], &format!("{ONE_AGENT}{limits}"), model).await;
        let paused = host.run("go").await;
        assert_eq!(action(&paused)["prompt"], "Shall I\\u{1b}[2J\\u{202e}?\nReally?", "{paused}");
        let done = host.resume(&paused, json!({"action": "APPROVE", "answer": false})).await.body;
        assert_eq!(
            (&done["status"], &done["tools"][0]["outcome"]),
            (&json!("COMPLETED"), &json!(outcome)),
            "{then}"
        );
    }
}

/// A tool that is never satisfied is told so.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_asks_eight_times_at_most() {
    let model = Script::new([call("hostile__suspend_then", json!({"text": "ask"})), say("done")]);
    let host = TestHost::start(&["hostile"], ONE_AGENT, model).await;
    let mut run = host.run("go").await;
    let mut asked = Vec::new();
    while run["status"] == "PAUSED" {
        asked.push(action(&run)["approvalId"].clone());
        run = host.resume(&run, json!({"action": "APPROVE", "answer": true})).await.body;
    }
    assert_eq!((asked.len(), &run["tools"][0]["outcome"]), (8, &json!("invalid-output")), "{run}");
    asked.sort_by_key(Value::to_string);
    asked.dedup();
    assert_eq!(
        (asked.len(), run["tools"].as_array().map(Vec::len)),
        (8, Some(1)),
        "each has an id of its own"
    );
}

/// The plugin that comes with Holdfast: it asks again where the date does not exist.
#[tokio::test(flavor = "multi_thread")]
async fn a_booking_asks_for_its_delivery_date() {
    let config = format!("{ONE_AGENT}[plugins.booking.grants]\nkv = true\n");
    let model = Script::new([call("booking__book", json!({"item": "3 chairs"})), say("done")]);
    let host = TestHost::start(&["booking"], &config, model).await;
    let paused = host.run("go").await;
    let prompt = action(&paused)["prompt"].as_str().expect("a prompt");
    assert!(prompt.starts_with("When shall this be delivered: 3 chairs?"), "{prompt}");
    let date = |date: &str| json!({"action": "APPROVE", "answer": {"date": date}});
    assert_eq!(invalid(&host.resume(&paused, date("tomorrow")).await).0, "answer");
    let again = host.resume(&paused, date("2026-02-30")).await.body;
    assert!(action(&again)["prompt"].to_string().contains("There is no 2026-02-30."), "{again}");
    assert_ne!(action(&again)["approvalId"], action(&paused)["approvalId"]);
    let done = host.resume(&paused, date("2026-12-24")).await.body;
    assert_eq!(done["tools"][0]["toolOutput"], "Booked 3 chairs for delivery on 2026-12-24.", "{done}");
}
