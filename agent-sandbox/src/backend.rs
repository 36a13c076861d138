//! The backends, one feature each.

#[cfg(feature = "wasm")]
pub mod wasm;
