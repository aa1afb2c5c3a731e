use crate::{clock::Clock, id::*, session::Owner, store::Store, tool::*};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
#[derive(Clone)]
pub struct PluginHost;
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct HostError;
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct LoadError;
impl PluginHost {
    pub fn new(_: Arc<dyn Store>, _: Clock, _: Option<PathBuf>) -> Result<Self, HostError> {
        Ok(Self)
    }
    pub fn detached() -> Result<Self, HostError> {
        Ok(Self)
    }
    pub async fn load(&self, _: &str, _: Vec<u8>, _: &PluginSettings) -> Result<Plugin, LoadError> {
        Err(LoadError)
    }
    pub fn ticker_alive(&self) -> bool {
        true
    }
}
#[derive(Deserialize, Serialize, Clone, Default, Debug)]
pub struct Grants {
    pub kv: bool,
}
impl Grants {
    pub fn everything(&self) -> Self {
        self.clone()
    }
}
#[derive(Deserialize, Serialize, Clone, Default, Debug)]
pub struct Limits {}
#[derive(Deserialize, Serialize, Clone, Default, Debug)]
#[serde(default)]
pub struct PluginSettings {
    pub grants: Grants,
    pub limits: Limits,
}
pub struct Plugin;
impl Plugin {
    pub fn id(&self) -> &str {
        ""
    }
    pub fn digest(&self) -> &str {
        ""
    }
    pub fn size(&self) -> usize {
        0
    }
    pub fn specs(&self) -> &[ToolSpec] {
        &[]
    }
    pub fn grants(&self) -> &Grants {
        todo!()
    }
    pub fn limits(&self) -> &Limits {
        todo!()
    }
    pub fn imports(&self) -> &[String] {
        &[]
    }
    pub async fn call(&self, _: Invocation<'_>) -> ToolOutcome {
        todo!()
    }
    pub fn check_arguments(&self, _: &ToolName, _: &Value) -> Result<(), String> {
        Ok(())
    }
}
pub struct Invocation<'a> {
    pub run: &'a RunId,
    pub session: &'a SessionId,
    pub owner: &'a Owner,
    pub call: &'a CallId,
    pub attempt: u32,
    pub tool: &'a ToolName,
    pub arguments: &'a Value,
    pub cancelled: CancellationToken,
}
