//! `holdfast:plugin/secrets`: whether a secret is there, and signatures made with it. Linked only where a
//! secret is granted.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::bindings::holdfast::plugin::secrets as wit;
use super::call::CallState;
use super::grant::SecretRule;
use super::meter::Denial;
use crate::escape::escaped;

impl wit::Host for CallState {
    fn exists(&mut self, name: String) -> wasmtime::Result<bool> {
        self.meter.host_call(&self.limits, name.len())?;
        let granted = self.grants.secrets.iter().any(|rule| rule.name().as_str() == name);
        Ok(granted && self.values.secrets.keys().any(|known| known.as_str() == name))
    }

    fn hmac_sha256(&mut self, name: String, data: Vec<u8>) -> wasmtime::Result<Result<Vec<u8>, wit::Error>> {
        self.meter.host_call(&self.limits, name.len().saturating_add(data.len()))?;
        let granted = self.grants.secrets.iter().find_map(|rule| match rule {
            SecretRule::Hmac { name: given, .. } if given.as_str() == name => Some(given),
            SecretRule::Hmac { .. } | SecretRule::Header { .. } => None,
        });
        let Some(granted) = granted else {
            self.meter.denied(Denial {
                capability: "secrets",
                what: format!("to sign with the secret `{}`", escaped(&name, 64)),
                setting: Some("grants.secrets".to_owned()),
            });
            return Ok(Err(wit::Error::NotGranted));
        };
        let Some(value) = self.values.secrets.get(granted) else {
            self.meter.denied(Denial {
                capability: "secrets",
                what: format!("to sign with the secret `{granted}`, which has no value"),
                setting: Some(format!("secrets.{granted}")),
            });
            return Ok(Err(wit::Error::NoValue));
        };
        let mac = Hmac::<Sha256>::new_from_slice(value.expose().as_bytes())
            .map(|mac| mac.chain_update(&data).finalize().into_bytes().to_vec());
        Ok(mac.map_err(|error| wit::Error::Failed(error.to_string())))
    }
}
