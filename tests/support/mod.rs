//! What tests share: guests, a host in this process, a host in its own process, scripted models.

pub(crate) mod caller;
pub(crate) mod command;
pub(crate) mod document;
pub(crate) mod egress;
pub(crate) mod gated;
pub(crate) mod guests;
pub(crate) mod host;
pub(crate) mod openai;
mod own_process;
pub(crate) mod process;
pub(crate) mod receiver;
pub(crate) mod script;
pub(crate) mod server;
pub(crate) mod sse;
pub(crate) mod teller;
pub(crate) mod versions;
/// The few lines of WAT that are a plugin: the host crate's own tests use the same ones.
#[path = "../../host/src/plugin/tests/guest.rs"]
pub(crate) mod wat_guest;
pub(crate) mod web;

pub(crate) use self::caller::Caller;
pub(crate) use self::host::{Answer, TestHost, until};
pub(crate) use self::own_process::{own_process, resident_bytes};
pub(crate) use self::script::{Script, Speaker, asked, call, calls, replied, say};
