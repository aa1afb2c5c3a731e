//! Asking again: how often, after how long, and when not at all.
//!
//! A 5xx is not retried blindly: servers also answer 500 to mistakes of the client, so three attempts must
//! do. A rate limit passes with time, so it gets five, and the provider's `Retry-After` is kept to.

use std::time::Duration;

use super::{Deltas, Model, ModelError, Request};
use crate::session::Reply;

/// A longer wait than this is the caller's to decide about.
const LONGEST_WAIT: Duration = Duration::from_mins(1);
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// Attempts until there is a reply or no more hope.
pub(super) async fn reply(
    model: &dyn Model,
    request: &Request,
    limit: Duration,
) -> Result<Reply, ModelError> {
    let mut attempt = 1;
    loop {
        let error = match tokio::time::timeout(limit, model.reply(request)).await {
            Ok(Ok(reply)) => return Ok(reply),
            Ok(Err(error)) => error,
            Err(_) => too_late(limit),
        };
        wait(request, error, attempt).await?;
        attempt += 1;
    }
}

/// The same for a reply that is shown as it comes: as soon as some of it was shown, a failure is final.
pub(super) async fn stream(
    model: &dyn Model,
    request: &Request,
    deltas: &mut Deltas,
    limit: Duration,
) -> Result<Reply, ModelError> {
    let mut attempt = 1;
    loop {
        let error = match one_stream(model, request, deltas, limit).await {
            Err(error) if !deltas.begun() => error,
            result => return result,
        };
        deltas.restart();
        wait(request, error, attempt).await?;
        attempt += 1;
    }
}

/// `limit` is the longest silence.
async fn one_stream(
    model: &dyn Model,
    request: &Request,
    deltas: &mut Deltas,
    limit: Duration,
) -> Result<Reply, ModelError> {
    let progress = deltas.progress();
    let mut reply = model.stream(request, deltas);
    loop {
        tokio::select! {
            reply = &mut reply => return reply,
            () = progress.notified() => {}
            () = tokio::time::sleep(limit) => return Err(too_late(limit)),
        }
    }
}

fn too_late(limit: Duration) -> ModelError {
    ModelError::Unavailable {
        message: format!("no answer within {} ms", limit.as_millis()),
        retry_after_ms: None,
    }
}

/// Returns when it is time for the next attempt.
async fn wait(request: &Request, error: ModelError, attempt: u32) -> Result<(), ModelError> {
    let wait = wait_before_next(&error, attempt, jitter()).map_err(|why| give_up(error.clone(), &why))?;
    tracing::warn!(
        model = %request.model,
        attempt,
        wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        error = %error,
        "the model did not answer: asking again"
    );
    tokio::time::sleep(wait).await;
    Ok(())
}

/// Why there is no further attempt.
#[derive(Debug, PartialEq, Eq)]
enum GiveUp {
    Hopeless,
    /// After this many attempts.
    Attempts(u32),
    /// The provider asks for this much patience.
    Wait(Duration),
}

fn give_up(error: ModelError, why: &GiveUp) -> ModelError {
    match *why {
        GiveUp::Hopeless | GiveUp::Attempts(1) => error,
        GiveUp::Attempts(count) => error.map_message(|text| format!("{text} (after {count} attempts)")),
        GiveUp::Wait(wait) => error.map_message(|text| {
            format!(
                "{text} (the provider asks for a wait of {} s, longer than the {} s that are waited here)",
                wait.as_secs(),
                LONGEST_WAIT.as_secs()
            )
        }),
    }
}

/// `jitter` is from 0 to 1.
fn wait_before_next(error: &ModelError, attempt: u32, jitter: f64) -> Result<Duration, GiveUp> {
    let (attempts, asked) = match error {
        ModelError::RateLimited { retry_after_ms, .. } => (5, *retry_after_ms),
        ModelError::Unavailable { retry_after_ms, .. } => (3, *retry_after_ms),
        ModelError::Malformed(_) => (3, None),
        ModelError::NoApiKey { .. }
        | ModelError::UnknownModel(_)
        | ModelError::ContextOverflow(_)
        | ModelError::Refused(_) => return Err(GiveUp::Hopeless),
    };
    let asked = asked.map(Duration::from_millis);
    if let Some(wait) = asked.filter(|wait| *wait > LONGEST_WAIT) {
        return Err(GiveUp::Wait(wait));
    }
    if attempt >= attempts {
        return Err(GiveUp::Attempts(attempt));
    }
    Ok(match asked {
        // Never earlier than asked, and not in step with everybody who was told the same.
        Some(wait) => wait + Duration::from_millis(100).mul_f64(jitter),
        None => (FIRST_WAIT * 2u32.saturating_pow(attempt - 1)).mul_f64(0.75 + jitter / 2.0),
    })
}

/// From 0 to 1. Without randomness of the system's (never seen) there is none here either.
fn jitter() -> f64 {
    getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(retry_after_ms: Option<u64>) -> ModelError {
        ModelError::RateLimited { message: "slow down".to_owned(), retry_after_ms }
    }

    #[test]
    fn waits_grow_and_end() {
        let unavailable = ModelError::Unavailable { message: "HTTP 500".to_owned(), retry_after_ms: None };
        let malformed = ModelError::Malformed("no".to_owned());
        let refused = ModelError::Refused("no".to_owned());
        let ms = |ms| Ok(Duration::from_millis(ms));
        for (error, attempt, expected) in [
            (&unavailable, 1, ms(500)),
            (&unavailable, 2, ms(1000)),
            (&unavailable, 3, Err(GiveUp::Attempts(3))),
            (&malformed, 1, ms(500)),
            (&malformed, 3, Err(GiveUp::Attempts(3))),
            (&limited(None), 4, ms(4000)),
            (&limited(None), 5, Err(GiveUp::Attempts(5))),
            (&limited(Some(2000)), 1, ms(2050)),
            (&limited(Some(60_000)), 1, ms(60_050)),
            (&limited(Some(61_000)), 1, Err(GiveUp::Wait(Duration::from_secs(61)))),
            (&refused, 1, Err(GiveUp::Hopeless)),
        ] {
            assert_eq!(wait_before_next(error, attempt, 0.5), expected, "{error:?} {attempt}");
        }
    }

    #[test]
    fn giving_up_says_why() {
        let text = give_up(limited(None), &GiveUp::Wait(Duration::from_secs(90))).to_string();
        assert!(text.contains("slow down (the provider asks for a wait of 90 s"), "{text}");
    }
}
