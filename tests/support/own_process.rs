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

/// What this process holds of the machine's memory.
pub(crate) fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let resident = pages.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    resident.expect("a number of pages") * 4096
}
