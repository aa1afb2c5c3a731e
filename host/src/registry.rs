//! Tools by name: an immutable snapshot of what was loaded, and of what was not and why.
//!
//! To reload is to build a new registry and to swap it in (`registry/shelf.rs`). Calls under way keep the
//! plugins they started with.

mod admission;
mod folder;
mod shelf;
mod words;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use self::admission::{Admission, Before, Difference};
pub use self::folder::{FileError, PluginFile, files};
pub(crate) use self::folder::{path, read, write};
pub use self::shelf::{ChangeError, Operator, Shelf, ShelfError, Version};
pub use self::words::{Decision, Words};
use crate::agent::Agent;
use crate::plugin::{Capabilities, Plugin, Prepared};
use crate::tool::{Approval, ToolName, ToolSpec};

/// All tools of all plugins.
#[derive(Clone, Default)]
pub struct ToolRegistry {
    plugins: Vec<Arc<Plugin>>,
    /// Files of the folder that do not serve.
    held: Vec<HeldPlugin>,
    /// Places in `plugins` and in that plugin's specifications.
    tools: BTreeMap<ToolName, (usize, usize)>,
}

/// A file that does not serve. The version before it may.
#[derive(Clone, Debug)]
pub struct HeldPlugin {
    pub id: String,
    pub why: Held,
}

#[derive(Clone, Debug)]
pub enum Held {
    /// It is not a plugin of this host. For the operator: what to do about it. Holds no host paths.
    Failed { reason: String },
    /// It asks for more than it was granted.
    Waiting { prepared: Prepared, missing: Capabilities, reason: String },
    /// The operator stopped this version for good.
    Revoked { digest: String, reason: String },
}

impl Held {
    /// Why, in words for the operator.
    pub fn in_words(&self) -> String {
        match self {
            Self::Failed { reason } | Self::Waiting { reason, .. } => reason.clone(),
            Self::Revoked { reason, .. } => format!("this version was revoked: {reason}"),
        }
    }

    /// The word in lists.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Failed { .. } => "failed",
            Self::Waiting { .. } => "waiting",
            Self::Revoked { .. } => "revoked",
        }
    }
}

impl ToolRegistry {
    /// A registry of these plugins. No two tools can have one name, because a name starts with its plugin's
    /// id, and ids are files' names.
    pub fn new(mut plugins: Vec<Arc<Plugin>>, mut held: Vec<HeldPlugin>) -> Self {
        plugins.sort_by(|a, b| a.id().cmp(b.id()));
        held.sort_by(|a, b| a.id.cmp(&b.id));
        let tools = index(&plugins);
        Self { plugins, held, tools }
    }

    pub fn get(&self, name: &ToolName) -> Option<(&Arc<Plugin>, &ToolSpec)> {
        let (plugin, spec) = self.tools.get(name)?;
        let plugin = self.plugins.get(*plugin)?;
        Some((plugin, plugin.specs().get(*spec)?))
    }

    /// The tools an agent may call, with or without a human's approval, by name.
    pub fn specs_for(&self, agent: &Agent) -> Vec<&ToolSpec> {
        self.specs().filter(|spec| agent.approval(spec) != Approval::Forbid).collect()
    }

    /// Every tool, by name.
    pub fn specs(&self) -> impl Iterator<Item = &ToolSpec> {
        self.tools.keys().filter_map(|name| self.get(name)).map(|(_, spec)| spec)
    }

    /// By id.
    pub fn plugins(&self) -> &[Arc<Plugin>] {
        &self.plugins
    }

    pub fn plugin(&self, id: &str) -> Option<&Arc<Plugin>> {
        self.plugins.iter().find(|plugin| plugin.id() == id)
    }

    /// By id.
    pub fn held(&self) -> &[HeldPlugin] {
        &self.held
    }

    pub fn held_of(&self, id: &str) -> Option<&Held> {
        self.held.iter().find(|held| held.id == id).map(|held| &held.why)
    }
}

fn index(plugins: &[Arc<Plugin>]) -> BTreeMap<ToolName, (usize, usize)> {
    let mut tools = BTreeMap::new();
    for (place, plugin) in plugins.iter().enumerate() {
        for (index, spec) in plugin.specs().iter().enumerate() {
            tools.insert(spec.name.clone(), (place, index));
        }
    }
    tools
}
