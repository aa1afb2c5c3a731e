//! A component between its bytes and its grants: compiled and described, but not to be called yet.
//!
//! Compiling costs seconds, granting microseconds. So what is compiled waits for the operator's word, or gets
//! another one, without being compiled again.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use wasmtime::component::Component;

use super::breaker::{Breaker, Terms};
use super::describe::Checks;
use super::egress::Connector;
use super::grant::Capabilities;
use super::inspect::{Names, inspect};
use super::limits::Limits;
use super::load::{self, LoadError};
use super::manifest::Manifest;
use super::request::Request;
use super::signers::{Signed, Signers};
use super::values::Values;
use super::{Loaded, Plugin, Shared};
use crate::tool::{ToolName, ToolSpec, hex};

/// Most problems with a call's arguments that somebody is told.
pub(super) const MAX_PROBLEMS: usize = 5;

/// The bytes of a file, with their digest.
pub struct Code {
    bytes: Vec<u8>,
    digest: String,
}

impl Code {
    /// Takes time in proportion to the bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        let digest = hex(&Sha256::digest(&bytes));
        Self { bytes, digest }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256, in lower-case hex.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// What the component says about itself, without compiling it; some of it may still not load.
    pub fn read(&self) -> Result<(Option<Manifest>, Request), LoadError> {
        let names = inspect(&self.bytes)?;
        let request = names.request();
        Ok((names.manifest, request))
    }

    /// Its signature as that plugin's, or why it is not one that counts.
    pub fn signed(&self, plugin: &str, signers: &Signers) -> Result<Option<Signed>, LoadError> {
        let names = inspect(&self.bytes)?;
        Ok(signers.check(plugin, &self.bytes, names.signature.as_ref())?)
    }
}

/// A compiled and described component. Cheap to clone.
#[derive(Clone)]
pub struct Prepared(Arc<Parts>);

pub(super) struct Parts {
    pub(super) id: Arc<str>,
    pub(super) digest: String,
    pub(super) size: u64,
    pub(super) specs: Vec<ToolSpec>,
    /// Beside `specs`, in the same order.
    pub(super) checks: Vec<Checks>,
    pub(super) names: Names,
    pub(super) signed: Option<Signed>,
    pub(super) component: Component,
    pub(super) limits: Arc<Limits>,
    pub(super) values: Arc<Values>,
    pub(super) connector: Arc<Connector>,
    pub(super) shared: Arc<Shared>,
}

impl Prepared {
    pub(super) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    pub fn id(&self) -> &Arc<str> {
        &self.0.id
    }

    /// SHA-256 of the file, in lower-case hex.
    pub fn digest(&self) -> &str {
        &self.0.digest
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.0.size
    }

    pub fn specs(&self) -> &[ToolSpec] {
        &self.0.specs
    }

    /// The interfaces it imports beyond the inert base.
    pub fn imports(&self) -> Vec<String> {
        self.0.names.capabilities()
    }

    /// What it says about itself; none if it was built without a `plugin.toml`.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.0.names.manifest.as_ref()
    }

    /// None = it is not signed.
    pub fn signed(&self) -> Option<Signed> {
        self.0.signed
    }

    pub fn request(&self) -> Request {
        self.0.names.request()
    }

    pub fn limits(&self) -> &Arc<Limits> {
        &self.0.limits
    }

    /// The plugin that may reach what it asks for, within what is granted.
    pub fn grant(&self, granted: &Capabilities) -> Result<Plugin, LoadError> {
        let parts = &self.0;
        let grants = self.request().within(granted);
        parts.names.check(&parts.id, &grants)?;
        let (pre, resumable) = load::link(&parts.shared, &parts.component, &parts.names, &grants)?;
        let places = usize::try_from(parts.limits.concurrent_calls.max(1)).unwrap_or(1);
        Ok(Plugin(Arc::new(Loaded {
            prepared: self.clone(),
            grants: Arc::new(grants),
            running: Semaphore::new(places),
            pre,
            resumable,
            breaker: Mutex::new(Breaker::new(Terms::from(parts.limits.as_ref()))),
            stopped: CancellationToken::new(),
            stop_reason: OnceLock::new(),
        })))
    }

    pub(super) fn values(&self) -> &Arc<Values> {
        &self.0.values
    }

    pub(super) fn connector(&self) -> &Arc<Connector> {
        &self.0.connector
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }

    /// The tool's schemas, or what is wrong with the arguments.
    pub(super) fn check_arguments(&self, tool: &ToolName, arguments: &Value) -> Result<&Checks, String> {
        let place = self.0.specs.iter().position(|spec| spec.name == *tool);
        let Some(checks) = place.and_then(|place| self.0.checks.get(place)) else {
            return Err(format!("there is no tool {tool}"));
        };
        let problems = checks.input.problems(arguments, MAX_PROBLEMS);
        if problems.is_empty() {
            return Ok(checks);
        }
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Err(format!("the arguments do not fit the tool's schema: {}", problems.join("; ")))
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared")
            .field("id", &self.id())
            .field("digest", &self.digest())
            .finish_non_exhaustive()
    }
}
