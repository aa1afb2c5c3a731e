//! The bindings as generated from the WIT package, for what the rest of this crate does not cover.
//!
//! Implement [`Guest`] and hand the type to [`export_raw!`](crate::export_raw); for tools that ask a human
//! [`resumable::Guest`] as well, with [`export_raw_resumable!`](crate::export_raw_resumable).

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

/// The optional export, by itself: not every plugin has it.
pub mod resumable {
    pub use self::bindings::exports::holdfast::plugin::resumable::Guest;

    #[doc(hidden)]
    #[expect(clippy::pedantic, reason = "generated")]
    pub mod bindings {
        wit_bindgen::generate!({
            inline: "
                package holdfast:sdk;
                world resumer { export holdfast:plugin/resumable@0.1.0; }
            ",
            world: "holdfast:sdk/resumer",
            path: "../../wit",
            with: { "holdfast:plugin/types@0.1.0": crate::raw::types },
            pub_export_macro: true,
        });
    }
}

/// Exports a type that implements [`raw::Guest`](crate::raw::Guest) as the component.
#[macro_export]
macro_rules! export_raw {
    ($component:ident) => {
        $crate::raw::bindings::export!($component with_types_in $crate::raw::bindings);
    };
}

/// Exports a type that implements [`raw::resumable::Guest`](crate::raw::resumable::Guest) beside
/// [`export_raw!`](crate::export_raw).
#[macro_export]
macro_rules! export_raw_resumable {
    ($component:ident) => {
        $crate::raw::resumable::bindings::export!($component with_types_in $crate::raw::resumable::bindings);
    };
}
