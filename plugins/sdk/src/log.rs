//! Lines for the operator's log. Always granted; the host counts and caps them.

pub use crate::raw::log::Level;

pub fn debug(message: &str) {
    write(Level::Debug, message);
}

pub fn info(message: &str) {
    write(Level::Info, message);
}

pub fn warn(message: &str) {
    write(Level::Warn, message);
}

pub fn error(message: &str) {
    write(Level::Error, message);
}

#[cfg(target_family = "wasm")]
pub fn write(level: Level, message: &str) {
    crate::raw::log::write(level, message);
}

#[cfg(not(target_family = "wasm"))]
pub fn write(level: Level, message: &str) {
    eprintln!("{level:?}: {message}");
}
