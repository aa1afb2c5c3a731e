//! Decisions on pending calls: every door leads here, and through one compare-and-set.
//!
//! Of racing decisions exactly one takes effect. A caller who says the same as the recorded decision gets
//! the run as it is once that decision's work is done; one who says something else is told.

use serde_json::Value;

use super::Runner;
use crate::clock::Timestamp;
use crate::id::{ApprovalId, KeyId, RunId, UserId};
use crate::registry::Version;
use crate::run::{Run, RunStatus};
use crate::schema::Schema;
use crate::store::{Claim, KeyClaim, StoreError};
use crate::tool::{Decided, Decision, EditedArguments, Fingerprint, Inquiry, PendingApproval, Question};

/// Most problems with an answer that its author is told at once.
const PROBLEMS: usize = 5;

/// Who decides what.
#[derive(Clone, Debug)]
pub struct DecideRequest {
    pub targets: Targets,
    pub by: UserId,
    /// The API key that the request came with, if any.
    pub key: Option<KeyId>,
    pub claim: Option<KeyClaim>,
}

#[derive(Clone, Debug)]
pub enum Targets {
    /// Every call that is pending now, and none that appears later.
    AllPending(Choice),
    Named(Vec<(ApprovalId, Choice)>),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    Approve {
        comment: Option<String>,
        arguments: Option<Value>,
        /// What a tool asked for.
        answer: Option<Value>,
    },
    Reject {
        comment: Option<String>,
    },
    /// Of a call whose outcome is unknown: run it again.
    Retry,
    /// This is what it came to.
    Result {
        output: String,
    },
    /// It counts as failed.
    Fail {
        comment: Option<String>,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum DecideError {
    #[error("there is no such run")]
    NoSuchRun,
    #[error("the run is {current}")]
    NotPaused { current: &'static str },
    #[error("the run has no approval {0}")]
    NoSuchApproval(ApprovalId),
    #[error("the question is answered otherwise")]
    WrongAnswer(Question),
    #[error("the caller has voted otherwise before")]
    VotedOtherwise,
    #[error("the run's own user may not let it run")]
    SelfApproval,
    #[error("approval {0} has expired")]
    Expired(ApprovalId),
    #[error("{0}")]
    BadArguments(String),
    #[error("the tool asks for an answer")]
    AnswerNeeded,
    #[error("{0}")]
    BadAnswer(String),
    #[error("several calls are pending, and {0} can be for one only")]
    Ambiguous(&'static str),
    #[error("the idempotency key was used for another request")]
    KeyReused,
    #[error("the server is shutting down")]
    Draining,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Runner {
    /// Records the decisions, lets the run go on when none is pending any more, and returns it as it is
    /// when that work is done.
    pub async fn decide(&self, id: &RunId, request: DecideRequest) -> Result<Run, DecideError> {
        self.decide_at_once(id, request).await?;
        self.settled(id).await?.ok_or(DecideError::NoSuchRun)
    }

    /// The same without waiting for what follows. Returns the approvals that the request is about. A caller
    /// that leaves meanwhile changes nothing.
    pub async fn decide_at_once(
        &self,
        id: &RunId,
        request: DecideRequest,
    ) -> Result<Vec<ApprovalId>, DecideError> {
        let (runner, id) = (self.clone(), id.clone());
        let decided = self.tasks.spawn(async move { runner.take_decision(&id, &request).await });
        match decided.await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_cancelled) => Err(DecideError::Draining),
        }
    }

    async fn take_decision(
        &self,
        id: &RunId,
        request: &DecideRequest,
    ) -> Result<Vec<ApprovalId>, DecideError> {
        if self.is_draining() {
            return Err(DecideError::Draining);
        }
        // Before the key is looked up: what the same request decided meanwhile shows in the claim, and not
        // only in a run that waits no more.
        let mut run = self.store.load(id).await?.ok_or(DecideError::NoSuchRun)?;
        let decides = about(&run, &request.targets);
        let claim = request.claim.clone().map(|claim| KeyClaim { decides: decides.clone(), ..claim });
        if let Some(claim) = &claim
            && let Some(taken) = self.store.find_claim(claim).await?
        {
            return claimed(taken, decides);
        }
        let targets = self.targets(&run, &request.targets).await?;
        loop {
            // One time for both: what came in time is not recorded as late.
            let now = self.clock.now();
            if let Some(decisions) = self.to_record(&run, &targets, request, now).await? {
                let taken = match &claim {
                    // The key is this request's all the same: its repeat must not decide a later pause.
                    Some(claim) if decisions.is_empty() => Some(self.store.claim(id, claim).await?),
                    None if decisions.is_empty() => Some(Claim::New),
                    claim => self.record(run, decisions, claim.as_ref(), now).await?,
                };
                if let Some(taken) = taken {
                    return claimed(taken, decides);
                }
            }
            run = self.store.load(id).await?.ok_or(DecideError::NoSuchRun)?;
        }
    }

    /// None: somebody else changed the run first; look again.
    async fn record(
        &self,
        mut run: Run,
        decisions: Vec<Decided>,
        claim: Option<&KeyClaim>,
        now: Timestamp,
    ) -> Result<Option<Claim>, DecideError> {
        let present = self.presence.enter(&run.spec().id);
        if run.decide(decisions, now).is_err() {
            return Err(DecideError::NotPaused { current: run.status().word() });
        }
        let saved = match claim {
            None => self.store.save(&mut run).await.map(|()| Claim::New),
            Some(claim) => self.store.save_claiming(&mut run, claim).await,
        };
        match saved {
            Err(StoreError::Conflict) => return Ok(None),
            Ok(Claim::New) if *run.status() == RunStatus::Running => self.spawn(run, present),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        saved.map(Some).map_err(DecideError::from)
    }

    /// The decisions that are meant, fixed at the moment the request arrived; none where the run is at work on
    /// this very decision, and the caller only has to wait.
    async fn targets(&self, run: &Run, wanted: &Targets) -> Result<Vec<(ApprovalId, Choice)>, DecideError> {
        let choice = match wanted {
            Targets::Named(named) => return Ok(named.clone()),
            Targets::AllPending(choice) => choice,
        };
        let pending = run.pending();
        if let (Choice::Approve { arguments, answer, .. }, [_, _, ..]) = (choice, pending) {
            if arguments.is_some() {
                return Err(DecideError::Ambiguous("arguments"));
            }
            if answer.is_some() {
                return Err(DecideError::Ambiguous("answer"));
            }
        }
        if pending.is_empty() {
            let not_paused = DecideError::NotPaused { current: run.status().word() };
            let decisions = run.latest_decisions();
            if *run.status() != RunStatus::Running || decisions.is_empty() {
                return Err(not_paused);
            }
            for Decided { approval_id, decision: taken, .. } in decisions {
                let Some(asked) = run.asked_for(approval_id) else { return Err(not_paused) };
                if !taken.agrees_with(&self.decision(asked, choice).await?) {
                    return Err(not_paused);
                }
            }
        }
        Ok(pending.iter().map(|approval| (approval.id.clone(), choice.clone())).collect())
    }

    /// The decisions that are still to be taken; empty where all were taken before and say the same. None: the
    /// run had something to expire first; look again.
    async fn to_record(
        &self,
        run: &Run,
        targets: &[(ApprovalId, Choice)],
        request: &DecideRequest,
        now: Timestamp,
    ) -> Result<Option<Vec<Decided>>, DecideError> {
        let DecideRequest { by, key, .. } = request;
        let mut decisions = Vec::new();
        for (id, choice) in targets {
            let asked = run.asked_for(id).ok_or_else(|| DecideError::NoSuchApproval(id.clone()))?;
            let decision = self.decision(asked, choice).await?;
            if !decision.answers(asked.question) {
                return Err(DecideError::WrongAnswer(asked.question));
            }
            let executes = matches!(decision, Decision::Approve { .. } | Decision::Retry);
            if executes && !asked.self_approval && *by == run.spec().owner.user {
                return Err(DecideError::SelfApproval);
            }
            match run.decision_on(id) {
                Some(Decision::Expire) => return Err(DecideError::Expired(id.clone())),
                Some(taken) if taken.agrees_with(&decision) => {}
                Some(_) => return Err(DecideError::NotPaused { current: run.status().word() }),
                None if run.status().is_terminal() => {
                    return Err(DecideError::NotPaused { current: run.status().word() });
                }
                None if asked.expires_at <= now => {
                    // Somebody else's decision may have come first: the journal says which it was.
                    self.expire(&run.spec().id).await?;
                    return Ok(None);
                }
                None if run.votes_on(id).any(|vote| vote.by == *by) => {
                    // One vote each: saying it again changes nothing.
                    if !run.votes_on(id).any(|vote| vote.by == *by && vote.decision.agrees_with(&decision)) {
                        return Err(DecideError::VotedOtherwise);
                    }
                }
                None => {
                    let (approval_id, by, key) = (id.clone(), by.clone(), key.clone());
                    decisions.push(Decided { approval_id, decision, by, key });
                }
            }
        }
        Ok(Some(decisions))
    }

    async fn decision(&self, asked: &PendingApproval, choice: &Choice) -> Result<Decision, DecideError> {
        match choice {
            Choice::Reject { comment } => Ok(Decision::Reject { comment: comment.clone() }),
            Choice::Retry => Ok(Decision::Retry),
            Choice::Result { output } => Ok(Decision::Result { output: output.clone() }),
            Choice::Fail { comment } => Ok(Decision::Fail { comment: comment.clone() }),
            Choice::Approve { comment, arguments, answer } => {
                let comment = comment.clone();
                if let Some(inquiry) = &asked.inquiry {
                    if arguments.is_some() {
                        let problem =
                            "cannot be edited any more: the call is under way, and asks for an answer";
                        return Err(DecideError::BadArguments(problem.to_owned()));
                    }
                    let answer = answer.clone().ok_or(DecideError::AnswerNeeded)?;
                    return Ok(Decision::Answer { answer: checked(inquiry, answer).await?, comment });
                }
                if answer.is_some() {
                    let problem = "is for a tool that asks (TOOL_INPUT): this call asks for a decision only";
                    return Err(DecideError::BadAnswer(problem.to_owned()));
                }
                // What equals the call's own arguments edits nothing.
                let edited = match arguments.as_ref().filter(|arguments| asked.is_edited_by(arguments)) {
                    Some(arguments) => Some(self.edited(asked, arguments).await?),
                    None => None,
                };
                Ok(Decision::Approve { comment, edited })
            }
        }
    }

    async fn edited(
        &self,
        asked: &PendingApproval,
        arguments: &Value,
    ) -> Result<EditedArguments, DecideError> {
        if asked.approvers > 1 {
            let problem =
                "arguments that several people must approve cannot be edited: reject the call instead";
            return Err(DecideError::BadArguments(problem.to_owned()));
        }
        let bound = match &asked.digest {
            Some(digest) => self.registry.plugin_for(&asked.tool, digest).await?,
            None => Version::Gone,
        };
        let Version::There(plugin) = bound else {
            return Err(DecideError::BadArguments(format!("{} is not loaded any more", asked.tool)));
        };
        plugin.check_arguments(&asked.tool, arguments).map_err(DecideError::BadArguments)?;
        // An edit changes the arguments and nothing else.
        let fingerprint = Fingerprint::of(plugin.digest(), &asked.tool, arguments);
        Ok(EditedArguments { arguments: arguments.clone(), fingerprint })
    }
}

/// The answer, if it fits. Checking can take a second, and must not hold up other runs.
async fn checked(inquiry: &Inquiry, answer: Value) -> Result<Value, DecideError> {
    let schema = inquiry.answer_schema.clone();
    let check = move || {
        // It was checked when the tool asked; a newer version of this program may be stricter.
        let schema = Schema::of_answer(&schema).map_err(|error| format!("its schema {error}"))?;
        let problems: Vec<String> =
            schema.problems(&answer, PROBLEMS).iter().map(ToString::to_string).collect();
        if problems.is_empty() {
            return Ok(answer);
        }
        Err(format!("does not fit what the tool asks for: {}", problems.join("; ")))
    };
    match tokio::task::spawn_blocking(check).await {
        Ok(checked) => checked.map_err(DecideError::BadAnswer),
        // The panic hook has logged what and where.
        Err(_panic) => Err(DecideError::BadAnswer("could not be checked".to_owned())),
    }
}

/// The approvals that a request is about, at the moment it arrived.
fn about(run: &Run, targets: &Targets) -> Vec<ApprovalId> {
    match targets {
        Targets::Named(named) => named.iter().map(|(id, _)| id.clone()).collect(),
        Targets::AllPending(_) if run.pending().is_empty() => {
            run.latest_decisions().iter().map(|decided| decided.approval_id.clone()).collect()
        }
        Targets::AllPending(_) => run.pending().iter().map(|approval| approval.id.clone()).collect(),
    }
}

/// What a request is about whose key is this: the same as its original.
fn claimed(claim: Claim, decides: Vec<ApprovalId>) -> Result<Vec<ApprovalId>, DecideError> {
    match claim {
        Claim::New => Ok(decides),
        Claim::Repeat { decides, .. } => Ok(decides),
        Claim::Reused => Err(DecideError::KeyReused),
    }
}
