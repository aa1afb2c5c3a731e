//! One call from its arguments to its end: the steps that come before and after the guest's own work.

use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;
use tokio::sync::SemaphorePermit;

use super::bindings::exports::holdfast::plugin::tools::CallContext;
use super::breaker::{Admit, Breaker};
use super::call::{Answer, CallIdentity, Instance, Question};
use super::meter::Meter;
use super::outcome::Ended;
use super::{Invocation, Loaded, Plugin};
use crate::clock::Timestamp;
use crate::session::Owner;
use crate::store::Store;
use crate::tool::{OutcomeKind, ToolName, hex};

/// An [`Invocation`] that can move to the guests' threads.
pub(super) struct Job {
    plugin: Arc<Loaded>,
    meter: Arc<Meter>,
    tool: ToolName,
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
            plugin: Arc::clone(loaded),
            meter,
            tool: invocation.tool.clone(),
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

    /// Until the guest has answered, or its plugin is stopped.
    pub(super) async fn run(self) -> Ended {
        let plugin = Arc::clone(&self.plugin);
        tokio::select! {
            biased;
            () = plugin.stopped.cancelled() => Ended::revoked(plugin.stop_reason.get().map_or("", String::as_str)),
            ended = self.work() => ended,
        }
    }

    async fn work(mut self) -> Ended {
        let plugin = Arc::clone(&self.plugin);
        let parts = &plugin.prepared;
        let checks = match parts.check_arguments(&self.tool, &self.arguments) {
            Ok(checks) => checks,
            Err(problem) => {
                let text = format!("The call did not run: {problem}. Correct the arguments and call again.");
                return Ended::of(OutcomeKind::InvalidArgs, text);
            }
        };
        let _turn = match self.turn(&plugin).await {
            Ok(turn) => turn,
            Err(ended) => return ended,
        };
        let admitted = plugin.breaker_after(Breaker::admit);
        if admitted == Admit::Refuse {
            return Ended::stopped_for_now();
        }
        self.context.deadline_unix_ms = self.deadline();
        let question = Question::Call {
            context: Box::new(self.context),
            tool: self.tool.tool().to_owned(),
            arguments: self.arguments.to_string(),
        };
        let instance = Instance {
            plugin: Arc::clone(parts.id()),
            clock: parts.shared().clock.clone(),
            limits: Arc::clone(parts.limits()),
            grants: Arc::clone(&plugin.grants),
            meter: Arc::clone(&self.meter),
            call: Some(self.identity),
        };
        let ended = match instance.ask(&parts.shared().engine, &plugin.pre, question).await {
            Ok(Answer::Outcome(answer)) => {
                Ended::answered(answer, checks.output.as_ref(), parts.limits(), &self.meter)
            }
            Ok(Answer::Tools(_)) => Ended::host_fault("the guest answered another question"),
            Err(stopped) => Ended::stopped(&stopped, &self.meter),
        };
        plugin.breaker_after(|breaker, now| breaker.record(admitted, &ended.kind, now));
        ended
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
        let deadline = self.plugin.prepared.shared().clock.now().plus(self.plugin.prepared.limits().wall());
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

/// 32 hexadecimal digits of a SHA-256 over the parts, each after its length.
fn digest(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex(&hash.finalize()[..16])
}
