//! A run as lists show it: what its row says, without its journal.

use serde_json::json;

use super::{CANCELLED, Metadata, Metrics, QUEUED, RequiredAction, RunDetails, RunResponse, TokenUsage};
use crate::store::{PendingSummary, RunSummary};
use crate::tool::Question;

impl From<&RunSummary> for RunDetails {
    fn from(run: &RunSummary) -> Self {
        let response = RunResponse::from(run);
        Self {
            id: response.run_id.clone(),
            agent_id: run.agent.to_string(),
            user_id: run.owner.user.to_string(),
            org_id: run.owner.org.to_string(),
            input: run.input.clone(),
            output: run.output.clone(),
            required_action: response.metadata.required_action.as_ref().map(|a| json!(a).to_string()),
            created_at: run.created_at.to_string(),
            started_at: run.started_at.map(|at| at.to_string()),
            completed_at: run.completed_at.map(|at| at.to_string()),
            updated_at: run.updated_at.to_string(),
            response,
        }
    }
}

impl From<&RunSummary> for RunResponse {
    fn from(run: &RunSummary) -> Self {
        let actions: Vec<RequiredAction> = run.pending.iter().map(|pending| action(run, pending)).collect();
        let message = match run.status.as_str() {
            "QUEUED" => Some(QUEUED.to_owned()),
            "CANCELLED" => Some(CANCELLED.to_owned()),
            _ => actions.first().map(|action| action.message.clone()).or_else(|| run.error_message.clone()),
        };
        Self {
            run_id: run.id.to_string(),
            session_id: run.session.to_string(),
            status: run.status.clone(),
            content: run.output.clone(),
            metadata: Metadata {
                usage: TokenUsage::new(run.tokens, run.cost_micros),
                message,
                required_action: actions.first().cloned(),
                required_actions: (!actions.is_empty()).then_some(actions),
                ..Metadata::of(run.model.clone(), run.agent_version)
            },
            tools: Vec::new(),
            reasoning_steps: Vec::new(),
            metrics: metrics(run),
        }
    }
}

fn action(run: &RunSummary, pending: &PendingSummary) -> RequiredAction {
    RequiredAction {
        kind: pending.question.action(),
        approval_id: pending.approval.to_string(),
        tool_call_id: pending.call.id.to_string(),
        tool: pending.call.name.clone(),
        tool_name: pending.call.name.clone(),
        args: pending.call.arguments.clone(),
        message: pending.message.clone(),
        prompt: (pending.question == Question::Input).then(|| pending.message.clone()),
        answer_schema: pending.answer_schema.clone(),
        expires_at: pending.expires_at.to_string(),
        run_id: run.id.to_string(),
        session_id: run.session.to_string(),
        approvals_needed: None,
        approvals_given: None,
    }
}

fn metrics(run: &RunSummary) -> Metrics {
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    Metrics {
        input_tokens: run.tokens.input,
        output_tokens: run.tokens.output,
        reasoning_tokens: run.tokens.reasoning,
        llm_call_count: u32::try_from(run.model_calls).unwrap_or(u32::MAX),
        tool_call_count: count(run.tool_calls),
        error_count: count(run.failed_calls) + usize::from(run.error_type.is_some()),
        duration_ms: run.active_ms,
        model: run.model.clone(),
        error_type: run.error_type.clone(),
        error_message: run.error_message.clone(),
    }
}
