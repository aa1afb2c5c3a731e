//! Describes a tool whose input schema points to another machine.

use holdfast_plugin::raw::{
    Guest,
    types::{Annotations, CallContext, Failure, Outcome, Tool},
};

struct Component;

impl Guest for Component {
    fn describe() -> Vec<Tool> {
        vec![Tool {
            name: "remote".to_owned(),
            description: "Never loaded.".to_owned(),
            input_schema: r#"{"type":"object","properties":{"n":{"$ref":"http://127.0.0.1:9/schema.json"}}}"#
                .to_owned(),
            output_schema: None,
            annotations: Annotations {
                title: None,
                read_only: true,
                destructive: false,
                idempotent: true,
                open_world: false,
                requires_approval: false,
            },
        }]
    }

    fn call(_: CallContext, _: String, _: String) -> Result<Outcome, Failure> {
        std::process::abort()
    }
}

holdfast_plugin::export_raw!(Component);
