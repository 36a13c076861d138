//! The wasmtime engines: one without and, once it is asked for, one with fuel metering.

use wasmtime::{
    Config as EngineConfig, Enabled, Engine, InstanceAllocationStrategy, Linker,
    PoolingAllocationConfig,
};

use agent_core::Retry;

use crate::backend::wasm::config::Config;
use crate::backend::wasm::preview1;
use crate::backend::wasm::run::Host;
use crate::error::{Error, Result};

/// The largest wasm stack: deep enough for interpreters, and a quarter of a worker's stack.
const WASM_STACK_BYTES: usize = 512 << 10;

/// How much of a returned slot is wiped by hand, which is cheaper than unmapping it, in bytes. With
/// the kernel's page scan only pages that were written are wiped.
const KEEP_RESIDENT_BYTES: usize = 128 << 10;

/// The most elements of a table in a pooled slot: room for an interpreter.
pub(super) const TABLE_ELEMENTS_MAX: usize = 65_536;

/// An engine and what is the same for all its guests.
pub(super) struct Kit {
    pub(super) engine: Engine,
    pub(super) linker: Linker<Host>,
    /// Why guests do not start from reserved memory, if they do not.
    pub(super) unpooled: Option<String>,
    /// Tells compiled code of this engine from that of others.
    pub(super) fingerprint: [u8; 32],
}

impl std::fmt::Debug for Kit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kit")
            .field("unpooled", &self.unpooled)
            .finish_non_exhaustive()
    }
}

impl Kit {
    pub(super) fn new(config: &Config, fuel: bool) -> Result<Self> {
        let failed = |error: wasmtime::Error| {
            Error::backend(
                "wasm",
                "create the engine",
                Retry::Never,
                error.into_boxed_dyn_error(),
            )
        };
        let mut unpooled = (!config.pooling).then(|| "pooling is switched off".to_owned());
        let pooled = if config.pooling {
            Some(Engine::new(&pooled(config, fuel)))
        } else {
            None
        };
        let engine = match pooled {
            Some(Ok(engine)) => engine,
            other => {
                if let Some(Err(error)) = other {
                    unpooled = Some(format!("memory cannot be reserved: {error}"));
                }
                Engine::new(&basic(fuel)).map_err(failed)?
            }
        };
        let mut linker = Linker::new(&engine);
        preview1::add_to_linker(&mut linker).map_err(failed)?;
        let fingerprint = fingerprint(&engine);
        Ok(Self {
            engine,
            linker,
            unpooled,
            fingerprint,
        })
    }
}

fn basic(fuel: bool) -> EngineConfig {
    let mut engine = EngineConfig::new();
    engine
        .epoch_interruption(true)
        .consume_fuel(fuel)
        .max_wasm_stack(WASM_STACK_BYTES)
        // A guest that ends by a call unwinds through a trap: collecting its frames is most of the
        // cost of an exit, and a stripped guest has no names to show.
        .wasm_backtrace_max_frames(None)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .relaxed_simd_deterministic(true);
    engine
}

fn pooled(config: &Config, fuel: bool) -> EngineConfig {
    let slots = u32::try_from(config.concurrency_max).unwrap_or(u32::MAX);
    let memory = usize::try_from(config.memory_bytes_max).unwrap_or(usize::MAX);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(slots)
        .total_memories(slots)
        .total_tables(slots)
        .max_memories_per_module(1)
        .max_tables_per_module(4)
        .max_memory_size(memory)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_core_instance_size(1 << 20)
        .max_unused_warm_slots(slots)
        .pagemap_scan(Enabled::Auto)
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .table_keep_resident(KEEP_RESIDENT_BYTES);
    let mut engine = basic(fuel);
    engine.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    engine
}

/// Digests what compiled code depends on.
fn fingerprint(engine: &Engine) -> [u8; 32] {
    struct Hasher(blake3::Hasher);
    impl std::hash::Hasher for Hasher {
        fn finish(&self) -> u64 {
            let [a, b, c, d, e, f, g, h, ..] = *self.0.finalize().as_bytes();
            u64::from_le_bytes([a, b, c, d, e, f, g, h])
        }

        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
    }
    let mut hasher = Hasher(blake3::Hasher::new());
    std::hash::Hash::hash(&engine.precompile_compatibility_hash(), &mut hasher);
    *hasher.0.finalize().as_bytes()
}
