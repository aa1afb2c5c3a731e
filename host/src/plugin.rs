//! The sandbox host.
