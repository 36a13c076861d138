//! WebAssembly guests on wasmtime.

mod config;

pub use config::Config;
