//! What a module costs, found by counting: to compile its functions, to make an instance of it, to tell of a trap.

use wasmparser::{
    BlockType, CustomSectionReader, ElementItems, FunctionBody, KnownCustom, Name, Operator, Payload,
    TypeSectionReader,
};

/// What makes a function of a few kilobytes take minutes to compile.
pub(super) struct Shape {
    pub(super) nesting: u64,
    pub(super) loops: u64,
    pub(super) flow: u64,
    pub(super) carried: u64,
}

impl Shape {
    pub(super) fn of(body: &FunctionBody<'_>, types: &Types) -> wasmparser::Result<Self> {
        let mut variables = 0_u64;
        for local in body.get_locals_reader()? {
            variables += u64::from(local?.0);
        }
        let (mut places, mut loops, mut nesting, mut carried) = (0_u64, 0_u64, 0_u64, 0_u64);
        // What a branch to each of the blocks under way carries there.
        let mut labels = vec![types.widest];
        for operator in body.get_operators_reader()? {
            let operator = operator?;
            loops += u64::from(matches!(operator, Operator::Loop { .. }));
            let label = |depth: u32| labels.iter().rev().nth(depth as usize).copied().unwrap_or(types.widest);
            match operator {
                Operator::Block { blockty } | Operator::Loop { blockty } | Operator::If { blockty } => {
                    places += 1;
                    let values = types.of(blockty);
                    labels.push(values);
                    carried = carried.saturating_add(values);
                    nesting = nesting.max(labels.len() as u64 - 1);
                }
                Operator::End => {
                    labels.pop();
                }
                Operator::Br { relative_depth } => carried = carried.saturating_add(label(relative_depth)),
                Operator::BrIf { relative_depth } => {
                    places += 1;
                    carried = carried.saturating_add(label(relative_depth));
                }
                Operator::BrTable { targets } => {
                    places += u64::from(targets.len());
                    for target in targets.targets() {
                        carried = carried.saturating_add(label(target?));
                    }
                }
                _ => {}
            }
        }
        Ok(Self { nesting, loops, flow: variables.saturating_mul(places), carried })
    }
}

/// How many values go in and out by each function type of one module.
#[derive(Default)]
pub(super) struct Types {
    values: Vec<u64>,
    widest: u64,
}

impl Types {
    pub(super) fn add(&mut self, section: &TypeSectionReader<'_>) -> wasmparser::Result<()> {
        for function in section.clone().into_iter_err_on_gc_types() {
            let function = function?;
            self.values.push((function.params().len() + function.results().len()) as u64);
            self.widest = self.widest.max(function.results().len() as u64);
        }
        Ok(())
    }

    fn of(&self, block: BlockType) -> u64 {
        match block {
            BlockType::Empty => 0,
            BlockType::Type(_) => 1,
            BlockType::FuncType(index) => self.values.get(index as usize).copied().unwrap_or_default(),
        }
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
