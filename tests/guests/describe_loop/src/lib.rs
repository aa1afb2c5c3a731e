//! Never ends to describe itself.

use holdfast_plugin::raw::{
    Guest,
    types::{CallContext, Failure, Outcome, Tool},
};

struct Component;

impl Guest for Component {
    fn describe() -> Vec<Tool> {
        loop {
            std::hint::black_box(());
        }
    }

    fn call(_: CallContext, _: String, _: String) -> Result<Outcome, Failure> {
        std::process::abort()
    }
}

holdfast_plugin::export_raw!(Component);
