//! The agents of this server as callers see them: those of the configuration file, for everybody, and those
//! that an organisation's admins made, for that organisation.
//!
//! Nothing is cached: whoever asks after a change sees it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::agent::Agent;
use crate::clock::Timestamp;
use crate::id::{AgentId, OrgId};
use crate::store::{Store, StoreError, StoredAgent};

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct AgentBook {
    configured: Arc<BTreeMap<AgentId, Agent>>,
    store: Arc<dyn Store>,
}

/// An agent and where it comes from.
pub(super) struct BookEntry {
    pub(super) agent: Agent,
    pub(super) origin: Origin,
}

#[derive(Clone, Copy)]
pub(super) enum Origin {
    /// The configuration file.
    File,
    Store {
        created_at: Timestamp,
        updated_at: Timestamp,
        active: bool,
    },
}

impl BookEntry {
    pub(super) fn is_active(&self) -> bool {
        match self.origin {
            Origin::File => true,
            Origin::Store { active, .. } => active,
        }
    }
}

impl From<StoredAgent> for BookEntry {
    fn from(stored: StoredAgent) -> Self {
        let StoredAgent { agent, created_at, updated_at, deleted_at } = stored;
        Self { agent, origin: Origin::Store { created_at, updated_at, active: deleted_at.is_none() } }
    }
}

impl AgentBook {
    /// Says in the log which stored agents the configuration file hides.
    pub(crate) async fn open(agents: &[Agent], store: Arc<dyn Store>) -> Result<Self, StoreError> {
        let configured: BTreeMap<AgentId, Agent> =
            agents.iter().map(|agent| (agent.id.clone(), agent.clone())).collect();
        for (org, id) in store.agent_ids().await? {
            if configured.contains_key(&id) {
                tracing::warn!(
                    agent.id = %id, org.id = %org,
                    "the configuration file has an agent of this id, so the organisation's own one is not used"
                );
            }
        }
        Ok(Self { configured: Arc::new(configured), store })
    }

    /// The agents of the configuration file.
    pub(super) fn configured(&self) -> impl Iterator<Item = &Agent> {
        self.configured.values()
    }

    pub(super) fn is_configured(&self, id: &AgentId) -> bool {
        self.configured.contains_key(id)
    }

    /// Also a deleted one.
    pub(super) async fn find(&self, org: &OrgId, id: &AgentId) -> Result<Option<BookEntry>, StoreError> {
        if let Some(agent) = self.configured.get(id) {
            return Ok(Some(BookEntry { agent: agent.clone(), origin: Origin::File }));
        }
        Ok(self.store.agent(org, id).await?.map(BookEntry::from))
    }

    /// By id, deleted ones included.
    pub(super) async fn all(&self, org: &OrgId) -> Result<Vec<BookEntry>, StoreError> {
        let of_file = self.configured().map(|agent| BookEntry { agent: agent.clone(), origin: Origin::File });
        let mut entries: Vec<BookEntry> = of_file.collect();
        let stored = self.store.agents(org).await?;
        entries
            .extend(stored.into_iter().filter(|it| !self.is_configured(&it.agent.id)).map(BookEntry::from));
        entries.sort_by(|a, b| a.agent.id.cmp(&b.agent.id));
        Ok(entries)
    }
}
