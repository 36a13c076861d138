//! The wasm backend, in each way it can be set up, under the laws of the contract.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use agent_core::Env;
use agent_sandbox::backend::wasm::{Config, WasmRuntime};
use agent_sandbox::conformance::Made;

/// A small pool, since laws run side by side and each runtime reserves address space; and one
/// cache, so that the probe is compiled once.
fn config(env: Env) -> Config {
    let cache = concat!(env!("CARGO_TARGET_TMPDIR"), "/agent-sandbox-cache");
    Config::new(env)
        .with_concurrency_max(8)
        .with_cache(cache, None)
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
        (
            Arc::new(WasmRuntime::open(config(env).with_pooling(false)).unwrap()),
            (),
        )
    }

    agent_sandbox::sandbox_conformance!(make);
}
