//! The circuit breaker of one version of a plugin: what keeps failing is left alone for a while.
//!
//! A pure state machine. Only failures that the host has to clean up after count; what a tool says about
//! itself, and what it is denied, does not.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;

use super::limits::Limits;
use crate::clock::Timestamp;
use crate::tool::{Limit, OutcomeKind};

/// When it opens, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// 0 = never.
    failures: usize,
    window: Duration,
    cooldown: Duration,
}

impl From<&Limits> for Terms {
    fn from(limits: &Limits) -> Self {
        Self {
            failures: usize::try_from(limits.breaker_failures).unwrap_or(usize::MAX),
            window: Duration::from_millis(limits.breaker_window_ms),
            cooldown: Duration::from_millis(limits.breaker_cooldown_ms),
        }
    }
}

#[derive(Debug)]
pub(super) struct Breaker {
    terms: Terms,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Carries when the latest failures were.
    Closed(VecDeque<Timestamp>),
    Open {
        until: Timestamp,
    },
    /// One call tries. If it never reports, another one may.
    Probing {
        until: Timestamp,
    },
}

/// As operators see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerState {
    /// Calls run.
    Closed,
    /// Calls are refused.
    Open,
    /// One call tries, the others are refused.
    HalfOpen,
}

impl BreakerState {
    pub fn word(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

/// Whether a call may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admit {
    Run,
    /// It runs to find out.
    Probe,
    Refuse,
}

impl Breaker {
    pub(super) fn new(terms: Terms) -> Self {
        Self { terms, state: State::Closed(VecDeque::new()) }
    }

    pub(super) fn state(&self) -> BreakerState {
        match self.state {
            State::Closed(_) => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::Probing { .. } => BreakerState::HalfOpen,
        }
    }

    /// Asked before each call; the answer is to be handed to [`Breaker::record`].
    pub(super) fn admit(&mut self, now: Timestamp) -> Admit {
        match self.state {
            State::Closed(_) => Admit::Run,
            State::Open { until } | State::Probing { until } if until > now => Admit::Refuse,
            State::Open { .. } | State::Probing { .. } => {
                self.state = State::Probing { until: now.plus(self.terms.cooldown) };
                Admit::Probe
            }
        }
    }

    /// Told after each call that was admitted.
    pub(super) fn record(&mut self, admitted: Admit, kind: &OutcomeKind, now: Timestamp) {
        match (&mut self.state, admitted, failed(kind)) {
            (State::Closed(failures), _, Some(true)) if self.terms.failures > 0 => {
                failures.push_back(now);
                while failures.front().is_some_and(|first| first.plus(self.terms.window) <= now) {
                    failures.pop_front();
                }
                if failures.len() >= self.terms.failures {
                    self.state = State::Open { until: now.plus(self.terms.cooldown) };
                }
            }
            (State::Probing { .. }, Admit::Probe, Some(true)) => {
                self.state = State::Open { until: now.plus(self.terms.cooldown) };
            }
            (State::Probing { .. }, Admit::Probe, Some(false)) => self.state = State::Closed(VecDeque::new()),
            // It told nothing about the plugin: the next call tries.
            (State::Probing { .. }, Admit::Probe, None) => self.state = State::Open { until: now },
            // A call from before it opened changes nothing any more.
            (State::Closed(_) | State::Open { .. } | State::Probing { .. }, _, _) => {}
        }
    }
}

/// None: the call says nothing about whether the plugin works.
fn failed(kind: &OutcomeKind) -> Option<bool> {
    match kind {
        OutcomeKind::Ok
        | OutcomeKind::ToolError
        | OutcomeKind::GuestFailure { .. }
        | OutcomeKind::Denied { .. } => Some(false),
        // Others may have taken it.
        OutcomeKind::Limit { limit: Limit::TotalMemory }
        | OutcomeKind::InvalidArgs
        | OutcomeKind::Rejected
        | OutcomeKind::Cancelled
        | OutcomeKind::Interrupted
        | OutcomeKind::Unavailable => None,
        OutcomeKind::InvalidOutput
        | OutcomeKind::Trap { .. }
        | OutcomeKind::Limit { .. }
        | OutcomeKind::HostFault => Some(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three failures in 100 ms open it for 1000 ms.
    fn breaker() -> Breaker {
        let limits = Limits {
            breaker_failures: 3,
            breaker_window_ms: 100,
            breaker_cooldown_ms: 1000,
            ..Limits::default()
        };
        Breaker::new(Terms::from(&limits))
    }

    const TRAP: &str = "trap";
    const OK: &str = "ok";

    fn kind(word: &str) -> OutcomeKind {
        match word {
            TRAP => OutcomeKind::Trap { trap: "unreachable".to_owned() },
            "limit" => OutcomeKind::Limit { limit: Limit::Memory },
            "invalid" => OutcomeKind::InvalidOutput,
            "fault" => OutcomeKind::HostFault,
            "error" => OutcomeKind::ToolError,
            "failure" => OutcomeKind::GuestFailure { code: "x".to_owned() },
            "denied" => OutcomeKind::Denied { capability: "kv".to_owned() },
            "cancelled" => OutcomeKind::Cancelled,
            _ => OutcomeKind::Ok,
        }
    }

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    /// One call after the other; `None` = it never reports. What each was answered, and the state at the end.
    fn after(calls: &[(i64, Option<&str>)]) -> (Vec<Admit>, &'static str) {
        let mut breaker = breaker();
        let answers = calls.iter().map(|(ms, outcome)| {
            let admitted = breaker.admit(at(*ms));
            if let (Some(word), Admit::Run | Admit::Probe) = (outcome, admitted) {
                breaker.record(admitted, &kind(word), at(*ms));
            }
            admitted
        });
        let answers = answers.collect();
        (answers, breaker.state().word())
    }

    #[test]
    fn it_opens_after_enough_failures_in_time() {
        let open = [(0, Some(TRAP)), (1, Some("limit")), (2, Some("invalid")), (3, Some(OK))];
        assert_eq!(after(&open), (vec![Admit::Run, Admit::Run, Admit::Run, Admit::Refuse], "open"));
        assert_eq!(after(&[(0, Some("fault")), (1, Some(TRAP))]).1, "closed", "too few");
        assert_eq!(after(&[(0, Some(TRAP)), (50, Some(TRAP)), (100, Some(TRAP))]).1, "closed", "too slowly");
        let between = [(0, Some(TRAP)), (1, Some(OK)), (2, Some(TRAP)), (3, Some(OK)), (4, Some(TRAP))];
        assert_eq!(after(&between).1, "open", "what works in between does not hide it");
        for word in ["error", "failure", "denied", "cancelled"] {
            assert_eq!(after(&[(0, Some(word)); 9]).1, "closed", "{word}");
        }
    }

    #[test]
    fn one_call_finds_out() {
        let storm = [(0, Some(TRAP)); 3];
        let then = |calls: &[(i64, Option<&str>)]| {
            let (answers, state) = after(&[&storm[..], calls].concat());
            (answers[3..].to_vec(), state)
        };
        assert_eq!(then(&[(999, Some(OK))]), (vec![Admit::Refuse], "open"));
        assert_eq!(then(&[(1000, Some(OK))]), (vec![Admit::Probe], "closed"));
        assert_eq!(then(&[(1000, Some(TRAP)), (1999, None)]), (vec![Admit::Probe, Admit::Refuse], "open"));
        assert_eq!(then(&[(1000, None), (1001, None)]), (vec![Admit::Probe, Admit::Refuse], "half-open"));
        assert_eq!(then(&[(1000, None), (2000, Some(OK))]), (vec![Admit::Probe, Admit::Probe], "closed"));
        let cancelled = [(1000, Some("cancelled")), (1000, Some(OK))];
        assert_eq!(then(&cancelled), (vec![Admit::Probe, Admit::Probe], "closed"));
        assert_eq!(then(&[(1000, Some(OK)), (1001, Some(TRAP))]).1, "closed", "it counts from nothing");
    }

    #[test]
    fn calls_from_before_it_opened_change_nothing() {
        let mut breaker = breaker();
        let early = breaker.admit(at(0));
        for _ in 0..3 {
            let admitted = breaker.admit(at(0));
            breaker.record(admitted, &kind(TRAP), at(0));
        }
        breaker.record(early, &kind(OK), at(1));
        assert_eq!(breaker.state(), BreakerState::Open);
        assert_eq!(breaker.admit(at(1000)), Admit::Probe);
        breaker.record(early, &kind(OK), at(1001));
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
    }

    #[test]
    fn none_is_none() {
        let limits = Limits { breaker_failures: 0, ..Limits::default() };
        let mut breaker = Breaker::new(Terms::from(&limits));
        for _ in 0..100 {
            assert_eq!(breaker.admit(at(0)), Admit::Run);
            breaker.record(Admit::Run, &kind(TRAP), at(0));
        }
    }
}
