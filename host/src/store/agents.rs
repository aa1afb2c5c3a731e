//! Statements on the agents that were made over HTTP. A change and its audit row are one write.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::dialect::{Columns, Dialect, Sql};
use super::writer::Undo;
use super::{StoreError, audit};
use crate::agent::{Agent, Policy};
use crate::audit::{Action, Actor, AuditEntry, ObjectType};
use crate::budget::units;
use crate::clock::Timestamp;
use crate::id::{AgentId, OrgId};

/// An agent that an admin made, with its version.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredAgent {
    pub agent: Agent,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// It takes no runs, but can be restored.
    pub deleted_at: Option<Timestamp>,
}

/// What somebody does to an organisation's agent.
#[derive(Clone, Debug)]
pub struct AgentWrite {
    pub org: OrgId,
    pub id: AgentId,
    pub change: AgentChange,
    pub by: Actor,
    pub at: Timestamp,
}

/// The versions that the agents carry are ignored: the store counts them.
#[derive(Clone, Debug)]
pub enum AgentChange {
    Create(Box<Agent>),
    Update(Box<Agent>),
    Delete,
    Restore,
}

/// What came of it. Where it is not `Done`, nothing was written.
#[derive(Clone, Debug, PartialEq)]
pub enum AgentWritten {
    /// Also where there was nothing to change.
    Done(Box<StoredAgent>),
    Missing,
    /// There is one of that id, perhaps a deleted one.
    Exists,
    /// It was deleted.
    Deleted,
    /// Runs of it are QUEUED, RUNNING or PAUSED.
    InUse,
}

pub(super) async fn write<D: Dialect>(
    sql: &mut Sql<'_, D>,
    write: &AgentWrite,
) -> Result<AgentWritten, Undo<AgentWritten>> {
    let found = find(sql, &write.org, &write.id).await?;
    let (mut stored, action) = match (&write.change, found) {
        (AgentChange::Create(_), Some(_)) => return Err(Undo::Refused(AgentWritten::Exists)),
        (AgentChange::Create(agent), None) => {
            let agent = Agent { version: 1, ..Agent::clone(agent) };
            let (created_at, updated_at) = (write.at, write.at);
            (StoredAgent { agent, created_at, updated_at, deleted_at: None }, Action::AgentCreated)
        }
        (AgentChange::Update(_) | AgentChange::Delete | AgentChange::Restore, None) => {
            return Err(Undo::Refused(AgentWritten::Missing));
        }
        (AgentChange::Update(_), Some(StoredAgent { deleted_at: Some(_), .. })) => {
            return Err(Undo::Refused(AgentWritten::Deleted));
        }
        (AgentChange::Update(agent), Some(stored)) => {
            let version = stored.agent.version.saturating_add(1);
            let agent = Agent { version, ..Agent::clone(agent) };
            (StoredAgent { agent, ..stored }, Action::AgentUpdated)
        }
        (AgentChange::Delete, Some(stored)) if stored.deleted_at.is_some() => return Ok(done(stored)),
        (AgentChange::Delete, Some(stored)) => {
            if is_in_use(sql, write).await? {
                return Err(Undo::Refused(AgentWritten::InUse));
            }
            (StoredAgent { deleted_at: Some(write.at), ..stored }, Action::AgentDeleted)
        }
        (AgentChange::Restore, Some(stored)) if stored.deleted_at.is_none() => return Ok(done(stored)),
        (AgentChange::Restore, Some(stored)) => {
            (StoredAgent { deleted_at: None, ..stored }, Action::AgentRestored)
        }
    };
    stored.updated_at = write.at;
    put(sql, &write.org, &stored).await?;
    audit::append(sql, &entry(write, action, &stored.agent)).await?;
    Ok(done(stored))
}

fn done(stored: StoredAgent) -> AgentWritten {
    AgentWritten::Done(Box::new(stored))
}

/// With the whole agent wherever that changed: the log is also the history of its versions.
fn entry(write: &AgentWrite, action: Action, agent: &Agent) -> AuditEntry {
    let details: Json = match write.change {
        AgentChange::Create(_) | AgentChange::Update(_) => definition(agent),
        AgentChange::Delete | AgentChange::Restore => json!({"version": agent.version}),
    };
    AuditEntry {
        at: write.at,
        org: write.org.clone(),
        by: write.by.clone(),
        action,
        object: ObjectType::Agent,
        object_id: write.id.to_string(),
        details,
    }
}

/// In the API's spelling.
fn definition(agent: &Agent) -> Json {
    let tools: Vec<String> = agent.tools.iter().map(ToString::to_string).collect();
    let approval: BTreeMap<String, Policy> =
        agent.approval.iter().map(|rule| (rule.tools.to_string(), rule.terms.policy)).collect();
    json!({
        "version": agent.version,
        "name": agent.name,
        "description": agent.description,
        "instructions": agent.instructions,
        "model": agent.model,
        "tools": tools,
        "temperature": agent.options.temperature,
        "maxTokens": agent.options.max_tokens,
        "maxSteps": agent.options.max_steps,
        "approval": approval,
        "budget": {
            "maxToolCalls": agent.budget.max_tool_calls,
            "maxInputTokens": agent.budget.max_input_tokens,
            "maxOutputTokens": agent.budget.max_output_tokens,
            "maxCost": agent.budget.max_cost_micros.map(units),
        },
    })
}

async fn is_in_use<D: Dialect>(sql: &mut Sql<'_, D>, write: &AgentWrite) -> Result<bool, StoreError> {
    let row = sql
        .row(
            "select 1 from runs
             where org_id = $1 and agent_id = $2 and status in ('QUEUED', 'RUNNING', 'PAUSED') limit 1",
            &[write.org.as_str().into(), write.id.as_str().into()],
        )
        .await?;
    Ok(row.is_some())
}

async fn put<D: Dialect>(sql: &mut Sql<'_, D>, org: &OrgId, stored: &StoredAgent) -> Result<(), StoreError> {
    let body = serde_json::to_string(&stored.agent).map_err(StoreError::database)?;
    sql.execute(
        "insert into agents (org_id, id, version, body, created_at, updated_at, deleted_at)
         values ($1, $2, $3, $4, $5, $6, $7)
         on conflict (org_id, id) do update set version = excluded.version, body = excluded.body,
             updated_at = excluded.updated_at, deleted_at = excluded.deleted_at",
        &[
            org.as_str().into(),
            stored.agent.id.as_str().into(),
            stored.agent.version.into(),
            body.as_str().into(),
            stored.created_at.into(),
            stored.updated_at.into(),
            stored.deleted_at.into(),
        ],
    )
    .await?;
    Ok(())
}

pub(super) async fn find<D: Dialect>(
    sql: &mut Sql<'_, D>,
    org: &OrgId,
    id: &AgentId,
) -> Result<Option<StoredAgent>, StoreError> {
    let row = sql
        .row(
            "select body, created_at, updated_at, deleted_at from agents where org_id = $1 and id = $2",
            &[org.as_str().into(), id.as_str().into()],
        )
        .await?;
    row.as_ref().map(stored).transpose()
}

/// Asked in the transaction that stores a run: between looking an agent up and starting its run, somebody
/// may have deleted it.
pub(super) async fn is_deleted<D: Dialect>(
    sql: &mut Sql<'_, D>,
    org: &OrgId,
    id: &AgentId,
) -> Result<bool, sqlx::Error> {
    let row = sql
        .row(
            "select 1 from agents where org_id = $1 and id = $2 and deleted_at is not null",
            &[org.as_str().into(), id.as_str().into()],
        )
        .await?;
    Ok(row.is_some())
}

pub(super) async fn of_org<D: Dialect>(
    sql: &mut Sql<'_, D>,
    org: &OrgId,
) -> Result<Vec<StoredAgent>, StoreError> {
    let rows = sql
        .rows(
            "select body, created_at, updated_at, deleted_at from agents where org_id = $1 order by id",
            &[org.as_str().into()],
        )
        .await?;
    rows.iter().map(stored).collect()
}

pub(super) async fn ids<D: Dialect>(sql: &mut Sql<'_, D>) -> Result<Vec<(OrgId, AgentId)>, StoreError> {
    let rows = sql.rows("select org_id, id from agents order by org_id, id", &[]).await?;
    rows.iter().map(|row| Ok((OrgId::from(row.text(0)?), AgentId::from(row.text(1)?)))).collect()
}

fn stored<D: Dialect>(row: &Columns<D>) -> Result<StoredAgent, StoreError> {
    let agent = serde_json::from_str(&row.text(0)?);
    Ok(StoredAgent {
        agent: agent.map_err(|error| StoreError::Damaged(format!("agent: {error}")))?,
        created_at: row.time(1)?,
        updated_at: row.time(2)?,
        deleted_at: row.opt_int(3)?.map(Timestamp::from_millis),
    })
}
