//! What a tool asks a human, and how it goes on.

use schemars::JsonSchema;
use serde::Serialize;

use crate::{Failure, Output, raw::types, schema::result_schema};

/// How a tool comes back: with a result, or with a question.
///
/// A tool that never asks returns an [`Output`], one that always does a [`Question`].
#[derive(Debug)]
pub enum Reply {
    Done(Output),
    Ask(Question),
}

/// A question to a human. The run waits for the answer, maybe for days; then
/// [`Tool::on_answer`](crate::Tool::on_answer) goes on in a fresh instance.
#[derive(Debug)]
pub struct Question {
    prompt: String,
    answer_schema: String,
    state: Vec<u8>,
}

impl Question {
    /// `Answer` becomes the JSON Schema of the answer, which the host checks. `state` is what goes on needs to
    /// know: nothing else of this call is left by then. The host keeps it encrypted, 64 KiB at most.
    pub fn new<Answer: JsonSchema>(
        prompt: impl Into<String>,
        state: &impl Serialize,
    ) -> Result<Self, Failure> {
        let state = serde_json::to_vec(state);
        Ok(Self {
            prompt: prompt.into(),
            answer_schema: result_schema::<Answer>(),
            state: state.map_err(|error| Failure::new("invalid-state", error.to_string()))?,
        })
    }

    pub fn prompt(&self) -> &str {
        &self.prompt
    }
}

impl From<Output> for Reply {
    fn from(output: Output) -> Self {
        Self::Done(output)
    }
}

impl From<Question> for Reply {
    fn from(question: Question) -> Self {
        Self::Ask(question)
    }
}

impl From<Reply> for types::Outcome {
    fn from(reply: Reply) -> Self {
        match reply {
            Reply::Done(output) => Self::Done(output.into()),
            Reply::Ask(Question { prompt, answer_schema, state }) => {
                Self::Suspend(types::Suspension { prompt, answer_schema, state })
            }
        }
    }
}
