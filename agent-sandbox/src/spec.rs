//! What a sandbox is given: everything it has is named here.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent_core::Timestamp;

use crate::limits::Limits;
use crate::tree::FileTree;

/// A program: its bytes and their BLAKE3 digest. Cheap to clone.
///
/// A runtime compiles a program once and knows it again by the digest, so a `Program` that is kept
/// is the precompiled handle.
#[derive(Clone)]
pub struct Program {
    name: Arc<str>,
    bytes: Arc<[u8]>,
    digest: [u8; 32],
}

impl Program {
    /// Creates a program from a WASI preview 1 command module. The name becomes the guest's first
    /// argument and is what usage and logs say; nothing is checked or compiled yet.
    #[must_use]
    pub fn wasm(name: &str, bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        let digest = *blake3::hash(&bytes).as_bytes();
        Self {
            name: name.into(),
            bytes,
            digest,
        }
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the module.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the BLAKE3 digest of the module.
    #[must_use]
    pub const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("name", &self.name)
            .field("bytes", &self.bytes.len())
            .field("digest", &blake3::Hash::from(self.digest).to_hex().as_str())
            .finish()
    }
}

/// Whether a mount may be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// The guest may read.
    ReadOnly,
    /// The guest may read, write, create and remove.
    ReadWrite,
}

/// Files a sandbox is given.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Mount {
    /// An empty directory in memory that lives as long as the sandbox.
    Memory,
    /// A read-only tree shared by any number of sandboxes without copying.
    Shared(FileTree),
    /// A writable directory in memory that starts with the files of a tree; a file is copied when
    /// it is first written.
    Copy(FileTree),
    /// A directory of the host. Symbolic links that lead out of it cannot be followed.
    #[non_exhaustive]
    HostDirectory {
        /// The directory on the host.
        path: PathBuf,
        /// Whether it may be changed.
        access: Access,
    },
}

impl Mount {
    /// Mounts a directory of the host.
    #[must_use]
    pub fn host_directory(path: impl Into<PathBuf>, access: Access) -> Self {
        Self::HostDirectory {
            path: path.into(),
            access,
        }
    }
}

/// The time a guest sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum GuestClock {
    /// The runtime's clock.
    #[default]
    Host,
    /// A clock that every execution starts at the same moment. It moves on by `step` with each
    /// reading, and a guest that waits does not wait but moves it.
    #[non_exhaustive]
    Virtual {
        /// The first reading.
        start: Timestamp,
        /// How far each reading moves it.
        step: Duration,
    },
}

impl GuestClock {
    /// A clock that starts at `start` and moves on by `step` with each reading.
    #[must_use]
    pub const fn virtual_from(start: Timestamp, step: Duration) -> Self {
        Self::Virtual { start, step }
    }
}

/// What a sandbox is given. A fresh spec denies everything:
///
/// | item | default |
/// |---|---|
/// | arguments | the program's name alone |
/// | environment | empty |
/// | files | none |
/// | network | none, and no way to grant any |
/// | time | the runtime's clock |
/// | randomness | the runtime's source |
/// | labels | none |
/// | limits | [`Limits::default`] |
#[derive(Clone, Debug)]
pub struct Spec {
    pub(crate) program: Program,
    pub(crate) args: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) mounts: Vec<(String, Mount)>,
    pub(crate) clock: GuestClock,
    pub(crate) seed: Option<u64>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) limits: Limits,
}

impl Spec {
    /// Creates a spec that grants nothing; the defaults are listed at [`Spec`].
    #[must_use]
    pub fn new(program: Program) -> Self {
        Self {
            program,
            args: Vec::new(),
            env: BTreeMap::new(),
            mounts: Vec::new(),
            clock: GuestClock::Host,
            seed: None,
            labels: BTreeMap::new(),
            limits: Limits::default(),
        }
    }

    /// Sets the arguments after the program's name. Default: none.
    #[must_use]
    pub fn with_args<I, S>(mut self, args: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        self.args = args.into_iter().map(Into::into).collect();
        self
    }

    /// Adds an environment variable. Default: none; nothing of the host's environment is passed.
    #[must_use]
    pub fn with_env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Mounts files at an absolute path inside the sandbox. Default: no files at all.
    #[must_use]
    pub fn with_mount(mut self, path: impl Into<String>, mount: Mount) -> Self {
        self.mounts.push((path.into(), mount));
        self
    }

    /// Sets the time the guest sees. Default: [`GuestClock::Host`].
    #[must_use]
    pub const fn with_clock(mut self, clock: GuestClock) -> Self {
        self.clock = clock;
        self
    }

    /// Gives every execution the same random bytes, derived from `seed`. Never do so for a guest
    /// that makes keys. Default: the runtime's source.
    #[must_use]
    pub const fn with_seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Adds a label, for lists and logs. Default: none.
    #[must_use]
    pub fn with_label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// Sets the limits. Default: [`Limits::default`].
    #[must_use]
    pub const fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Returns the program.
    #[must_use]
    pub const fn program(&self) -> &Program {
        &self.program
    }

    /// Returns the arguments after the program's name.
    #[must_use]
    pub fn args(&self) -> &[String] {
        &self.args
    }

    /// Returns the environment.
    #[must_use]
    pub const fn env(&self) -> &BTreeMap<String, String> {
        &self.env
    }

    /// Returns the mounts in the order they were added.
    #[must_use]
    pub fn mounts(&self) -> &[(String, Mount)] {
        &self.mounts
    }

    /// Returns the time the guest sees.
    #[must_use]
    pub const fn clock(&self) -> GuestClock {
        self.clock
    }

    /// Returns the seed of the guest's randomness.
    #[must_use]
    pub const fn seed(&self) -> Option<u64> {
        self.seed
    }

    /// Returns the labels.
    #[must_use]
    pub const fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// Returns the limits.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }
}
