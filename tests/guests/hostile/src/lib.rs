//! One tool per way to misbehave in a call. Uses the raw bindings: the SDK makes some of this impossible.

use std::{hint::black_box, io::Write, time::Duration};

use holdfast_plugin::raw::{
    Guest, control, kv, log, resumable,
    types::{Annotations, CallContext, Failure, Outcome, Output, Part, Suspension, Tool},
};
use serde_json::Value;
// The standard library never asks for more than a few bytes.
use wasip2::random::random::get_random_bytes;

/// Name, integer arguments, what it does.
const TOOLS: [(&str, &[&str], &str); 19] = [
    ("loop", &[], "Never ends."),
    ("memory", &[], "Allocates without end."),
    ("stack", &[], "Calls itself without end."),
    ("output", &["bytes"], "Answers a text of that length."),
    ("parts", &["count"], "Answers that many parts."),
    ("log_flood", &["lines"], "Logs that many lines."),
    ("stdout_flood", &["bytes"], "Prints that many bytes to stdout and to stderr."),
    ("panic", &[], "Panics."),
    ("trap", &[], "Executes `unreachable`."),
    ("bad_json", &[], "Answers data and a structured result that are not JSON."),
    ("fail", &[], "Fails with the given code."),
    ("tool_error", &[], "Answers an error for the model."),
    ("host_calls", &["count"], "Calls the host that often."),
    ("random", &["bytes"], "Asks for that many random bytes at once."),
    ("sleep", &["ms"], "Waits inside a host call."),
    ("kv_fill", &["entries", "bytes"], "Stores that many entries of that size and says how far it came."),
    (
        "suspend",
        &["prompt", "state"],
        "Asks a human with that long a prompt and a state, or with that schema.",
    ),
    ("suspend_then", &[], "Asks a human, and does that with the answer."),
    ("progress_flood", &["count"], "Reports progress that often."),
];

struct Component;

impl Guest for Component {
    fn describe() -> Vec<Tool> {
        TOOLS.iter().map(|(name, arguments, description)| tool(name, arguments, description)).collect()
    }

    fn call(_: CallContext, tool: String, arguments: String) -> Result<Outcome, Failure> {
        let arguments: Value = serde_json::from_str(&arguments).unwrap_or_default();
        let number = |name: &str| arguments[name].as_u64().unwrap_or_default();
        match tool.as_str() {
            "loop" => loop {
                black_box(());
            },
            "memory" => exhaust_memory(),
            "stack" => Ok(text(recurse(1).to_string())),
            "output" => Ok(text("x".repeat(length(number("bytes"))))),
            "parts" => Ok(done((0..number("count")).map(|_| Part::Text("x".to_owned())).collect())),
            "log_flood" => {
                for line in 0..number("lines") {
                    log::write(log::Level::Info, &format!("\x1b[31mline {line}\x1b[0m\nsecond\r\u{202e}"));
                }
                Ok(text("logged"))
            }
            "progress_flood" => {
                (0..number("count")).for_each(|step| control::progress(&format!("step {step}")));
                Ok(text("reported"))
            }
            "stdout_flood" => {
                print_much(number("bytes"));
                Ok(text("printed"))
            }
            "panic" => panic!("on purpose"),
            "trap" => trap(),
            "bad_json" => Ok(Outcome::Done(Output {
                parts: vec![Part::Data("{not json".to_owned())],
                structured: Some("{not json".to_owned()),
                is_error: false,
            })),
            "fail" => Err(failure(arguments["code"].as_str().unwrap_or("on-purpose"))),
            "tool_error" => Ok(Outcome::Done(Output {
                parts: vec![Part::Text("This went wrong on purpose.".to_owned())],
                structured: None,
                is_error: true,
            })),
            "host_calls" => {
                let least = (0..number("count")).map(|_| control::remaining_ms()).min();
                Ok(text(format!("{least:?}")))
            }
            "random" => Ok(text(get_random_bytes(number("bytes")).len().to_string())),
            "sleep" => {
                std::thread::sleep(Duration::from_millis(number("ms")));
                Ok(text("slept"))
            }
            "kv_fill" => Ok(text(fill(number("entries"), length(number("bytes"))))),
            "suspend" => Ok(Outcome::Suspend(Suspension {
                prompt: "?".repeat(length(number("prompt"))),
                answer_schema: arguments["text"].as_str().unwrap_or(BOOLEAN).to_owned(),
                state: vec![b's'; length(number("state"))],
            })),
            "suspend_then" => Ok(ask(arguments["text"].as_str().unwrap_or_default())),
            _ => Err(failure("unknown-tool")),
        }
    }
}

impl resumable::Guest for Component {
    fn resume(_: CallContext, _: String, state: Vec<u8>, answer: String) -> Result<Outcome, Failure> {
        match state.as_slice() {
            b"loop" => loop {
                black_box(());
            },
            b"trap" => trap(),
            b"ask" => Ok(ask("ask")),
            b"fail" => Err(failure("on-purpose")),
            state => Ok(text(format!("{} bytes, {answer}", state.len()))),
        }
    }
}

holdfast_plugin::export_raw!(Component);
holdfast_plugin::export_raw_resumable!(Component);

const BOOLEAN: &str = r#"{"type":"boolean"}"#;

/// The prompt is what a terminal and a careless page should not be shown.
fn ask(state: &str) -> Outcome {
    Outcome::Suspend(Suspension {
        prompt: "Shall I\x1b[2J\u{202e}?\r\nReally?".to_owned(),
        answer_schema: BOOLEAN.to_owned(),
        state: state.as_bytes().to_vec(),
    })
}

fn tool(name: &str, arguments: &[&str], description: &str) -> Tool {
    let integers = arguments.iter().map(|name| format!(r#""{name}":{{"type":"integer","minimum":0}}"#));
    let properties = match name {
        "fail" => r#""code":{"type":"string"}"#.to_owned(),
        "suspend" | "suspend_then" => {
            format!("\"text\":{{\"type\":\"string\"}},{}", integers.collect::<Vec<_>>().join(","))
                .trim_end_matches(',')
                .to_owned()
        }
        _ => integers.collect::<Vec<_>>().join(","),
    };
    let required = arguments.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(",");
    Tool {
        name: name.to_owned(),
        description: description.to_owned(),
        input_schema: format!(r#"{{"type":"object","properties":{{{properties}}},"required":[{required}]}}"#),
        output_schema: None,
        annotations: Annotations {
            title: None,
            // Nothing to lose: a host may run these whenever it likes.
            read_only: name != "kv_fill",
            destructive: false,
            idempotent: true,
            open_world: false,
            requires_approval: false,
        },
    }
}

fn exhaust_memory() -> ! {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    loop {
        // Written to, so that the pages are really used.
        kept.push(black_box(vec![1; 1 << 20]));
    }
}

/// The addition after the call keeps it from becoming a loop.
#[expect(unconditional_recursion, reason = "it is what this tool does")]
#[inline(never)]
fn recurse(depth: u64) -> u64 {
    black_box(recurse(black_box(depth + 1))) + depth
}

fn print_much(bytes: u64) {
    let line = [b'x'; 1024];
    for _ in 0..bytes.div_ceil(1024) {
        // A host may close the stream, which must not look like a panic.
        let _ = std::io::stdout().write_all(&line);
        let _ = std::io::stderr().write_all(&line);
    }
}

#[cfg(target_family = "wasm")]
fn trap() -> ! {
    core::arch::wasm32::unreachable()
}

#[cfg(not(target_family = "wasm"))]
fn trap() -> ! {
    std::process::abort()
}

fn fill(entries: u64, bytes: usize) -> String {
    let value = vec![b'x'; bytes];
    for entry in 0..entries {
        if let Err(error) = kv::put(kv::Scope::Plugin, &format!("fill/{entry}"), &value, None) {
            return format!("stored {entry}, then {error:?}");
        }
    }
    format!("stored {entries}")
}

fn length(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn text(text: impl Into<String>) -> Outcome {
    done(vec![Part::Text(text.into())])
}

fn done(parts: Vec<Part>) -> Outcome {
    Outcome::Done(Output { parts, structured: None, is_error: false })
}

fn failure(code: &str) -> Failure {
    Failure { code: code.to_owned(), message: "It failed on purpose.".to_owned(), retry_after_ms: Some(10) }
}
