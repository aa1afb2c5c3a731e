//! What is told: who and what, and no message contents.

use serde_json::{Value, json};

use super::{EventType, NewDelivery, Subscription};
use crate::clock::Timestamp;
use crate::event::{Recorded, RunEvent};
use crate::id::{AgentId, ApprovalId, RunId, SessionId};
use crate::run::Run;
use crate::session::Owner;
use crate::tool::Decision;

/// What a run's new event has to be told, one for each endpoint that wants it.
pub(crate) fn of_event(recorded: &Recorded, run: &Run, webhooks: &[Subscription]) -> Vec<NewDelivery> {
    if webhooks.is_empty() {
        return Vec::new();
    }
    let Some((event, status, details)) = told(&recorded.event, run) else { return Vec::new() };
    let new = run.spec();
    let mut data = json!({
        "runId": new.id,
        "sessionId": new.session,
        "agentId": new.agent.id,
        "userId": new.owner.user,
        "orgId": new.owner.org,
        "status": status,
    });
    merge(&mut data, details);
    let origin = format!("{}_{}", new.id, recorded.seq);
    fan_out(&Telling { event, at: recorded.at, owner: &new.owner, origin, data }, webhooks)
}

fn told(event: &RunEvent, run: &Run) -> Option<(EventType, &'static str, Value)> {
    match event {
        RunEvent::Paused { approvals } => {
            let actions = approvals.iter().map(|approval| {
                json!({
                    "approvalId": approval.id,
                    "toolName": approval.tool.to_string(),
                    "expiresAt": approval.expires_at.to_string(),
                })
            });
            let actions: Vec<Value> = actions.collect();
            Some((EventType::RunPaused, "PAUSED", json!({"requiredActions": actions})))
        }
        RunEvent::Completed => Some((EventType::RunCompleted, "COMPLETED", json!({}))),
        RunEvent::Failed { failure } => {
            let details = json!({"errorType": failure.kind.as_str(), "errorMessage": failure.message});
            Some((EventType::RunFailed, "FAILED", details))
        }
        RunEvent::Cancelled { .. } => Some((EventType::RunCancelled, "CANCELLED", json!({}))),
        RunEvent::Decided(decided) if decided.decision == Decision::Expire => {
            let tool = run.asked_for(&decided.approval_id).map(|asked| asked.tool.to_string());
            let details = json!({"approvalId": decided.approval_id, "toolName": tool});
            Some((EventType::ApprovalExpired, run.status().word(), details))
        }
        RunEvent::Created(_)
        | RunEvent::Started
        | RunEvent::Claimed { .. }
        | RunEvent::Replied { .. }
        | RunEvent::ReplyBroken { .. }
        | RunEvent::CallStarted { .. }
        | RunEvent::CallSuspended { .. }
        | RunEvent::CallResumed { .. }
        | RunEvent::CallFinished { .. }
        | RunEvent::Decided(_)
        | RunEvent::AnswerAccepted { .. }
        | RunEvent::AnswerRefused { .. }
        | RunEvent::FollowupsSuggested { .. } => None,
    }
}

/// An approval that nobody has decided and that expires soon.
#[derive(Clone, Debug)]
pub(crate) struct Expiring {
    pub(crate) approval: ApprovalId,
    pub(crate) tool: String,
    pub(crate) run: RunId,
    pub(crate) session: SessionId,
    pub(crate) agent: AgentId,
    pub(crate) owner: Owner,
    pub(crate) status: String,
}

impl Expiring {
    pub(crate) fn deliveries(&self, at: Timestamp, webhooks: &[Subscription]) -> Vec<NewDelivery> {
        let data = json!({
            "runId": self.run,
            "sessionId": self.session,
            "agentId": self.agent,
            "userId": self.owner.user,
            "orgId": self.owner.org,
            "status": self.status,
            "approvalId": self.approval,
            "toolName": self.tool,
        });
        let (event, origin) = (EventType::ApprovalExpiring, format!("{}_expiring", self.approval));
        fan_out(&Telling { event, at, owner: &self.owner, origin, data }, webhooks)
    }
}

struct Telling<'a> {
    event: EventType,
    at: Timestamp,
    owner: &'a Owner,
    /// What the delivery's id is made of: the same whenever it is told.
    origin: String,
    data: Value,
}

fn fan_out(telling: &Telling<'_>, webhooks: &[Subscription]) -> Vec<NewDelivery> {
    let Telling { event, at, owner, origin, data } = telling;
    let body = json!({"type": event.as_str(), "timestamp": at.to_string(), "data": data}).to_string();
    let wanting = webhooks.iter().filter(|webhook| webhook.wants(*event, &owner.org));
    let delivery = |webhook: &Subscription| NewDelivery {
        id: format!("msg_{origin}_{}", webhook.endpoint),
        endpoint: webhook.endpoint.clone(),
        org: owner.org.clone(),
        event: *event,
        body: body.clone(),
        at: *at,
    };
    wanting.map(delivery).collect()
}

fn merge(data: &mut Value, details: Value) {
    if let (Value::Object(data), Value::Object(details)) = (data, details) {
        data.extend(details);
    }
}
