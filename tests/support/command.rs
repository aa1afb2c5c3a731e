//! The command line, as somebody at a shell uses it.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

/// `holdfast ARGS`, to its end.
pub(crate) async fn holdfast(folder: &Path, args: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_holdfast"));
    for name in SETTINGS {
        command.env_remove(name);
    }
    command.args(args).current_dir(folder).envs(environment.iter().copied()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_mins(1), command.output()).await;
    output.expect("it ends by itself").expect("the program starts")
}

const SETTINGS: [&str; 5] = [
    "HOLDFAST_CONFIG",
    "HOLDFAST_LISTEN",
    "HOLDFAST_DATABASE_URL",
    "HOLDFAST_PLUGINS",
    "HOLDFAST_ADMIN_TOKEN",
];
