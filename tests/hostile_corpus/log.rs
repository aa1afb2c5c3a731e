//! The log as the operator reads it.

use std::io::Write;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;

/// What was logged as a warning or worse, in JSON, since somebody asked.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// The log of this whole process, which must have no other one.
    pub(super) fn take() -> Self {
        let log = Self::default();
        let lines = tracing_subscriber::fmt().json().with_max_level(Level::WARN).with_writer(log.clone());
        tracing::subscriber::set_global_default(lines.finish()).expect("nobody else has the log");
        log
    }

    pub(super) fn forget(&self) {
        self.lines();
    }

    /// The fields of each line, which is then forgotten.
    fn lines(&self) -> Vec<Value> {
        let bytes = std::mem::take(&mut *self.0.lock().expect("nobody panics in here"));
        let line = |line: &[u8]| serde_json::from_slice::<Value>(line).expect("JSON")["fields"].take();
        bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(line).collect()
    }

    /// What was wrong, and in brackets the setting that would allow it; of calls of this tool, and there may be no
    /// other ones.
    pub(super) fn of(&self, tool: &str) -> Vec<String> {
        let said = |line: Value| {
            let field = |name: &str| line[name].as_str().unwrap_or_default();
            assert_eq!(format!("{}__{}", field("plugin.id"), field("tool")), tool, "{line}");
            assert!(!field("run.id").is_empty(), "{line}");
            let why = ["what", "limit", "reason"].map(field).into_iter().find(|text| !text.is_empty());
            let setting = line["setting"].as_str().map(|setting| format!(" [{setting}]")).unwrap_or_default();
            format!("{}{setting}", why.unwrap_or_default())
        };
        self.lines().into_iter().map(said).collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("nobody panics in here").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
