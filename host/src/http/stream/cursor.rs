//! A place in a run's stream: the `id` of a frame, and what a client names to go on after it.

use std::fmt;
use std::str::FromStr;

/// Everything of the events up to `seq`, and the first `frames` frames of the next one.
///
/// Written `<seq>` behind an event's last frame, and `<seq + 1>.<frames>` inside of the next event: a
/// reply under way has no end yet, so none of its pieces is the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) seq: u64,
    pub(super) frames: usize,
}

impl Cursor {
    pub(super) fn after(seq: u64) -> Self {
        Self { seq, frames: 0 }
    }

    /// Inside of event `seq`, behind its first `frames` frames.
    pub(super) fn within(seq: u64, frames: usize) -> Self {
        Self { seq: seq.saturating_sub(1), frames }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.frames {
            0 => write!(f, "{}", self.seq),
            frames => write!(f, "{}.{frames}", self.seq + 1),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("is not the id of a frame: write one as it came, such as 5 or 5.7")]
pub(super) struct NotACursor;

impl FromStr for Cursor {
    type Err = NotACursor;

    fn from_str(text: &str) -> Result<Self, NotACursor> {
        let number = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u32>().ok().filter(|_| digits).ok_or(NotACursor)
        };
        match text.split_once('.') {
            None => Ok(Self::after(number(text)?.into())),
            Some((seq, frames)) => match (number(seq)?, number(frames)?) {
                (0, _) | (_, 0) => Err(NotACursor),
                (seq, frames) => Ok(Self::within(seq.into(), frames as usize)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_read_as_they_are_written() {
        for text in ["0", "1", "17", "1.1", "17.4"] {
            assert_eq!(text.parse::<Cursor>().unwrap().to_string(), text);
        }
        for text in ["", "x", "-1", "+1", "1.", ".1", "0.1", "1.0", "1.2.3", "99999999999", " 1"] {
            assert!(text.parse::<Cursor>().is_err(), "{text}");
        }
    }
}
