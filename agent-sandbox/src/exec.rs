//! One execution: what is asked for, its streams and its end.

mod io;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use agent_core::{CancellationToken, Retry};
use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::outcome::{Outcome, Output};
use crate::spec::Program;

pub use io::{GuestIo, OutputStream, StdinPipe, StdinRead};

/// Where a guest's standard input comes from.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Stdin {
    /// It is at its end at once.
    #[default]
    Empty,
    /// The given bytes, then the end.
    Bytes(Arc<[u8]>),
    /// Whatever is written to [`Execution::take_stdin`], until that is dropped.
    Pipe,
}

impl From<Vec<u8>> for Stdin {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl From<String> for Stdin {
    fn from(text: String) -> Self {
        Self::Bytes(text.into_bytes().into())
    }
}

impl From<&str> for Stdin {
    fn from(text: &str) -> Self {
        Self::Bytes(text.as_bytes().into())
    }
}

/// What is run in a sandbox. Everything not set comes from the sandbox's spec.
#[derive(Clone, Debug, Default)]
pub struct Exec {
    pub(crate) program: Option<Program>,
    pub(crate) args: Option<Vec<String>>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) stdin: Stdin,
    pub(crate) wall_max: Option<Duration>,
}

impl Exec {
    /// Runs the spec's program with the spec's arguments and environment and without input.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets another program, which sees the same files. Default: the spec's.
    #[must_use]
    pub fn with_program(mut self, program: Program) -> Self {
        self.program = Some(program);
        self
    }

    /// Sets the arguments after the program's name. Default: the spec's.
    #[must_use]
    pub fn with_args<I, S>(mut self, args: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        self.args = Some(args.into_iter().map(Into::into).collect());
        self
    }

    /// Adds an environment variable to the spec's, or replaces one. Default: the spec's.
    #[must_use]
    pub fn with_env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Sets standard input. Default: [`Stdin::Empty`].
    #[must_use]
    pub fn with_stdin(mut self, stdin: impl Into<Stdin>) -> Self {
        self.stdin = stdin.into();
        self
    }

    /// Shortens the longest execution; a longer one than the spec's is ignored. Default: the
    /// spec's.
    #[must_use]
    pub const fn with_wall_max(mut self, wall: Duration) -> Self {
        self.wall_max = Some(wall);
        self
    }

    /// Returns the program, if it is not the spec's.
    #[must_use]
    pub const fn program(&self) -> Option<&Program> {
        self.program.as_ref()
    }

    /// Returns the arguments, if they are not the spec's.
    #[must_use]
    pub fn args(&self) -> Option<&[String]> {
        self.args.as_deref()
    }

    /// Returns the variables that are added to the spec's.
    #[must_use]
    pub const fn env(&self) -> &BTreeMap<String, String> {
        &self.env
    }

    /// Returns standard input.
    #[must_use]
    pub const fn stdin(&self) -> &Stdin {
        &self.stdin
    }

    /// Returns the bound on the execution's time, if one was set.
    #[must_use]
    pub const fn wall_max(&self) -> Option<Duration> {
        self.wall_max
    }
}

/// A running guest. Dropping it stops the guest.
#[derive(Debug)]
pub struct Execution {
    stdin: Option<StdinPipe>,
    stdout: OutputStream,
    stderr: OutputStream,
    outcome: oneshot::Receiver<Result<Outcome>>,
    cancel: tokio_util::sync::DropGuard,
}

impl Execution {
    /// Creates an execution and the guest's side of it, for implementors. `cancellation` is
    /// canceled when the execution is dropped.
    #[must_use]
    pub fn channel(
        stdin: &Stdin,
        limits: &Limits,
        cancellation: CancellationToken,
    ) -> (Self, GuestIo) {
        let (finish, outcome) = oneshot::channel();
        let guest = GuestIo::new(stdin, limits, finish);
        let execution = Self {
            stdin: guest.stdin_pipe(),
            stdout: guest.stdout(),
            stderr: guest.stderr(),
            outcome,
            cancel: cancellation.drop_guard(),
        };
        (execution, guest)
    }

    /// Takes the writing end of standard input. It is there once, and only with [`Stdin::Pipe`].
    pub fn take_stdin(&mut self) -> Option<StdinPipe> {
        self.stdin.take()
    }

    /// Returns the guest's standard output.
    pub const fn stdout(&mut self) -> &mut OutputStream {
        &mut self.stdout
    }

    /// Returns the guest's standard error.
    pub const fn stderr(&mut self) -> &mut OutputStream {
        &mut self.stderr
    }

    /// Stops the guest; [`Execution::wait`] then gives [`Exit::Canceled`](crate::Exit), unless it
    /// ended before.
    #[must_use = "the guest may still run for a moment: wait for its end"]
    pub fn cancel(self) -> Canceled {
        self.cancel.disarm().cancel();
        Canceled {
            outcome: self.outcome,
        }
    }

    /// Waits for the guest to end. Standard input that was not taken is closed first.
    ///
    /// # Errors
    /// `Internal` if the backend failed; the guest is gone then.
    ///
    /// # Cancel safety
    /// Dropping the future stops the guest.
    pub async fn wait(self) -> Result<Outcome> {
        let Self {
            stdin,
            outcome,
            cancel,
            ..
        } = self;
        drop(stdin);
        let ended = outcome.await;
        cancel.disarm();
        received(ended)
    }

    /// Waits for the guest to end and returns what it wrote and nobody read.
    ///
    /// # Errors
    /// As [`Execution::wait`].
    ///
    /// # Cancel safety
    /// Dropping the future stops the guest.
    pub async fn output(self) -> Result<Output> {
        let Self {
            stdin,
            mut stdout,
            mut stderr,
            outcome,
            cancel,
        } = self;
        drop(stdin);
        let ended = outcome.await;
        cancel.disarm();
        Ok(Output::new(received(ended)?, stdout.take(), stderr.take()))
    }
}

/// A guest that was told to stop.
#[derive(Debug)]
pub struct Canceled {
    outcome: oneshot::Receiver<Result<Outcome>>,
}

impl Canceled {
    /// Waits for the guest to end.
    ///
    /// # Errors
    /// As [`Execution::wait`].
    ///
    /// # Cancel safety
    /// Cancel safe: the guest stops in any case.
    pub async fn wait(self) -> Result<Outcome> {
        received(self.outcome.await)
    }
}

fn received(ended: Result<Result<Outcome>, oneshot::error::RecvError>) -> Result<Outcome> {
    ended.unwrap_or_else(|lost| {
        Err(Error::backend(
            "sandbox",
            "report the guest's end",
            Retry::Unknown,
            lost,
        ))
    })
}
