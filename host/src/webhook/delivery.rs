//! One attempt to deliver one event to one endpoint.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderMap, USER_AGENT};

use super::endpoint::Endpoint;
use crate::clock::{Clock, Timestamp};
use crate::outbound;
use crate::store::{DueWebhook, WebhookAttempt, WebhookThen};

/// How long an endpoint may take to answer.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The waits between attempts. After the last one an event is given up.
const BACKOFF: [Duration; 6] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_mins(2),
    Duration::from_mins(10),
    Duration::from_hours(1),
    Duration::from_hours(6),
];

/// Longest wait that an endpoint may ask for.
const MOST_RETRY_AFTER: Duration = Duration::from_hours(24);

/// Sends to one endpoint.
pub(super) struct Delivery {
    endpoint: Endpoint,
    client: reqwest::Client,
    clock: Clock,
}

/// What came of an attempt.
pub(super) struct Verdict {
    pub(super) attempt: WebhookAttempt,
    /// Whether the endpoint says that it wants nothing any more; none = it was not asked.
    pub(super) gone: Option<bool>,
}

/// An answer, or why there was none.
struct Outcome {
    status: Option<u16>,
    /// None = a success.
    error: Option<&'static str>,
    retry_after: Option<Duration>,
}

impl Delivery {
    pub(super) fn new(endpoint: Endpoint, clock: Clock) -> Result<Self, reqwest::Error> {
        let client = outbound::client(endpoint.reach(), TIMEOUT)?;
        Ok(Self { endpoint, client, clock })
    }

    pub(super) fn endpoint_id(&self) -> &str {
        &self.endpoint.id
    }

    /// Never fails: what goes wrong is the attempt's outcome.
    pub(super) async fn attempt(&self, due: &DueWebhook) -> Verdict {
        let began = self.clock.now();
        let outcome = self.send(due, began).await;
        let gone = Some(outcome.error == Some(GONE));
        Verdict { attempt: self.log(due, began, &outcome), gone }
    }

    /// Sends nothing, and says so in the log.
    pub(super) fn withhold(&self, due: &DueWebhook) -> Verdict {
        Verdict { attempt: self.log(due, self.clock.now(), &Outcome::failed(GONE)), gone: None }
    }

    fn log(&self, due: &DueWebhook, began: Timestamp, outcome: &Outcome) -> WebhookAttempt {
        let at = self.clock.now();
        let then = match outcome.error {
            None => WebhookThen::Delivered,
            Some(GONE) => WebhookThen::Dead,
            Some(_) => next(due.failures, at, outcome.retry_after),
        };
        if then == WebhookThen::Dead {
            tracing::warn!(webhook.id = %self.endpoint.id, event.id = %due.event, "gave a webhook up");
        }
        WebhookAttempt {
            event: due.event.clone(),
            endpoint: self.endpoint.id.clone(),
            due_at: due.due_at,
            status: outcome.status,
            error: outcome.error,
            duration_ms: at.millis_since(began),
            at,
            then,
        }
    }

    async fn send(&self, due: &DueWebhook, now: Timestamp) -> Outcome {
        if self.endpoint.check().is_err() {
            return Outcome::failed("private-address");
        }
        let timestamp = now.as_millis().div_euclid(1000);
        let request = self
            .client
            .post(self.endpoint.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("holdfast/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", &due.event)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", self.endpoint.secret.sign(&due.event, timestamp, &due.body))
            .body(due.body.clone());
        // The answer's body is nobody's business, and may be endless: it is dropped unread.
        match request.send().await {
            Ok(response) if response.status().is_success() => {
                Outcome { status: Some(response.status().as_u16()), error: None, retry_after: None }
            }
            Ok(response) => Outcome {
                status: Some(response.status().as_u16()),
                error: Some(refusal(response.status())),
                retry_after: retry_after(response.headers()),
            },
            Err(error) => Outcome::failed(word(&error)),
        }
    }
}

impl Outcome {
    fn failed(word: &'static str) -> Self {
        Self { status: None, error: Some(word), retry_after: None }
    }
}

/// What the log says where the endpoint wants nothing any more.
const GONE: &str = "gone";

fn refusal(status: StatusCode) -> &'static str {
    if status == StatusCode::GONE {
        GONE
    } else if status.is_redirection() {
        "redirect"
    } else {
        "status"
    }
}

/// The wait that the endpoint asks for counts where it is longer than ours.
fn next(failures: u64, at: Timestamp, asked: Option<Duration>) -> WebhookThen {
    let ours = usize::try_from(failures).ok().and_then(|failures| BACKOFF.get(failures));
    ours.map_or(WebhookThen::Dead, |ours| WebhookThen::Retry(at.plus(asked.unwrap_or_default().max(*ours))))
}

/// In seconds, or as a date, which is read against the answer's own date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let value = text("retry-after")?;
    let seconds = value.parse::<u64>().ok().or_else(|| {
        let until = jiff::fmt::rfc2822::parse(value).ok()?.timestamp().as_second();
        let now = jiff::fmt::rfc2822::parse(text("date")?).ok()?.timestamp().as_second();
        u64::try_from(until.saturating_sub(now)).ok()
    })?;
    Some(Duration::from_secs(seconds).min(MOST_RETRY_AFTER))
}

/// What the delivery log says: words, since the error's own text may name what the operator keeps to himself.
fn word(error: &reqwest::Error) -> &'static str {
    if outbound::was_refused(error) {
        "private-address"
    } else if error.is_timeout() {
        "timeout"
    } else if error.is_connect() {
        "connection"
    } else {
        "request"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end() {
        let at = Timestamp::from_millis(0);
        let waits: Vec<Option<i64>> = (0..8)
            .map(|failures| match next(failures, at, None) {
                WebhookThen::Retry(next) => Some(next.as_millis() / 1000),
                WebhookThen::Dead | WebhookThen::Delivered => None,
            })
            .collect();
        let seconds = [5, 30, 120, 600, 3600, 21_600].map(Some);
        assert_eq!(waits, [seconds.as_slice(), &[None, None]].concat());
        let asked = next(0, at, Some(Duration::from_mins(1)));
        assert_eq!(asked, WebhookThen::Retry(Timestamp::from_millis(60_000)));
        let less = next(1, at, Some(Duration::from_secs(1)));
        assert_eq!(less, WebhookThen::Retry(Timestamp::from_millis(30_000)));
    }

    #[test]
    fn a_wait_is_asked_for_in_two_forms_and_has_a_limit() {
        let ask = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("date", "Tue, 24 Nov 2026 10:00:00 GMT".parse().unwrap());
            headers.insert("retry-after", value.parse().unwrap());
            retry_after(&headers).map(|wait| wait.as_secs())
        };
        assert_eq!(ask("7"), Some(7));
        assert_eq!(ask("Tue, 24 Nov 2026 10:00:09 GMT"), Some(9));
        assert_eq!(ask("99999999999"), Some(86_400));
        assert_eq!(ask("soon"), None);
    }
}
