//! Tools by name.
