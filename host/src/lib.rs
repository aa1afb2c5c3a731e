//! Holdfast: a self-hosted agent host.

pub mod agent;
pub mod clock;
pub mod event;
pub mod id;
pub mod key;
pub mod model;
pub mod plugin;
pub mod registry;
pub mod run;
pub mod session;
pub mod store;
pub mod tool;
