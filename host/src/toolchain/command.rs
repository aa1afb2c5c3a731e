//! Running other programs: a clean environment, and their output line by line while they run.

use std::{
    ffi::OsStr,
    io::Read,
    process::{Command, ExitStatus, Stdio},
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread,
    time::Duration,
};

use super::{BuildError, typed};

/// How long a program may be silent before the person who waits is told that it still runs.
const QUIET: Duration = Duration::from_secs(10);

/// What an outer `cargo run` (or a shell set up for the host crate) exports and a nested compiler must not
/// see. Settings of cargo's network and registries are not here: those must reach it.
const DROPPED: [&str; 26] = [
    "LD_LIBRARY_PATH",
    "RUSTFLAGS",
    "RUSTDOCFLAGS",
    "RUSTC",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_BOOTSTRAP",
    "CARGO",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_TARGET_DIR",
    "CARGO_TARGET_TMPDIR",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_BUILD_BUILD_DIR",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_RUSTC",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_PATH",
    "CARGO_PKG_NAME",
    "CARGO_PKG_VERSION",
    "CARGO_CRATE_NAME",
    "CARGO_BIN_NAME",
    "CARGO_PRIMARY_PACKAGE",
    "CARGO_UNSTABLE_BUILD_STD",
];

/// What a running program did.
pub(super) enum Event<'a> {
    Stdout(&'a str),
    Stderr(&'a str),
    /// Nothing for this time.
    Quiet(Duration),
}

/// A command without the variables that would change what a nested compiler does.
pub(super) fn clean(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for name in DROPPED {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// Runs to the end and returns what it printed.
pub(super) fn stdout_of(command: &mut Command) -> Result<String, BuildError> {
    let output = command.output().map_err(|error| failed(command, error.to_string()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(failed(command, last_words(&stderr, output.status)))
}

/// Runs a long command whose every line is worth reading only when it fails.
pub(super) fn run(command: &mut Command, say: &mut dyn FnMut(&str)) -> Result<(), BuildError> {
    let mut stderr = String::new();
    let status = stream(command, &mut |event| match event {
        Event::Stdout(_) => {}
        Event::Stderr(line) => {
            stderr.push_str(line);
            stderr.push('\n');
        }
        Event::Quiet(time) => say(&format!("still at it, quiet for {} s", time.as_secs())),
    })?;
    if status.success() { Ok(()) } else { Err(failed(command, last_words(&stderr, status))) }
}

/// Runs a command and hands over its output while it runs.
pub(super) fn stream(command: &mut Command, on: &mut dyn FnMut(Event)) -> Result<ExitStatus, BuildError> {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.map_err(|error| failed(command, error.to_string()))?;
    let (lines, received) = channel();
    if let Some(stdout) = child.stdout.take() {
        let lines = lines.clone();
        thread::spawn(move || split_lines(stdout, false, &lines));
    }
    if let Some(stderr) = child.stderr.take() {
        thread::spawn(move || split_lines(stderr, true, &lines));
    }
    let mut silence = Duration::ZERO;
    loop {
        let line = received.recv_timeout(QUIET);
        silence = if line.is_ok() { Duration::ZERO } else { silence + QUIET };
        match line {
            Ok((true, line)) => on(Event::Stderr(&line)),
            Ok((false, line)) => on(Event::Stdout(&line)),
            Err(RecvTimeoutError::Timeout) => on(Event::Quiet(silence)),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    child.wait().map_err(|error| failed(command, error.to_string()))
}

/// Cargo redraws its progress bar with a carriage return, so both characters end a line here.
fn split_lines(mut from: impl Read, is_stderr: bool, to: &Sender<(bool, String)>) {
    let mut line = Vec::new();
    let mut chunk = [0; 8192];
    loop {
        let length = match from.read(&mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(length) => length,
        };
        for &byte in &chunk[..length] {
            if byte != b'\n' && byte != b'\r' {
                line.push(byte);
            } else if byte == b'\n' || !line.is_empty() {
                let text = String::from_utf8_lossy(&line).into_owned();
                line.clear();
                // Nobody listens any more: the program is of no interest either.
                if to.send((is_stderr, text)).is_err() {
                    return;
                }
            }
        }
    }
    if !line.is_empty() {
        let _ = to.send((is_stderr, String::from_utf8_lossy(&line).into_owned()));
    }
}

pub(super) fn failed(command: &Command, detail: String) -> BuildError {
    BuildError::Command { command: typed(command), detail }
}

/// The end of a program's complaint, where the reason usually is.
fn last_words(stderr: &str, status: ExitStatus) -> String {
    let lines: Vec<&str> = stderr.lines().filter(|line| !line.trim().is_empty()).collect();
    match lines.as_slice() {
        [] => status.to_string(),
        lines => lines[lines.len().saturating_sub(5)..].join("\n"),
    }
}
