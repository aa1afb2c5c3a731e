//! One call from its arguments to its end: the steps that come before and after the guest's own work.

use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;
use tokio::sync::SemaphorePermit;

use super::bindings::holdfast::plugin::types::{CallContext, Outcome};
use super::call::{Answer, CallIdentity, Instance, Question};
use super::meter::Meter;
use super::outcome::Ended;
use super::suspend::{Asking, Resumption};
use super::{Invocation, Loaded, Plugin};
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
        let parts = [&loaded.id, org.as_str(), user.as_str()].map(str::as_bytes);
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

    /// An error is how the call ended, and be it well: otherwise it asks a human.
    pub(super) async fn run(mut self) -> Result<Suspension, Box<Ended>> {
        let (asking, meter) = (Arc::clone(&self.asking), Arc::clone(&self.meter));
        let plugin = Arc::clone(&asking.plugin);
        let checks = plugin.check_arguments(&asking.tool, &self.arguments).map_err(|problem| {
            let text = format!("The call did not run: {problem}. Correct the arguments and call again.");
            Ended::of(OutcomeKind::InvalidArgs, text)
        })?;
        let _turn = self.turn(&plugin).await?;
        let resumption = match asking.answered {
            None => None,
            Some(_) => blocking(&asking, Asking::resumption).await?,
        };
        self.context.deadline_unix_ms = self.deadline();
        let (context, tool) = (Box::new(self.context), asking.tool.tool().to_owned());
        let question = match resumption {
            None => Question::Call { context, tool, arguments: self.arguments.to_string() },
            Some(Resumption { plugin, state, answer }) => {
                Question::Resume { plugin, context, tool, state, answer }
            }
        };
        let instance = Instance {
            plugin: Arc::clone(&plugin.id),
            clock: plugin.shared.clock.clone(),
            limits: Arc::clone(&plugin.limits),
            grants: Arc::clone(&plugin.grants),
            meter: Arc::clone(&meter),
            call: Some(self.identity),
            values: Arc::clone(&plugin.values),
            connector: Arc::clone(&plugin.shared.connector),
        };
        let schema = checks.output.as_ref();
        let answered = |answer| Ended::answered(answer, schema, &plugin.limits, &meter);
        let ended = match instance.ask(&plugin.shared.engine, &plugin.pre, question).await {
            Ok(Answer::Outcome(Ok(Outcome::Suspend(asked)))) => {
                return blocking(&asking, move |asking| asking.suspension(&asked, &meter)).await;
            }
            Ok(Answer::Outcome(Ok(Outcome::Done(output)))) => answered(Ok(output)),
            Ok(Answer::Outcome(Err(failure))) => answered(Err(failure)),
            Ok(Answer::Tools(_)) => Ended::host_fault("the guest answered another question"),
            Err(stopped) => Ended::stopped(&stopped, &meter),
        };
        Err(Box::new(ended))
    }

    /// Waits for one of the plugin's places. This does not count as the call's time, which is a limit on
    /// the plugin's own work; it takes at most as long as a call may.
    async fn turn<'a>(&self, plugin: &'a Loaded) -> Result<SemaphorePermit<'a>, Ended> {
        tokio::select! {
            biased;
            () = self.identity.cancelled.cancelled() => Err(Ended::cancelled()),
            turn = plugin.running.acquire() => turn.map_err(|error| Ended::host_fault(error.to_string())),
            () = tokio::time::sleep(plugin.limits.wall()) => Err(Ended::of(
                OutcomeKind::Unavailable,
                "The tool is busy with other calls and did not run. Try again later.",
            )),
        }
    }

    fn deadline(&self) -> u64 {
        let plugin = &self.asking.plugin;
        let deadline = plugin.shared.clock.now().plus(plugin.limits.wall());
        u64::try_from(deadline.as_millis()).unwrap_or(0)
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
