#![doc = include_str!("../README.md")]

pub mod backend;
#[cfg(feature = "conformance")]
#[expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a law that is broken panics"
)]
pub mod conformance;
mod error;
pub mod exec;
mod files;
mod limits;
#[cfg(feature = "wasm")]
mod mounts;
mod outcome;
mod runtime;
mod sandbox;
mod spec;
mod tree;
#[cfg(feature = "wasm")]
mod vfs;
#[cfg(feature = "wasm")]
#[expect(
    clippy::needless_pass_by_ref_mut,
    reason = "every call of the interface has one shape"
)]
mod wasi;

pub use error::{Error, FileProblem, Result};
pub use exec::{Exec, Execution, Stdin};
pub use files::{DirEntry, FileStat, FileType, Files};
pub use limits::{Limits, Overflow};
pub use outcome::{Exit, Outcome, Output, Stream, TrapKind};
pub use runtime::{Capabilities, Capability, Probe, Runtime};
pub use sandbox::{Metrics, Sandbox, SandboxExt, SandboxId, State};
pub use spec::{Access, GuestClock, Mount, Program, Spec};
pub use tree::{FileTree, FileTreeBuilder};
