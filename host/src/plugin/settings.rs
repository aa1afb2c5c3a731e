//! `holdfast:plugin/config`: the settings that the operator gave a plugin. Always linked.

use super::bindings::holdfast::plugin::config as wit;
use super::call::CallState;

impl wit::Host for CallState {
    fn get(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        self.meter.host_call(&self.limits, name.len())?;
        // Descriptions are the same whatever the operator sets.
        let value = self.call.is_some().then(|| self.values.config.get(&name).cloned());
        Ok(value.flatten())
    }
}
