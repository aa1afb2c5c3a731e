//! What callers see of an event: a pure function of the journal, so that the same journal gives the same
//! bytes, live, replayed, and after a restart.

use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::cursor::Cursor;
use crate::clock::Timestamp;
use crate::event::{Recorded, RunEvent};
use crate::http::run_response::{RunResponse, model};
use crate::id::CallId;
use crate::model::Piece;
use crate::run::{CallRecord, CallState, DamagedJournal, Run};
use crate::session::{ChunkOf, Reply, Tokens};
use crate::tool::ToolOutcome;

/// One frame of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) id: Cursor,
    pub(super) event: Word,
    pub(super) data: String,
    pub(super) at: Timestamp,
}

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Word {
    Start,
    ReasoningDelta,
    ContentDelta,
    /// The reply that was streamed so far does not count: drop its text. Another follows.
    ContentDiscarded,
    ToolStart,
    ToolEnd,
    ToolError,
    ContentDone,
    FollowupSuggestion,
    Metrics,
    Paused,
    Error,
    Cancelled,
    Stop,
}

/// The `data` line of a frame.
#[derive(Serialize, ToSchema)]
#[schema(as = StreamFrame)]
pub(super) struct Line<'a> {
    event: Word,
    /// Plain text of `REASONING_DELTA`, `CONTENT_DELTA` and `ERROR`; empty of `CONTENT_DONE`; JSON text of all
    /// others: the whole `RunResponse` of `STOP` and `CANCELLED`, the required action of `PAUSED`,
    /// `{"reason"}` of `CONTENT_DISCARDED`.
    data: &'a str,
    /// Epoch milliseconds: when it happened, not when it was sent.
    timestamp: i64,
}

impl Frame {
    pub(super) fn line(&self) -> Line<'_> {
        Line { event: self.event, data: &self.data, timestamp: self.at.as_millis() }
    }

    /// The n-th piece, from 1, of the reply that is or will be event `seq`.
    pub(super) fn delta(seq: u64, n: usize, of: ChunkOf, text: &str, at: Timestamp) -> Self {
        let event = match of {
            ChunkOf::Content => Word::ContentDelta,
            ChunkOf::Reasoning => Word::ReasoningDelta,
        };
        Self { id: Cursor::within(seq, n), event, data: text.to_owned(), at }
    }

    /// What was shown of event `seq` is not what it became.
    pub(super) fn discarded(seq: u64, at: Timestamp) -> Self {
        let data = json!({"reason": "interrupted"}).to_string();
        Self { id: Cursor::after(seq.saturating_sub(1)), event: Word::ContentDiscarded, data, at }
    }

    pub(super) fn paused(run: &Run, at: Timestamp) -> Self {
        let data = RunResponse::from(run).required_action().unwrap_or_default();
        Self { id: Cursor::after(run.version()), event: Word::Paused, data, at }
    }
}

/// A run as far as its journal was read.
#[derive(Default)]
pub(super) struct Told {
    run: Option<Run>,
}

impl Told {
    /// How many events it has taken in.
    pub(super) fn seq(&self) -> u64 {
        self.run.as_ref().map_or(0, Run::version)
    }

    pub(super) fn run(&self) -> Option<&Run> {
        self.run.as_ref()
    }

    /// Takes in the next event without a word.
    pub(super) fn follow(&mut self, recorded: &Recorded) -> Result<(), DamagedJournal> {
        if let Some(run) = &mut self.run {
            return run.follow(recorded);
        }
        self.run = Some(Run::replay([recorded.clone()])?);
        Ok(())
    }

    /// Takes in the next event, and says what callers see of it.
    pub(super) fn tell(&mut self, recorded: &Recorded) -> Result<Vec<Frame>, DamagedJournal> {
        let before = self.run.as_ref().map(Before::of).unwrap_or_default();
        self.follow(recorded)?;
        Ok(self.run.as_ref().map(|run| frames(run, &before, recorded)).unwrap_or_default())
    }
}

/// What an event may change, as it was.
#[derive(Default)]
struct Before {
    /// The calls of the last turn that had not finished, and whether they had started.
    open: Vec<(CallId, bool)>,
    /// The last turn was the answer, so its end was told.
    answered: bool,
}

impl Before {
    fn of(run: &Run) -> Self {
        let Some(turn) = run.turns().last() else { return Self::default() };
        let open = turn.calls.iter().filter_map(|record| {
            let started = has_started(&record.state)?;
            Some((record.call.id.clone(), started))
        });
        let is_checked = run.spec().agent.options.response_schema.is_none() || run.structured().is_some();
        Self { open: open.collect(), answered: turn.calls.is_empty() && is_checked }
    }
}

/// None: it has ended.
fn has_started(state: &CallState) -> Option<bool> {
    match state {
        CallState::Requested | CallState::Approved { .. } => Some(false),
        CallState::Pending { before } => has_started(before),
        CallState::Started(_)
        | CallState::Suspended(..)
        | CallState::Answered(..)
        | CallState::InDoubt(_)
        | CallState::Again(_) => Some(true),
        CallState::Finished { .. } => None,
    }
}

/// `run` has taken in the event.
fn frames(run: &Run, before: &Before, Recorded { seq, at, event }: &Recorded) -> Vec<Frame> {
    let mut said: Vec<(Word, String)> = Vec::new();
    match event {
        RunEvent::Created(new) => {
            said.push((Word::Start, json!({"runId": new.id, "sessionId": new.session}).to_string()));
        }
        // A call that asks a human has one start and one end, whatever was asked between.
        RunEvent::Started
        | RunEvent::Claimed { .. }
        | RunEvent::CallSuspended { .. }
        | RunEvent::CallResumed { .. } => {}
        RunEvent::Replied { reply } => {
            let mut frames = deltas(reply, *seq, *at);
            // An answer that has to fit a schema is not done before it was checked.
            if reply.tool_calls.is_empty() && run.spec().agent.options.response_schema.is_none() {
                frames.push(Frame {
                    id: Cursor::after(*seq),
                    event: Word::ContentDone,
                    data: String::new(),
                    at: *at,
                });
            }
            return frames;
        }
        RunEvent::ReplyBroken { partial } => return deltas(partial, *seq, *at),
        RunEvent::CallStarted { call_id, attempt } => {
            let record = run.calls().filter(|record| record.call.id == *call_id).last();
            said.extend(record.filter(|_| *attempt == 1).map(tool_start));
        }
        RunEvent::CallFinished { .. } | RunEvent::Decided(_) => said.extend(settled(run, before)),
        RunEvent::Paused { .. } => return vec![Frame::paused(run, *at)],
        RunEvent::AnswerAccepted { .. } => said.push((Word::ContentDone, String::new())),
        RunEvent::AnswerRefused { .. } => {
            said.push((Word::ContentDiscarded, json!({"reason": "invalid"}).to_string()));
        }
        RunEvent::FollowupsSuggested { questions, .. } => {
            if !questions.is_empty() {
                said.push((Word::FollowupSuggestion, json!(questions).to_string()));
            }
        }
        RunEvent::Completed => {
            said.extend([(Word::Metrics, metrics(run)), (Word::Stop, whole(run))]);
        }
        RunEvent::Failed { failure } => {
            said.extend(settled(run, before));
            said.push((Word::Error, failure.message.clone()));
            if !before.answered {
                said.push((Word::ContentDone, String::new()));
            }
            said.push((Word::Stop, whole(run)));
        }
        RunEvent::Cancelled { .. } => {
            said.extend(settled(run, before));
            said.push((Word::Cancelled, whole(run)));
        }
    }
    let count = said.len();
    let numbered = (1..).zip(said).map(|(n, (event, data))| {
        let id = if n == count { Cursor::after(*seq) } else { Cursor::within(*seq, n) };
        Frame { id, event, data, at: *at }
    });
    numbered.collect()
}

/// The reply in the pieces in which it was streamed. A piece is never an event's last frame: while it is
/// streamed nobody knows that it is.
fn deltas(reply: &Reply, seq: u64, at: Timestamp) -> Vec<Frame> {
    let (mut content, mut reasoning) =
        (reply.content.as_str(), reply.reasoning.as_deref().unwrap_or_default());
    let mut pieces: Vec<(ChunkOf, &str, Timestamp)> = Vec::new();
    for chunk in &reply.chunks {
        let text = match chunk.of {
            ChunkOf::Content => &mut content,
            ChunkOf::Reasoning => &mut reasoning,
        };
        let (piece, rest) = text.split_at_checked(chunk.bytes).unwrap_or((*text, ""));
        *text = rest;
        pieces.push((chunk.of, piece, chunk.at));
    }
    // It came as a whole.
    for (of, rest) in [(ChunkOf::Reasoning, reasoning), (ChunkOf::Content, content)] {
        if !rest.is_empty() {
            pieces.push((of, rest, at));
        }
    }
    (1..).zip(pieces).map(|(n, (of, text, at))| Frame::delta(seq, n, of, text, at)).collect()
}

/// The same of a reply under way, after the first `shown` pieces.
pub(super) fn under_way(seq: u64, shown: usize, pieces: &[Piece]) -> Vec<Frame> {
    let numbered = (shown + 1..).zip(pieces);
    numbered.map(|(n, piece)| Frame::delta(seq, n, piece.of, &piece.text, piece.at)).collect()
}

/// The calls that the event brought to an end. One that ends without having run has a start as well: a
/// client pairs them.
fn settled(run: &Run, before: &Before) -> Vec<(Word, String)> {
    let mut said = Vec::new();
    for record in run.turns().last().map(|turn| turn.calls.as_slice()).unwrap_or_default() {
        let open = before.open.iter().find(|(id, _)| *id == record.call.id);
        if let (Some((_, started)), CallState::Finished { outcome, duration_ms }) = (open, &record.state) {
            said.extend((!started).then(|| tool_start(record)));
            said.push(tool_end(record, outcome, *duration_ms));
        }
    }
    said
}

fn tool_start(CallRecord { call, .. }: &CallRecord) -> (Word, String) {
    let data = json!({
        "id": call.id, "name": call.name, "toolName": call.name, "arguments": call.arguments, "input": call.arguments,
    });
    (Word::ToolStart, data.to_string())
}

fn tool_end(CallRecord { call, .. }: &CallRecord, outcome: &ToolOutcome, ms: u64) -> (Word, String) {
    if outcome.is_error() {
        let data = json!({"id": call.id, "name": call.name, "error": outcome.text});
        return (Word::ToolError, data.to_string());
    }
    let data = json!({
        "id": call.id, "name": call.name, "result": outcome.text, "output": outcome.text, "durationMs": ms,
    });
    (Word::ToolEnd, data.to_string())
}

fn metrics(run: &Run) -> String {
    let Tokens { input, output, reasoning } = run.tokens();
    let figures = Figures {
        input_tokens: input,
        output_tokens: output,
        reasoning_tokens: reasoning,
        total_tokens: input.zip(output).map(|(input, output)| input.saturating_add(output)),
        llm_calls: run.model_calls(),
        model: model(run),
    };
    json!(figures).to_string()
}

/// Null = unknown.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Figures {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_tokens: Option<u64>,
    total_tokens: Option<u64>,
    llm_calls: u32,
    model: String,
}

fn whole(run: &Run) -> String {
    json!(RunResponse::from(run)).to_string()
}
