//! The settings that the operator gave this plugin: `[plugins.<id>.config]`. Always granted.
//!
//! What they mean belongs into the `[config]` of the `plugin.toml`; a plugin with one gets no others.

/// None where nothing is set. Numbers and switches come as text.
#[cfg(target_family = "wasm")]
pub fn get(name: &str) -> Option<String> {
    crate::raw::config::get(name)
}

#[cfg(not(target_family = "wasm"))]
pub use self::memory::{get, set};

#[cfg(not(target_family = "wasm"))]
mod memory {
    use std::{cell::RefCell, collections::BTreeMap};

    thread_local! {
        static SETTINGS: RefCell<BTreeMap<String, String>> = RefCell::default();
    }

    pub fn get(name: &str) -> Option<String> {
        SETTINGS.with_borrow(|settings| settings.get(name).cloned())
    }

    /// For unit tests: what the operator has set, for this test's thread.
    pub fn set(name: &str, value: &str) {
        SETTINGS.with_borrow_mut(|settings| settings.insert(name.to_owned(), value.to_owned()));
    }
}
