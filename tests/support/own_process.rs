//! A test in a process of its own, for what can only be measured where nothing else runs.

use std::process::Command;

/// Runs one ignored test of this binary, and shows what it prints.
pub(crate) fn own_process(test: &str) {
    let program = std::env::current_exe().expect("this program");
    let output = Command::new(program)
        .args([test, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .output()
        .expect("it starts");
    let (printed, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    eprintln!("{said}");
    assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
}

/// What a process holds of the machine's memory; None where there is no such process.
pub(crate) fn resident_bytes(process: u32) -> Option<u64> {
    let pages = std::fs::read_to_string(format!("/proc/{process}/statm")).ok()?;
    let resident = pages.split_whitespace().nth(1)?.parse::<u64>().ok()?;
    // What has ended and was not waited for yet has no pages.
    (resident > 0).then_some(resident * 4096)
}
