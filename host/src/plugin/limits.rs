//! What a plugin may use: the settings. How they are enforced is in `meter.rs` and `call.rs`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::tool::Limit;

/// What one plugin may use. `[plugins.<id>.limits]` in the configuration; what is left out has its default.
///
/// The wasm stack (512 KiB) is a property of the engine and the same for all plugins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all(serialize = "camelCase"))]
pub struct Limits {
    /// Most bytes of linear memory of one call, all memories together. 64 MiB.
    pub memory_bytes: u64,
    /// Most milliseconds from the start of a call to its end, waiting in host calls included. 30 s.
    pub wall_ms: u64,
    /// Most milliseconds of CPU of one call. 10 s.
    pub cpu_ms: u64,
    /// Most bytes of one answer: its parts and its structured form together. 1 MiB.
    pub output_bytes: u64,
    /// Most bytes of the state that a call which asks a human has kept for the answer. 64 KiB.
    pub state_bytes: u64,
    /// Most calls to the host's own interfaces (log, control, kv, …) during one call. 10 000.
    pub host_calls: u64,
    /// Most bytes handed over in one host call. 1 MiB.
    pub host_call_bytes: u64,
    /// Most log lines of one call, stdout and stderr included; further ones are dropped. 200.
    pub log_lines: u64,
    /// Longest log line in bytes; the rest of the line is dropped. 4 KiB.
    pub log_line_bytes: u64,
    /// Most elements of all tables of one call together; each takes 8 bytes of the host. 100 000.
    pub table_elements: u64,
    /// Most handles (streams, timers, …) open at once. 1000.
    pub resources: u64,
    /// Most calls running at once; further ones wait. 16.
    pub concurrent_calls: u32,
    /// Most HTTP requests of one call, refused ones included. 50.
    pub http_requests: u64,
    /// Most bytes that one call sends over HTTP, headers included. 1 MiB.
    pub http_request_bytes: u64,
    /// Most bytes that one call receives over HTTP, headers included. 8 MiB.
    pub http_response_bytes: u64,
    /// Most bytes of the headers of one request or response. 32 KiB.
    pub http_header_bytes: u64,
    /// Most milliseconds until there is a connection, and then without a byte sent or received. 10 s.
    pub http_idle_ms: u64,
    /// Most bytes of keys and values in one kv space. 1 MiB.
    pub kv_bytes: u64,
    /// Most entries in one kv space. 1000.
    pub kv_entries: u64,
    /// Largest component file in bytes. 64 MiB: one that embeds a Python interpreter takes 18 MB. What
    /// compiling costs is bounded by the size of single functions and by time, not by this.
    pub component_bytes: u64,
    /// Crashes, limits reached and invalid answers in `breaker_window_ms` after which calls are refused for
    /// `breaker_cooldown_ms`; then one of them tries. 10; 0 = never.
    pub breaker_failures: u32,
    /// 1 min.
    pub breaker_window_ms: u64,
    /// 30 s.
    pub breaker_cooldown_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 64 << 20,
            wall_ms: 30_000,
            cpu_ms: 10_000,
            output_bytes: 1 << 20,
            state_bytes: 64 << 10,
            host_calls: 10_000,
            host_call_bytes: 1 << 20,
            log_lines: 200,
            log_line_bytes: 4 << 10,
            table_elements: 100_000,
            resources: 1000,
            concurrent_calls: 16,
            http_requests: 50,
            http_request_bytes: 1 << 20,
            http_response_bytes: 8 << 20,
            http_header_bytes: 32 << 10,
            http_idle_ms: 10_000,
            kv_bytes: 1 << 20,
            kv_entries: 1000,
            component_bytes: 64 << 20,
            breaker_failures: 10,
            breaker_window_ms: 60_000,
            breaker_cooldown_ms: 30_000,
        }
    }
}

impl Limits {
    /// Settings and values that are not the defaults.
    pub fn changed(&self) -> Vec<(String, u64)> {
        let settings = |limits: &Self| match toml::Value::try_from(limits) {
            Ok(toml::Value::Table(table)) => table,
            Ok(_) | Err(_) => toml::Table::new(),
        };
        let defaults = settings(&Self::default());
        let changed = settings(self).into_iter().filter(|(name, value)| defaults.get(name) != Some(value));
        changed
            .filter_map(|(name, value)| Some((snake(&name), u64::try_from(value.as_integer()?).ok()?)))
            .collect()
    }

    pub(super) fn wall(&self) -> Duration {
        Duration::from_millis(self.wall_ms)
    }
}

/// The name as the configuration has it; the API's is in camel case.
fn snake(name: &str) -> String {
    let letter = |letter: char| match letter {
        'A'..='Z' => format!("_{}", letter.to_ascii_lowercase()),
        _ => letter.to_string(),
    };
    name.chars().map(letter).collect()
}

/// The setting that would allow a plugin more; none where nothing would.
pub(super) fn setting(plugin: &str, limit: Limit) -> Option<String> {
    let of_plugin = match limit {
        Limit::TotalMemory => return Some("plugin_memory_bytes".to_owned()),
        Limit::Memory => Some("memory_bytes"),
        Limit::Tables => Some("table_elements"),
        Limit::Instances => Some("resources"),
        Limit::WallTime => Some("wall_ms"),
        Limit::Cpu => Some("cpu_ms"),
        Limit::Stack => None,
        Limit::Output => Some("output_bytes"),
        Limit::HostCalls => Some("host_calls"),
        Limit::HostCallBytes => Some("host_call_bytes"),
        Limit::State => Some("state_bytes"),
        Limit::HttpRequests => Some("http_requests"),
        Limit::HttpRequestBytes => Some("http_request_bytes"),
        Limit::HttpResponseBytes => Some("http_response_bytes"),
        Limit::HttpHeaders => Some("http_header_bytes"),
        Limit::HttpIdle => Some("http_idle_ms"),
    };
    Some(format!("plugins.{plugin}.limits.{}", of_plugin?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_the_default_is_named_as_in_the_configuration() {
        assert!(Limits::default().changed().is_empty());
        let limits = Limits { memory_bytes: 1, concurrent_calls: 2, ..Limits::default() };
        let mut changed = limits.changed();
        changed.sort();
        assert_eq!(changed, [("concurrent_calls".to_owned(), 2), ("memory_bytes".to_owned(), 1)]);
    }
}
