//! How the wasm backend is set up.

use std::path::PathBuf;

use agent_core::{Env, SecretBytes};

/// How the wasm backend is set up.
///
/// | item | default |
/// |---|---|
/// | `concurrency_max` | 64 guests at once |
/// | `waiting_max` | 1,024 executions waiting for a slot |
/// | `sandboxes_max` | 16,384 open sandboxes |
/// | `memory_bytes_max` | 1 GiB for one guest |
/// | `program_bytes_max` | 128 MiB for one module |
/// | `programs_max` | 64 compiled programs kept in memory |
/// | disk cache | none |
/// | pooling | tried first |
#[derive(Debug)]
pub struct Config {
    pub(super) env: Env,
    pub(super) concurrency_max: usize,
    pub(super) waiting_max: usize,
    pub(super) sandboxes_max: usize,
    pub(super) memory_bytes_max: u64,
    pub(super) program_bytes_max: usize,
    pub(super) programs_max: usize,
    pub(super) cache: Option<CacheConfig>,
    pub(super) pooling: bool,
}

#[derive(Debug)]
pub(super) struct CacheConfig {
    pub(super) directory: PathBuf,
    pub(super) key: Option<SecretBytes>,
    pub(super) entries_max: usize,
}

impl Config {
    /// Creates the default configuration, listed at [`Config`].
    #[must_use]
    pub const fn new(env: Env) -> Self {
        Self {
            env,
            concurrency_max: 64,
            waiting_max: 1_024,
            sandboxes_max: 16_384,
            memory_bytes_max: 1 << 30,
            program_bytes_max: 128 << 20,
            programs_max: 64,
            cache: None,
            pooling: true,
        }
    }

    /// Sets how many guests run at once. Each running guest holds a thread and, with pooling, a
    /// slot of reserved address space. Default: 64.
    #[must_use]
    pub const fn with_concurrency_max(mut self, n: usize) -> Self {
        self.concurrency_max = n;
        self
    }

    /// Sets how many executions may wait for a slot; one more is refused. Default: 1,024.
    #[must_use]
    pub const fn with_waiting_max(mut self, n: usize) -> Self {
        self.waiting_max = n;
        self
    }

    /// Sets how many sandboxes may be open. Default: 16,384.
    #[must_use]
    pub const fn with_sandboxes_max(mut self, n: usize) -> Self {
        self.sandboxes_max = n;
        self
    }

    /// Sets the largest memory a spec may grant to a guest. Default: 1 GiB.
    #[must_use]
    pub const fn with_memory_bytes_max(mut self, bytes: u64) -> Self {
        self.memory_bytes_max = bytes;
        self
    }

    /// Sets the largest module that is compiled. Default: 128 MiB, room for an interpreter with
    /// its library.
    #[must_use]
    pub const fn with_program_bytes_max(mut self, bytes: usize) -> Self {
        self.program_bytes_max = bytes;
        self
    }

    /// Sets how many compiled programs are kept in memory. Default: 64.
    #[must_use]
    pub const fn with_programs_max(mut self, n: usize) -> Self {
        self.programs_max = n;
        self
    }

    /// Keeps compiled programs in a directory, which several processes may share. Entries are
    /// authenticated: one that was not written under the same key is compiled afresh, never
    /// loaded. Without a key one is made in the directory, readable by its owner alone. Default:
    /// no cache on disk.
    #[must_use]
    pub fn with_cache(mut self, directory: impl Into<PathBuf>, key: Option<SecretBytes>) -> Self {
        self.cache = Some(CacheConfig {
            directory: directory.into(),
            key,
            entries_max: 256,
        });
        self
    }

    /// Sets whether memory for guests is reserved up front, which makes starting one several times
    /// faster. If the host has too little address space the runtime does without and its probe
    /// says so. Default: on.
    #[must_use]
    pub const fn with_pooling(mut self, pooling: bool) -> Self {
        self.pooling = pooling;
        self
    }
}
