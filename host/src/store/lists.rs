//! Pages of runs, from the columns of `runs` alone: a list costs the same however long its runs' journals
//! are.

use std::sync::LazyLock;

use super::StoreError;
use super::approvals;
use super::dialect::{Columns, Dialect, Sql, Value};
use crate::clock::Timestamp;
use crate::id::{AgentId, ApprovalId, OrgId, RunId, SessionId, UserId};
use crate::session::{Owner, Tokens};
use crate::tool::{Question, ToolCall};

/// Which part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub limit: u32,
    pub offset: u64,
}

impl Range {
    pub(super) fn values(self) -> [Value<'static>; 2] {
        [self.limit.into(), self.offset.into()]
    }
}

/// A part of a list, and how long the whole is.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed<T> {
    pub rows: Vec<T>,
    pub total: u64,
}

/// Which runs are meant; none = all.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    pub org: Option<OrgId>,
    pub user: Option<UserId>,
    pub agent: Option<AgentId>,
    pub session: Option<SessionId>,
    /// A word of `RunStatus::word`.
    pub status: Option<&'static str>,
}

/// What the row of a run says, without its journal.
#[derive(Clone, Debug, PartialEq)]
pub struct RunSummary {
    pub id: RunId,
    pub session: SessionId,
    pub owner: Owner,
    pub agent: AgentId,
    pub agent_version: u32,
    pub model: String,
    pub status: String,
    pub input: String,
    pub output: String,
    pub error_type: Option<String>,
    pub error_message: Option<String>,
    pub model_calls: u64,
    pub tool_calls: u64,
    pub failed_calls: u64,
    pub tokens: Tokens,
    pub cost_micros: Option<u64>,
    pub active_ms: u64,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub completed_at: Option<Timestamp>,
    pub updated_at: Timestamp,
    /// What humans have to decide, where it is paused.
    pub pending: Vec<PendingSummary>,
}

/// What an approval's row says that waits for a decision.
#[derive(Clone, Debug, PartialEq)]
pub struct PendingSummary {
    pub approval: ApprovalId,
    pub call: ToolCall,
    pub question: Question,
    pub message: String,
    pub expires_at: Timestamp,
    /// Of [`Question::Input`].
    pub answer_schema: Option<serde_json::Value>,
}

const COLUMNS: &str =
    "id, session_id, org_id, user_id, agent_id, agent_version, model, status, input, output,
    error_type, error_message, model_calls, tool_calls, failed_calls, input_tokens, output_tokens,
    reasoning_tokens, cost_micros, active_ms, created_at, started_at, completed_at, updated_at";

const FILTER: &str = "and ($3 is null or agent_id = $3) and ($4 is null or session_id = $4)
    and ($5 is null or status = $5)";

struct Statements {
    page: String,
    count: String,
}

impl Statements {
    fn new(scope: &str) -> Self {
        let page = format!(
            "select {COLUMNS} from runs where {scope} {FILTER}
             order by created_at desc, id desc limit $6 offset $7"
        );
        Self { page, count: format!("select count(*) from runs where {scope} {FILTER}") }
    }
}

/// One statement per index: it is only used for what is compared without an alternative.
static OF_USER: LazyLock<Statements> = LazyLock::new(|| Statements::new("org_id = $1 and user_id = $2"));
static OF_ORG: LazyLock<Statements> =
    LazyLock::new(|| Statements::new("org_id = $1 and ($2 is null or user_id = $2)"));
static OF_ALL: LazyLock<Statements> =
    LazyLock::new(|| Statements::new("($1 is null or org_id = $1) and ($2 is null or user_id = $2)"));

pub(super) async fn runs<D: Dialect>(
    sql: &mut Sql<'_, D>,
    filter: &RunFilter,
    range: Range,
) -> Result<Listed<RunSummary>, StoreError> {
    let statements: &'static Statements = match (&filter.org, &filter.user) {
        (Some(_), Some(_)) => &OF_USER,
        (Some(_), None) => &OF_ORG,
        (None, _) => &OF_ALL,
    };
    let values = [
        filter.org.as_ref().map(OrgId::as_str).into(),
        filter.user.as_ref().map(UserId::as_str).into(),
        filter.agent.as_ref().map(AgentId::as_str).into(),
        filter.session.as_ref().map(SessionId::as_str).into(),
        filter.status.into(),
    ];
    let total = sql.row(&statements.count, &values).await?.map_or(Ok(0), |row| row.count(0))?;
    let rows = sql.rows(&statements.page, &[&values[..], &range.values()].concat()).await?;
    Ok(Listed { rows: summaries(sql, &rows).await?, total })
}

static ONE: LazyLock<String> = LazyLock::new(|| format!("select {COLUMNS} from runs where id = $1"));

pub(super) async fn one<D: Dialect>(
    sql: &mut Sql<'_, D>,
    run: &RunId,
) -> Result<Option<RunSummary>, StoreError> {
    let rows = sql.rows(ONE.as_str(), &[run.as_str().into()]).await?;
    Ok(summaries(sql, &rows).await?.pop())
}

static OF_SESSION: LazyLock<String> =
    LazyLock::new(|| format!("select {COLUMNS} from runs where session_id = $1 order by turn"));

/// A session's runs, oldest first.
pub(super) async fn of_session<D: Dialect>(
    sql: &mut Sql<'_, D>,
    session: &SessionId,
) -> Result<Vec<RunSummary>, StoreError> {
    let rows = sql.rows(OF_SESSION.as_str(), &[session.as_str().into()]).await?;
    summaries(sql, &rows).await
}

async fn summaries<D: Dialect>(
    sql: &mut Sql<'_, D>,
    rows: &[Columns<D>],
) -> Result<Vec<RunSummary>, StoreError> {
    let mut runs = rows.iter().map(summary).collect::<Result<Vec<_>, _>>()?;
    for run in runs.iter_mut().filter(|run| run.status == "PAUSED") {
        run.pending = pending(sql, &run.id).await?;
    }
    Ok(runs)
}

fn summary<D: Dialect>(row: &Columns<D>) -> Result<RunSummary, StoreError> {
    Ok(RunSummary {
        id: RunId::from(row.text(0)?),
        session: SessionId::from(row.text(1)?),
        owner: Owner { org: OrgId::from(row.text(2)?), user: UserId::from(row.text(3)?) },
        agent: AgentId::from(row.text(4)?),
        agent_version: u32::try_from(row.count(5)?).unwrap_or(u32::MAX),
        model: row.text(6)?,
        status: row.text(7)?,
        input: row.text(8)?,
        output: row.text(9)?,
        error_type: row.opt_text(10)?,
        error_message: row.opt_text(11)?,
        model_calls: row.count(12)?,
        tool_calls: row.count(13)?,
        failed_calls: row.count(14)?,
        tokens: Tokens {
            input: row.opt_count(15)?,
            output: row.opt_count(16)?,
            reasoning: row.opt_count(17)?,
        },
        cost_micros: row.opt_count(18)?,
        active_ms: row.count(19)?,
        created_at: row.time(20)?,
        started_at: row.opt_int(21)?.map(Timestamp::from_millis),
        completed_at: row.opt_int(22)?.map(Timestamp::from_millis),
        updated_at: row.time(23)?,
        pending: Vec::new(),
    })
}

/// In the order in which they were asked for.
async fn pending<D: Dialect>(sql: &mut Sql<'_, D>, run: &RunId) -> Result<Vec<PendingSummary>, StoreError> {
    let rows = sql
        .rows(
            "select id, call_id, tool_name, arguments, question, message, expires_at, answer_schema
             from approvals where run_id = $1 and status = 'PENDING' order by created_at, id",
            &[run.as_str().into()],
        )
        .await?;
    let pending = |row: &Columns<D>| {
        let call = row.text(1)?;
        Ok(PendingSummary {
            approval: ApprovalId::from(row.text(0)?),
            call: ToolCall { id: call.as_str().into(), name: row.text(2)?, arguments: row.text(3)? },
            question: approvals::question(row, 4)?,
            message: row.text(5)?,
            expires_at: row.time(6)?,
            answer_schema: approvals::answer_schema(row, 7)?,
        })
    };
    rows.iter().map(pending).collect()
}
