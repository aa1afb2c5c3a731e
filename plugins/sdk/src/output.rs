//! What a tool answers: an [`Output`] for the model, or a [`Failure`] when it could not do its job.

use std::{fmt, time::Duration};

use serde::Serialize;
use serde_json::Value;

use crate::{Context, kv, raw::types, secrets};

/// The result of a call.
#[derive(Debug, Default)]
pub struct Output {
    parts: Vec<types::Part>,
    structured: Option<Value>,
    is_error: bool,
}

/// The tool could not do its job. For a result that the model should read and act on, such as a syntax
/// error in an argument, answer [`Output::error`] instead.
#[derive(Debug)]
pub struct Failure {
    code: String,
    message: String,
    retry_after: Option<Duration>,
}

impl Output {
    /// Text for the model.
    pub fn text(text: impl Into<String>) -> Self {
        Self::default().and_text(text)
    }

    /// A value for the model, and the same value for programs.
    pub fn json(value: &impl Serialize) -> Result<Self, Failure> {
        let output = Self::default().structured(value)?;
        let text = output.structured.as_ref().map(Value::to_string).unwrap_or_default();
        Ok(Self { parts: vec![types::Part::Data(text)], ..output })
    }

    /// Tells the model what went wrong and what to do instead.
    pub fn error(text: impl Into<String>) -> Self {
        Self { is_error: true, ..Self::text(text) }
    }

    /// Another piece of text for the model.
    #[must_use]
    pub fn and_text(mut self, text: impl Into<String>) -> Self {
        self.parts.push(types::Part::Text(text.into()));
        self
    }

    /// A picture, a document or other bytes.
    #[must_use]
    pub fn and_media(mut self, mime: &str, name: Option<&str>, data: Vec<u8>) -> Self {
        let blob = types::Blob { mime: mime.to_owned(), name: name.map(str::to_owned), data };
        self.parts.push(types::Part::Media(blob));
        self
    }

    /// The same result for programs; its type belongs into [`Tool::returns`](crate::Tool::returns).
    pub fn structured(mut self, value: &impl Serialize) -> Result<Self, Failure> {
        let value = serde_json::to_value(value);
        self.structured = Some(value.map_err(|error| Failure::new("invalid-output", error.to_string()))?);
        Ok(self)
    }

    pub fn is_error(&self) -> bool {
        self.is_error
    }
}

/// The text that the model reads.
impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.parts.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            match part {
                types::Part::Text(text) | types::Part::Data(text) => f.write_str(text)?,
                types::Part::Media(blob) => write!(f, "[{}, {} bytes]", blob.mime, blob.data.len())?,
            }
        }
        Ok(())
    }
}

impl From<Output> for types::Output {
    fn from(output: Output) -> Self {
        Self {
            parts: output.parts,
            structured: output.structured.map(|value| value.to_string()),
            is_error: output.is_error,
        }
    }
}

impl Failure {
    /// `code` is a short kebab-case word, `message` one sentence that says what to do.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), retry_after: None }
    }

    /// The host may try again after this time.
    #[must_use]
    pub fn retry_after(mut self, time: Duration) -> Self {
        self.retry_after = Some(time);
        self
    }
}

impl From<Failure> for types::Failure {
    fn from(failure: Failure) -> Self {
        let millis = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        Self { code: failure.code, message: failure.message, retry_after_ms: failure.retry_after.map(millis) }
    }
}

impl From<kv::Error> for Failure {
    fn from(error: kv::Error) -> Self {
        match error {
            kv::Error::Conflict(_) => Self::new("conflict", "Somebody else changed this; try again."),
            kv::Error::QuotaExceeded(limit) => {
                Self::new("quota-exceeded", format!("The plugin's storage is full: {limit}."))
            }
            kv::Error::InvalidKey(problem) => Self::new("invalid-key", problem),
            kv::Error::Failed(problem) => Self::new("storage-failed", problem),
        }
    }
}

impl From<secrets::Error> for Failure {
    fn from(error: secrets::Error) -> Self {
        match error {
            secrets::Error::NotGranted => Self::new("not-allowed", "The plugin may not use this secret."),
            secrets::Error::NoValue => Self::new("no-secret", "The operator has not set this secret."),
            secrets::Error::Failed(problem) => Self::new("secret-failed", problem),
        }
    }
}

impl Context {
    /// A context for unit tests.
    pub fn example() -> Self {
        Self {
            run_id: "run_example".to_owned(),
            session_id: "session_example".to_owned(),
            call_id: "call_example".to_owned(),
            user_ref: Some("user".to_owned()),
            attempt: 1,
            idempotency_key: "run_example/call_example".to_owned(),
            deadline_unix_ms: u64::MAX,
            traceparent: None,
        }
    }
}
