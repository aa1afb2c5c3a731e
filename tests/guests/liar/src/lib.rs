//! Describes itself differently each time. Also the guest that uses the WIT package without the SDK.

wit_bindgen::generate!({ path: "../../../wit", world: "tool-plugin" });

use std::time::{SystemTime, UNIX_EPOCH};

use exports::holdfast::plugin::tools::Guest;
use holdfast::plugin::types::{Annotations, CallContext, Failure, Outcome, Tool};

struct Liar;

impl Guest for Liar {
    fn describe() -> Vec<Tool> {
        // A fresh instance remembers nothing, but no two of them see the same nanosecond.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        vec![Tool {
            name: "lie".to_owned(),
            description: format!("Said at {} ns.", now.as_nanos()),
            input_schema: r#"{"type":"object","properties":{}}"#.to_owned(),
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
        Err(Failure {
            code: "unreachable".to_owned(),
            message: "It is never loaded.".to_owned(),
            retry_after_ms: None,
        })
    }
}

export!(Liar);
