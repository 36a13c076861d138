//! The contract of one sandbox, and shorthands over it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use agent_core::{Scope, Usage, define_id};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::exec::{Exec, Execution};
use crate::files::Files;
use crate::outcome::Output;

define_id!(
    /// One sandbox.
    SandboxId, "sbx"
);

/// Where a sandbox is in its life, in the words of `OpenSandbox`'s state machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum State {
    /// It is being started.
    Pending,
    /// It takes executions.
    Running,
    /// It is being closed; its guests are being stopped.
    Stopping,
    /// It is closed.
    Terminated,
    /// The backend lost it.
    Failed,
}

/// What a sandbox did and holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Metrics {
    /// Executions that wait or run.
    pub execs_running: u64,
    /// Executions that ended.
    pub execs_ended: u64,
    /// The sum of the usage of those that ended.
    pub usage: Usage,
    /// Bytes counted against the storage limit.
    pub storage_bytes: u64,
    /// Files, directories and links counted against their limit.
    pub files: u64,
}

/// A place where guests run, with files of its own.
///
/// This is the contract for _implementors_. Users call [`SandboxExt`] as well. Every execution is
/// a fresh instance of a program: memory and globals are never carried over, files are. Executions
/// of one sandbox may run at the same time. Dropping the last handle stops them.
#[async_trait]
pub trait Sandbox: fmt::Debug + Send + Sync + 'static {
    /// Returns the sandbox's id.
    fn id(&self) -> SandboxId;

    /// Returns where the sandbox is in its life.
    fn state(&self) -> State;

    /// Returns the labels of the spec.
    fn labels(&self) -> &BTreeMap<String, String>;

    /// Starts a program and returns its streams and its end. It waits while as many guests run as
    /// the runtime allows.
    ///
    /// What the guest does, also when it is stopped through the scope while it runs, is the
    /// [`Outcome`](crate::Outcome) of the execution, not an error.
    ///
    /// # Errors
    /// `Unavailable` if the sandbox is closed; `Invalid` naming the field of `exec`; `Exhausted`
    /// if too many executions wait; `Canceled`, `TimedOut` if the scope ends before the guest
    /// starts; `Invalid` and `Unsupported` for another program, as by `Runtime::prepare`.
    ///
    /// # Cancel safety
    /// Atomic: an execution that is not handed over is stopped.
    async fn exec(&self, scope: &Scope, exec: Exec) -> Result<Execution>;

    /// Returns the sandbox's files.
    fn files(&self) -> Arc<dyn Files>;

    /// Returns what the sandbox did and holds.
    fn metrics(&self) -> Metrics;

    /// Stops the guests, waits for their end and gives up the files. Closing twice is fine.
    ///
    /// # Errors
    /// `Internal` if a guest did not end.
    ///
    /// # Cancel safety
    /// Cancel safe: closing goes on; call it again to wait.
    async fn close(&self) -> Result<()>;
}

/// Shorthands over [`Sandbox`], for users. Do not implement it.
#[async_trait]
pub trait SandboxExt: Sandbox {
    /// Runs a program to its end and collects what it wrote.
    ///
    /// # Errors
    /// As [`Sandbox::exec`].
    ///
    /// # Cancel safety
    /// Dropping the future stops the guest; files it wrote stay.
    async fn output(&self, scope: &Scope, exec: Exec) -> Result<Output> {
        self.exec(scope, exec).await?.output().await
    }
}

impl<S: Sandbox + ?Sized> SandboxExt for S {}
