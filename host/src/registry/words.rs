//! The operator's words: what the configuration and the stored decisions say about which version of a plugin.

use std::collections::BTreeMap;

use super::admission::{Admission, Before, Difference, admit};
use crate::plugin::{Capabilities, PluginSettings, Request, UnknownChoice};
use crate::store::{KeptComponent, PluginChange, PluginGrant, Revocation, Store, StoreError};

/// All that was said, as it was when it was read.
pub struct Words {
    settings: BTreeMap<String, PluginSettings>,
    /// By plugin and digest.
    decisions: BTreeMap<(String, String), Decision>,
    /// By digest.
    revocations: BTreeMap<String, Revocation>,
    /// The last that came to serve is the last of its plugin.
    kept: Vec<KeptComponent>,
}

/// A stored decision.
#[derive(Clone, Debug)]
pub struct Decision {
    pub asked: Capabilities,
    pub granted: Capabilities,
    pub stored: PluginGrant,
}

impl Words {
    pub async fn read(
        settings: &BTreeMap<String, PluginSettings>,
        store: &dyn Store,
    ) -> Result<Self, StoreError> {
        let mut decisions = BTreeMap::new();
        for stored in store.plugin_grants().await? {
            let capabilities = |json: &serde_json::Value| {
                serde_json::from_value::<Capabilities>(json.clone())
                    .map_err(|error| StoreError::Damaged(format!("grant of {}: {error}", stored.plugin)))
            };
            let (asked, granted) = (capabilities(&stored.requested)?, capabilities(&stored.granted)?);
            let key = (stored.plugin.clone(), stored.digest.clone());
            decisions.insert(key, Decision { asked, granted, stored });
        }
        let revocations = store.revocations().await?;
        Ok(Self {
            settings: settings.clone(),
            decisions,
            revocations: revocations.into_iter().map(|it| (it.digest.clone(), it)).collect(),
            kept: store.components().await?,
        })
    }

    pub fn settings(&self, plugin: &str) -> PluginSettings {
        self.settings.get(plugin).cloned().unwrap_or_default()
    }

    fn configured(&self, plugin: &str) -> Capabilities {
        self.settings.get(plugin).map(|settings| settings.grants.clone()).unwrap_or_default()
    }

    pub fn decision(&self, plugin: &str, digest: &str) -> Option<&Decision> {
        self.decisions.get(&(plugin.to_owned(), digest.to_owned()))
    }

    pub fn decisions(&self, plugin: &str) -> impl Iterator<Item = &Decision> {
        self.decisions.values().filter(move |decision| decision.stored.plugin == plugin)
    }

    /// Plugins and digests of every version that served or was decided about.
    pub fn versions(&self) -> impl Iterator<Item = (&str, &str)> {
        let decided = self.decisions.keys().map(|(plugin, digest)| (plugin.as_str(), digest.as_str()));
        let kept = self.kept.iter().map(|kept| (kept.plugin.as_str(), kept.digest.as_str()));
        let revoked = self.revocations.values().map(|it| (it.plugin.as_str(), it.digest.as_str()));
        decided.chain(kept).chain(revoked)
    }

    pub fn revocation(&self, digest: &str) -> Option<&Revocation> {
        self.revocations.get(digest)
    }

    pub fn revocations(&self) -> impl Iterator<Item = &Revocation> {
        self.revocations.values()
    }

    pub fn kept(&self) -> &[KeptComponent] {
        &self.kept
    }

    /// The digest that came to serve last.
    pub fn served_last(&self, plugin: &str) -> Option<&str> {
        self.kept.iter().rev().find(|kept| kept.plugin == plugin).map(|kept| kept.digest.as_str())
    }

    pub fn admit(&self, plugin: &str, digest: &str, request: &Request) -> Admission {
        let decided = self.decision(plugin, digest).map(|decision| &decision.granted);
        let before = self.before(plugin, digest);
        admit(request, &self.configured(plugin), decided, before.as_ref())
    }

    /// The decision about the version before, to be repeated for this one.
    pub fn carried(&self, plugin: &str, digest: &str) -> Option<&Decision> {
        let last = self.served_last(plugin).filter(|last| *last != digest)?;
        self.decision(plugin, last)
    }

    /// What a version may reach by what was said about itself alone; none = it may not be loaded.
    pub fn granted(&self, plugin: &str, digest: &str, request: &Request) -> Option<Capabilities> {
        let decided = self.decision(plugin, digest).map(|decision| &decision.granted);
        match admit(request, &self.configured(plugin), decided, None) {
            Admission::Granted(granted) => Some(granted),
            Admission::CarriedOver(_) | Admission::Waits(_) => None,
        }
    }

    /// What the operator granted so far to this version or the one before.
    pub fn granted_so_far(&self, plugin: &str, digest: &str) -> Capabilities {
        let configured = self.configured(plugin);
        match (self.decision(plugin, digest), self.before(plugin, digest)) {
            (Some(decision), _) => configured.and(&decision.granted),
            (None, Some(before)) => before.granted,
            (None, None) => configured,
        }
    }

    /// The operator's yes to a version: to all that it asks for, or to a part of what it does not have yet.
    pub fn grant(
        &self,
        plugin: &str,
        digest: &str,
        request: &Request,
        only: Option<&[String]>,
    ) -> Result<PluginChange, UnknownChoice> {
        let granted = match only {
            None => request.asked.clone(),
            Some(words) => {
                let decision = self.decision(plugin, digest).or_else(|| self.carried(plugin, digest));
                let before = decision.map(|decision| request.within(&decision.granted)).unwrap_or_default();
                request.beyond(&self.granted_so_far(plugin, digest)).only(words)?.and(&before)
            }
        };
        Ok(PluginChange::Grant {
            requested: request.asked.to_json(),
            granted: granted.to_json(),
            carried_from: None,
        })
    }

    pub fn difference(&self, plugin: &str, digest: &str, request: &Request) -> Difference {
        let granted = self.granted_so_far(plugin, digest);
        Difference::new(request, &granted, self.before(plugin, digest).as_ref())
    }

    /// The version that served before, if it was another one.
    fn before(&self, plugin: &str, digest: &str) -> Option<Before> {
        let last = self.served_last(plugin).filter(|last| *last != digest)?;
        let configured = self.configured(plugin);
        Some(match self.decision(plugin, last) {
            Some(decision) => {
                Before { asked: decision.asked.clone(), granted: configured.and(&decision.granted) }
            }
            // Without a decision it was loaded because the configuration grants all that it asked for.
            None => Before { asked: configured.clone(), granted: configured },
        })
    }
}
