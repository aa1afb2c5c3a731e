//! Text that others control, made safe to show: in a log, in an error, to an operator or a model.

use std::fmt::Write as _;

/// Text as one harmless line: at most `longest` bytes of it, with control characters, those that move text about,
/// and those that nobody sees written as escapes.
pub(crate) fn escaped(text: &str, longest: usize) -> String {
    let kept = &text[..text.floor_char_boundary(longest)];
    let mut line = String::with_capacity(kept.len() + 16);
    for character in kept.chars() {
        if character.is_control() || moves_text(character) || is_invisible(character) {
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

fn moves_text(character: char) -> bool {
    matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Of no width and no use in a line: a model reads what a human does not see. The joiners, which writing needs,
/// stay.
fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{200b}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    )
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn a_guest_cannot_forge_a_line_or_move_the_cursor() {
        assert_eq!(escaped("a\nERROR forged\u{1b}[2J\u{202e}é", 100), "a\\nERROR forged\\u{1b}[2J\\u{202e}é");
    }

    #[test]
    fn nothing_in_a_line_is_invisible() {
        for hidden in ['\u{61c}', '\u{200b}', '\u{2062}', '\u{feff}', '\u{e0041}', '\u{206f}'] {
            let line = escaped(&format!("pay{hidden} 5"), 100);
            assert_eq!(line, format!("pay\\u{{{:x}}} 5", u32::from(hidden)));
        }
        let spoken = "\u{645}\u{6cc}\u{200c}\u{62e}\u{648}\u{627}\u{647}\u{645} \u{1f469}\u{200d}\u{1f4bb}";
        assert_eq!(escaped(spoken, 100), spoken);
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        assert_eq!(escaped("aéé", 2), "a… (4 bytes cut)");
    }
}
