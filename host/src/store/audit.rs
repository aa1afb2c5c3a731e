//! Statements on the audit log: appended in the transaction of the change, read in pages, newest first.

use std::sync::LazyLock;

use serde_json::{Value as Json, json};

use super::StoreError;
use super::dialect::{Columns, Dialect, Sql};
use super::lists::{Listed, Range};
use crate::audit::{Action, Actor, AuditEntry, ObjectType};
use crate::event::{Recorded, RunEvent};
use crate::id::{KeyId, OrgId, UserId};
use crate::run::Run;
use crate::tool::{Decided, Decision};

/// Which rows are meant; none = all.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    pub org: Option<OrgId>,
    pub action: Option<Action>,
    pub object: Option<ObjectType>,
    pub object_id: Option<String>,
    pub user: Option<UserId>,
}

/// A row with its place in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditRow {
    pub id: u64,
    pub entry: AuditEntry,
}

/// What a run's new event puts into the log, if anything.
pub(super) fn of_event(recorded: &Recorded, run: &Run) -> Option<AuditEntry> {
    let new = run.spec();
    let entry = |by: Actor, action, object, object_id, details| AuditEntry {
        at: recorded.at,
        org: new.owner.org.clone(),
        by,
        action,
        object,
        object_id,
        details,
    };
    match &recorded.event {
        RunEvent::Cancelled { by, key } => {
            let by = Actor { user: by.clone(), key: key.clone() };
            let details = json!({"agentId": new.agent.id});
            Some(entry(by, Action::RunCancelled, ObjectType::Run, new.id.to_string(), details))
        }
        RunEvent::Decided(decided) => {
            let by = Actor { user: decided.by.clone(), key: decided.key.clone() };
            let id = decided.approval_id.to_string();
            Some(entry(by, Action::ApprovalDecided, ObjectType::Approval, id, decision(decided, run)))
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
        | RunEvent::Paused { .. }
        | RunEvent::AnswerAccepted { .. }
        | RunEvent::AnswerRefused { .. }
        | RunEvent::FollowupsSuggested { .. }
        | RunEvent::Completed
        | RunEvent::Failed { .. } => None,
    }
}

/// Without the arguments, the answer and the output: they are in the journal.
fn decision(decided: &Decided, run: &Run) -> Json {
    let (word, comment, edited) = match &decided.decision {
        Decision::Approve { comment, edited } => ("APPROVE", comment.as_deref(), edited.is_some()),
        Decision::Reject { comment } => ("REJECT", comment.as_deref(), false),
        Decision::Answer { comment, .. } => ("ANSWER", comment.as_deref(), false),
        Decision::Retry => ("RETRY", None, false),
        Decision::Result { .. } => ("RESULT", None, false),
        Decision::Fail { comment } => ("FAIL", comment.as_deref(), false),
        Decision::Expire => ("EXPIRE", None, false),
    };
    let tool = run.asked_for(&decided.approval_id).map(|asked| asked.tool.to_string());
    json!({
        "runId": run.spec().id,
        "agentId": run.spec().agent.id,
        "toolName": tool,
        "decision": word,
        "comment": comment,
        "editedArguments": edited,
    })
}

pub(super) async fn append<D: Dialect>(sql: &mut Sql<'_, D>, entry: &AuditEntry) -> Result<(), sqlx::Error> {
    let details = entry.details.to_string();
    sql.execute(
        "insert into audit_log (at, org_id, user_id, key_id, action, object_type, object_id, details)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
        &[
            entry.at.into(),
            entry.org.as_str().into(),
            entry.by.user.as_str().into(),
            entry.by.key.as_ref().map(KeyId::as_str).into(),
            entry.action.as_str().into(),
            entry.object.as_str().into(),
            entry.object_id.as_str().into(),
            details.as_str().into(),
        ],
    )
    .await?;
    Ok(())
}

/// An index is only of use where the organisation is compared without an alternative.
const FILTER: &str = "and ($2 is null or action = $2) and ($3 is null or object_type = $3)
    and ($4 is null or object_id = $4) and ($5 is null or user_id = $5)";
const ONE_ORG: &str = "org_id = $1";
const ALL_ORGS: &str = "($1 is null or org_id = $1)";

struct Statements {
    page: String,
    count: String,
}

impl Statements {
    fn new(org: &str) -> Self {
        let page = format!(
            "select id, at, org_id, user_id, key_id, action, object_type, object_id, details
             from audit_log where {org} {FILTER} order by id desc limit $6 offset $7"
        );
        Self { page, count: format!("select count(*) from audit_log where {org} {FILTER}") }
    }
}

static OF_ORG: LazyLock<Statements> = LazyLock::new(|| Statements::new(ONE_ORG));
static OF_ALL: LazyLock<Statements> = LazyLock::new(|| Statements::new(ALL_ORGS));

pub(super) async fn list<D: Dialect>(
    sql: &mut Sql<'_, D>,
    filter: &AuditFilter,
    range: Range,
) -> Result<Listed<AuditRow>, StoreError> {
    let statements: &'static Statements = if filter.org.is_some() { &OF_ORG } else { &OF_ALL };
    let values = [
        filter.org.as_ref().map(OrgId::as_str).into(),
        filter.action.map(Action::as_str).into(),
        filter.object.map(ObjectType::as_str).into(),
        filter.object_id.as_deref().into(),
        filter.user.as_ref().map(UserId::as_str).into(),
    ];
    let total = sql.row(&statements.count, &values).await?.map_or(Ok(0), |row| row.count(0))?;
    let rows = sql.rows(&statements.page, &[&values[..], &range.values()].concat()).await?;
    Ok(Listed { rows: rows.iter().map(row).collect::<Result<_, _>>()?, total })
}

fn row<D: Dialect>(row: &Columns<D>) -> Result<AuditRow, StoreError> {
    let unknown = |error: crate::audit::UnknownWord| StoreError::Damaged(format!("audit log: {error}"));
    let details = serde_json::from_str(&row.text(8)?);
    Ok(AuditRow {
        id: row.count(0)?,
        entry: AuditEntry {
            at: row.time(1)?,
            org: OrgId::from(row.text(2)?),
            by: Actor { user: UserId::from(row.text(3)?), key: row.opt_text(4)?.map(KeyId::from) },
            action: row.text(5)?.parse().map_err(unknown)?,
            object: row.text(6)?.parse().map_err(unknown)?,
            object_id: row.text(7)?,
            details: details.map_err(|error| StoreError::Damaged(format!("audit log: {error}")))?,
        },
    })
}
