//! How a run gets in: at once, or through the queue.
//!
//! Two runs of one session are never at work side by side. Whether a session is free is known only inside
//! the transaction that creates the run, so the answer to "busy" is to ask again, for a place in the queue.

use super::Runner;
use super::presence::Present;
use crate::audit::Actor;
use crate::event::NewRun;
use crate::id::RunId;
use crate::run::{InvalidTransition, Run, RunStatus};
use crate::store::{Creation, KeyClaim, Lane, StoreError, Terms};

/// How a caller wants a run to be let in.
#[derive(Clone, Debug)]
pub struct Admission {
    pub claim: Option<KeyClaim>,
    /// `Direct` begins at once where its session is free; `Background` is queued.
    pub lane: Lane,
    pub on_busy: OnBusy,
    pub on_paused: OnPaused,
    /// Who asks.
    pub by: Actor,
}

/// When another run of the session is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnBusy {
    /// It waits for its turn.
    #[default]
    Enqueue,
    Reject,
}

/// When another run of the session waits for humans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnPaused {
    #[default]
    Reject,
    /// That run is cancelled first.
    Supersede,
}

/// Why a run did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the server is shutting down")]
    Draining,
    #[error("the session belongs to another user or agent")]
    ForeignSession,
    #[error("the agent was deleted")]
    AgentDeleted,
    #[error("run {0} of the session is under way")]
    SessionBusy(RunId),
    #[error("run {0} of the session waits for humans")]
    SessionPaused(RunId),
    #[error("the queue is full")]
    QueueFull,
    #[error("the idempotency key was used for another request")]
    KeyReused,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Runner {
    /// Stores the run and begins to drive it, or queues it. Returns its id, or that of the run which the
    /// same idempotency key started before. A caller that leaves meanwhile changes nothing.
    pub async fn start(&self, new: NewRun, admission: Admission) -> Result<RunId, StartError> {
        let runner = self.clone();
        let started = self.tasks.spawn(async move { runner.admit(new, &admission).await });
        match started.await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_cancelled) => Err(StartError::Draining),
        }
    }

    async fn admit(&self, mut new: NewRun, admission: &Admission) -> Result<RunId, StartError> {
        new.queued = admission.lane == Lane::Background;
        let terms = Terms {
            claim: admission.claim.clone(),
            lane: admission.lane,
            idle_session: admission.on_busy == OnBusy::Reject,
            max_queued: self.queue.settings.max_queued,
        };
        loop {
            if self.is_draining() {
                return Err(StartError::Draining);
            }
            let mut run = Run::new(new, self.clock.now());
            let (creation, present) = self.create(&mut run, &terms).await;
            match creation? {
                Creation::Created => {
                    let id = run.spec().id.clone();
                    if run.spec().queued {
                        self.queue.changed();
                    } else {
                        self.spawn(run, present);
                    }
                    return Ok(id);
                }
                Creation::Repeat(earlier) => return self.join(earlier, admission.lane).await,
                Creation::KeyReused => return Err(StartError::KeyReused),
                Creation::ForeignSession => return Err(StartError::ForeignSession),
                Creation::AgentDeleted => return Err(StartError::AgentDeleted),
                Creation::QueueFull => return Err(StartError::QueueFull),
                Creation::SessionBusy(busy) => match admission.on_busy {
                    OnBusy::Enqueue => new = NewRun { queued: true, ..run.spec().clone() },
                    OnBusy::Reject => return Err(StartError::SessionBusy(busy)),
                },
                Creation::SessionPaused(paused) => match admission.on_paused {
                    OnPaused::Supersede => {
                        self.supersede(&paused, &admission.by).await?;
                        new = run.spec().clone();
                    }
                    OnPaused::Reject => return Err(StartError::SessionPaused(paused)),
                },
            }
        }
    }

    /// Whoever is going to wait for the run can do so from the moment it is there.
    async fn create(&self, run: &mut Run, terms: &Terms) -> (Result<Creation, StoreError>, Present) {
        let (id, session) = (run.spec().id.clone(), run.spec().session.clone());
        let present = self.presence.enter(&id);
        if run.spec().queued && terms.lane == Lane::Direct {
            self.queue.awaits(&id, &session, self.presence.enter(&id));
        }
        let creation = self.store.create(run, terms).await;
        // A drain that began meanwhile has sent the others home.
        if !matches!(creation, Ok(Creation::Created)) || self.is_draining() {
            self.queue.leave(&id);
        }
        (creation, present)
    }

    /// Makes a repeat wait for the original, even if that is queued since before the last restart.
    async fn join(&self, earlier: RunId, lane: Lane) -> Result<RunId, StartError> {
        let present = self.presence.enter(&earlier);
        let Some(run) = self.store.load(&earlier).await? else { return Ok(earlier) };
        let session = &run.spec().session;
        if lane == Lane::Background || self.store.paused_in(session).await?.is_some() {
            return Ok(earlier);
        }
        self.queue.awaits(&earlier, session, present);
        // From here on its start ends the wait. It may have started before.
        let now = self.store.load(&earlier).await?;
        if now.is_none_or(|run| *run.status() != RunStatus::Queued) || self.is_draining() {
            self.queue.leave(&earlier);
        }
        Ok(earlier)
    }

    /// Cancels the run if it is still paused.
    async fn supersede(&self, id: &RunId, by: &Actor) -> Result<(), StoreError> {
        self.change(id, |run| match run.status() {
            RunStatus::Paused { .. } => run.cancel(by.clone(), self.clock.now()),
            status => Err(InvalidTransition::WrongStatus { status: status.word() }),
        })
        .await?;
        self.queue.changed();
        Ok(())
    }
}
