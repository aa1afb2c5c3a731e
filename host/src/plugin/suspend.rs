//! A tool's question to a human: what comes of `suspend`, and what must hold before `resume`.
//!
//! Everything in a question is guest-controlled: it is checked and made harmless to show, and the state is sealed
//! before anybody else sees it. The answer comes back through a journal, which is not taken at its word.

use std::sync::Arc;
use std::time::Duration;

use super::Loaded;
use super::bindings::holdfast::plugin::types::Suspension as Asked;
use super::bindings::resumable::ResumerPre;
use super::call::CallState;
use super::meter::Meter;
use super::outcome::Ended;
use super::prepared::MAX_PROBLEMS;
use super::seal::{self, Place};
use crate::clock::Timestamp;
use crate::escape::escaped;
use crate::id::{CallId, RunId};
use crate::schema::{PatternBudget, Schema};
use crate::store::Store;
use crate::tool::{Answered, Limit, OutcomeKind, Suspension, ToolName, Usage};

/// Longest question, in bytes.
const MAX_PROMPT: usize = 4 << 10;

/// Most questions of one call. Each takes a human's time, and no budget counts them: a tool that asks again
/// whatever it is told must end somewhere.
const MAX_ROUNDS: u32 = 8;

/// One call, as far as it asks and is answered.
pub(super) struct Asking {
    pub(super) plugin: Arc<Loaded>,
    pub(super) run: RunId,
    pub(super) call: CallId,
    pub(super) tool: ToolName,
    pub(super) store: Arc<dyn Store>,
    /// What it goes on with; none = it runs from its beginning.
    pub(super) answered: Option<Answered>,
    /// How long a human has for the next question.
    pub(super) answer_within: Duration,
}

/// What `resume` is called with.
pub(super) struct Resumption {
    pub(super) plugin: ResumerPre<CallState>,
    pub(super) state: Vec<u8>,
    /// JSON text.
    pub(super) answer: String,
}

/// What a call used, before it asked as well.
pub(super) fn used(meter: &Meter, answered: Option<&Answered>) -> Usage {
    let usage = meter.usage();
    answered.map_or(usage.clone(), |answered| usage.after(&answered.suspension.usage))
}

impl Asking {
    /// What the call goes on with; none = it runs from its beginning. Takes CPU: the answer is checked again.
    pub(super) fn resumption(&self) -> Result<Option<Resumption>, Box<Ended>> {
        let Some(Answered { suspension, answer, at }) = &self.answered else { return Ok(None) };
        let Some(plugin) = self.plugin.resumable.clone() else { return Err(not_resumable()) };
        if *at > suspension.expires_at {
            return Err(not_intact("the answer was recorded after the question had expired"));
        }
        let Suspension { prompt, answer_schema, round, expires_at, .. } = suspension;
        let place = self.place(prompt, answer_schema, *round, *expires_at);
        let state = seal::open(self.store.installation(), &place, &suspension.state)
            .map_err(|broken| not_intact(&broken.to_string()))?;
        let schema = Schema::of_answer(answer_schema)
            .map_err(|error| not_intact(&format!("the answer's schema {error}")))?;
        match schema.problems(answer, MAX_PROBLEMS).first() {
            None => Ok(Some(Resumption { plugin, state, answer: answer.to_string() })),
            Some(problem) => {
                Err(not_intact(&format!("the recorded answer does not fit its schema: {problem}")))
            }
        }
    }

    /// What the host keeps of the call's question, or what is wrong with it. Takes CPU.
    pub(super) fn suspension(&self, asked: &Asked, meter: &Meter) -> Result<Suspension, Box<Ended>> {
        let Asked { prompt, answer_schema, state } = asked;
        meter.output((prompt.len() + answer_schema.len() + state.len()) as u64);
        if self.plugin.resumable.is_none() {
            return Err(not_resumable());
        }
        let round = self.answered.as_ref().map_or(1, |before| before.suspension.round.saturating_add(1));
        if round > MAX_ROUNDS {
            let reason = format!("the call asked {MAX_ROUNDS} times and wants to ask again");
            return Err(Ended::invalid(reason).into());
        }
        if state.len() as u64 > self.plugin.prepared.limits().state_bytes {
            return Err(Ended::limit(meter.reached(Limit::State).0).into());
        }
        if prompt.len() > MAX_PROMPT || prompt.trim().is_empty() {
            let reason = format!(
                "its question has {} bytes; the most is {MAX_PROMPT}, without blanks at least 1",
                prompt.len()
            );
            return Err(Ended::invalid(reason).into());
        }
        let answer_schema = Schema::of_output(answer_schema, &mut PatternBudget::default())
            .map_err(|error| Ended::invalid(format!("its answer schema {error}")))?
            .value;
        let lines: Vec<String> = prompt.trim().lines().map(|line| escaped(line, MAX_PROMPT)).collect();
        let prompt = lines.join("\n");
        let expires_at = self.plugin.prepared.shared().clock.now().plus(self.answer_within);
        let place = self.place(&prompt, &answer_schema, round, expires_at);
        let state = seal::seal(self.store.installation(), &place, state)
            .ok_or_else(|| Ended::host_fault("the machine has no random bytes"))?;
        let digest = self.plugin.prepared.digest().to_owned();
        let usage = used(meter, self.answered.as_ref());
        Ok(Suspension { prompt, answer_schema, digest, round, state, expires_at, worked_ms: 0, usage })
    }

    fn place<'a>(
        &'a self,
        prompt: &'a str,
        answer_schema: &'a serde_json::Value,
        round: u32,
        expires_at: Timestamp,
    ) -> Place<'a> {
        let (run, call, tool) = (&self.run, &self.call, &self.tool);
        Place {
            run,
            call,
            tool,
            digest: self.plugin.prepared.digest(),
            round,
            expires_at,
            prompt,
            answer_schema,
        }
    }
}

fn not_resumable() -> Box<Ended> {
    Box::new(Ended::invalid(
        "it answered `suspend` but does not export `holdfast:plugin/resumable@0.1.0`: build it for the world \
         `resumable-plugin`",
    ))
}

fn not_intact(reason: &str) -> Box<Ended> {
    let kind = OutcomeKind::Denied { capability: "suspended-state".to_owned() };
    let text = "What the host kept for this tool while it waited for an answer is not intact, so the call did not go on.";
    Box::new(Ended::of(kind, text).because(reason))
}
