//! One approval, every door at once, with opposite words: one decision is recorded, its effect happens once or
//! not at all, and each caller is told the same story in its door's words.

use holdfast::key::Role;
use serde_json::{Value, json};

use crate::support::host::ONE_AGENT;
use crate::support::{Answer, Caller, Script, TestHost, call, say};

const CALLERS: usize = 64;

/// The doors to one approval.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Door {
    Bare,
    Named,
    Resolve,
    Bulk,
}

const DOORS: [Door; 4] = [Door::Bare, Door::Named, Door::Resolve, Door::Bulk];

impl Door {
    /// The path and the body with which `word` (`APPROVED` or `REJECTED`) goes in here.
    fn request(self, run: &Value, word: &str) -> (String, Value) {
        let id = &run["metadata"]["requiredAction"]["approvalId"];
        let continues = format!("/api/agents/agent/runs/{}/continue", run["runId"].as_str().expect("an id"));
        match self {
            Self::Bare => (continues, json!({"action": word})),
            Self::Named => (continues, json!({"action": word, "approvalId": id})),
            Self::Resolve => {
                let id = id.as_str().expect("an id");
                (format!("/api/v1/approvals/{id}/resolve"), json!({"decision": word}))
            }
            Self::Bulk => {
                ("/api/v1/approvals/bulk-resolve".to_owned(), json!({"ids": [id], "decision": word}))
            }
        }
    }

    /// Whether the answer is right for a caller whose word `won`, where `word` is what was recorded.
    fn check(self, answer: &Answer, won: bool, word: &str) {
        let conflict = "urn:problem-type:run-not-paused";
        let body = &answer.body;
        match (self, won) {
            (Self::Bulk, _) => {
                let result = &body["results"][0];
                assert_eq!((answer.status, &result["success"]), (200, &json!(won)), "{answer:?}");
                assert_eq!(body["resolved"], json!(u32::from(won)), "{answer:?}");
                if won {
                    assert_eq!(result["status"], word, "{answer:?}");
                } else {
                    assert_eq!(result["error"]["type"], conflict, "{answer:?}");
                }
            }
            // Without a name it means what is pending when it arrives, and may come when nothing is.
            (Self::Bare, true) if answer.status == 409 => assert_eq!(body["type"], conflict, "{answer:?}"),
            (Self::Bare | Self::Named, true) => {
                assert_eq!((answer.status, &body["status"]), (200, &json!("COMPLETED")), "{answer:?}");
            }
            (Self::Resolve, true) => {
                assert_eq!((answer.status, &body["status"]), (200, &json!(word)), "{answer:?}");
            }
            (Self::Bare | Self::Named | Self::Resolve, false) => {
                assert_eq!((answer.status, &body["type"]), (409, &json!(conflict)), "{answer:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn opposite_words_through_every_door() {
    let host =
        TestHost::with_probe(Script::new([call("probe__effect", json!({"key": "k"})), say("done")])).await;
    let mut winners = Vec::new();
    for round in 0..6 {
        let before = host.effects("k").await;
        let paused = host.run("go").await;
        let words = ["APPROVED", "REJECTED"];
        let knock = async |index: usize| {
            // Each word first in every other round.
            let (door, word) = (DOORS[index % 4], words[(index / 4 + round) % 2]);
            let (path, body) = door.request(&paused, word);
            (door, word, host.post(&path, &body).await)
        };
        let answers = futures_util::future::join_all((0..CALLERS).map(knock)).await;

        let run = host.settled(&paused).await;
        let happened = host.effects("k").await - before;
        assert!(happened <= 1, "round {round}");
        let winner = words[usize::from(happened == 0)];
        let outcome = if happened == 1 { "ok" } else { "rejected" };
        assert_eq!(run["tools"][0]["outcome"], outcome, "round {round}: {run}");
        for (door, word, answer) in &answers {
            door.check(answer, *word == winner, winner);
        }
        let id = paused["metadata"]["requiredAction"]["approvalId"].as_str().expect("an id");
        let row = host.get(&format!("/api/v1/approvals/{id}")).await.body;
        assert_eq!(row["status"], winner, "round {round}: {row}");
        winners.push(winner);
    }
    let decided = "select cast(count(*) as text) from run_events where kind = 'decided' group by run_id";
    assert_eq!(host.texts(decided).await, ["1"; 6], "one decision each");
    eprintln!("all doors, opposite words: {winners:?}");
}

/// Two people, each through every door at once: two votes, one effect.
#[tokio::test(flavor = "multi_thread")]
async fn two_people_vote_through_every_door() {
    let rule = r#"approval = { "probe.effect" = { policy = "ask", approvers = 2 } }"#;
    let config = ONE_AGENT.replace("tools = [\"*\"]", &format!("tools = [\"*\"]\n{rule}"));
    let script = Script::new([call("probe__effect", json!({"key": "k"})), say("done")]);
    let host = TestHost::start(&["probe"], &config, script).await;
    let ann = Caller::new(&host, Role::Approver, "default", "ann").await;
    let bob = Caller::new(&host, Role::Approver, "default", "bob").await;
    for round in 1..=4 {
        let paused = host.run("go").await;
        let vote = async |index: usize| {
            let voter = if index.is_multiple_of(2) { &ann } else { &bob };
            let door = DOORS[index / 2 % 4];
            let (path, body) = door.request(&paused, "APPROVED");
            (door, voter.post(&path, &body).await)
        };
        let answers = futures_util::future::join_all((0..32).map(vote)).await;
        for (door, answer) in answers {
            let late = door == Door::Bare && answer.status == 409;
            assert!(answer.status == 200 || late, "round {round}: {door:?} {answer:?}");
        }
        assert_eq!(host.settled(&paused).await["status"], "COMPLETED");
        assert_eq!(host.effects("k").await, round);
    }
    let voters = "select group_concat(by, ' and ') from (select run_id, json_extract(body, '$.by') as by
        from run_events where kind = 'decided' order by run_id, by) group by run_id";
    assert_eq!(host.texts(voters).await, ["ann and bob"; 4], "one vote each");
}
