//! What one component asks for, and what of it a grant leaves open.

use std::collections::BTreeSet;

use super::grant::{Capabilities, Capability};

/// What a component would like to reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub asked: Capabilities,
    /// Of these, what it asks for is a proposal: it takes whatever the operator grants. Of a component without a
    /// manifest nobody can know which hosts, scopes or secrets it needs; others say so, like one that fetches any
    /// page.
    pub open: BTreeSet<Capability>,
}

impl Request {
    /// What it may reach under a grant.
    pub fn within(&self, granted: &Capabilities) -> Capabilities {
        let within = self.asked.within(granted);
        self.open.iter().fold(within, |within, capability| within.with(*capability, granted))
    }

    /// What it has to wait for: what it asks for and a grant does not cover. Any grant of what is open covers it.
    pub fn missing(&self, granted: &Capabilities) -> Capabilities {
        let none = Capabilities::default();
        let covered = self.open.iter().filter(|capability| granted.has(**capability));
        covered.fold(self.beyond(granted), |missing, capability| missing.with(*capability, &none))
    }

    /// What more it would like.
    pub fn beyond(&self, granted: &Capabilities) -> Capabilities {
        self.asked.beyond(granted)
    }
}
