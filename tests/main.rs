//! One binary, one file per promise. Each test starts the real server on port 0 with a real SQLite file and
//! real compiled components; what must survive a `kill -9` is a process of its own (`support/process.rs`).

mod support;

mod approve_once;
mod readme;
// slice A
// slice B
// slice C
// slice D
mod structured_output;
mod webhooks;
