//! The Rust side of `wit/`, generated. Types and traits only; what they do is in the other files.

wasmtime::component::bindgen!({
    world: "full-plugin",
    path: "../wit",
    imports: {
        "holdfast:plugin/kv": async | trappable,
        default: trappable,
    },
    exports: { default: async },
    // Answers of two `describe` calls are compared.
    additional_derives: [PartialEq],
});

/// The optional export, by itself: a component without it is a plugin, too.
pub(super) mod resumable {
    wasmtime::component::bindgen!({
        inline: "
            package holdfast:host;
            world resumer { export holdfast:plugin/resumable@0.1.0; }
        ",
        world: "holdfast:host/resumer",
        path: "../wit",
        with: { "holdfast:plugin/types": super::holdfast::plugin::types },
        exports: { default: async },
    });
}
