//! The state machine's promises, one table or story each.

use expect_test::{Expect, expect};
use serde_json::json;

use super::*;
use crate::agent::{Agent, ModelName, Options};
use crate::budget::Budget;
use crate::session::{Message, Owner, PastTurn, Reply};
use crate::tool::{
    EditedArguments, Fingerprint, OutcomeKind, Question, SealedState, Suspension, ToolCall, ToolName,
    ToolOutcome, Usage,
};

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn new_run() -> Run {
    let agent = Agent {
        id: "a".into(),
        name: "A".to_owned(),
        description: String::new(),
        model: ModelName { provider: "demo".to_owned(), model: String::new() },
        instructions: String::new(),
        tools: Vec::new(),
        approval: Vec::new(),
        self_approval: true,
        vision: None,
        options: Options::default(),
        budget: Budget::default(),
        version: 0,
    };
    let owner = Owner { org: "o".into(), user: "u".into() };
    let new = NewRun {
        id: "r".into(),
        session: "s".into(),
        owner,
        agent,
        input: "hello".to_owned(),
        media: Vec::new(),
        generate_followups: false,
        queued: false,
    };
    Run::new(new, at(0))
}

fn reply(calls: &[&str]) -> Reply {
    let call =
        |id: &&str| ToolCall { id: (**id).into(), name: "p__t".to_owned(), arguments: "{}".to_owned() };
    let content = if calls.is_empty() { "done" } else { "" };
    Reply { content: content.to_owned(), tool_calls: calls.iter().map(call).collect(), ..Reply::default() }
}

fn ask(run: &Run, call: &str) -> PendingApproval {
    let tool: ToolName = "p__t".parse().unwrap();
    let call = run.calls().find(|record| record.call.id.as_str() == call).unwrap().call.clone();
    PendingApproval {
        id: format!("ask-{}", call.id).into(),
        question: Question::Approval,
        approvers: 1,
        self_approval: true,
        fingerprint: Fingerprint::of("digest", &tool, &json!({})),
        digest: Some("digest".to_owned()),
        call,
        tool,
        message: String::new(),
        expires_at: at(1000),
        inquiry: None,
    }
}

fn decided(approval: &str, decision: Decision) -> Decided {
    Decided { approval_id: approval.into(), decision, by: "human".into(), key: None }
}

fn approve() -> Decision {
    Decision::Approve { comment: None, edited: None }
}

fn ok() -> ToolOutcome {
    ToolOutcome::of(OutcomeKind::Ok, "fine")
}

/// A run that waits for decisions on `calls`.
fn paused(calls: &[&str]) -> Run {
    let mut run = new_run();
    run.replied(reply(calls), at(1)).unwrap();
    let asks = calls.iter().map(|call| ask(&run, call)).collect();
    run.paused(asks, at(2)).unwrap();
    run
}

fn show(run: &Run) -> String {
    let step = match run.step() {
        Step::CallModel => "call the model".to_owned(),
        Step::CallTools(due) => {
            let due: Vec<String> =
                due.iter().map(|d| format!("{} {:?}", d.call.id, kind(&d.standing))).collect();
            format!("call {}", due.join(", "))
        }
        Step::CheckAnswer => "check the answer".to_owned(),
        Step::SuggestFollowups => "suggest follow-ups".to_owned(),
        Step::Wait => "wait".to_owned(),
        Step::Done => "done".to_owned(),
    };
    format!("{} v{}: {step}", run.status().word(), run.version())
}

fn kind(standing: &Standing) -> &'static str {
    match standing {
        Standing::Requested => "requested",
        Standing::Approved(_) => "approved",
        Standing::Suspended(_) => "suspended",
        Standing::Answered(_) => "answered",
        Standing::InDoubt(_) => "in doubt",
        Standing::Again(_) => "again",
    }
}

/// Holds a run's standing, and that of the run which its events make, against the expected one.
fn check(run: &Run, expected: &Expect) {
    expected.assert_eq(&show(run));
    let again = Run::replay(run.unsaved().to_vec()).unwrap();
    expected.assert_eq(&show(&again));
    assert_eq!(again.times().active_ms, run.times().active_ms);
}

#[test]
fn an_answer_without_calls_completes_the_run() {
    let mut run = new_run();
    check(&run, &expect!["RUNNING v1: call the model"]);
    run.replied(reply(&[]), at(5)).unwrap();
    check(&run, &expect!["COMPLETED v3: done"]);
    assert_eq!(run.status(), &RunStatus::Completed { output: "done".to_owned() });
}

#[test]
fn follow_ups_come_between_the_answer_and_the_end() {
    let mut run = new_run();
    run.new.generate_followups = true;
    run.unsaved[0].event = RunEvent::Created(Box::new(run.new.clone()));
    run.replied(reply(&[]), at(1)).unwrap();
    check(&run, &expect!["RUNNING v2: suggest follow-ups"]);
    run.suggested(vec!["and?".to_owned()], Tokens::default(), None, at(2)).unwrap();
    check(&run, &expect!["COMPLETED v4: done"]);
}

/// A run whose answer must be JSON.
fn structured() -> Run {
    let mut run = new_run();
    run.new.agent.options.response_schema = Some(json!({"type": "object"}));
    run.unsaved[0].event = RunEvent::Created(Box::new(run.new.clone()));
    run
}

#[test]
fn an_answer_with_a_schema_is_checked_before_anything_follows() {
    let mut run = structured();
    run.new.generate_followups = true;
    run.unsaved[0].event = RunEvent::Created(Box::new(run.new.clone()));
    run.replied(reply(&["a"]), at(1)).unwrap();
    assert_eq!(run.answer_accepted("{}".to_owned(), at(1)), Err(InvalidTransition::NoAnswer));
    run.started(&"a".into(), at(2)).unwrap();
    run.finished(&"a".into(), ok(), 1, at(3)).unwrap();
    run.replied(reply(&[]), at(4)).unwrap();
    check(&run, &expect!["RUNNING v5: check the answer"]);
    run.answer_accepted("{\"x\":1}".to_owned(), at(5)).unwrap();
    check(&run, &expect!["RUNNING v6: suggest follow-ups"]);
    run.suggested(Vec::new(), Tokens::default(), None, at(6)).unwrap();
    check(&run, &expect!["COMPLETED v8: done"]);
    assert_eq!(run.status(), &RunStatus::Completed { output: "{\"x\":1}".to_owned() });
    assert_eq!(run.structured(), Some(json!({"x": 1})));
}

#[test]
fn an_answer_may_be_repaired_twice() {
    let mut run = structured();
    for repair in 1..=3 {
        run.replied(reply(&[]), at(repair)).unwrap();
        let refusal = Refusal { told: "7 is no city".to_owned(), shown: "/city breaks /type".to_owned() };
        assert_eq!(run.answer_refused(&refusal, at(repair)), Ok(()));
        if repair < 3 {
            assert_eq!(show(&run).split(": ").last(), Some("call the model"));
            let last = run.messages(&[]).pop();
            let Some(Message::User { text, .. }) = last else { panic!("{last:?}") };
            assert!(text.starts_with("Your answer was not accepted: 7 is no city. Answer again"));
        }
    }
    check(&run, &expect!["FAILED v8: done"]);
    let RunStatus::Failed { failure } = run.status() else { panic!("{:?}", run.status()) };
    assert_eq!(failure.kind, FailureKind::ModelError);
    assert!(failure.message.ends_with("after 2 repairs: /city breaks /type."), "{}", failure.message);
    assert_eq!(run.structured(), None);
}

#[test]
fn ungated_calls_run_before_the_gated_ones_pause() {
    let mut run = new_run();
    run.replied(reply(&["gated", "free"]), at(1)).unwrap();
    check(&run, &expect![[r#"RUNNING v2: call gated "requested", free "requested""#]]);
    assert_eq!(run.started(&"free".into(), at(2)), Ok(1));
    check(&run, &expect!["RUNNING v3: wait"]);
    run.finished(&"free".into(), ok(), 1, at(3)).unwrap();
    check(&run, &expect![[r#"RUNNING v4: call gated "requested""#]]);
    run.paused(vec![ask(&run, "gated")], at(4)).unwrap();
    check(&run, &expect!["PAUSED v5: wait"]);
}

#[test]
fn a_run_stays_paused_until_every_call_is_decided() {
    let mut run = paused(&["a", "b"]);
    run.decide(vec![decided("ask-a", approve())], at(3)).unwrap();
    check(&run, &expect!["PAUSED v4: wait"]);
    run.decide(vec![decided("ask-b", Decision::Reject { comment: Some("no".to_owned()) })], at(4)).unwrap();
    check(&run, &expect![[r#"RUNNING v5: call a "approved""#]]);
    run.started(&"a".into(), at(5)).unwrap();
    run.finished(&"a".into(), ok(), 1, at(6)).unwrap();
    check(&run, &expect!["RUNNING v7: call the model"]);
    let told: Vec<String> = run
        .messages(&[])
        .into_iter()
        .filter_map(|message| match message {
            Message::Tool { call, text, .. } => Some(format!("{call}: {text}")),
            Message::User { .. } | Message::Assistant(_) => None,
        })
        .collect();
    assert_eq!(told, ["a: fine", "b: A human rejected this call. It did not run. Their comment: no"]);
}

#[test]
fn one_bad_decision_in_a_request_leaves_all_of_them_undone() {
    let mut run = paused(&["a"]);
    let both = vec![decided("ask-a", approve()), decided("ask-x", approve())];
    assert_eq!(run.decide(both, at(3)), Err(InvalidTransition::NotPending("ask-x".into())));
    check(&run, &expect!["PAUSED v3: wait"]);
}

#[test]
fn a_decision_is_taken_once() {
    let mut run = paused(&["a", "b"]);
    run.decide(vec![decided("ask-a", approve())], at(3)).unwrap();
    assert!(run.decide(vec![decided("ask-a", Decision::Expire)], at(4)).is_err());
    assert_eq!(run.decision_on(&"ask-a".into()), Some(&approve()));
}

#[test]
fn edited_arguments_replace_the_models_in_the_call_and_in_what_the_model_sees() {
    let mut run = paused(&["a"]);
    let arguments = json!({"id": 2});
    let fingerprint = Fingerprint::of("digest", &"p__t".parse().unwrap(), &arguments);
    let edited = Some(EditedArguments { arguments, fingerprint: fingerprint.clone() });
    run.decide(vec![decided("ask-a", Decision::Approve { comment: None, edited })], at(3)).unwrap();
    let Step::CallTools(due) = run.step() else { panic!("{}", show(&run)) };
    assert_eq!(due[0].call.arguments, r#"{"id":2}"#);
    assert!(matches!(&due[0].standing, Standing::Approved(bound) if *bound == fingerprint));
    let Message::Assistant(reply) = &run.messages(&[])[1] else { panic!() };
    assert_eq!(reply.tool_calls[0].arguments, r#"{"id":2}"#);
}

#[test]
fn a_new_process_finds_calls_in_doubt_and_counts_attempts() {
    let mut run = new_run();
    run.replied(reply(&["a", "b"]), at(1)).unwrap();
    run.started(&"a".into(), at(2)).unwrap();
    run.claim(at(1_000_000)).unwrap();
    check(&run, &expect![[r#"RUNNING v4: call a "in doubt", b "requested""#]]);
    assert_eq!((run.attempt(), run.started(&"a".into(), at(1_000_001))), (2, Ok(2)));
}

#[test]
fn waiting_and_being_down_do_not_count_as_work() {
    let mut run = paused(&["a"]);
    run.decide(vec![decided("ask-a", approve())], at(50_000)).unwrap();
    run.started(&"a".into(), at(50_003)).unwrap();
    run.claim(at(90_000)).unwrap();
    run.finished(&"a".into(), ok(), 1, at(90_005)).unwrap();
    assert_eq!(run.times().active_ms, 2 + 3 + 5);
}

#[test]
fn nothing_is_legal_after_the_end() {
    let mut ends: Vec<Run> = Vec::new();
    let mut completed = new_run();
    completed.replied(reply(&[]), at(1)).unwrap();
    ends.push(completed);
    let mut cancelled = paused(&["a"]);
    cancelled.cancel(UserId::from("u"), at(3)).unwrap();
    ends.push(cancelled);
    let mut failed = new_run();
    failed.failed(budget_exceeded("maxSteps", 1), at(1)).unwrap();
    ends.push(failed);
    for mut run in ends {
        let before = show(&run);
        let failure = budget_exceeded("maxSteps", 1);
        assert!(run.replied(reply(&[]), at(9)).is_err());
        assert!(run.started(&"a".into(), at(9)).is_err());
        assert!(run.finished(&"a".into(), ok(), 1, at(9)).is_err());
        assert!(run.paused(Vec::new(), at(9)).is_err());
        assert!(run.decide(vec![decided("ask-a", approve())], at(9)).is_err());
        assert!(run.failed(failure, at(9)).is_err());
        assert!(run.cancel(UserId::from("x"), at(9)).is_err());
        assert!(run.claim(at(9)).is_err());
        assert_eq!(show(&run), before);
    }
}

#[test]
fn a_call_runs_once_per_process() {
    let mut run = new_run();
    run.replied(reply(&["a"]), at(1)).unwrap();
    run.started(&"a".into(), at(2)).unwrap();
    assert_eq!(run.started(&"a".into(), at(3)), Err(InvalidTransition::WrongCall("a".into())));
    run.finished(&"a".into(), ok(), 1, at(4)).unwrap();
    assert!(run.started(&"a".into(), at(5)).is_err());
    assert!(run.finished(&"a".into(), ok(), 1, at(5)).is_err());
}

#[test]
fn a_pending_call_cannot_run() {
    let mut run = paused(&["a", "b"]);
    assert!(run.started(&"a".into(), at(3)).is_err());
    run.decide(vec![decided("ask-a", approve())], at(3)).unwrap();
    assert!(run.started(&"a".into(), at(4)).is_err(), "approved, but the run still waits for b");
}

#[test]
fn a_journal_with_a_gap_or_without_a_beginning_is_damaged() {
    let run = paused(&["a"]);
    let events = run.unsaved().to_vec();
    assert!(Run::replay(events[1..].to_vec()).is_err());
    assert!(Run::replay(vec![events[0].clone(), events[2].clone()]).is_err());
    assert!(Run::replay(Vec::new()).is_err());
}

#[test]
fn history_comes_before_this_run() {
    let past = [PastTurn { input: "one".to_owned(), output: "two".to_owned() }];
    let texts: Vec<String> = new_run()
        .messages(&past)
        .into_iter()
        .map(|message| match message {
            Message::User { text, .. } | Message::Tool { text, .. } => text,
            Message::Assistant(reply) => reply.content,
        })
        .collect();
    assert_eq!(texts, ["one", "two", "hello"]);
}

#[test]
fn a_queued_run_waits_for_a_worker() {
    let mut queued = new_run().new;
    queued.queued = true;
    let mut run = Run::new(queued, at(0));
    check(&run, &expect!["QUEUED v1: wait"]);
    assert!(run.replied(reply(&[]), at(1)).is_err());
    run.start(at(500)).unwrap();
    check(&run, &expect!["RUNNING v2: call the model"]);
    run.replied(reply(&[]), at(507)).unwrap();
    assert_eq!((run.times().started, run.times().active_ms), (Some(at(500)), 7));
    let mut cancelled = Run::new(run.new.clone(), at(0));
    cancelled.cancel(UserId::from("u"), at(1)).unwrap();
    check(&cancelled, &expect!["CANCELLED v2: done"]);
}

#[test]
fn several_people_must_approve_and_one_can_reject() {
    let vote =
        |by: &str, decision| Decided { approval_id: "ask-a".into(), decision, by: by.into(), key: None };
    let pause = || {
        let mut run = new_run();
        run.replied(reply(&["a"]), at(1)).unwrap();
        let quorum = PendingApproval { approvers: 2, ..ask(&run, "a") };
        run.paused(vec![quorum], at(2)).unwrap();
        run
    };
    let mut run = pause();
    run.decide(vec![vote("ann", approve())], at(3)).unwrap();
    check(&run, &expect!["PAUSED v4: wait"]);
    assert_eq!(run.decision_on(&"ask-a".into()), None);
    run.decide(vec![vote("bob", approve())], at(4)).unwrap();
    check(&run, &expect![[r#"RUNNING v5: call a "approved""#]]);

    let mut run = pause();
    run.decide(vec![vote("ann", approve())], at(3)).unwrap();
    run.decide(vec![vote("bob", Decision::Reject { comment: None })], at(4)).unwrap();
    check(&run, &expect!["RUNNING v5: call the model"]);
}

/// A run whose call `a` was under way at a crash, and that asks what became of it.
fn in_doubt() -> Run {
    let mut run = new_run();
    run.replied(reply(&["a"]), at(1)).unwrap();
    run.started(&"a".into(), at(2)).unwrap();
    run.claim(at(3)).unwrap();
    let asked = PendingApproval { question: Question::OutcomeUnknown, ..ask(&run, "a") };
    run.paused(vec![asked], at(4)).unwrap();
    run
}

#[test]
fn a_human_says_what_became_of_a_call_in_doubt() {
    let answer = |decision| {
        let mut run = in_doubt();
        run.decide(vec![decided("ask-a", decision)], at(5)).unwrap();
        run
    };
    let mut again = answer(Decision::Retry);
    check(&again, &expect![[r#"RUNNING v6: call a "again""#]]);
    assert_eq!(again.started(&"a".into(), at(6)), Ok(2));

    let result = answer(Decision::Result { output: "it did".to_owned() });
    check(&result, &expect!["RUNNING v6: call the model"]);
    let fail = answer(Decision::Fail { comment: None });
    check(&fail, &expect!["RUNNING v6: call the model"]);
    let outcome = |run: &Run| match &run.turns()[0].calls[0].state {
        CallState::Finished { outcome, .. } => (outcome.kind.clone(), outcome.text.clone()),
        other => panic!("{other:?}"),
    };
    assert_eq!(outcome(&result), (OutcomeKind::Ok, "it did".to_owned()));
    assert_eq!(outcome(&fail).0, OutcomeKind::Interrupted);
    assert_eq!(outcome(&answer(Decision::Expire)).0, OutcomeKind::Interrupted);
}

#[test]
fn each_question_takes_its_own_answers() {
    let answer = || Decision::Answer { answer: json!(1), comment: None };
    let wrong = |mut run: Run, decision| run.decide(vec![decided("ask-a", decision)], at(9)).is_err();
    assert!(wrong(in_doubt(), approve()));
    assert!(wrong(in_doubt(), Decision::Reject { comment: None }));
    assert!(wrong(in_doubt(), answer()));
    assert!(wrong(paused(&["a"]), answer()));
    assert!(wrong(asking(), approve()));
    assert!(wrong(asking(), Decision::Retry));
    assert!(wrong(asking(), Decision::Fail { comment: None }));
    assert!(wrong(paused(&["a"]), Decision::Retry));
    assert!(wrong(paused(&["a"]), Decision::Result { output: String::new() }));
}

fn suspension(round: u32) -> Box<Suspension> {
    Box::new(Suspension {
        prompt: "How many?".to_owned(),
        answer_schema: json!({"type": "integer"}),
        digest: "digest".to_owned(),
        round,
        state: SealedState("sealed".to_owned()),
        expires_at: at(1000),
        worked_ms: 7,
        usage: Usage::default(),
    })
}

/// A run whose call `a` asks for an answer, and that waits for it.
fn asking() -> Run {
    let mut run = new_run();
    run.replied(reply(&["a"]), at(1)).unwrap();
    run.started(&"a".into(), at(2)).unwrap();
    ask_again(&mut run, 1);
    run
}

fn ask_again(run: &mut Run, round: u32) {
    run.suspended(&"a".into(), suspension(round), at(3)).unwrap();
    let asked = PendingApproval { question: Question::Input, ..ask(run, "a") };
    run.paused(vec![asked], at(4)).unwrap();
}

fn answered(run: &mut Run) {
    let decision = Decision::Answer { answer: json!(5), comment: None };
    run.decide(vec![decided("ask-a", decision)], at(5)).unwrap();
}

#[test]
fn a_call_that_asks_is_one_call_whatever_it_asks() {
    let mut run = new_run();
    run.replied(reply(&["a"]), at(1)).unwrap();
    run.started(&"a".into(), at(2)).unwrap();
    run.suspended(&"a".into(), suspension(1), at(3)).unwrap();
    check(&run, &expect![[r#"RUNNING v4: call a "suspended""#]]);
    let mut run = asking();
    check(&run, &expect!["PAUSED v5: wait"]);
    answered(&mut run);
    check(&run, &expect![[r#"RUNNING v6: call a "answered""#]]);
    assert_eq!(run.started(&"a".into(), at(6)), Ok(1), "it goes on with the attempt it began");
    check(&run, &expect!["RUNNING v7: wait"]);
    ask_again(&mut run, 2);
    answered(&mut run);
    assert_eq!(run.started(&"a".into(), at(6)), Ok(1));
    run.finished(&"a".into(), ok(), 9, at(7)).unwrap();
    check(&run, &expect!["RUNNING v12: call the model"]);
    assert_eq!((run.spent().tool_calls, run.calls().count()), (1, 1));
}

#[test]
fn a_call_in_doubt_goes_on_with_its_answer_again() {
    let mut run = asking();
    run.claim(at(5)).unwrap_err();
    answered(&mut run);
    run.claim(at(6)).unwrap();
    check(&run, &expect![[r#"RUNNING v7: call a "answered""#]]);
    run.started(&"a".into(), at(7)).unwrap();
    run.claim(at(8)).unwrap();
    check(&run, &expect![[r#"RUNNING v9: call a "in doubt""#]]);
    let due = match run.step() {
        Step::CallTools(due) => due,
        other => panic!("{other:?}"),
    };
    let Standing::InDoubt(start) = &due[0].standing else { panic!("{due:?}") };
    let resumed = start.resumed.as_ref().unwrap();
    assert_eq!((&resumed.answer, resumed.at, resumed.suspension.round), (&json!(5), at(5), 1));
    assert_eq!(run.started(&"a".into(), at(9)), Ok(2), "this is another attempt");
    assert_eq!(run.spent().tool_calls, 1, "and no further call");
}

#[test]
fn what_is_not_answered_ends_with_what_it_has_done() {
    for (decision, part) in [
        (Decision::Reject { comment: Some("no".to_owned()) }, "Their comment: no"),
        (Decision::Expire, "Nobody answered in time"),
    ] {
        let mut run = asking();
        run.decide(vec![decided("ask-a", decision)], at(5)).unwrap();
        check(&run, &expect!["RUNNING v6: call the model"]);
        let CallState::Finished { outcome, duration_ms } = &run.turns()[0].calls[0].state else { panic!() };
        assert_eq!((&outcome.kind, *duration_ms), (&OutcomeKind::Rejected, 7));
        assert!(outcome.text.contains(part) && !outcome.text.contains("did not run"), "{}", outcome.text);
    }
}

#[test]
fn only_a_call_under_way_asks() {
    let mut run = new_run();
    run.replied(reply(&["a"]), at(1)).unwrap();
    assert!(run.suspended(&"a".into(), suspension(1), at(2)).is_err());
    run.started(&"a".into(), at(2)).unwrap();
    run.finished(&"a".into(), ok(), 1, at(3)).unwrap();
    assert!(run.suspended(&"a".into(), suspension(1), at(4)).is_err());
    assert!(asking().suspended(&"a".into(), suspension(2), at(5)).is_err());
    assert!(asking().started(&"a".into(), at(5)).is_err());
}
