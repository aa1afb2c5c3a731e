//! What a component's bytes say about it before anything is compiled: its imports and exports by name,
//! and whether it is of a size that compiles in reasonable time.
//!
//! Full validation is the compiler's: it checks every function anyway.

use wasmparser::{ComponentTypeRef, Encoding, Parser, Payload};

use super::Grants;
use super::load::LoadError;
use super::wasi;
use crate::escape::escaped;

/// The interface version this host serves.
const PACKAGE: &str = "holdfast:plugin/";
const VERSION: &str = "@0.1.0";
const TOOLS: &str = "holdfast:plugin/tools@0.1.0";
const KV: &str = "holdfast:plugin/kv@0.1.0";
/// Always linked: they reach nothing but the call itself. `types` has no functions.
const ALWAYS: [&str; 3] =
    ["holdfast:plugin/log@0.1.0", "holdfast:plugin/control@0.1.0", "holdfast:plugin/types@0.1.0"];

/// How every WebAssembly file begins.
const MAGIC: &[u8] = b"\0asm";

/// Compile time grows faster than a function's size. The largest one of `CPython` has about 300 KB.
const MAX_FUNCTION_BYTES: usize = 2 << 20;
const MAX_FUNCTIONS: u64 = 200_000;
const MAX_MODULES: u64 = 256;

/// The names at a component's root.
#[derive(Debug, Default)]
pub(super) struct Names {
    imports: Vec<String>,
    exports: Vec<String>,
}

impl Names {
    /// Checks every name against what this host offers and the operator granted: first the version, since
    /// another one explains other names; then what it wants, then what it offers.
    pub(super) fn check(&self, plugin: &str, grants: &Grants) -> Result<(), LoadError> {
        let has_tools = self.exports.iter().any(|name| name == TOOLS);
        let other = self.exports.iter().find(|name| name.starts_with("holdfast:plugin/tools@"));
        if let (false, Some(found)) = (has_tools, other) {
            return Err(LoadError::Version(escaped(found, 100)));
        }
        for import in &self.imports {
            check_import(import, plugin, grants)?;
        }
        if has_tools { Ok(()) } else { Err(self.without_tools()) }
    }

    /// Imports beyond the inert base: what the plugin can do to its surroundings.
    pub(super) fn capabilities(self) -> Vec<String> {
        let mut names = self.imports;
        names.retain(|name| name.starts_with(PACKAGE) && !name.starts_with("holdfast:plugin/types@"));
        names.sort_unstable();
        names
    }

    fn without_tools(&self) -> LoadError {
        let found: Vec<String> = self.exports.iter().take(10).map(|name| escaped(name, 100)).collect();
        LoadError::NoTools(if found.is_empty() { "nothing".to_owned() } else { found.join(", ") })
    }
}

fn check_import(name: &str, plugin: &str, grants: &Grants) -> Result<(), LoadError> {
    if ALWAYS.contains(&name) || wasi::is_base(name) || (name == KV && grants.kv) {
        return Ok(());
    }
    let hint = if name == KV {
        format!("grant it with `kv = true` in [plugins.{plugin}.grants]")
    } else if name.starts_with(PACKAGE) && !name.ends_with(VERSION) {
        "this host serves holdfast:plugin@0.1.0".to_owned()
    } else if name.starts_with("wasi:http/") {
        "HTTP egress is not offered by this version".to_owned()
    } else {
        "nothing in this host provides it".to_owned()
    };
    Err(LoadError::Import { name: escaped(name, 100), hint })
}

pub(super) fn inspect(bytes: &[u8]) -> Result<Names, LoadError> {
    if !bytes.starts_with(MAGIC) {
        // The parser's own words for this are a dump of bytes.
        return Err(LoadError::Malformed("it does not begin as WebAssembly files do".to_owned()));
    }
    let mut names = Names::default();
    let (mut depth, mut functions, mut modules) = (0_usize, 0, 0);
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(malformed)? {
            Payload::Version { encoding, .. } => {
                if depth == 0 && encoding == Encoding::Module {
                    return Err(LoadError::CoreModule);
                }
                depth += 1;
                modules += 1;
                within("modules and components", modules, MAX_MODULES)?;
            }
            Payload::End(_) => depth -= 1,
            Payload::CodeSectionEntry(body) => {
                functions += 1;
                within("functions", functions, MAX_FUNCTIONS)?;
                within("bytes in one function", body.range().len() as u64, MAX_FUNCTION_BYTES as u64)?;
            }
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    let import = import.map_err(malformed)?;
                    if !matches!(import.ty, ComponentTypeRef::Instance(_)) {
                        return Err(LoadError::Import {
                            name: escaped(import.name.name, 100),
                            hint: "only interfaces can be imported".to_owned(),
                        });
                    }
                    names.imports.push(import.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    names.exports.push(export.map_err(malformed)?.name.name.to_owned());
                }
            }
            // Everything else is the compiler's to judge.
            _ => {}
        }
    }
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
