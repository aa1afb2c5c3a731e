use crate::{agent::Agent, plugin::*, tool::*};
use std::{collections::BTreeMap, path::Path, sync::Arc};
#[derive(Default)]
pub struct ToolRegistry;
pub struct FailedPlugin {
    pub id: String,
    pub reason: String,
}
impl ToolRegistry {
    pub fn get(&self, _: &ToolName) -> Option<(&Arc<Plugin>, &ToolSpec)> {
        None
    }
    pub fn specs_for(&self, _: &Agent) -> Vec<ToolSpec> {
        vec![]
    }
    pub fn specs(&self) -> impl Iterator<Item = &ToolSpec> {
        [].into_iter()
    }
    pub fn plugins(&self) -> &[Arc<Plugin>] {
        &[]
    }
    pub fn failed(&self) -> &[FailedPlugin] {
        &[]
    }
    pub async fn load_dir(_: &PluginHost, _: &Path, _: &BTreeMap<String, PluginSettings>) -> Self {
        Self
    }
}
