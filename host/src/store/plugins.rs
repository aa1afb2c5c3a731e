//! Statements on plugins: what the operator decided about them, and the components themselves.
//!
//! The operator's words are few, and are read as a whole. A word and its audit row are one write, so the
//! audit log also says whether there is a new one.

use serde_json::{Value as Json, json};

use super::dialect::{Columns, Dialect, Sql};
use super::{StoreError, audit};
use crate::audit::{Action, Actor, AuditEntry, ObjectType};
use crate::clock::Timestamp;
use crate::id::{KeyId, OrgId, UserId};

/// What was decided about one version of a plugin.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginGrant {
    pub plugin: String,
    pub digest: String,
    /// Capabilities as JSON: the vocabulary is the plugins'.
    pub requested: Json,
    pub granted: Json,
    pub by: Actor,
    pub at: Timestamp,
}

/// A version that must never run again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    pub plugin: String,
    pub digest: String,
    pub reason: String,
    pub by: Actor,
    pub at: Timestamp,
}

/// Somebody's word about one version of a plugin.
#[derive(Clone, Debug)]
pub struct PluginWrite {
    /// Of whoever does it. Plugins belong to no organisation.
    pub org: OrgId,
    pub plugin: String,
    pub digest: String,
    pub change: PluginChange,
    pub by: Actor,
    pub at: Timestamp,
}

#[derive(Clone, Debug)]
pub enum PluginChange {
    Grant {
        requested: Json,
        granted: Json,
        /// The digest whose decision this repeats, where nobody was asked again.
        carried_from: Option<String>,
    },
    /// Takes the decision back.
    Withdraw,
    Revoke {
        reason: String,
    },
    /// Its file was put into the folder, or taken out: for the audit log.
    Install,
    Remove,
}

/// A component that serves from now on.
#[derive(Clone, Debug)]
pub struct ServedComponent {
    pub plugin: String,
    pub digest: String,
    /// None where it is known to be kept.
    pub bytes: Option<Vec<u8>>,
    pub at: Timestamp,
}

/// A kept component without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptComponent {
    pub plugin: String,
    pub digest: String,
    pub size: u64,
    pub added_at: Timestamp,
}

pub(super) async fn write<D: Dialect>(sql: &mut Sql<'_, D>, write: &PluginWrite) -> Result<bool, StoreError> {
    let PluginWrite { plugin, digest, by, .. } = write;
    let (plugin, digest) = (plugin.as_str(), digest.as_str());
    let key = by.key.as_ref().map(KeyId::as_str);
    let (changed, action, details) = match &write.change {
        PluginChange::Grant { requested, granted, carried_from } => {
            let (asked, given) = (requested.to_string(), granted.to_string());
            let changed = sql
                .execute(
                    "insert into plugin_grants (plugin, digest, requested, granted, granted_by, key_id, granted_at)
                     values ($1, $2, $3, $4, $5, $6, $7)
                     on conflict (plugin, digest) do update set requested = excluded.requested,
                         granted = excluded.granted, granted_by = excluded.granted_by,
                         key_id = excluded.key_id, granted_at = excluded.granted_at",
                    &[
                        plugin.into(),
                        digest.into(),
                        asked.as_str().into(),
                        given.as_str().into(),
                        by.user.as_str().into(),
                        key.into(),
                        write.at.into(),
                    ],
                )
                .await?;
            let details = json!({"granted": granted, "requested": requested, "carriedFrom": carried_from});
            (changed, Action::PluginGranted, details)
        }
        PluginChange::Withdraw => {
            let statement = "delete from plugin_grants where plugin = $1 and digest = $2";
            let changed = sql.execute(statement, &[plugin.into(), digest.into()]).await?;
            (changed, Action::PluginGrantWithdrawn, json!({}))
        }
        PluginChange::Revoke { reason } => {
            let changed = sql
                .execute(
                    "insert into plugin_revocations (digest, plugin, reason, revoked_by, key_id, revoked_at)
                     values ($1, $2, $3, $4, $5, $6) on conflict (digest) do nothing",
                    &[
                        digest.into(),
                        plugin.into(),
                        reason.as_str().into(),
                        by.user.as_str().into(),
                        key.into(),
                        write.at.into(),
                    ],
                )
                .await?;
            (changed, Action::PluginRevoked, json!({"reason": reason}))
        }
        PluginChange::Install => (1, Action::PluginInstalled, json!({})),
        PluginChange::Remove => (1, Action::PluginRemoved, json!({})),
    };
    if changed > 0 {
        audit::append(sql, &entry(write, action, details)).await?;
    }
    Ok(changed > 0)
}

fn entry(write: &PluginWrite, action: Action, mut details: Json) -> AuditEntry {
    details["digest"] = json!(write.digest);
    AuditEntry {
        at: write.at,
        org: write.org.clone(),
        by: write.by.clone(),
        action,
        object: ObjectType::Plugin,
        object_id: write.plugin.clone(),
        details,
    }
}

pub(super) async fn grants<D: Dialect>(sql: &mut Sql<'_, D>) -> Result<Vec<PluginGrant>, StoreError> {
    let rows = sql
        .rows(
            "select plugin, digest, requested, granted, granted_by, key_id, granted_at
             from plugin_grants order by plugin, granted_at, digest",
            &[],
        )
        .await?;
    rows.iter().map(grant).collect()
}

fn grant<D: Dialect>(row: &Columns<D>) -> Result<PluginGrant, StoreError> {
    let json = |text: String| {
        serde_json::from_str(&text).map_err(|error| StoreError::Damaged(format!("plugin grant: {error}")))
    };
    Ok(PluginGrant {
        plugin: row.text(0)?,
        digest: row.text(1)?,
        requested: json(row.text(2)?)?,
        granted: json(row.text(3)?)?,
        by: Actor { user: UserId::from(row.text(4)?), key: row.opt_text(5)?.map(KeyId::from) },
        at: row.time(6)?,
    })
}

pub(super) async fn revocations<D: Dialect>(sql: &mut Sql<'_, D>) -> Result<Vec<Revocation>, StoreError> {
    let rows = sql
        .rows(
            "select plugin, digest, reason, revoked_by, key_id, revoked_at
             from plugin_revocations order by plugin, revoked_at, digest",
            &[],
        )
        .await?;
    let revocation = |row: &Columns<D>| {
        Ok(Revocation {
            plugin: row.text(0)?,
            digest: row.text(1)?,
            reason: row.text(2)?,
            by: Actor { user: UserId::from(row.text(3)?), key: row.opt_text(4)?.map(KeyId::from) },
            at: row.time(5)?,
        })
    };
    rows.iter().map(revocation).collect()
}

pub(super) async fn changes<D: Dialect>(sql: &mut Sql<'_, D>, after: u64) -> Result<(u64, bool), StoreError> {
    // Asked every second: both cost what is new in the log, not what is in it.
    let latest = sql.row("select coalesce(max(id), 0) from audit_log", &[]).await?;
    let latest = latest.map_or(Ok(0), |row| row.count(0))?;
    if latest <= after {
        return Ok((latest, false));
    }
    let about_plugins = "select 1 from audit_log where id > $1 and object_type = 'plugin' limit 1";
    let found = sql.row(about_plugins, &[after.into()]).await?;
    Ok((latest, found.is_some()))
}

pub(super) async fn serve<D: Dialect>(
    sql: &mut Sql<'_, D>,
    component: &ServedComponent,
) -> Result<(), sqlx::Error> {
    let (plugin, digest) = (component.plugin.as_str(), component.digest.as_str());
    let Some(bytes) = &component.bytes else {
        let statement = "update components set served = (select max(served) + 1 from components)
                         where plugin = $1 and digest = $2";
        sql.execute(statement, &[plugin.into(), digest.into()]).await?;
        return Ok(());
    };
    sql.execute(
        "insert into components (plugin, digest, bytes, size, added_at, served)
         values ($1, $2, $3, $4, $5, (select coalesce(max(served), 0) + 1 from components))
         on conflict (plugin, digest) do update set served = excluded.served",
        &[plugin.into(), digest.into(), bytes.as_slice().into(), bytes.len().into(), component.at.into()],
    )
    .await?;
    Ok(())
}

pub(super) async fn components<D: Dialect>(sql: &mut Sql<'_, D>) -> Result<Vec<KeptComponent>, StoreError> {
    let rows = sql
        .rows("select plugin, digest, size, added_at from components order by plugin, served", &[])
        .await?;
    let component = |row: &Columns<D>| {
        Ok(KeptComponent {
            plugin: row.text(0)?,
            digest: row.text(1)?,
            size: row.count(2)?,
            added_at: row.time(3)?,
        })
    };
    rows.iter().map(component).collect()
}

pub(super) async fn component<D: Dialect>(
    sql: &mut Sql<'_, D>,
    plugin: &str,
    digest: &str,
) -> Result<Option<Vec<u8>>, StoreError> {
    let statement = "select bytes from components where plugin = $1 and digest = $2";
    let row = sql.row(statement, &[plugin.into(), digest.into()]).await?;
    row.map(|row| row.blob(0)).transpose()
}

pub(super) async fn forget<D: Dialect>(
    sql: &mut Sql<'_, D>,
    components: &[(String, String)],
) -> Result<u64, sqlx::Error> {
    let mut forgotten = 0;
    for (plugin, digest) in components {
        forgotten += sql
            .execute(
                // A call that asks is in the journal before its run pauses for it, which makes an approval of it.
                "delete from components where plugin = $1 and digest = $2
                 and not exists (
                     select 1 from approvals join runs on runs.id = approvals.run_id
                     where approvals.digest = $2 and runs.status in ('QUEUED', 'RUNNING', 'PAUSED'))
                 and not exists (
                     select 1 from runs join run_events on run_events.run_id = runs.id
                     where runs.status = 'RUNNING'
                         and run_events.kind = 'call_suspended' and run_events.body like '%' || $2 || '%')",
                &[plugin.as_str().into(), digest.as_str().into()],
            )
            .await?;
    }
    Ok(forgotten)
}
