//! Ends the process at a chosen place in its journal: how tests show that nothing is lost at any of them.
//!
//! SIGKILL, right before or right after the commit that holds the n-th event which this process writes.
//! Debug builds only (`config.rs` reads the variable in no others).

use std::str::FromStr;

/// Where to die: `before:3` or `after:3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KillPoint {
    moment: Moment,
    /// From 1.
    event: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    Before,
    After,
}

#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no kill point: write before:N or after:N")]
pub struct NotAKillPoint(String);

impl FromStr for KillPoint {
    type Err = NotAKillPoint;

    fn from_str(text: &str) -> Result<Self, NotAKillPoint> {
        let error = || NotAKillPoint(text.to_owned());
        let (moment, event) = text.split_once(':').ok_or_else(error)?;
        let moment = match moment {
            "before" => Moment::Before,
            "after" => Moment::After,
            _ => return Err(error()),
        };
        Ok(Self { moment, event: event.parse().map_err(|_| error())? })
    }
}

/// How many events were written, and when that is enough.
#[derive(Default)]
pub(super) struct Countdown {
    point: Option<KillPoint>,
    written: u64,
}

impl Countdown {
    pub(super) fn to(point: Option<KillPoint>) -> Self {
        Self { point, written: 0 }
    }

    /// A commit of so many events is about to happen.
    pub(super) fn before(&mut self, events: u64) {
        self.written += events;
        self.die_if(Moment::Before);
    }

    /// It has happened.
    pub(super) fn after(&self) {
        self.die_if(Moment::After);
    }

    fn die_if(&self, now: Moment) {
        if self.point.is_some_and(|point| point.moment == now && self.written >= point.event) {
            // Nothing of this process is to see its end coming.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }
}
