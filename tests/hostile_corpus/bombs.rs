//! Fixtures that have to be compiled to be refused: files that are large, and everything that takes a compiler long.

use std::borrow::Cow;
use std::time::Duration;

use wasm_encoder as wasm;

use super::bench::Row;
use super::loads::{TOOLS, UNTYPED, row};
use crate::support::wat_guest::Guest;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = sizes();
    rows.extend(bombs());
    rows
}

fn sizes() -> Vec<Row> {
    let custom = |bytes: usize| {
        let mut component = wasm::Component::new();
        component
            .section(&wasm::CustomSection { name: Cow::Borrowed("x"), data: Cow::Owned(vec![1; bytes]) });
        finish(component)
    };
    let mut exports = wasm::ComponentExportSection::new();
    for number in 0..200_000 {
        exports.export(format!("n{number}"), wasm::ComponentExportKind::Instance, 0, None);
    }
    let mut many = wasm::Component::new();
    many.section(&instance());
    many.section(&exports);
    let data = format!(
        "(core module $m (memory 900) (data (i32.const 0) \"{}\")) (core instance (instantiate $m))",
        "x".repeat(8 << 20)
    );
    vec![
        Row { peak_mib: 400, ..row("60 MB of custom section", custom(60 << 20), UNTYPED) },
        Row { peak_mib: 400, ..row("70 MB file", custom(70 << 20), "component_bytes") },
        row("200,000 exports", many.finish(), "not"),
        Row { peak_mib: 400, ..row("8 MB of data", Guest::new().with_items(&data).bytes(), "loaded") },
    ]
}

/// Each compiles within its bound, or is refused before.
fn bombs() -> Vec<Row> {
    let bomb = |name, module: wasm::Module, outcome| Row {
        peak_mib: 1500,
        within: Duration::from_secs(150),
        ..row(name, around(&module), outcome)
    };
    vec![
        bomb(
            "one function of 1.9 MB",
            one_function(0, |code| {
                for _ in 0..630_000 {
                    code.i32_const(1);
                    code.drop();
                }
            }),
            UNTYPED,
        ),
        bomb(
            "one function of 3 MB",
            one_function(0, |code| {
                for _ in 0..1_000_000 {
                    code.i32_const(1);
                    code.drop();
                }
            }),
            "the most is",
        ),
        bomb("50,000 locals and as many loops", locals_and_loops(50_000, 50_000), "the most is"),
        bomb("49,000 loops in each other", locals_and_loops(200, 49_000), "levels of blocks"),
        bomb("1900 loops in each other", locals_and_loops(2_500, 1_900), UNTYPED),
        bomb("49,000 loops side by side", loops_in_a_row(200, 49_000), "loops in one function"),
        bomb("20,000 blocks side by side", blocks_in_a_row(200, 20_000), UNTYPED),
        bomb("5000 locals and 990 loops", locals_and_loops(5_000, 990), UNTYPED),
        bomb("branch tables of 1.5 MB", branch_tables(), UNTYPED),
        bomb(
            "blocks 100,000 deep",
            one_function(0, |code| {
                for _ in 0..100_000 {
                    code.block(wasm::BlockType::Empty);
                }
                for _ in 0..100_000 {
                    code.end();
                }
            }),
            "levels of blocks",
        ),
        bomb("59,000 small functions", functions(59_000), UNTYPED),
        bomb("61,000 small functions", functions(61_000), "the most is"),
        bomb("900,000 types", types(900_000), "types; the most is"),
        bomb("9,900 types", types(9_900), UNTYPED),
        row("1000 modules inside", nested(1000), "the most is"),
        row("components 1000 deep", deep(1000), "the most is"),
        row("component types 500 deep", deep_types(500), "not"),
        row("a record of records of records", doubling_types(40), "not"),
    ]
}

fn instance() -> wasm::ComponentInstanceSection {
    let mut instances = wasm::ComponentInstanceSection::new();
    instances.export_items([] as [(&str, wasm::ComponentExportKind, u32); 0]);
    instances
}

/// With an export of the right name: everything before it is read and compiled.
fn finish(mut component: wasm::Component) -> Vec<u8> {
    component.section(&instance());
    let mut exports = wasm::ComponentExportSection::new();
    exports.export(TOOLS, wasm::ComponentExportKind::Instance, 0, None);
    component.section(&exports);
    component.finish()
}

fn around(module: &wasm::Module) -> Vec<u8> {
    let mut component = wasm::Component::new();
    component.section(&wasm::ModuleSection(module));
    finish(component)
}

fn one_function(locals: u32, write: impl Fn(&mut wasm::InstructionSink<'_>)) -> wasm::Module {
    let mut types = wasm::TypeSection::new();
    types.ty().function([], []);
    let mut functions = wasm::FunctionSection::new();
    functions.function(0);
    let mut body = wasm::Function::new([(locals, wasm::ValType::I32)]);
    write(&mut body.instructions());
    body.instructions().end();
    let mut code = wasm::CodeSection::new();
    code.function(&body);
    let mut module = wasm::Module::new();
    module.section(&types).section(&functions).section(&code);
    module
}

/// Each loop's head may have a value of each local that comes from two places.
fn locals_and_loops(locals: u32, loops: u32) -> wasm::Module {
    one_function(locals.min(49_999), |code| {
        for number in 0..loops {
            code.loop_(wasm::BlockType::Empty);
            code.local_get(number % locals.min(49_999))
                .i32_const(1)
                .i32_add()
                .local_tee((number * 7) % locals.min(49_999));
            code.br_if(0);
        }
        for _ in 0..loops {
            code.end();
        }
    })
}

fn loops_in_a_row(locals: u32, loops: u32) -> wasm::Module {
    one_function(locals, |code| {
        for number in 0..loops {
            code.loop_(wasm::BlockType::Empty);
            code.local_get(number % locals).i32_const(1).i32_add().local_tee((number * 7) % locals);
            code.br_if(0).end();
        }
    })
}

fn blocks_in_a_row(locals: u32, blocks: u32) -> wasm::Module {
    one_function(locals, |code| {
        for number in 0..blocks {
            code.block(wasm::BlockType::Empty);
            code.local_get(number % locals).br_if(0);
            code.local_get(number % locals).i32_const(1).i32_add().local_set((number * 7) % locals).end();
        }
    })
}

fn branch_tables() -> wasm::Module {
    let targets = vec![0_u32; 15_000];
    one_function(0, |code| {
        for _ in 0..100 {
            code.block(wasm::BlockType::Empty).i32_const(1).br_table(targets.iter().copied(), 0).end();
        }
    })
}

fn functions(count: u32) -> wasm::Module {
    let mut types = wasm::TypeSection::new();
    types.ty().function([], [wasm::ValType::I32]);
    let (mut functions, mut code) = (wasm::FunctionSection::new(), wasm::CodeSection::new());
    for number in 0..count {
        functions.function(0);
        let mut body = wasm::Function::new([]);
        body.instructions().i32_const(number.cast_signed()).end();
        code.function(&body);
    }
    let mut module = wasm::Module::new();
    module.section(&types).section(&functions).section(&code);
    module
}

fn types(count: u32) -> wasm::Module {
    let mut types = wasm::TypeSection::new();
    for number in 0..count {
        let parameters =
            (0..20).map(|bit| if number >> bit & 1 == 0 { wasm::ValType::I32 } else { wasm::ValType::I64 });
        types.ty().function(parameters, []);
    }
    let mut module = wasm::Module::new();
    module.section(&types);
    module
}

fn nested(count: u32) -> Vec<u8> {
    let mut component = wasm::Component::new();
    for _ in 0..count {
        component.section(&wasm::ModuleSection(&wasm::Module::new()));
    }
    finish(component)
}

fn deep(levels: u32) -> Vec<u8> {
    let mut inner = wasm::Component::new();
    for _ in 0..levels {
        let mut outer = wasm::Component::new();
        outer.section(&wasm::NestedComponentSection(&inner));
        inner = outer;
    }
    let mut outer = wasm::Component::new();
    outer.section(&wasm::NestedComponentSection(&inner));
    finish(outer)
}

/// Each type has two of the one before.
fn doubling_types(levels: u32) -> Vec<u8> {
    let mut types = wasm::ComponentTypeSection::new();
    types.defined_type().primitive(wasm::PrimitiveValType::U64);
    for level in 0..levels {
        let before = wasm::ComponentValType::Type(level);
        types.defined_type().tuple([before, before]);
    }
    let mut component = wasm::Component::new();
    component.section(&types);
    finish(component)
}

fn deep_types(levels: u32) -> Vec<u8> {
    let mut inner = wasm::ComponentType::new();
    for _ in 0..levels {
        let mut outer = wasm::ComponentType::new();
        outer.ty().component(&inner);
        inner = outer;
    }
    let mut types = wasm::ComponentTypeSection::new();
    types.component(&inner);
    let mut component = wasm::Component::new();
    component.section(&types);
    finish(component)
}
