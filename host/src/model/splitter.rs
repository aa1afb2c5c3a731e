//! What `thinking` does to a whole reply, done to one that comes in pieces: `<think>` blocks go to the
//! reasoning, and blanks that belong to nobody are dropped, before anything is shown.
//!
//! What it has given out is final, so it holds back what it cannot judge yet: half a tag, blanks that may
//! turn out to be the last, and a block in the middle of the text, which is text if it never closes. A
//! reply that starts inside of a block whose opening tag was in the prompt is content here: nothing tells
//! before its end. `<think>` at a reply's start is reasoning from its first word on.

use crate::session::ChunkOf;

const TAGS: [(&str, &str); 2] = [("<think>", "</think>"), ("<thinking>", "</thinking>")];
type Tags = (&'static str, &'static str);

#[derive(Default)]
pub(super) struct Splitter {
    place: Place,
    /// Content of the provider's that is not judged yet.
    held: String,
    content: Content,
    reasoning: Reasoning,
    out: Vec<(ChunkOf, String)>,
}

#[derive(Clone, Copy, Default)]
enum Place {
    #[default]
    Text,
    /// In a block at the reply's start, which is reasoning whatever comes.
    Block(Tags),
    /// In a block amid the text, which is all held back.
    Aside(Tags),
}

/// What was given out as content.
#[derive(Default)]
struct Content {
    begun: bool,
    /// A block of reasoning was taken out of it.
    cut: bool,
    blanks: String,
}

/// What was given out as reasoning. Its parts are what the provider calls so, and each block.
#[derive(Default)]
struct Reasoning {
    begun: bool,
    part_begun: bool,
    /// The part is the provider's.
    native: bool,
    blanks: String,
}

impl Splitter {
    /// The next of what the provider calls content.
    pub(super) fn content(&mut self, text: &str) -> Vec<(ChunkOf, String)> {
        self.held.push_str(text);
        while self.advance() {}
        std::mem::take(&mut self.out)
    }

    /// The next of what the provider itself calls reasoning.
    pub(super) fn reasoning(&mut self, text: &str) -> Vec<(ChunkOf, String)> {
        if !self.reasoning.native {
            self.reasoning.end_part();
            self.reasoning.native = true;
        }
        self.think(text);
        std::mem::take(&mut self.out)
    }

    /// What is left when nothing more comes.
    pub(super) fn finish(&mut self) -> Vec<(ChunkOf, String)> {
        let rest = std::mem::take(&mut self.held);
        match self.place {
            Place::Text => self.say(&rest),
            Place::Block(_) => self.think(&rest),
            Place::Aside((open, _)) => self.say(&format!("{open}{rest}")),
        }
        if self.content.begun && !self.content.cut && !self.content.blanks.is_empty() {
            self.out.push((ChunkOf::Content, std::mem::take(&mut self.content.blanks)));
        }
        std::mem::take(&mut self.out)
    }

    /// Judges some of what is held. False = more must come first.
    fn advance(&mut self) -> bool {
        match self.place {
            Place::Text => {
                let Some((start, tags)) = next_block(&self.held) else {
                    let text = self.judged(&[TAGS[0].0, TAGS[1].0]);
                    self.say(&text);
                    return false;
                };
                let rest = self.held.split_off(start + tags.0.len());
                let before = std::mem::replace(&mut self.held, rest);
                self.say(&before[..start]);
                self.place = if self.content.begun { Place::Aside(tags) } else { self.open(tags) };
                true
            }
            Place::Block(tags) => {
                let Some(inside) = self.closed(tags) else {
                    let text = self.judged(&[tags.1]);
                    self.think(&text);
                    return false;
                };
                self.think(&inside);
                self.place = Place::Text;
                true
            }
            Place::Aside(tags) => {
                let Some(inside) = self.closed(tags) else { return false };
                self.open(tags);
                self.think(&inside);
                self.place = Place::Text;
                true
            }
        }
    }

    fn open(&mut self, tags: Tags) -> Place {
        self.content.cut = true;
        self.reasoning.end_part();
        self.reasoning.native = false;
        Place::Block(tags)
    }

    /// Takes the inside of the block that has closed.
    fn closed(&mut self, (_, close): Tags) -> Option<String> {
        let end = self.held.find(close)?;
        let rest = self.held.split_off(end + close.len());
        let mut inside = std::mem::replace(&mut self.held, rest);
        inside.truncate(end);
        Some(inside)
    }

    /// Takes what is held but for an end that may become one of these tags.
    fn judged(&mut self, tags: &[&str]) -> String {
        let half = |start: &usize| tags.iter().any(|tag| tag.starts_with(&self.held[*start..]));
        let end = self.held.match_indices('<').map(|(start, _)| start).find(half);
        let rest = self.held.split_off(end.unwrap_or(self.held.len()));
        std::mem::replace(&mut self.held, rest)
    }

    fn say(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let blanks = std::mem::take(&mut self.content.blanks);
        let mut text = blanks + text;
        if !self.content.begun {
            let start = text.len() - text.trim_start().len();
            if start == text.len() {
                self.content.blanks = text;
                return;
            }
            if self.content.cut {
                // Only the blank lines that the blocks left: an answer may start with an indented line.
                let line = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
                text.drain(..line);
            }
            self.content.begun = true;
        }
        if self.content.cut {
            self.content.blanks = text.split_off(text.trim_end().len());
        }
        if !text.is_empty() {
            self.out.push((ChunkOf::Content, text));
        }
    }

    fn think(&mut self, text: &str) {
        let state = &mut self.reasoning;
        let blanks = std::mem::take(&mut state.blanks);
        let mut text = blanks + text;
        if !state.part_begun {
            text.drain(..text.len() - text.trim_start().len());
            if text.is_empty() {
                return;
            }
            if state.begun {
                text.insert_str(0, "\n\n");
            }
            (state.begun, state.part_begun) = (true, true);
        }
        state.blanks = text.split_off(text.trim_end().len());
        if !text.is_empty() {
            self.out.push((ChunkOf::Reasoning, text));
        }
    }
}

impl Reasoning {
    fn end_part(&mut self) {
        self.part_begun = false;
        self.blanks.clear();
    }
}

fn next_block(text: &str) -> Option<(usize, Tags)> {
    TAGS.into_iter()
        .filter_map(|tags| text.find(tags.0).map(|start| (start, tags)))
        .min_by_key(|(start, _)| *start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(pieces: &[(ChunkOf, String)], of: ChunkOf) -> String {
        pieces.iter().filter(|piece| piece.0 == of).map(|piece| piece.1.as_str()).collect()
    }

    /// However it is cut into pieces, the same comes out.
    #[test]
    fn thinking_is_found_wherever_the_pieces_are_cut() {
        for (content, expected, reasoning) in [
            ("plain", "plain", ""),
            ("  plain, untouched \n", "  plain, untouched \n", ""),
            ("<think>\nhm\n</think>\n\nAnswer", "Answer", "hm"),
            ("<think>\nhm hm\n\nhm</think>\n\n    code\n", "    code", "hm hm\n\nhm"),
            ("<thinking>a</thinking>b<think>c</think>d", "bd", "a\n\nc"),
            ("<think>a</think> <think>b</think> c <d", "  c <d", "a\n\nb"),
            ("\n<think>cut off in the mid", "", "cut off in the mid"),
            ("<think></think>\n\nAnswer", "Answer", ""),
            ("Write <think> to start. ", "Write <think> to start. ", ""),
            ("a < b and a <thing", "a < b and a <thing", ""),
            ("<think>größer </thin als</think>ä", "ä", "größer </thin als"),
            (" \n ", "", ""),
        ] {
            for size in 1..=content.chars().count() {
                let mut splitter = Splitter::default();
                let letters: Vec<char> = content.chars().collect();
                let mut pieces: Vec<_> = letters
                    .chunks(size)
                    .flat_map(|letters| splitter.content(&letters.iter().collect::<String>()))
                    .collect();
                pieces.extend(splitter.finish());
                assert!(pieces.iter().all(|piece| !piece.1.is_empty()));
                assert_eq!(joined(&pieces, ChunkOf::Content), expected, "{content:?} by {size}");
                assert_eq!(joined(&pieces, ChunkOf::Reasoning), reasoning, "{content:?} by {size}");
            }
        }
    }

    #[test]
    fn nothing_waits_that_can_be_judged() {
        let mut splitter = Splitter::default();
        let mut shown = Vec::new();
        for text in ["<thi", "nk>so", " so", "</think>", "\n\nHel", "lo ", "you"] {
            let pieces = splitter.content(text);
            shown.push(pieces.into_iter().map(|piece| piece.1).collect::<String>());
        }
        assert_eq!(shown, ["", "so", " so", "", "Hel", "lo", " you"]);
    }

    #[test]
    fn the_providers_own_reasoning_is_a_part_of_its_own() {
        let mut splitter = Splitter::default();
        let mut pieces = splitter.reasoning(" a");
        pieces.extend(splitter.reasoning(" b\n"));
        pieces.extend(splitter.content("<think>c</think>d "));
        pieces.extend(splitter.finish());
        assert_eq!(joined(&pieces, ChunkOf::Reasoning), "a b\n\nc");
        assert_eq!(joined(&pieces, ChunkOf::Content), "d");
    }
}
