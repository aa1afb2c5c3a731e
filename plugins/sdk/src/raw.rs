//! The bindings as generated from the WIT package, for what the rest of this crate does not cover.
//!
//! Implement [`Guest`] and hand the type to [`export_raw!`](crate::export_raw).

pub use self::bindings::{
    exports::holdfast::plugin::tools::Guest,
    holdfast::plugin::{config, control, kv, log, secrets, types},
};

#[doc(hidden)]
#[expect(clippy::pedantic, reason = "generated")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "full-plugin",
        pub_export_macro: true,
        additional_derives: [PartialEq],
    });
}

/// Exports a type that implements [`raw::Guest`](crate::raw::Guest) as the component.
#[macro_export]
macro_rules! export_raw {
    ($component:ident) => {
        $crate::raw::bindings::export!($component with_types_in $crate::raw::bindings);
    };
}
