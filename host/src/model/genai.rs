//! Model providers through the genai crate.
