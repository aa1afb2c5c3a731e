//! What a component's bytes say about it before anything is compiled: its imports and exports by name,
//! and whether it is of a size that compiles in reasonable time.
//!
//! Full validation is the compiler's: it checks every function anyway.

mod shape;

use std::collections::BTreeSet;

use wasmparser::{ComponentImportSectionReader, ComponentTypeRef, Encoding, Parser, Payload};

use self::shape::{InstanceSize, Shape, Types, longest_name};
use super::grant::{Capabilities, Capability, HttpRule, KvRule};
use super::load::LoadError;
use super::manifest::{self, Manifest, ManifestError};
use super::request::Request;
use super::signature::{self, Signature, SignatureError};
use super::wasi;
use crate::escape::escaped;

/// The interface version this host serves.
const PACKAGE: &str = "holdfast:plugin/";
const VERSION: &str = "@0.1.0";
const TOOLS: &str = "holdfast:plugin/tools@0.1.0";
const RESUMABLE: &str = "holdfast:plugin/resumable@0.1.0";
const KV: &str = "holdfast:plugin/kv@0.1.0";
const SECRETS: &str = "holdfast:plugin/secrets@0.1.0";
/// Always linked: they reach nothing but the call itself. `types` has no functions.
const ALWAYS: [&str; 4] = [
    "holdfast:plugin/config@0.1.0",
    "holdfast:plugin/control@0.1.0",
    "holdfast:plugin/log@0.1.0",
    "holdfast:plugin/types@0.1.0",
];

/// How every WebAssembly file begins.
const MAGIC: &[u8] = b"\0asm";

/// Compile time grows faster than a function's size. The largest one of `CPython` has about 300 KB.
const MAX_FUNCTION_BYTES: usize = 2 << 20;
/// `SpiderMonkey` has about 30,000. The compiler keeps about 5 KB for even the smallest.
const MAX_FUNCTIONS: u64 = 60_000;
/// The engine holds a lock that calls need while it files them.
const MAX_TYPES: u64 = 10_000;
/// In one function. A compiler of a language makes hundreds; 49,000 are not compiled in two minutes.
const MAX_LOOPS: u64 = 2_000;
/// Of blocks in a function. A `switch` is as many deep as it has cases; compile time grows with the square.
const MAX_NESTING: u64 = 5_000;
/// Of one function: its variables times the places where its control flow parts or meets. The compiler asks
/// for each variable at each such place where its value comes from, in time and in memory.
const MAX_FLOW: u64 = 10_000_000;
/// In one function: values that its branches and blocks carry. Each takes the register allocator as long as a
/// hundred instructions; compilers of languages hardly use it.
const MAX_CARRIED: u64 = 20_000;
const MAX_MODULES: u64 = 256;
/// Of one instance of a module, besides its memories and tables; a call has up to 128 of them. `SpiderMonkey`
/// takes 290 KB. What fills it is not interrupted: all of them together take a second.
const MAX_INSTANCE_BYTES: u64 = 512 << 10;
/// Of a function, as debuggers call it. The engine copies it for each of the topmost 20 frames of a trap.
const MAX_NAME_BYTES: u64 = 64 << 10;

impl Capability {
    /// What an interface needs to be granted. None = nothing, or nothing that could be.
    fn of(interface: &str) -> Option<Self> {
        match interface {
            KV => Some(Self::Kv),
            SECRETS => Some(Self::Secrets),
            name if wasi::is_http(name) => Some(Self::Http),
            _ => None,
        }
    }

    fn how_to_grant(self, plugin: &str) -> String {
        match self {
            Self::Kv => format!(
                "grant it with `holdfast plugin grant {plugin}`, or `kv = true` in [plugins.{plugin}.grants]"
            ),
            Self::Http => format!(
                "grant it with `holdfast plugin grant {plugin}`, or a `[[plugins.{plugin}.grants.http]]` table for each `host` that it may reach"
            ),
            Self::Secrets => format!(
                "grant it with a `[[plugins.{plugin}.grants.secrets]]` table for each use of a secret"
            ),
        }
    }
}

/// What stands at a component's root.
#[derive(Debug, Default)]
pub(super) struct Names {
    imports: Vec<String>,
    exports: Vec<String>,
    pub(super) manifest: Option<Manifest>,
    pub(super) signature: Option<Signature>,
}

impl Names {
    /// Checks every name against what this host offers and the operator granted: first the version, since
    /// another one explains other names; then what it wants, then what it offers.
    pub(super) fn check(&self, plugin: &str, grants: &Capabilities) -> Result<(), LoadError> {
        let has_tools = self.exports.iter().any(|name| name == TOOLS);
        let other = self.exports.iter().find(|name| name.starts_with("holdfast:plugin/tools@"));
        if let (false, Some(found)) = (has_tools, other) {
            return Err(LoadError::Version(escaped(found, 100)));
        }
        if let Some(manifest) = &self.manifest {
            manifest.check_id(plugin)?;
        }
        let resumable = |name: &&String| name.starts_with("holdfast:plugin/resumable@");
        if let (false, Some(found)) = (self.resumable(), self.exports.iter().find(resumable)) {
            return Err(LoadError::Version(escaped(found, 100)));
        }
        for import in &self.imports {
            self.check_import(import, plugin, grants)?;
        }
        if has_tools { Ok(()) } else { Err(self.without_tools()) }
    }

    /// What it asks for: what its manifest says, or else what its imports imply.
    pub(super) fn request(&self) -> Request {
        let imports = |capability| self.imports.iter().any(|name| Capability::of(name) == Some(capability));
        if let Some(manifest) = &self.manifest {
            return Request { asked: manifest.requests.clone(), open: manifest.open.clone() };
        }
        let kv = if imports(Capability::Kv) { KvRule::all() } else { KvRule::default() };
        let http = imports(Capability::Http).then(HttpRule::any).into_iter().collect();
        let mut open: BTreeSet<Capability> =
            Capability::ALL.into_iter().filter(|capability| imports(*capability)).collect();
        if open.contains(&Capability::Http) {
            // They can be sent with its requests.
            open.insert(Capability::Secrets);
        }
        Request { asked: Capabilities { kv, http, ..Capabilities::default() }, open }
    }

    fn add_imports(&mut self, section: ComponentImportSectionReader<'_>) -> Result<(), LoadError> {
        for import in section {
            let import = import.map_err(malformed)?;
            if !matches!(import.ty, ComponentTypeRef::Instance(_)) {
                return Err(LoadError::Import {
                    name: escaped(import.name.name, 100),
                    hint: "only interfaces can be imported".to_owned(),
                });
            }
            self.imports.push(import.name.name.to_owned());
        }
        Ok(())
    }

    fn check_import(&self, name: &str, plugin: &str, grants: &Capabilities) -> Result<(), LoadError> {
        if ALWAYS.contains(&name) || wasi::is_base(name) {
            return Ok(());
        }
        let hint = match Capability::of(name) {
            Some(capability) if grants.has(capability) => return Ok(()),
            Some(capability) if self.manifest.as_ref().is_some_and(|it| !it.requests.has(capability)) => {
                let key = capability.word();
                format!(
                    "its manifest does not request it: add `{key}` to [requests] in plugin.toml and build it again"
                )
            }
            Some(capability) => capability.how_to_grant(plugin),
            None if name.starts_with(PACKAGE) && !name.ends_with(VERSION) => {
                "this host serves holdfast:plugin@0.1.0".to_owned()
            }
            None => "nothing in this host provides it".to_owned(),
        };
        Err(LoadError::Import { name: escaped(name, 100), hint })
    }

    /// Imports beyond the inert base: what the plugin can do to its surroundings.
    pub(super) fn capabilities(&self) -> Vec<String> {
        let mut names = self.imports.clone();
        names.retain(|name| {
            (name.starts_with(PACKAGE) && !name.starts_with("holdfast:plugin/types@"))
                || Capability::of(name).is_some()
        });
        names.sort_unstable();
        names
    }

    /// Its tools can ask a human.
    pub(super) fn resumable(&self) -> bool {
        self.exports.iter().any(|name| name == RESUMABLE)
    }

    fn without_tools(&self) -> LoadError {
        let found: Vec<String> = self.exports.iter().take(10).map(|name| escaped(name, 100)).collect();
        LoadError::NoTools(if found.is_empty() { "nothing".to_owned() } else { found.join(", ") })
    }
}

pub(super) fn inspect(bytes: &[u8]) -> Result<Names, LoadError> {
    if !bytes.starts_with(MAGIC) {
        // The parser's own words for this are a dump of bytes.
        return Err(LoadError::Malformed("it does not begin as WebAssembly files do".to_owned()));
    }
    let mut names = Names::default();
    let mut signature = None;
    let (mut depth, mut functions, mut modules, mut types) = (0_usize, 0, 0, 0);
    let (mut instance, mut module_types) = (InstanceSize::default(), Types::default());
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(malformed)?;
        instance.add(&payload).map_err(malformed)?;
        within("bytes in one instance, besides its memories", instance.bytes(), MAX_INSTANCE_BYTES)?;
        match payload {
            Payload::Version { encoding, .. } => {
                if depth == 0 && encoding == Encoding::Module {
                    return Err(LoadError::CoreModule);
                }
                depth += 1;
                modules += 1;
                instance = InstanceSize::default();
                module_types = Types::default();
                within("modules and components", modules, MAX_MODULES)?;
            }
            Payload::End(_) => depth -= 1,
            Payload::CodeSectionEntry(body) => {
                functions += 1;
                within("functions", functions, MAX_FUNCTIONS)?;
                within("bytes in one function", body.range().len() as u64, MAX_FUNCTION_BYTES as u64)?;
                let shape = Shape::of(&body, &module_types).map_err(malformed)?;
                within("levels of blocks in one function", shape.nesting, MAX_NESTING)?;
                within("loops in one function", shape.loops, MAX_LOOPS)?;
                within("variables times branches in one function", shape.flow, MAX_FLOW)?;
                within("values carried by branches in one function", shape.carried, MAX_CARRIED)?;
            }
            Payload::ComponentImportSection(section) if depth == 1 => {
                names.add_imports(section)?;
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    names.exports.push(export.map_err(malformed)?.name.name.to_owned());
                }
            }
            Payload::CustomSection(section) if depth == 1 && section.name() == manifest::SECTION => {
                if names.manifest.is_some() {
                    return Err(ManifestError::Twice.into());
                }
                names.manifest = Some(Manifest::from_section(section.data())?);
            }
            Payload::CustomSection(section) if section.name() == signature::SECTION => {
                if depth != 1 {
                    return Err(SignatureError::Misplaced.into());
                }
                if signature.replace(section).is_some() {
                    return Err(SignatureError::Twice.into());
                }
            }
            Payload::CustomSection(section) => {
                within("bytes in one name", longest_name(&section), MAX_NAME_BYTES)?;
            }
            Payload::TypeSection(section) => {
                types += u64::from(section.count());
                within("types", types, MAX_TYPES)?;
                module_types.add(&section).map_err(malformed)?;
            }
            Payload::ComponentTypeSection(section) => {
                types += u64::from(section.count());
                within("types", types, MAX_TYPES)?;
            }
            // Everything else is the compiler's to judge.
            _ => {}
        }
    }
    // When all of it was read: a second one is told apart from one in a wrong place.
    names.signature = signature.map(|section| Signature::from_section(bytes, &section)).transpose()?;
    Ok(names)
}

#[expect(clippy::needless_pass_by_value, reason = "the shape map_err wants")]
fn malformed(error: wasmparser::BinaryReaderError) -> LoadError {
    LoadError::Malformed(escaped(&error.to_string(), 300))
}

fn within(what: &'static str, found: u64, limit: u64) -> Result<(), LoadError> {
    if found > limit {
        return Err(LoadError::TooComplex { what, found, limit });
    }
    Ok(())
}
