//! From what `describe` answered to tool specifications: names, texts and schemas, all guest-controlled.

use super::bindings::exports::holdfast::plugin::tools as wit;
use crate::schema::{PatternBudget, Schema, SchemaError};
use crate::tool::{Annotations, ToolName, ToolNameError, ToolSpec};

const MAX_TOOLS: usize = 128;
const MAX_DESCRIPTION: usize = 8 << 10;
const MAX_TITLE: usize = 256;

#[derive(Debug, thiserror::Error)]
pub enum DescribeError {
    #[error("`describe` lists {0} tools; a plugin has between 1 and {MAX_TOOLS}")]
    Count(usize),
    #[error("a tool's name: {0}")]
    Name(#[from] ToolNameError),
    #[error("`describe` lists the tool `{0}` twice")]
    Twice(ToolName),
    #[error(
        "tool `{0}`: its description must have between 1 and {MAX_DESCRIPTION} bytes, its title at most {MAX_TITLE}"
    )]
    Text(ToolName),
    #[error("tool `{tool}`: its {which} schema {error}")]
    Schema { tool: ToolName, which: &'static str, error: SchemaError },
}

/// The checkers of one tool, beside its [`ToolSpec`].
#[derive(Debug)]
pub(super) struct Checks {
    pub(super) input: Schema,
    pub(super) output: Option<Schema>,
}

/// Specifications and their checks, in the plugin's order.
pub(super) fn specs(
    plugin: &str,
    tools: Vec<wit::Tool>,
) -> Result<(Vec<ToolSpec>, Vec<Checks>), DescribeError> {
    if tools.is_empty() || tools.len() > MAX_TOOLS {
        return Err(DescribeError::Count(tools.len()));
    }
    let mut budget = PatternBudget::default();
    let (mut specs, mut checks) = (Vec::<ToolSpec>::new(), Vec::new());
    for tool in tools {
        let (spec, check) = spec(plugin, tool, &mut budget)?;
        if specs.iter().any(|other| other.name == spec.name) {
            return Err(DescribeError::Twice(spec.name));
        }
        specs.push(spec);
        checks.push(check);
    }
    Ok((specs, checks))
}

fn spec(
    plugin: &str,
    tool: wit::Tool,
    budget: &mut PatternBudget,
) -> Result<(ToolSpec, Checks), DescribeError> {
    let name = ToolName::new(plugin, &tool.name)?;
    let title = tool.annotations.title.as_ref().map_or(0, String::len);
    let description = tool.description.trim();
    if description.is_empty() || description.len() > MAX_DESCRIPTION || title > MAX_TITLE {
        return Err(DescribeError::Text(name));
    }
    let refused = |which, error| DescribeError::Schema { tool: name.clone(), which, error };
    let input = Schema::of_arguments(&tool.input_schema, budget).map_err(|error| refused("input", error))?;
    let output = tool
        .output_schema
        .map(|text| Schema::of_output(&text, budget))
        .transpose()
        .map_err(|error| refused("output", error))?;
    let spec = ToolSpec {
        description: description.to_owned(),
        input_schema: input.value.clone(),
        output_schema: output.as_ref().map(|schema| schema.value.clone()),
        annotations: Annotations {
            title: tool.annotations.title,
            read_only: tool.annotations.read_only,
            destructive: tool.annotations.destructive,
            idempotent: tool.annotations.idempotent,
            open_world: tool.annotations.open_world,
            requires_approval: tool.annotations.requires_approval,
        },
        name,
    };
    Ok((spec, Checks { input, output }))
}
