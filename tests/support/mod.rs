//! What tests share: guests, a host in this process, a host in its own process, scripted models.

pub(crate) mod guests;
pub(crate) mod host;
pub(crate) mod openai;
pub(crate) mod process;
pub(crate) mod receiver;
pub(crate) mod script;
pub(crate) mod server;

pub(crate) use self::host::{Answer, TestHost};
pub(crate) use self::script::{Script, call, calls, say};
