//! Clean-up of replies, the same for every provider: reasoning that a model wrote into its answer goes
//! where reasoning belongs, and tool names lose the blanks around them.
//!
//! Names with odd prefixes stay as they are: the run answers calls of unknown tools by itself.

use crate::session::Reply;

const TAGS: [(&str, &str); 2] = [("<think>", "</think>"), ("<thinking>", "</thinking>")];

pub(super) fn clean(mut reply: Reply) -> Reply {
    for call in &mut reply.tool_calls {
        let trimmed = call.name.trim();
        if trimmed.len() != call.name.len() {
            call.name = trimmed.to_owned();
        }
    }
    let (content, thoughts) = split(&reply.content);
    if !thoughts.is_empty() {
        // Only the blank lines that the blocks left: an answer may start with an indented line.
        let start = content.len() - content.trim_start().len();
        let line = content[..start].rfind('\n').map_or(0, |newline| newline + 1);
        content[line..].trim_end().clone_into(&mut reply.content);
        if reply.content.trim().is_empty() {
            reply.content.clear();
        }
    }
    let known = reply.reasoning.take().into_iter().chain(thoughts);
    let parts: Vec<String> =
        known.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).collect();
    reply.reasoning = (!parts.is_empty()).then(|| parts.join("\n\n"));
    reply
}

/// The text without its blocks of reasoning, and the blocks.
fn split(text: &str) -> (String, Vec<String>) {
    let mut rest = text;
    let (mut content, mut thoughts) = (String::new(), Vec::new());
    // Templates that end in `<think>` leave a reply that starts inside of the block.
    for (open, close) in TAGS {
        if let Some(end) = rest.find(close)
            && !rest[..end].contains(open)
        {
            thoughts.push(rest[..end].to_owned());
            rest = &rest[end + close.len()..];
        }
    }
    while let Some((start, (open, close))) = next_block(rest) {
        let inside = &rest[start + open.len()..];
        let Some(end) = inside.find(close) else {
            // Unclosed: reasoning that was cut off, if the reply starts with it; else part of the text.
            if content.trim().is_empty() && rest[..start].trim().is_empty() {
                thoughts.push(inside.to_owned());
                rest = "";
            }
            break;
        };
        content.push_str(&rest[..start]);
        thoughts.push(inside[..end].to_owned());
        rest = &inside[end + close.len()..];
    }
    content.push_str(rest);
    (content, thoughts)
}

fn next_block(text: &str) -> Option<(usize, (&'static str, &'static str))> {
    TAGS.into_iter()
        .filter_map(|tags| text.find(tags.0).map(|start| (start, tags)))
        .min_by_key(|(start, _)| *start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::ToolCall;

    #[test]
    fn thinking_moves_from_the_content_to_the_reasoning() {
        for (content, expected, reasoning) in [
            ("plain", "plain", None),
            ("  plain, untouched \n", "  plain, untouched \n", None),
            ("<think>\nhm\n</think>\n\nAnswer", "Answer", Some("hm")),
            ("<think>\nhm\n</think>\n\n    code\n", "    code", Some("hm")),
            ("<thinking>a</thinking>b<think>c</think>d", "bd", Some("a\n\nc")),
            ("\n<think>cut off in the mid", "", Some("cut off in the mid")),
            ("started before</think>\nAnswer", "Answer", Some("started before")),
            ("<think></think>\n\nAnswer", "Answer", None),
            ("Write <think> to start.", "Write <think> to start.", None),
        ] {
            let reply = clean(Reply { content: content.to_owned(), ..Reply::default() });
            assert_eq!(reply.content, expected, "{content:?}");
            assert_eq!(reply.reasoning.as_deref(), reasoning, "{content:?}");
        }
    }

    #[test]
    fn reasoning_of_the_provider_comes_first() {
        let reply = clean(Reply {
            content: "<think>b</think>c".to_owned(),
            reasoning: Some("a\n".to_owned()),
            ..Reply::default()
        });
        assert_eq!(reply.reasoning.as_deref(), Some("a\n\nb"));
    }

    #[test]
    fn tool_names_lose_blanks_and_nothing_else() {
        let call =
            |name: &str| ToolCall { id: "c".into(), name: name.to_owned(), arguments: "{}".to_owned() };
        let reply = clean(Reply {
            tool_calls: vec![call(" notes__add\n"), call("functions.notes__add")],
            ..Reply::default()
        });
        let names: Vec<_> = reply.tool_calls.iter().map(|call| call.name.as_str()).collect();
        assert_eq!(names, ["notes__add", "functions.notes__add"]);
    }
}
