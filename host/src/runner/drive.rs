//! The one loop that moves a run forward, whoever waits for it.
//!
//! After every transition the run is saved: before a side effect starts and after it ends. A lost
//! compare-and-set means that somebody else (a cancel, another process) owns the run now, and the loop
//! ends without a word.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use tracing::Instrument as _;

use super::Runner;
use super::answer;
use super::presence::Present;
use crate::event::{Failure, FailureKind};
use crate::id::CallId;
use crate::model::{Deltas, ModelError, Request};
use crate::run::{InvalidTransition, Run, Step};
use crate::session::{Message, PastTurn, Reply};
use crate::store::{HistoryWindow, StoreError};

/// Most earlier turns that a model is sent, however short they are.
const HISTORY_TURNS: u32 = 50;

/// Bytes per token of history. Tokenizers differ by model, and by language from about 2 to 5: an estimate
/// is enough to keep a conversation within a model's context, and costs nothing.
const BYTES_PER_TOKEN: u64 = 4;

/// Most follow-up questions that are passed on.
const FOLLOWUPS: usize = 3;

const FOLLOWUP_INSTRUCTIONS: &str = "Suggest follow-up questions the user may want to ask next. Answer with a JSON \
                                     array of up to 3 short strings and nothing else.";

/// Why a loop ended before its run was at rest.
#[derive(Debug, thiserror::Error)]
pub(super) enum DriveError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the run engine took a step that its state does not allow")]
    Transition(#[from] InvalidTransition),
}

impl Runner {
    /// Drives the run until it waits for humans, has ended, was cancelled, or the server stops.
    pub(super) async fn drive(self, mut run: Run, present: Present) {
        let id = run.spec().id.clone();
        let span = tracing::info_span!("run", run.id = %id, agent.id = %run.spec().agent.id);
        async {
            let remaining = run.spec().agent.options.timeout_ms.saturating_sub(run.times().active_ms);
            let work =
                tokio::time::timeout(Duration::from_millis(remaining), self.advance(&mut run, &present));
            let result = tokio::select! {
                biased;
                () = present.cancelled().cancelled() => return,
                () = self.stop.cancelled() => return,
                result = AssertUnwindSafe(work).catch_unwind() => result,
            };
            let failure = match result {
                Ok(Ok(Ok(()) | Err(DriveError::Store(StoreError::Conflict)))) => return,
                Ok(Err(_elapsed)) => timed_out(run.spec().agent.options.timeout_ms),
                Ok(Ok(Err(error))) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::error!(error, "the run could not be driven");
                    internal()
                }
                Err(_panic) => {
                    // The panic hook has logged what and where.
                    tracing::error!("the run's task panicked");
                    internal()
                }
            };
            let ended = self.change(&id, |run| self.fail(run, failure.clone())).await;
            if let Err(error) = ended {
                let error: &dyn std::error::Error = &error;
                tracing::error!(error, "the run's failure could not be stored; the next start takes it up");
            }
        }
        .instrument(span)
        .await;
        drop(present);
        self.queue.rested(&run);
    }

    async fn advance(&self, run: &mut Run, present: &Present) -> Result<(), DriveError> {
        let tokens = run.spec().agent.options.history_tokens;
        let window =
            HistoryWindow { turns: HISTORY_TURNS, bytes: u64::from(tokens).saturating_mul(BYTES_PER_TOKEN) };
        let history = self.store.history(&run.spec().id, window).await?;
        loop {
            match run.step() {
                Step::CallModel => self.call_model(run, &history).await?,
                Step::CallTools(due) => self.call_tools(run, due, present).await?,
                Step::CheckAnswer => self.check_answer(run).await?,
                Step::SuggestFollowups => self.suggest_followups(run, &history).await?,
                Step::Wait | Step::Done => return Ok(()),
            }
            self.store.save(run).await?;
            self.live.saved(&run.spec().id, run.version());
        }
    }

    async fn call_model(&self, run: &mut Run, history: &[PastTurn]) -> Result<(), DriveError> {
        if let Some(failure) = self.model_forbidden(run).await? {
            run.failed(failure, self.clock.now())?;
            return Ok(());
        }
        let registry = self.registry.load_full();
        let tools = registry.specs_for(&run.spec().agent).into_iter().cloned().collect();
        let mut request = Request { tools, ..request(run, history) };
        answer::ask(&mut request, run.spec().agent.options.response_schema.as_ref());
        match self.ask(run, &request).await {
            Ok(mut reply) => {
                self.make_call_ids_unique(run, &mut reply);
                run.replied(self.priced(run, reply), self.clock.now())?;
            }
            Err(error) => {
                // What the provider said is in the error; the caller gets its safe form.
                tracing::warn!(error = &error as &dyn std::error::Error, model = %request.model, "no reply");
                self.fail(run, error.into())?;
            }
        }
        Ok(())
    }

    /// Asks the model to stream only where somebody watches: not every provider can.
    async fn ask(&self, run: &Run, request: &Request) -> Result<Reply, ModelError> {
        let id = &run.spec().id;
        if !self.live.is_streamed(id) {
            return self.models.reply(request).await;
        }
        self.live.begin(id, run.version() + 1);
        let (live, shown) = (self.live.clone(), id.clone());
        let mut deltas = Deltas::new(self.clock.clone(), move |piece| live.show(&shown, piece));
        self.models.stream(request, &mut deltas).await
    }

    /// What was shown of a reply under way stays.
    fn fail(&self, run: &mut Run, failure: Failure) -> Result<(), InvalidTransition> {
        let now = self.clock.now();
        match self.live.close(&run.spec().id, run.version() + 1) {
            Some(partial) => run.reply_broken(partial, failure, now),
            None => run.failed(failure, now),
        }
    }

    /// Asks for next questions. A failure is not the run's: it has its answer already.
    async fn suggest_followups(&self, run: &mut Run, history: &[PastTurn]) -> Result<(), DriveError> {
        if let Some(failure) = self.spending_forbidden(run).await? {
            tracing::warn!(reason = failure.message, "no follow-up questions");
            run.complete(self.clock.now())?;
            return Ok(());
        }
        let mut request = request(run, history);
        FOLLOWUP_INSTRUCTIONS.clone_into(&mut request.system);
        let text = "Which follow-up questions could I ask next? Answer with a JSON array of strings only.";
        request.messages.push(Message::User { text: text.to_owned(), media: Vec::new() });
        let (questions, reply) = match self.models.reply(&request).await {
            Ok(reply) => (questions(&reply.content), self.priced(run, reply)),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "no follow-up questions");
                (Vec::new(), Reply::default())
            }
        };
        run.suggested(questions, reply.tokens, reply.cost_micros, self.clock.now())?;
        Ok(())
    }

    /// Providers leave ids out, repeat them across turns, or make them too long to be sent back.
    fn make_call_ids_unique(&self, run: &Run, reply: &mut Reply) {
        let mut seen: Vec<CallId> = run.calls().map(|record| record.call.id.clone()).collect();
        for call in &mut reply.tool_calls {
            let id = call.id.as_str();
            if id.is_empty() || id.len() > 128 || seen.contains(&call.id) {
                call.id = self.ids.next();
            }
            seen.push(call.id.clone());
        }
    }
}

/// The conversation so far, without tools.
fn request(run: &Run, history: &[PastTurn]) -> Request {
    let agent = &run.spec().agent;
    Request {
        model: agent.model.clone(),
        system: agent.instructions.clone(),
        messages: run.messages(history),
        tools: Vec::new(),
        temperature: agent.options.temperature,
        top_p: agent.options.top_p,
        max_tokens: agent.options.max_tokens,
        response_schema: None,
    }
}

/// Models wrap the array in prose or a code fence.
fn questions(text: &str) -> Vec<String> {
    let array =
        text.find('[').zip(text.rfind(']')).and_then(|(from, to)| text.get(from..=to)).unwrap_or_default();
    let strings: Vec<String> = serde_json::from_str(array).unwrap_or_default();
    strings.into_iter().map(|s| s.trim().to_owned()).filter(|s| !s.is_empty()).take(FOLLOWUPS).collect()
}

fn timed_out(timeout_ms: u64) -> Failure {
    let message = format!("The run was at work for longer than its limit timeoutMs = {timeout_ms}.");
    Failure { kind: FailureKind::Timeout, message }
}

pub(super) fn internal() -> Failure {
    let message = "The server could not go on with this run. Its log has the reason.".to_owned();
    Failure { kind: FailureKind::Internal, message }
}

#[cfg(test)]
mod tests {
    use super::questions;

    #[test]
    fn follow_up_questions_are_found_in_what_models_write_around_them() {
        let two = vec!["A?".to_owned(), "B?".to_owned()];
        assert_eq!(questions(r#"["A?", " B? ", ""]"#), two);
        assert_eq!(questions("Sure!\n```json\n[\"A?\",\n \"B?\"]\n```"), two);
        assert_eq!(questions("1. A?\n2. B?"), Vec::<String>::new());
        assert_eq!(questions("] ["), Vec::<String>::new());
    }
}
