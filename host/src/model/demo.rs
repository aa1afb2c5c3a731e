//! The built-in model: needs no key and no network, says what it is, and answers the same thing every time.
//!
//! It understands nothing. It matches the last message against the offered tools' names, descriptions and
//! schemas (`offer`), fills arguments from what the message holds (`values`, `fill`), calls (`plan`), and
//! reports the results. That makes a fresh checkout usable and tests deterministic. Token counts stay
//! unknown: it has no tokens.

mod fill;
mod offer;
mod plan;
#[cfg(test)]
mod tests;
mod values;

use std::fmt::Write as _;

use self::offer::Offer;
use self::plan::Step;
use super::{Deltas, Model, ModelError, Request};
use crate::agent::DEMO;
use crate::run::REFUSAL;
use crate::session::{Message, Reply};
use crate::tool::ToolCall;

pub(super) struct Demo;

#[async_trait::async_trait]
impl Model for Demo {
    async fn reply(&self, request: &Request) -> Result<Reply, ModelError> {
        let offers: Vec<Offer> = request.tools.iter().map(Offer::new).collect();
        let asked = request.messages.iter().rposition(|message| matches!(message, Message::User { .. }));
        let (before, rest) = request.messages.split_at(asked.unwrap_or(0));
        let text = rest.first().map_or("", user_text);
        let mut reply = Reply { model: Some(DEMO.to_owned()), ..Reply::default() };
        if wants_followups(&request.system, text) {
            reply.content = serde_json::Value::from(followups(&offers)).to_string();
            return Ok(reply);
        }
        if text.starts_with(REFUSAL) {
            let honest = "I am Holdfast's built-in demo model: I cannot write JSON to a schema. The results of \
                          tools are all I have.";
            honest.clone_into(&mut reply.content);
            return Ok(reply);
        }
        let steps = plan::plan(text, &offers);
        let report = report(rest);
        if !report.is_empty() {
            reply.content = joined(report, steps.iter().filter_map(obstacle));
        } else if steps.iter().any(|step| matches!(step, Step::Call { .. })) {
            reply.tool_calls = calls(&steps, request.messages.len());
        } else if asks_for_history(text) {
            reply.content = history(before);
        } else if !steps.is_empty() {
            reply.content = joined(Vec::new(), steps.iter().filter_map(obstacle));
        } else {
            reply.content = introduction(&offers);
        }
        Ok(reply)
    }

    /// Word by word.
    async fn stream(&self, request: &Request, deltas: &mut Deltas) -> Result<Reply, ModelError> {
        let reply = self.reply(request).await?;
        for word in reply.content.split_inclusive(char::is_whitespace) {
            deltas.content(word);
            tokio::task::yield_now().await;
        }
        Ok(reply)
    }
}

fn user_text(message: &Message) -> &str {
    match message {
        Message::User { text, .. } => text,
        Message::Assistant(_) | Message::Tool { .. } => "",
    }
}

/// Ids are unique in a run, because its conversation only grows.
fn calls(steps: &[Step], position: usize) -> Vec<ToolCall> {
    let calls = steps.iter().filter_map(|step| match step {
        Step::Call { tool, arguments } => Some((tool, arguments)),
        Step::Missing { .. } | Step::NotOffered(_) => None,
    });
    calls
        .enumerate()
        .map(|(index, (tool, arguments))| ToolCall {
            id: format!("demo-{position}-{}", index + 1).into(),
            name: tool.clone(),
            arguments: serde_json::Value::Object(arguments.clone()).to_string(),
        })
        .collect()
}

/// One line per result that came in after the question.
fn report(messages: &[Message]) -> Vec<String> {
    let lines = messages.iter().filter_map(|message| match message {
        Message::Tool { name, text, failed, .. } => Some(match (failed, text.trim()) {
            (true, text) => format!("I could not run `{name}`: {text}"),
            (false, "") => format!("`{name}` ran and returned nothing."),
            (false, text) if text.contains('\n') => format!("`{name}` answered:\n\n{text}"),
            (false, text) => format!("`{name}` answered: {text}"),
        }),
        Message::User { .. } | Message::Assistant(_) => None,
    });
    lines.collect()
}

fn obstacle(step: &Step) -> Option<String> {
    match step {
        Step::Call { .. } => None,
        Step::Missing { tool, missing } => Some(format!(
            "I would call `{tool}`, but your message does not say `{}`. You can write it as `{tool} {}=…`.",
            missing.join("`, `"),
            missing.join("=… ")
        )),
        Step::NotOffered(name) => Some(format!("I cannot call `{name}`: I am not offered such a tool.")),
    }
}

fn joined(mut lines: Vec<String>, more: impl Iterator<Item = String>) -> String {
    lines.extend(more);
    match lines.as_slice() {
        [line] => line.clone(),
        lines => {
            let items = lines.iter().map(|line| format!("- {}", line.replace('\n', "\n  ")));
            items.collect::<Vec<_>>().join("\n")
        }
    }
}

fn introduction(offers: &[Offer]) -> String {
    let mut text =
        "I am Holdfast's built-in demo model. I only match messages against the tools I am offered; \
                    for real answers, give this agent a model such as `openai::gpt-4o-mini`."
            .to_owned();
    if offers.is_empty() {
        text.push_str("\n\nI am offered no tools here.");
        return text;
    }
    text.push_str("\n\nI found no tool for your message. These I can call:\n");
    for offer in offers {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "\n- `{}`: {}", offer.name, offer.summary());
    }
    let _ = write!(text, "\n\nFor example: {}", followups(offers)[0]);
    text
}

/// The runner's request for what the user could ask next.
fn wants_followups(system: &str, text: &str) -> bool {
    let either = |needle: &str| [system, text].iter().any(|part| part.to_lowercase().contains(needle));
    either("follow-up questions") && either("json array")
}

/// Three questions that this model can do something with; harmless ones first.
fn followups(offers: &[Offer]) -> Vec<String> {
    let mut sorted: Vec<&Offer> = offers.iter().collect();
    sorted.sort_by_key(|offer| offer.risky);
    let general = ["What can you do?", "What did I ask before?", "Which tools do you have?"];
    let mut questions: Vec<String> = Vec::new();
    for question in sorted.iter().map(|offer| offer.example()).chain(general.map(str::to_owned)) {
        if questions.len() < 3 && !questions.contains(&question) {
            questions.push(question);
        }
    }
    questions
}

fn asks_for_history(text: &str) -> bool {
    let words = offer::words(text);
    let has = |any: &[&str]| words.iter().any(|word| any.contains(&word.as_str()));
    let asked = has(&["did"]) && has(&["i"]) && has(&["ask", "say", "said", "tell", "write"]);
    let mine = has(&["my"]) && has(&["previous", "earlier", "last", "first"]);
    asked || mine && has(&["message", "question", "request"])
}

fn history(before: &[Message]) -> String {
    let asked: Vec<String> = before
        .iter()
        .map(user_text)
        .filter(|text| !text.is_empty())
        .enumerate()
        .map(|(index, text)| format!("{}. {}", index + 1, text.replace('\n', " ")))
        .collect();
    if asked.is_empty() {
        return "This is the first message of this conversation that I was sent.".to_owned();
    }
    format!("Before this you asked:\n\n{}", asked.join("\n"))
}
