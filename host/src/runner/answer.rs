//! Structured answers: what a model is told about the schema of its answer, and whether it kept to it.
//!
//! Where a provider can enforce a schema it is passed on, but nothing relies on that: every answer is checked
//! here. Models wrap JSON in code fences and prose, which is forgiven as long as one value is meant.

use std::fmt::Write as _;

use serde_json::Value;

use super::Runner;
use super::drive::DriveError;
use crate::event::{Failure, FailureKind};
use crate::model::Request;
use crate::run::{Refusal, Run};
use crate::schema::{Misfit, Schema};

/// Most problems that a model is told at once.
const PROBLEMS: usize = 5;

/// Most places of a text where a JSON value is looked for: each may be read to the text's end in vain.
const PLACES: usize = 200;

/// Asks for an answer that fits.
pub(super) fn ask(request: &mut Request, schema: Option<&Value>) {
    let Some(schema) = schema else { return };
    if !request.system.trim().is_empty() {
        request.system.push_str("\n\n");
    }
    let rule =
        "Your final answer must be one JSON value that fits this JSON Schema, without any text around it:";
    // Writing to a `String` cannot fail.
    let _ = write!(request.system, "{rule}\n{schema}");
    request.response_schema = Some(schema.clone());
}

impl Runner {
    /// Says whether the run's answer fits the schema asked for.
    pub(super) async fn check_answer(&self, run: &mut Run) -> Result<(), DriveError> {
        let schema = run.spec().agent.options.response_schema.clone().unwrap_or_default();
        let (content, cut_off) = run
            .turns()
            .last()
            .map(|turn| (turn.reply.content.clone(), turn.reply.cut_off))
            .unwrap_or_default();
        // Checking can take a second, and must not hold up other runs.
        let checked = tokio::task::spawn_blocking(move || check(&schema, &content)).await;
        let now = self.clock.now();
        match checked {
            Ok(Ok(json)) => run.answer_accepted(json, now)?,
            Ok(Err(refusal)) if cut_off => run.answer_refused(&refusal.of_a_part(), now)?,
            Ok(Err(refusal)) => run.answer_refused(&refusal, now)?,
            Err(_panic) => {
                // The panic hook has logged what and where.
                let message = "The answer could not be checked against the response schema.".to_owned();
                run.failed(Failure { kind: FailureKind::Internal, message }, now)?;
            }
        }
        Ok(())
    }
}

/// The JSON in the text, if it fits.
fn check(schema: &Value, text: &str) -> Result<String, Refusal> {
    // It was checked when the run began; a newer version of this program may be stricter.
    let schema = Schema::of_answer(schema)
        .map_err(|error| Refusal::without_value(format!("the response schema {error}")))?;
    let (json, value) = extract(text).map_err(Refusal::without_value)?;
    let problems = schema.problems(&value, PROBLEMS);
    if problems.is_empty() {
        return Ok(json.to_owned());
    }
    let say = |one: fn(&Misfit) -> String| {
        let said: Vec<String> = problems.iter().map(one).collect();
        format!("it does not fit the schema: {}", said.join("; "))
    };
    Err(Refusal { told: say(Misfit::to_string), shown: say(Misfit::without_value) })
}

/// The one JSON value of a text, or what is wrong, in words that quote nothing of it.
fn extract(text: &str) -> Result<(&str, Value), String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    let error = match serde_json::from_str(text) {
        Ok(value) => return Ok((text, value)),
        Err(error) => error,
    };
    if let Some(inner) = unfenced(text)
        && let Ok(value) = serde_json::from_str(inner)
    {
        return Ok((inner, value));
    }
    let mut found = embedded(text);
    match (found.pop(), found.pop()) {
        (Some(only), None) => Ok(only),
        (Some(_), Some(_)) => Err("it has more than one JSON value in it".to_owned()),
        (None, _) => Err(format!("it is not valid JSON: {error}")),
    }
}

/// What is inside the code fence that a text consists of.
fn unfenced(text: &str) -> Option<&str> {
    let (_language, inner) = text.strip_prefix("```")?.strip_suffix("```")?.split_once('\n')?;
    Some(inner.trim())
}

/// The objects and arrays in a text, up to two of them.
fn embedded(text: &str) -> Vec<(&str, Value)> {
    let mut found = Vec::new();
    let mut from = 0;
    for _ in 0..PLACES {
        let rest = text.get(from..).unwrap_or_default();
        let Some(start) = rest.find(['{', '[']) else { break };
        let candidate = rest.get(start..).unwrap_or_default();
        let mut values = serde_json::Deserializer::from_str(candidate).into_iter::<Value>();
        from += start + 1;
        if let Some(Ok(value)) = values.next() {
            let length = values.byte_offset();
            from += length - 1;
            found.push((candidate.get(..length).unwrap_or_default(), value));
            if found.len() == 2 {
                break;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn extracted(text: &str) -> Result<Value, String> {
        extract(text).map(|(json, value)| {
            assert_eq!(serde_json::from_str::<Value>(json).unwrap(), value, "the text is the value's");
            value
        })
    }

    #[test]
    fn json_is_found_in_what_models_write_around_it() {
        let value = json!({"a": [1, {"b": "}"}]});
        let text = value.to_string();
        let ways = [
            text.clone(),
            format!("  {text}\n"),
            format!("```json\n{text}\n```"),
            format!("```\n{text}```"),
            format!("Sure! Here it is:\n```json\n{text}\n```\nAnything else?"),
            format!("The answer (in {{braces}}) is {text}."),
        ];
        for way in ways {
            assert_eq!(extracted(&way).as_ref(), Ok(&value), "{way}");
        }
        assert_eq!(extracted("42"), Ok(json!(42)));
        assert_eq!(extracted("```json\n\"x\"\n```"), Ok(json!("x")));
    }

    #[test]
    fn what_is_not_one_value_is_refused() {
        for (text, problem) in [
            ("", "it is empty"),
            ("{\"a\": 1} and {\"a\": 2}", "it has more than one JSON value in it"),
            ("The answer is 42.", "it is not valid JSON: expected value at line 1 column 1"),
            ("{\"a\": ", "it is not valid JSON: EOF while parsing a value at line 1 column 5"),
        ] {
            assert_eq!(extracted(text), Err(problem.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_hostile_text_is_looked_at_in_a_bounded_way() {
        assert!(extract(&"[\"".repeat(200_000)).is_err());
        assert!(extract(&"[".repeat(200_000)).is_err());
    }
}
