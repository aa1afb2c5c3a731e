//! Signs with secrets and reads settings, as it is told.

use holdfast_plugin::{Context, Failure, Output, Tool, config, secrets};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize, JsonSchema)]
struct Sign {
    name: String,
    data: String,
}

#[derive(Deserialize, JsonSchema)]
struct Names {
    names: Vec<String>,
}

fn sign(_: &Context, args: Sign) -> Result<Output, Failure> {
    let exists = secrets::exists(&args.name);
    let mac = secrets::hmac_sha256(&args.name, args.data.as_bytes())?;
    Ok(Output::text(json!({"exists": exists, "mac": mac}).to_string()))
}

fn settings(_: &Context, args: Names) -> Result<Output, Failure> {
    let values: Vec<Option<String>> = args.names.iter().map(|name| config::get(name)).collect();
    Ok(Output::text(json!(values).to_string()))
}

holdfast_plugin::export! {
    Tool::new("sign", "Signs with a secret.", sign),
    Tool::new("settings", "Reads settings.", settings).read_only(),
}
