//! What the author of a Holdfast plugin needs, so that a plugin is about twenty lines.
//!
//! ```
//! use holdfast_plugin::{Context, Failure, Output, Tool};
//! use schemars::JsonSchema;
//! use serde::Deserialize;
//!
//! #[derive(Deserialize, JsonSchema)]
//! struct Greet {
//!     /// Who to greet.
//!     name: String,
//! }
//!
//! fn greet(_: &Context, args: Greet) -> Result<Output, Failure> {
//!     Ok(Output::text(format!("Hello, {}!", args.name)))
//! }
//!
//! holdfast_plugin::export! {
//!     Tool::new("greet", "Greets somebody by name.", greet).read_only(),
//! }
//! # fn main() {}
//! ```
//!
//! The argument struct becomes the tool's JSON Schema, its doc comments the descriptions that the model
//! reads. A component imports only the host interfaces its code uses: a plugin that never touches [`kv`]
//! does not ask for it. A tool that needs a human's word in mid-call returns a [`Question`] and goes on in
//! [`Tool::on_answer`]. Built for the machine itself, as unit tests are, [`kv`], [`log`], [`control`] and
//! [`config`] work in memory, and [`http`] is answered by the test.

pub mod config;
pub mod control;
pub mod http;
pub mod kv;
pub mod log;
mod output;
mod question;
pub mod raw;
mod schema;
pub mod secrets;
mod tool;

pub use self::{
    output::{Failure, Output},
    question::{Question, Reply},
    raw::types::CallContext as Context,
    tool::{Tool, call, describe, resume},
};

/// Exports the listed tools as the component's own, and to the crate's tests as `tools()`.
#[macro_export]
macro_rules! export {
    ($($tool:expr),+ $(,)?) => {
        pub fn tools() -> ::std::vec::Vec<$crate::Tool> {
            ::std::vec![$($tool),+]
        }

        #[cfg(target_family = "wasm")]
        const _: () = {
            struct Component;

            impl $crate::raw::Guest for Component {
                fn describe() -> ::std::vec::Vec<$crate::raw::types::Tool> {
                    $crate::describe(&tools())
                }

                fn call(
                    context: $crate::Context,
                    tool: ::std::string::String,
                    arguments: ::std::string::String,
                ) -> ::std::result::Result<$crate::raw::types::Outcome, $crate::raw::types::Failure> {
                    $crate::call(&tools(), &context, &tool, &arguments)
                }
            }

            impl $crate::raw::resumable::Guest for Component {
                fn resume(
                    context: $crate::Context,
                    tool: ::std::string::String,
                    state: ::std::vec::Vec<u8>,
                    answer: ::std::string::String,
                ) -> ::std::result::Result<$crate::raw::types::Outcome, $crate::raw::types::Failure> {
                    $crate::resume(&tools(), &context, &tool, &state, &answer)
                }
            }

            $crate::export_raw!(Component);
            $crate::export_raw_resumable!(Component);
        };
    };
}
