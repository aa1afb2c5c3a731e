//! The program in a process of its own, from its start to its end.

use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

pub(crate) struct Server {
    pub(crate) url: String,
    /// Killed when this is dropped.
    pub(crate) child: Child,
    said: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// `holdfast ARGS` in `folder`, once it says where it listens. Nothing of this process's settings
    /// reaches it.
    pub(crate) async fn launch(folder: &Path, args: &[&str], environment: &[(&str, &str)]) -> Self {
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
        command.args(args).current_dir(folder).envs(environment.iter().copied());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("the program starts");
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&said);
        let mut log = BufReader::new(child.stderr.take().expect("its log is piped")).lines();
        tokio::spawn(async move {
            while let Ok(Some(line)) = log.next_line().await {
                eprintln!("{line}");
                heard.lock().expect("no test panics in here").push(line);
            }
        });
        let mut lines = BufReader::new(child.stdout.take().expect("its output is piped")).lines();
        loop {
            let line =
                lines.next_line().await.expect("its output is text").expect("it says where it listens");
            if let Some(url) = line.split_whitespace().find(|word| word.starts_with("http://")) {
                let url = url.to_owned();
                // Whoever prints into a closed pipe fails: read on.
                tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                return Self { url, child, said };
            }
        }
    }

    /// What it has logged.
    pub(crate) fn said(&self) -> Vec<String> {
        self.said.lock().expect("no test panics in here").clone()
    }
}
