//! The contract of a backend: what starts sandboxes.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use agent_core::Scope;
use async_trait::async_trait;

use crate::error::Result;
use crate::sandbox::Sandbox;
use crate::spec::{Program, Spec};

/// Something a spec may ask for that not every backend can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Capability {
    /// WASI preview 1 command modules run ([`Program::wasm`]).
    WasiCommands,
    /// Fuel is metered ([`Limits::fuel_max`](crate::Limits)).
    Fuel,
    /// Clock and randomness can be fixed, so that an execution repeats bit for bit.
    Determinism,
    /// Directories of the host can be mounted.
    HostDirectories,
    /// A guest's standard input can be a stream.
    PipedStdin,
}

impl Capability {
    /// Returns the stable name, as used in [`Error::Unsupported`](crate::Error::Unsupported).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WasiCommands => "wasi commands",
            Self::Fuel => "fuel",
            Self::Determinism => "determinism",
            Self::HostDirectories => "host directories",
            Self::PipedStdin => "piped stdin",
        }
    }
}

/// What a backend can give.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(BTreeSet<Capability>);

impl Capabilities {
    /// Creates the set.
    #[must_use]
    pub fn new<I: IntoIterator<Item = Capability>>(capabilities: I) -> Self {
        Self(capabilities.into_iter().collect())
    }

    /// Returns whether the backend can give this.
    #[must_use]
    pub fn has(&self, capability: Capability) -> bool {
        self.0.contains(&capability)
    }

    /// Iterates over what the backend can give.
    pub fn iter(&self) -> impl Iterator<Item = Capability> + '_ {
        self.0.iter().copied()
    }
}

/// What a backend found on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Probe {
    /// The backend's name.
    pub backend: &'static str,
    /// The version of what isolates the guest, for records: `wasmtime 48`.
    pub isolation: String,
    /// What works less well here than it could, and what to do about it. Empty on a good host.
    pub remarks: Vec<String>,
}

impl Probe {
    /// Creates a probe result, for implementors.
    #[must_use]
    pub const fn new(backend: &'static str, isolation: String, remarks: Vec<String>) -> Self {
        Self {
            backend,
            isolation,
            remarks,
        }
    }
}

/// Starts sandboxes.
///
/// This is the contract for _implementors_: a backend. An implementation must pass
/// `agent_sandbox::conformance` (feature `conformance`). Hosts hold `Arc<dyn Runtime>`.
#[async_trait]
pub trait Runtime: fmt::Debug + Send + Sync + 'static {
    /// Returns what the backend can give. A spec that asks for more is refused, never narrowed.
    fn capabilities(&self) -> Capabilities;

    /// Looks at the host and says what the backend runs on.
    ///
    /// # Errors
    /// `Unavailable` if the runtime is closed.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is changed.
    async fn probe(&self) -> Result<Probe>;

    /// Checks and compiles a program, so that the first execution does not wait for it. Repeating
    /// it is cheap.
    ///
    /// # Errors
    /// `Invalid` if the program is not one the backend can run; `Unsupported` if it imports what
    /// no guest is given; `Unavailable` if the runtime is closed.
    ///
    /// # Cancel safety
    /// Cancel safe: the compilation goes on and is kept.
    async fn prepare(&self, program: &Program) -> Result<()>;

    /// Starts a sandbox: checks the spec, prepares its program and its files. No guest runs yet.
    ///
    /// # Errors
    /// As `prepare`; `Invalid` naming the field of the spec; `Unsupported` if the spec asks for
    /// what [`Runtime::capabilities`] lacks; `Exhausted` if too many sandboxes are open;
    /// `Canceled`, `TimedOut` through the scope.
    ///
    /// # Cancel safety
    /// Atomic: a sandbox that is not handed over is closed.
    async fn launch(&self, scope: &Scope, spec: Spec) -> Result<Arc<dyn Sandbox>>;

    /// Lists the sandboxes that are open, in the order they were launched.
    fn list(&self) -> Vec<Arc<dyn Sandbox>>;

    /// Closes every sandbox and ends the runtime's threads. Closing twice is fine.
    ///
    /// # Errors
    /// `Internal` if a guest or thread did not end.
    ///
    /// # Cancel safety
    /// Cancel safe: closing goes on; call it again to wait.
    async fn close(&self) -> Result<()>;
}
