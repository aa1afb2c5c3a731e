//! Secrets of the operator's. No plugin reads one: the host sends it in a header of the plugin's requests, or
//! signs with it. The operator grants each use: `[[plugins.<id>.grants.secrets]]`.
//!
//! In unit tests there are none.

pub use crate::raw::secrets::Error;

/// Whether there is such a secret for this plugin, for whichever use.
#[cfg(target_family = "wasm")]
pub fn exists(name: &str) -> bool {
    crate::raw::secrets::exists(name)
}

/// The 32 bytes of HMAC-SHA-256 over `data`, with the secret as its key.
#[cfg(target_family = "wasm")]
pub fn hmac_sha256(name: &str, data: &[u8]) -> Result<Vec<u8>, Error> {
    crate::raw::secrets::hmac_sha256(name, data)
}

#[cfg(not(target_family = "wasm"))]
pub fn exists(_: &str) -> bool {
    false
}

#[cfg(not(target_family = "wasm"))]
pub fn hmac_sha256(_: &str, _: &[u8]) -> Result<Vec<u8>, Error> {
    Err(Error::NoValue)
}
