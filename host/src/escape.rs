//! Text that others control, made safe to show: in a log, in an error, to an operator or a model.

use std::fmt::Write as _;

/// Text as one harmless line: at most `longest` bytes of it, control and text-direction
/// characters written as escapes.
pub(crate) fn escaped(text: &str, longest: usize) -> String {
    let kept = &text[..text.floor_char_boundary(longest)];
    let mut line = String::with_capacity(kept.len() + 16);
    for character in kept.chars() {
        let moves_text =
            matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if character.is_control() || moves_text {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    if kept.len() < text.len() {
        // Writing to a `String` cannot fail.
        let _ = write!(line, "… ({} bytes cut)", text.len() - kept.len());
    }
    line
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn a_guest_cannot_forge_a_line_or_move_the_cursor() {
        assert_eq!(escaped("a\nERROR forged\u{1b}[2J\u{202e}é", 100), "a\\nERROR forged\\u{1b}[2J\\u{202e}é");
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        assert_eq!(escaped("aéé", 2), "a… (4 bytes cut)");
    }
}
