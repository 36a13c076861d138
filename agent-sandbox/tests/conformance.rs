//! The wasm backend, in each way it can be set up, under the laws of the contract.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use agent_core::Env;
use agent_sandbox::backend::wasm::{Config, WasmRuntime};
use agent_sandbox::conformance::Made;

/// A small pool: laws run side by side, and each runtime reserves address space.
fn config(env: Env) -> Config {
    Config::new(env).with_concurrency_max(8)
}

mod pooled {
    use super::*;

    async fn make(env: Env) -> Made<()> {
        (Arc::new(WasmRuntime::open(config(env)).unwrap()), ())
    }

    agent_sandbox::sandbox_conformance!(make);
}

mod unpooled {
    use super::*;

    async fn make(env: Env) -> Made<()> {
        (Arc::new(WasmRuntime::open(config(env).with_pooling(false)).unwrap()), ())
    }

    agent_sandbox::sandbox_conformance!(make);
}
