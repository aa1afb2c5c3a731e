//! A run as callers see it.

mod summary;

use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::budget::units;
use crate::run::{CallRecord, CallState, Run, RunStatus};
use crate::session::Tokens;
use crate::tool::{PendingApproval, Question};

const QUEUED: &str =
    "The run waits for a free worker, or for the run before it in its session. It starts by itself.";
const CANCELLED: &str = "The run was cancelled.";

/// What a run came to.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RunResponse {
    /// For continue and cancel.
    run_id: String,
    /// For the next turn.
    session_id: String,
    /// `COMPLETED`, `FAILED`, `PAUSED`, `CANCELLED`; `QUEUED` or `RUNNING` when read while under way.
    status: String,
    /// The final answer in Markdown; empty unless COMPLETED.
    content: String,
    metadata: Metadata,
    /// The calls in order; a pending one is listed once it has been decided. Lists leave this empty: read the run.
    tools: Vec<ToolExecution>,
    /// What the model thought before each reply. Lists leave this empty.
    reasoning_steps: Vec<String>,
    metrics: Metrics,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    pub(super) model: String,
    /// The agent's version that the run started with; 0 = of the configuration file.
    pub(super) agent_version: u32,
    pub(super) usage: TokenUsage,
    /// A sentence for people, when QUEUED, PAUSED, FAILED or CANCELLED.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<String>,
    /// The first of `requiredActions`.
    #[serde(skip_serializing_if = "Option::is_none")]
    required_action: Option<RequiredAction>,
    /// What humans have to decide, when PAUSED.
    #[serde(skip_serializing_if = "Option::is_none")]
    required_actions: Option<Vec<RequiredAction>>,
    /// The answer as a value, when `options.responseSchema` asked for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object)]
    structured: Option<serde_json::Value>,
    /// Next questions, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) followups: Option<Vec<String>>,
    /// `followups` as JSON text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) follow_up_suggestions: Option<String>,
}

/// Tokens as the provider counts them; null = not reported.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TokenUsage {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    total_tokens: Option<u64>,
    /// By the configuration file's prices, in their currency; null = not known.
    cost: Option<f64>,
}

/// Something a human has to decide.
#[derive(Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RequiredAction {
    /// `TOOL_APPROVAL`: may the call run? APPROVE or REJECT. `TOOL_OUTCOME_UNKNOWN`: it was under way when the
    /// server stopped; RETRY, RESULT (with `output`) or FAIL. `TOOL_INPUT`: it runs, and asks for an answer; APPROVE
    /// with `answer`, or REJECT.
    #[serde(rename = "type")]
    kind: &'static str,
    approval_id: String,
    tool_call_id: String,
    tool: String,
    tool_name: String,
    /// The call's arguments as JSON text.
    args: String,
    message: String,
    /// What the tool asks, of `TOOL_INPUT`. Its plugin's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<String>,
    /// JSON Schema of `answer`, of `TOOL_INPUT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    answer_schema: Option<serde_json::Value>,
    expires_at: String,
    run_id: String,
    session_id: String,
    /// How many people must approve, where it takes more than one.
    #[serde(skip_serializing_if = "Option::is_none")]
    approvals_needed: Option<u32>,
    /// How many have.
    #[serde(skip_serializing_if = "Option::is_none")]
    approvals_given: Option<usize>,
}

/// One tool call.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ToolExecution {
    id: String,
    tool_name: String,
    /// The arguments as executed, as JSON text.
    tool_input: String,
    /// What the model read; null while the call is under way.
    tool_output: Option<String>,
    duration_ms: Option<u64>,
    is_error: bool,
    /// How the call ended, such as `ok`, `tool-error`, `rejected`, `limit`; null while under way.
    outcome: Option<String>,
}

/// Figures; null = unknown.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metrics {
    pub(super) input_tokens: Option<u64>,
    pub(super) output_tokens: Option<u64>,
    pub(super) reasoning_tokens: Option<u64>,
    pub(super) llm_call_count: u32,
    pub(super) tool_call_count: usize,
    /// Tool calls that ended in an error, and the run's own failure.
    pub(super) error_count: usize,
    /// Milliseconds at work; waiting for humans does not count.
    pub(super) duration_ms: u64,
    pub(super) model: String,
    pub(super) error_type: Option<String>,
    pub(super) error_message: Option<String>,
}

/// A run with what is known about it beside its answer.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RunDetails {
    #[serde(flatten)]
    response: RunResponse,
    id: String,
    agent_id: String,
    user_id: String,
    org_id: String,
    input: String,
    output: String,
    /// `metadata.requiredAction` as JSON text.
    required_action: Option<String>,
    created_at: String,
    started_at: Option<String>,
    completed_at: Option<String>,
    updated_at: String,
}

impl From<&Run> for RunResponse {
    fn from(run: &Run) -> Self {
        let content = match run.status() {
            RunStatus::Completed { output } => output.clone(),
            RunStatus::Queued
            | RunStatus::Running
            | RunStatus::Paused { .. }
            | RunStatus::Failed { .. }
            | RunStatus::Cancelled { .. } => String::new(),
        };
        Self {
            run_id: run.spec().id.to_string(),
            session_id: run.spec().session.to_string(),
            status: run.status().word().to_owned(),
            content,
            metadata: metadata(run),
            tools: run.calls().filter_map(execution).collect(),
            reasoning_steps: run.turns().iter().filter_map(|turn| turn.reply.reasoning.clone()).collect(),
            metrics: metrics(run),
        }
    }
}

impl RunResponse {
    /// `metadata.requiredAction` as JSON text.
    pub(super) fn required_action(&self) -> Option<String> {
        self.metadata.required_action.as_ref().map(|action| json!(action).to_string())
    }
}

impl From<&Run> for RunDetails {
    fn from(run: &Run) -> Self {
        let response = RunResponse::from(run);
        let (spec, times) = (run.spec(), run.times());
        Self {
            id: response.run_id.clone(),
            agent_id: spec.agent.id.to_string(),
            user_id: spec.owner.user.to_string(),
            org_id: spec.owner.org.to_string(),
            input: spec.input.clone(),
            output: response.content.clone(),
            required_action: response.required_action(),
            created_at: times.created.to_string(),
            started_at: times.started.map(|at| at.to_string()),
            completed_at: times.completed.map(|at| at.to_string()),
            updated_at: times.updated.to_string(),
            response,
        }
    }
}

impl Metadata {
    /// Of a run that has used nothing and asks for nothing.
    pub(super) fn of(model: String, agent_version: u32) -> Self {
        Self {
            model,
            agent_version,
            usage: TokenUsage::new(Tokens::default(), None),
            message: None,
            required_action: None,
            required_actions: None,
            followups: None,
            follow_up_suggestions: None,
            structured: None,
        }
    }
}

impl TokenUsage {
    pub(super) fn new(tokens: Tokens, cost_micros: Option<u64>) -> Self {
        Self {
            input_tokens: tokens.input,
            output_tokens: tokens.output,
            total_tokens: tokens.input.zip(tokens.output).map(|(input, output)| input.saturating_add(output)),
            cost: cost_micros.map(units),
        }
    }
}

fn metadata(run: &Run) -> Metadata {
    let actions: Vec<RequiredAction> = run.pending().iter().map(|approval| action(run, approval)).collect();
    let message = match run.status() {
        RunStatus::Queued => Some(QUEUED.to_owned()),
        RunStatus::Running | RunStatus::Completed { .. } => None,
        RunStatus::Paused { pending } => pending.first().map(|approval| approval.message.clone()),
        RunStatus::Failed { failure } => Some(failure.message.clone()),
        RunStatus::Cancelled { .. } => Some(CANCELLED.to_owned()),
    };
    let tokens = run.tokens();
    let followups = run.spec().generate_followups.then(|| run.followups().to_vec());
    Metadata {
        usage: TokenUsage::new(tokens, run.cost_micros()),
        message,
        structured: run.structured(),
        required_action: actions.first().cloned(),
        required_actions: (!actions.is_empty()).then_some(actions),
        follow_up_suggestions: followups.as_ref().map(|followups| json!(followups).to_string()),
        followups,
        ..Metadata::of(model(run), run.spec().agent.version)
    }
}

/// As the provider names it, where it has answered.
pub(super) fn model(run: &Run) -> String {
    let answered = run.turns().iter().rev().find_map(|turn| turn.reply.model.clone());
    answered.unwrap_or_else(|| run.spec().agent.model.to_string())
}

fn action(run: &Run, approval: &PendingApproval) -> RequiredAction {
    RequiredAction {
        kind: approval.question.action(),
        approval_id: approval.id.to_string(),
        tool_call_id: approval.call.id.to_string(),
        tool: approval.tool.to_string(),
        tool_name: approval.tool.to_string(),
        args: approval.call.arguments.clone(),
        message: approval.message.clone(),
        prompt: (approval.question == Question::Input).then(|| approval.message.clone()),
        answer_schema: approval.inquiry.as_ref().map(|inquiry| inquiry.answer_schema.clone()),
        expires_at: approval.expires_at.to_string(),
        run_id: run.spec().id.to_string(),
        session_id: run.spec().session.to_string(),
        approvals_needed: (approval.approvers > 1).then_some(approval.approvers),
        approvals_given: (approval.approvers > 1).then(|| run.votes_on(&approval.id).count()),
    }
}

fn execution(record: &CallRecord) -> Option<ToolExecution> {
    let outcome = match &record.state {
        CallState::Requested | CallState::Pending { .. } | CallState::Suspended(..) => return None,
        CallState::Approved { .. }
        | CallState::Started(_)
        | CallState::Answered(..)
        | CallState::InDoubt(_)
        | CallState::Again(_) => None,
        CallState::Finished { outcome, duration_ms } => Some((outcome, *duration_ms)),
    };
    Some(ToolExecution {
        id: record.call.id.to_string(),
        tool_name: record.call.name.clone(),
        tool_input: record.call.arguments.clone(),
        tool_output: outcome.map(|(outcome, _)| outcome.text.clone()),
        duration_ms: outcome.map(|(_, duration_ms)| duration_ms),
        is_error: outcome.is_some_and(|(outcome, _)| outcome.is_error()),
        outcome: outcome.map(|(outcome, _)| outcome.kind.word().to_owned()),
    })
}

fn metrics(run: &Run) -> Metrics {
    let tokens = run.tokens();
    let executions: Vec<ToolExecution> = run.calls().filter_map(execution).collect();
    let failure = match run.status() {
        RunStatus::Failed { failure } => Some(failure),
        RunStatus::Queued
        | RunStatus::Running
        | RunStatus::Paused { .. }
        | RunStatus::Completed { .. }
        | RunStatus::Cancelled { .. } => None,
    };
    Metrics {
        input_tokens: tokens.input,
        output_tokens: tokens.output,
        reasoning_tokens: tokens.reasoning,
        llm_call_count: run.model_calls(),
        tool_call_count: executions.len(),
        error_count: executions.iter().filter(|call| call.is_error).count() + usize::from(failure.is_some()),
        duration_ms: run.times().active_ms,
        model: model(run),
        error_type: failure.map(|failure| failure.kind.as_str().to_owned()),
        error_message: failure.map(|failure| failure.message.clone()),
    }
}
