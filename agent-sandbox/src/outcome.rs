//! What the guest did: values, not errors, so that an agent sees its own mistakes.

use std::borrow::Cow;
use std::fmt;

use agent_core::Usage;
use serde::{Deserialize, Serialize};

/// One of the guest's two output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Why a guest trapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TrapKind {
    /// It executed `unreachable`: a panic or an abort.
    Unreachable,
    /// Its call stack is exhausted.
    StackOverflow,
    /// It read or wrote outside its memory or table.
    OutOfBounds,
    /// It divided by zero or a conversion overflowed.
    Arithmetic,
    /// It called a function through a wrong signature or an empty slot.
    BadCall,
    /// It broke the rules of the interface to the host.
    Interface,
    /// Any other reason; the message says which.
    Other,
}

/// How a guest ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "exit")]
#[non_exhaustive]
pub enum Exit {
    /// It ended by itself. Zero is success.
    #[non_exhaustive]
    Code {
        /// The exit code.
        code: u32,
    },
    /// It did something that cannot be continued.
    #[non_exhaustive]
    Trap {
        /// Why.
        kind: TrapKind,
        /// The reason in words. It never holds guest data.
        message: Cow<'static, str>,
    },
    /// It ran longer than its limit or its scope's deadline.
    TimedOut,
    /// It asked for more memory than its limit and could not go on without.
    #[non_exhaustive]
    OutOfMemory {
        /// The limit.
        bytes_max: u64,
    },
    /// It used up its fuel.
    #[non_exhaustive]
    OutOfFuel {
        /// The limit.
        fuel_max: u64,
    },
    /// It wrote more than the stream's limit.
    #[non_exhaustive]
    OutputLimit {
        /// The stream.
        stream: Stream,
        /// The limit.
        bytes_max: u64,
    },
    /// Its scope, its execution or its sandbox was canceled.
    Canceled,
}

impl Exit {
    /// The guest ended by itself.
    #[must_use]
    pub const fn code(code: u32) -> Self {
        Self::Code { code }
    }

    /// The guest trapped.
    #[must_use]
    pub fn trap(kind: TrapKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self::Trap {
            kind,
            message: message.into(),
        }
    }

    /// The guest ran out of memory.
    #[must_use]
    pub const fn out_of_memory(bytes_max: u64) -> Self {
        Self::OutOfMemory { bytes_max }
    }

    /// The guest ran out of fuel.
    #[must_use]
    pub const fn out_of_fuel(fuel_max: u64) -> Self {
        Self::OutOfFuel { fuel_max }
    }

    /// The guest wrote too much.
    #[must_use]
    pub const fn output_limit(stream: Stream, bytes_max: u64) -> Self {
        Self::OutputLimit { stream, bytes_max }
    }

    /// Returns whether the guest ended by itself with code 0.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        matches!(self, Self::Code { code: 0 })
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code { code } => write!(f, "exit code {code}"),
            Self::Trap { message, .. } => write!(f, "trap: {message}"),
            Self::TimedOut => f.write_str("timed out"),
            Self::OutOfMemory { bytes_max } => write!(f, "out of memory ({bytes_max} bytes)"),
            Self::OutOfFuel { fuel_max } => write!(f, "out of fuel ({fuel_max})"),
            Self::OutputLimit {
                stream: Stream::Stdout,
                bytes_max,
            } => {
                write!(f, "more than {bytes_max} bytes on stdout")
            }
            Self::OutputLimit {
                stream: Stream::Stderr,
                bytes_max,
            } => {
                write!(f, "more than {bytes_max} bytes on stderr")
            }
            Self::Canceled => f.write_str("canceled"),
        }
    }
}

/// How an execution ended and what it consumed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Outcome {
    /// How the guest ended.
    pub exit: Exit,
    /// What it consumed.
    pub usage: Usage,
    /// Bytes it wrote to standard output, including those cut off.
    pub stdout_bytes: u64,
    /// Bytes it wrote to standard error, including those cut off.
    pub stderr_bytes: u64,
    /// Whether output beyond a limit was cut off.
    pub truncated: bool,
}

impl Outcome {
    /// Creates an outcome without output.
    #[must_use]
    pub const fn new(exit: Exit, usage: Usage) -> Self {
        Self {
            exit,
            usage,
            stdout_bytes: 0,
            stderr_bytes: 0,
            truncated: false,
        }
    }
}

/// An execution that ended, with everything it wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Output {
    /// How it ended and what it consumed.
    pub outcome: Outcome,
    /// What it wrote to standard output, up to the limit.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error, up to the limit.
    pub stderr: Vec<u8>,
}

impl Output {
    pub(crate) const fn new(outcome: Outcome, stdout: Vec<u8>, stderr: Vec<u8>) -> Self {
        Self {
            outcome,
            stdout,
            stderr,
        }
    }

    /// Returns whether the guest ended by itself with code 0.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        self.outcome.exit.is_success()
    }

    /// Returns standard output as text; invalid UTF-8 becomes replacement characters.
    #[must_use]
    pub fn stdout_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.stdout)
    }

    /// Returns standard error as text; invalid UTF-8 becomes replacement characters.
    #[must_use]
    pub fn stderr_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.stderr)
    }
}
