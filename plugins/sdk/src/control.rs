//! The call under way. Always granted.

use std::time::Duration;

/// The time until the host ends this call.
#[cfg(target_family = "wasm")]
pub fn remaining() -> Duration {
    Duration::from_millis(crate::raw::control::remaining_ms())
}

/// Somebody cancelled the run. The host ends the call in any case; this is for tidying up.
#[cfg(target_family = "wasm")]
pub fn cancelled() -> bool {
    crate::raw::control::cancelled()
}

/// Tells people who watch the run how far the tool is.
#[cfg(target_family = "wasm")]
pub fn progress(message: &str) {
    crate::raw::control::progress(message);
}

/// A unit test has all the time it wants.
#[cfg(not(target_family = "wasm"))]
pub fn remaining() -> Duration {
    Duration::MAX
}

#[cfg(not(target_family = "wasm"))]
pub fn cancelled() -> bool {
    false
}

#[cfg(not(target_family = "wasm"))]
pub fn progress(message: &str) {
    eprintln!("progress: {message}");
}
