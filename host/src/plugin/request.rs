//! What one component asks for, and what of it a grant leaves open.

use super::grant::{Capabilities, KvRule};

/// What a component would like to reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub asked: Capabilities,
    /// Its manifest says so. Otherwise only its imports do: then nobody can know which hosts, scopes or secrets,
    /// and it gets whatever the operator grants.
    pub declared: bool,
}

impl Request {
    /// What it may reach under a grant.
    pub fn within(&self, granted: &Capabilities) -> Capabilities {
        if self.declared { self.asked.within(granted) } else { granted.clone() }
    }

    /// What it asks for and a grant does not cover. Of imports alone nobody can know how much of an interface
    /// they need, so any grant of that interface covers them.
    pub fn missing(&self, granted: &Capabilities) -> Capabilities {
        if self.declared {
            return self.asked.beyond(granted);
        }
        let mut missing = self.asked.clone();
        if !granted.kv.scopes.is_empty() {
            missing.kv = KvRule::default();
        }
        if !granted.http.is_empty() {
            missing.http.clear();
        }
        if !granted.secrets.is_empty() {
            missing.secrets.clear();
        }
        missing
    }
}
