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
