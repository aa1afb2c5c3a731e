//! `holdfast:plugin/control`: what a guest may know about the call under way.

use super::bindings::holdfast::plugin::control as wit;
use super::call::CallState;
use super::log::Level;

impl wit::Host for CallState {
    fn remaining_ms(&mut self) -> wasmtime::Result<u64> {
        self.meter.host_call(&self.limits, 0)?;
        let left = self.deadline.saturating_duration_since(tokio::time::Instant::now());
        Ok(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
    }

    fn cancelled(&mut self) -> wasmtime::Result<bool> {
        self.meter.host_call(&self.limits, 0)?;
        Ok(self.call.as_ref().is_some_and(|call| call.cancelled.is_cancelled()))
    }

    /// This version shows progress in the log only: a run's events are facts that must outlive it, and
    /// there is no channel beside them yet.
    fn progress(&mut self, message: String) -> wasmtime::Result<()> {
        self.meter.host_call(&self.limits, message.len())?;
        self.log.line(Level::Debug, &message);
        Ok(())
    }
}
