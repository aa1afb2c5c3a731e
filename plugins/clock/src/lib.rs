use holdfast_plugin::{Context, Failure, Output, Tool};
#[derive(serde::Deserialize, schemars::JsonSchema)]
struct A { a: String }
fn x(_: &Context, a: A) -> Result<Output, Failure> { Ok(Output::text(a.a)) }
holdfast_plugin::export! { Tool::new("x", "x", x) }
