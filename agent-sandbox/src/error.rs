//! What can go wrong on the host's side. What the guest does wrong is an [`Exit`](crate::Exit).

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use agent_core::{BoxError, Classify, ErrorKind, Retry};

/// The result of this crate's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure on the host's side.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A spec, exec or configuration is not of the required form.
    #[error("invalid {field}: {reason}")]
    #[non_exhaustive]
    Invalid {
        /// The field that was refused.
        field: &'static str,
        /// Why.
        reason: String,
    },
    /// The program is not one the backend can run.
    #[error("program `{program}` cannot run: {reason}")]
    #[non_exhaustive]
    InvalidProgram {
        /// The program's name.
        program: String,
        /// Why.
        reason: String,
    },
    /// The program needs a function that no guest is given.
    #[error("program `{program}` imports `{module}::{name}`, which no guest is given")]
    #[non_exhaustive]
    UnsupportedImport {
        /// The program's name.
        program: String,
        /// The module of the import.
        module: String,
        /// The name of the import.
        name: String,
    },
    /// The backend cannot do what the spec asks for.
    #[error("{backend} does not support {what}")]
    #[non_exhaustive]
    Unsupported {
        /// What was asked for.
        what: &'static str,
        /// The backend.
        backend: &'static str,
    },
    /// An operation on the sandbox's files failed.
    #[error("cannot {operation} `{path}`: {problem}")]
    #[non_exhaustive]
    File {
        /// What was tried.
        operation: &'static str,
        /// The path inside the sandbox.
        path: String,
        /// What stood in the way.
        problem: FileProblem,
    },
    /// The sandbox, runtime or stream is closed.
    #[error("the {what} is closed")]
    #[non_exhaustive]
    Closed {
        /// What is closed.
        what: &'static str,
    },
    /// A bound on simultaneous work is reached.
    #[error("{what} is at its limit of {max}")]
    #[non_exhaustive]
    Busy {
        /// What is full.
        what: &'static str,
        /// The bound.
        max: usize,
    },
    /// The scope was canceled before the guest started.
    #[error("canceled before the guest started")]
    Canceled,
    /// The scope's deadline passed before the guest started.
    #[error("the deadline passed before the guest started")]
    TimedOut,
    /// The backend itself failed.
    #[error("{backend} failed to {operation}")]
    #[non_exhaustive]
    Backend {
        /// The backend.
        backend: &'static str,
        /// What it was doing.
        operation: &'static str,
        /// Whether the call may be repeated.
        retry: Retry,
        /// The cause.
        source: BoxError,
    },
}

/// What stood in the way of a file operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileProblem {
    /// Nothing has that name.
    NotFound,
    /// Something has that name already.
    Exists,
    /// A part of the path is not a directory.
    NotDirectory,
    /// The path names a directory.
    IsDirectory,
    /// The directory has entries.
    NotEmpty,
    /// The mount is read-only.
    ReadOnly,
    /// The path leads out of its mount.
    Escape,
    /// The file, the sandbox's storage or its number of files would exceed its limit.
    Quota,
    /// The path or a name in it is too long.
    NameTooLong,
    /// The path goes through too many symbolic links.
    Loop,
    /// The path is not valid, or the operation does not apply to what it names.
    Invalid,
    /// The host refused access.
    Denied,
    /// The host's disk failed.
    Io,
}

impl FileProblem {
    const fn text(self) -> &'static str {
        match self {
            Self::NotFound => "not found",
            Self::Exists => "already exists",
            Self::NotDirectory => "not a directory",
            Self::IsDirectory => "is a directory",
            Self::NotEmpty => "directory not empty",
            Self::ReadOnly => "read-only mount",
            Self::Escape => "the path leads out of its mount",
            Self::Quota => "storage limit reached",
            Self::NameTooLong => "path too long",
            Self::Loop => "too many symbolic links",
            Self::Invalid => "not possible for this path",
            Self::Denied => "the host refused access",
            Self::Io => "the host's disk failed",
        }
    }

    const fn kind(self) -> ErrorKind {
        match self {
            Self::NotFound => ErrorKind::NotFound,
            Self::Exists | Self::NotEmpty => ErrorKind::Conflict,
            Self::ReadOnly | Self::Escape | Self::Denied => ErrorKind::Denied,
            Self::Quota => ErrorKind::Exhausted,
            Self::Io => ErrorKind::Unavailable,
            Self::NotDirectory
            | Self::IsDirectory
            | Self::NameTooLong
            | Self::Loop
            | Self::Invalid => ErrorKind::Invalid,
        }
    }
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl Error {
    /// Creates an [`Error::Invalid`].
    #[must_use]
    pub fn invalid(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid {
            field,
            reason: reason.into(),
        }
    }

    /// Creates an [`Error::InvalidProgram`].
    #[must_use]
    pub fn invalid_program(program: &str, reason: impl Into<String>) -> Self {
        Self::InvalidProgram {
            program: program.to_owned(),
            reason: reason.into(),
        }
    }

    /// Creates an [`Error::Unsupported`].
    #[must_use]
    pub fn unsupported(backend: &'static str, what: &'static str) -> Self {
        Self::Unsupported { what, backend }
    }

    /// Creates an [`Error::File`].
    #[must_use]
    pub fn file(operation: &'static str, path: impl Into<String>, problem: FileProblem) -> Self {
        Self::File {
            operation,
            path: path.into(),
            problem,
        }
    }

    /// Creates an [`Error::Closed`].
    #[must_use]
    pub fn closed(what: &'static str) -> Self {
        Self::Closed { what }
    }

    /// Creates an [`Error::Busy`].
    #[must_use]
    pub fn busy(what: &'static str, max: usize) -> Self {
        Self::Busy { what, max }
    }

    /// Wraps a failure of a backend, for implementors.
    #[must_use]
    pub fn backend(
        backend: &'static str,
        operation: &'static str,
        retry: Retry,
        source: impl Into<BoxError>,
    ) -> Self {
        Self::Backend {
            backend,
            operation,
            retry,
            source: source.into(),
        }
    }
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid { .. } | Self::InvalidProgram { .. } => ErrorKind::Invalid,
            Self::UnsupportedImport { .. } | Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::File { problem, .. } => problem.kind(),
            Self::Closed { .. } => ErrorKind::Unavailable,
            Self::Busy { .. } => ErrorKind::Exhausted,
            Self::Canceled => ErrorKind::Canceled,
            Self::TimedOut => ErrorKind::TimedOut,
            Self::Backend { .. } => ErrorKind::Internal,
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Invalid { .. }
            | Self::InvalidProgram { .. }
            | Self::UnsupportedImport { .. }
            | Self::Unsupported { .. }
            | Self::Closed { .. } => Retry::Never,
            Self::File {
                problem: FileProblem::Io,
                ..
            } => Retry::Unknown,
            Self::File { .. } => Retry::Never,
            Self::Busy { .. } | Self::Canceled | Self::TimedOut => Retry::Safe,
            Self::Backend { retry, .. } => *retry,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "sandbox.invalid",
            Self::InvalidProgram { .. } => "sandbox.program",
            Self::UnsupportedImport { .. } => "sandbox.import",
            Self::Unsupported { .. } => "sandbox.unsupported",
            Self::File { .. } => "sandbox.file",
            Self::Closed { .. } => "sandbox.closed",
            Self::Busy { .. } => "sandbox.busy",
            Self::Canceled => "sandbox.canceled",
            Self::TimedOut => "sandbox.timed_out",
            Self::Backend { .. } => "sandbox.backend",
        }
    }

    fn fix(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Invalid { .. } => "correct the field the message names",
            Self::InvalidProgram { .. } => "build the program as a WASI preview 1 command",
            Self::UnsupportedImport { .. } => "build the program without this import",
            Self::Unsupported { .. } => "choose a backend whose capabilities include it",
            Self::File {
                problem: FileProblem::Quota,
                ..
            } => "remove files or raise the storage limits of the spec",
            Self::File { .. } => "correct the path, or mount what the program needs",
            Self::Closed { .. } => "launch another sandbox",
            Self::Busy { .. } => "wait for running guests to end, or raise the bound",
            Self::Canceled => "start the call again if it is still wanted",
            Self::TimedOut => "allow more time, or run fewer guests at once",
            Self::Backend { .. } => "see the cause; repeat only as the error's retry says",
        })
    }

    fn retry_after(&self) -> Option<Duration> {
        None
    }
}
