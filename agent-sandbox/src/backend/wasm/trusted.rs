//! The one place that runs code from a file: compiled modules whose authenticity was checked.

#![expect(
    unsafe_code,
    reason = "wasmtime cannot check compiled code; the authenticated cache does"
)]

use wasmtime::{Engine, Module};

use crate::backend::wasm::disk::Authentic;

/// Loads a compiled module that this library wrote.
pub(super) fn load(engine: &Engine, compiled: &Authentic) -> wasmtime::Result<Module> {
    // SAFETY: `Module::deserialize` asks for bytes that `Module::serialize` made and nobody
    // changed. `Authentic` is made only by `Disk::read` after it verified a keyed BLAKE3 MAC over
    // these bytes and their name, and the key is known only to hosts that write entries by
    // `Disk::write` from `Module::serialize`. The bytes are a private copy in memory, so a change
    // to the file after the check has no effect. wasmtime itself refuses bytes of another version
    // or configuration.
    unsafe { Module::deserialize(engine, compiled.bytes()) }
}
