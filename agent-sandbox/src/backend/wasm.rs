//! WebAssembly guests on wasmtime.
//!
//! ```text
//! WasmRuntime ── launch ──► WasmSandbox ── exec ──► slot ─► worker thread ─► Store ─► Exit
//!   engine, linker            mounts, quota          a permit   named, bounded   one per guest
//!   programs (memory, disk)
//!   ticker ── epoch ─────────────────────────────────────────────► deadline, cancellation
//! ```
//!
//! A store is never used again. What the guest does is an [`Exit`](crate::Exit); an error of this
//! backend is the host's.

mod config;
mod disk;
mod engine;
mod files;
mod preview1;
mod programs;
mod run;
mod runtime;
mod sandbox;
mod trusted;
mod workers;

pub use config::Config;
#[expect(
    clippy::module_name_repetitions,
    reason = "a host may import several backends"
)]
pub use {runtime::WasmRuntime, sandbox::WasmSandbox};
