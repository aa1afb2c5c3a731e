//! Tool names: what is legal, and how one splits into plugin and tool.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::escape::escaped;

/// `plugin__tool`: the name a model sees, legal for every provider (`[a-zA-Z0-9_-]{1,64}`).
///
/// Neither part contains `__` or starts or ends with `_`, so the name splits in one way only.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ToolName {
    plugin: String,
    tool: String,
}

/// The longest name that OpenAI and Anthropic accept for a function.
pub const MAX_TOOL_NAME: usize = 64;

/// What is no name is guest-controlled: it is shown escaped and cut.
#[derive(Debug, thiserror::Error)]
pub enum ToolNameError {
    #[error(
        "`{0}` is not a legal name: use lower-case letters, digits, `-` and `_`, without `__` and not starting or \
         ending with `_`"
    )]
    Part(String),
    #[error("`{0}` is longer than {MAX_TOOL_NAME} characters, the most that model providers accept")]
    TooLong(String),
    #[error("`{0}` is not of the form plugin__tool")]
    Form(String),
}

impl ToolName {
    pub fn new(plugin: &str, tool: &str) -> Result<Self, ToolNameError> {
        check_name_part(plugin)?;
        check_name_part(tool)?;
        let name = Self { plugin: plugin.to_owned(), tool: tool.to_owned() };
        if plugin.len() + tool.len() + 2 > MAX_TOOL_NAME {
            return Err(ToolNameError::TooLong(shown(&name.to_string())));
        }
        Ok(name)
    }

    pub fn plugin(&self) -> &str {
        &self.plugin
    }

    pub fn tool(&self) -> &str {
        &self.tool
    }
}

/// Checks a plugin's or a tool's own name.
pub fn check_name_part(part: &str) -> Result<(), ToolNameError> {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    if part.is_empty()
        || !part.bytes().all(legal)
        || part.contains("__")
        || part.starts_with('_')
        || part.ends_with('_')
    {
        return Err(ToolNameError::Part(shown(part)));
    }
    Ok(())
}

fn shown(name: &str) -> String {
    escaped(name, 2 * MAX_TOOL_NAME)
}

impl fmt::Display for ToolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}__{}", self.plugin, self.tool)
    }
}

impl FromStr for ToolName {
    type Err = ToolNameError;

    fn from_str(name: &str) -> Result<Self, ToolNameError> {
        let (plugin, tool) = name.split_once("__").ok_or_else(|| ToolNameError::Form(shown(name)))?;
        Self::new(plugin, tool)
    }
}

impl TryFrom<String> for ToolName {
    type Error = ToolNameError;

    fn try_from(name: String) -> Result<Self, ToolNameError> {
        name.parse()
    }
}

impl From<ToolName> for String {
    fn from(name: ToolName) -> Self {
        name.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_split_in_one_way_only() {
        let name: ToolName = "clock__days-between".parse().unwrap();
        assert_eq!((name.plugin(), name.tool()), ("clock", "days-between"));
        for bad in ["clock", "a__b__c", "a_", "__b", "a___b", "A__b", "a__b ", "a.b__c", "a__"] {
            assert!(bad.parse::<ToolName>().is_err(), "{bad} must not be a name");
        }
        assert!(ToolName::new("p", &"t".repeat(61)).is_ok());
        assert!(ToolName::new("p", &"t".repeat(62)).is_err());
    }
}
