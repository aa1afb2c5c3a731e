//! What a module costs, found by counting: to compile its functions, to make an instance of it, to tell of a trap.

use wasmparser::{CustomSectionReader, ElementItems, FunctionBody, KnownCustom, Name, Operator, Payload};

/// What makes a function of a few kilobytes take minutes to compile.
pub(super) struct Shape {
    pub(super) nesting: u64,
    pub(super) loops: u64,
    pub(super) flow: u64,
}

impl Shape {
    pub(super) fn of(body: &FunctionBody<'_>) -> wasmparser::Result<Self> {
        let mut variables = 0_u64;
        for local in body.get_locals_reader()? {
            variables += u64::from(local?.0);
        }
        let (mut places, mut loops, mut depth, mut nesting) = (0_u64, 0_u64, 0_u64, 0_u64);
        for operator in body.get_operators_reader()? {
            let operator = operator?;
            loops += u64::from(matches!(operator, Operator::Loop { .. }));
            match operator {
                Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => {
                    places += 1;
                    depth += 1;
                    nesting = nesting.max(depth);
                }
                Operator::End => depth = depth.saturating_sub(1),
                Operator::BrIf { .. } => places += 1,
                Operator::BrTable { targets } => places += u64::from(targets.len()),
                _ => {}
            }
        }
        Ok(Self { nesting, loops, flow: variables.saturating_mul(places) })
    }
}

/// What the engine keeps for one instance of a module, besides memories, tables and what is made when it is used.
#[derive(Default)]
pub(super) struct InstanceSize(u64);

impl InstanceSize {
    /// Takes a part of the module into account. Modules hold no other modules, so none is begun in another's midst.
    pub(super) fn add(&mut self, part: &Payload<'_>) -> wasmparser::Result<()> {
        match part {
            Payload::ImportSection(section) => self.0 += 32 * u64::from(section.count()),
            Payload::GlobalSection(section) => self.0 += 16 * u64::from(section.count()),
            Payload::ElementSection(section) => {
                for segment in section.clone() {
                    let elements = match segment?.items {
                        ElementItems::Functions(functions) => functions.count(),
                        ElementItems::Expressions(_, expressions) => expressions.count(),
                    };
                    self.0 += 64 + 16 * u64::from(elements);
                }
            }
            Payload::DataSection(section) => self.0 += 16 * u64::from(section.count()),
            _ => {}
        }
        Ok(())
    }

    pub(super) fn bytes(&self) -> u64 {
        self.0
    }
}

/// Bytes of the longest name that a trap may be told with. What cannot be read, the engine does not read either.
pub(super) fn longest_name(section: &CustomSectionReader<'_>) -> u64 {
    let KnownCustom::Name(names) = section.as_known() else { return 0 };
    let longest = names.into_iter().map_while(Result::ok).map(|part| match part {
        Name::Module { name, .. } => name.len(),
        Name::Function(functions) => {
            functions.into_iter().map_while(Result::ok).map(|function| function.name.len()).max().unwrap_or(0)
        }
        _ => 0,
    });
    longest.max().unwrap_or(0) as u64
}
