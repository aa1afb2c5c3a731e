//! The program in a process of its own, from its start to its end.

use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

pub(crate) struct Server {
    pub(crate) url: String,
    /// Killed when this is dropped.
    pub(crate) child: Child,
}

impl Server {
    /// `holdfast ARGS` in `folder`, once it says where it listens. Nothing of this process's settings
    /// reaches it.
    pub(crate) async fn launch(folder: &Path, args: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::launch_logging(folder, args, environment, Stdio::inherit()).await
    }

    /// The same, with its log somewhere else.
    pub(crate) async fn launch_logging(
        folder: &Path,
        args: &[&str],
        environment: &[(&str, &str)],
        log: Stdio,
    ) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
        for name in [
            "HOLDFAST_CONFIG",
            "HOLDFAST_LISTEN",
            "HOLDFAST_DATABASE_URL",
            "HOLDFAST_PLUGINS",
            "HOLDFAST_ADMIN_TOKEN",
            "OPENAI_API_KEY",
            "OPENAI_BASE_URL",
        ] {
            command.env_remove(name);
        }
        command.args(args).current_dir(folder).envs(environment.iter().copied()).stderr(log);
        let mut child =
            command.stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("the program starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its output is piped")).lines();
        loop {
            let line =
                lines.next_line().await.expect("its output is text").expect("it says where it listens");
            if let Some(url) = line.split_whitespace().find(|word| word.starts_with("http://")) {
                let url = url.to_owned();
                // Whoever prints into a closed pipe fails: read on.
                tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                return Self { url, child };
            }
        }
    }
}
