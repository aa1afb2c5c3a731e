//! One call from its arguments to its end: the steps that come before and after the guest's own work.

use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;
use tokio::sync::SemaphorePermit;

use super::bindings::holdfast::plugin::types::{CallContext, Outcome};
use super::breaker::{Admit, Breaker};
use super::call::{Answer, CallIdentity, Instance, Question};
use super::meter::Meter;
use super::outcome::Ended;
use super::suspend::{Asking, Resumption};
use super::{Invocation, Loaded, Plugin};
use crate::clock::Timestamp;
use crate::session::Owner;
use crate::store::Store;
use crate::tool::{OutcomeKind, Suspension, hex};

/// An [`Invocation`] that can move to the guests' threads.
pub(super) struct Job {
    asking: Arc<Asking>,
    meter: Arc<Meter>,
    arguments: Value,
    context: CallContext,
    identity: CallIdentity,
}

impl Job {
    pub(super) fn new(
        plugin: &Plugin,
        invocation: &Invocation<'_>,
        meter: Arc<Meter>,
        home: Handle,
        store: Arc<dyn Store>,
    ) -> Self {
        let loaded = &plugin.0;
        let Owner { org, user } = invocation.owner;
        let parts = [loaded.prepared.id(), org.as_str(), user.as_str()].map(str::as_bytes);
        let user_ref = digest(&[store.installation(), parts[0], parts[1], parts[2]]);
        let key = [invocation.run.as_str(), invocation.call.as_str()].map(str::as_bytes);
        Self {
            meter,
            arguments: invocation.arguments.clone(),
            context: CallContext {
                run_id: invocation.run.to_string(),
                session_id: invocation.session.to_string(),
                call_id: invocation.call.to_string(),
                user_ref: Some(user_ref),
                attempt: invocation.attempt,
                idempotency_key: digest(&key),
                // Set when the call starts.
                deadline_unix_ms: 0,
                traceparent: None,
            },
            asking: Arc::new(Asking {
                plugin: Arc::clone(loaded),
                run: invocation.run.clone(),
                call: invocation.call.clone(),
                tool: invocation.tool.clone(),
                store: Arc::clone(&store),
                answered: invocation.answered.cloned(),
                answer_within: invocation.answer_within,
            }),
            identity: CallIdentity {
                run: invocation.run.clone(),
                session: invocation.session.clone(),
                owner: invocation.owner.clone(),
                cancelled: invocation.cancelled.clone(),
                store,
                home,
            },
        }
    }

    /// Until the guest has answered, or its plugin is stopped. An error is how the call ended, and be it well:
    /// otherwise it asks a human.
    pub(super) async fn run(self) -> Result<Suspension, Box<Ended>> {
        let plugin = Arc::clone(&self.asking.plugin);
        tokio::select! {
            biased;
            () = plugin.stopped.cancelled() => {
                let reason = plugin.stop_reason.get().map_or("", String::as_str);
                Err(Box::new(Ended::revoked(reason)))
            }
            ended = self.work() => ended,
        }
    }

    async fn work(mut self) -> Result<Suspension, Box<Ended>> {
        let (asking, meter) = (Arc::clone(&self.asking), Arc::clone(&self.meter));
        let plugin = Arc::clone(&asking.plugin);
        let parts = &plugin.prepared;
        let checks = parts.check_arguments(&asking.tool, &self.arguments).map_err(|problem| {
            let text = format!("The call did not run: {problem}. Correct the arguments and call again.");
            Ended::of(OutcomeKind::InvalidArgs, text)
        })?;
        let _turn = self.turn(&plugin).await?;
        let resumption = match asking.answered {
            None => None,
            Some(_) => blocking(&asking, Asking::resumption).await?,
        };
        let admitted = plugin.breaker_after(Breaker::admit);
        if admitted == Admit::Refuse {
            return Err(Box::new(Ended::stopped_for_now()));
        }
        self.context.deadline_unix_ms = self.deadline();
        let (context, tool) = (Box::new(self.context), asking.tool.tool().to_owned());
        let question = match resumption {
            None => Question::Call { context, tool, arguments: self.arguments.to_string() },
            Some(Resumption { plugin, state, answer }) => {
                Question::Resume { plugin, context, tool, state, answer }
            }
        };
        let instance = Instance {
            plugin: Arc::clone(parts.id()),
            clock: parts.shared().clock.clone(),
            limits: Arc::clone(parts.limits()),
            grants: Arc::clone(&plugin.grants),
            meter: Arc::clone(&meter),
            call: Some(self.identity),
            values: Arc::clone(parts.values()),
            connector: Arc::clone(parts.connector()),
            memory: parts.shared().memory.share(parts.id()),
        };
        let schema = checks.output.as_ref();
        let answered = |answer| Ended::answered(answer, schema, parts.limits(), &meter);
        let ended = match instance.ask(&parts.shared().engine, &plugin.pre, question).await {
            Ok(Answer::Outcome(Ok(Outcome::Suspend(asked)))) => {
                let meter = Arc::clone(&meter);
                let asks = blocking(&asking, move |asking| asking.suspension(&asked, &meter)).await;
                let kind = asks.as_ref().map_or_else(|ended| &ended.kind, |_| &OutcomeKind::Ok);
                plugin.breaker_after(|breaker, now| breaker.record(admitted, kind, now));
                return asks;
            }
            Ok(Answer::Outcome(Ok(Outcome::Done(output)))) => answered(Ok(output)),
            Ok(Answer::Outcome(Err(failure))) => answered(Err(failure)),
            Ok(Answer::Tools(_)) => Ended::host_fault("the guest answered another question"),
            Err(stopped) => Ended::stopped(&stopped, &meter),
        };
        plugin.breaker_after(|breaker, now| breaker.record(admitted, &ended.kind, now));
        Err(Box::new(ended))
    }

    /// Waits for one of the plugin's places. This does not count as the call's time, which is a limit on
    /// the plugin's own work; it takes at most as long as a call may.
    async fn turn<'a>(&self, plugin: &'a Loaded) -> Result<SemaphorePermit<'a>, Ended> {
        tokio::select! {
            biased;
            () = self.identity.cancelled.cancelled() => Err(Ended::cancelled()),
            turn = plugin.running.acquire() => turn.map_err(|error| Ended::host_fault(error.to_string())),
            () = tokio::time::sleep(plugin.prepared.limits().wall()) => Err(Ended::of(
                OutcomeKind::Unavailable,
                "The tool is busy with other calls and did not run. Try again later.",
            )),
        }
    }

    fn deadline(&self) -> u64 {
        let parts = &self.asking.plugin.prepared;
        let deadline = parts.shared().clock.now().plus(parts.limits().wall());
        u64::try_from(deadline.as_millis()).unwrap_or(0)
    }
}

impl Loaded {
    /// Takes a step of the circuit breaker, and says so in the log where that changes its state.
    fn breaker_after<T>(&self, step: impl FnOnce(&mut Breaker, Timestamp) -> T) -> T {
        let now = self.prepared.shared().clock.now();
        let (before, done, after) = {
            let mut breaker = self.breaker();
            let before = breaker.state();
            let done = step(&mut breaker, now);
            (before, done, breaker.state())
        };
        if before != after {
            let (id, state) = (self.prepared.id(), after.word());
            let setting = format!("plugins.{id}.limits.breaker_failures");
            tracing::warn!(plugin.id = %id, digest = self.prepared.digest(), state, setting, "a plugin's circuit breaker changed");
        }
        done
    }
}

/// Work with schemas that others wrote, which must not hold up other guests.
async fn blocking<T: Send + 'static>(
    asking: &Arc<Asking>,
    work: impl FnOnce(&Asking) -> Result<T, Box<Ended>> + Send + 'static,
) -> Result<T, Box<Ended>> {
    let asking = Arc::clone(asking);
    let worked = tokio::task::spawn_blocking(move || work(&asking)).await;
    worked.unwrap_or_else(|error| Err(Ended::host_fault(error.to_string()).into()))
}

/// 32 hexadecimal digits of a SHA-256 over the parts, each after its length.
fn digest(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex(&hash.finalize()[..16])
}
