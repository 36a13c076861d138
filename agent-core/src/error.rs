//! One classification for the errors of every crate, so that a supervisor can decide what to do
//! without knowing seven enums.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A boxed error, used as the source of a crate's `Backend` variant.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// What a caller can decide on when a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The named thing does not exist.
    NotFound,
    /// Another writer won, or the precondition no longer holds.
    Conflict,
    /// The caller may not do this.
    Denied,
    /// A limit, quota, budget or queue is full.
    Exhausted,
    /// The input is wrong; repeating it unchanged cannot help.
    Invalid,
    /// This backend cannot do that.
    Unsupported,
    /// The caller or a supervisor stopped the call.
    Canceled,
    /// The deadline passed before an answer came.
    TimedOut,
    /// The other side is away or busy; it may come back.
    Unavailable,
    /// Stored data is damaged.
    Corrupt,
    /// A bug on this side of the API.
    Internal,
}

/// What is known about the effect of a failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Retry {
    /// Repeating the call cannot help.
    Never,
    /// The failed call had no effect; it may be repeated.
    Safe,
    /// The call may have had its effect; repeat it only with the same idempotency key.
    Unknown,
}

/// The classification every public error of the workspace implements.
///
/// `code` is stable across releases and machine-actionable; `fix` tells a person, or an agent,
/// what to do about it.
pub trait Classify: std::error::Error {
    /// Returns the kind a caller decides on.
    fn kind(&self) -> ErrorKind;
    /// Returns whether the failed call may be repeated.
    fn retry(&self) -> Retry;
    /// Returns a stable code, `layer.reason` in lower case.
    fn code(&self) -> &'static str;
    /// Returns one sentence that says what to do.
    fn fix(&self) -> Cow<'static, str>;
    /// Returns how long the other side asked to wait before the next attempt.
    fn retry_after(&self) -> Option<Duration>;
}

/// A failure as data: what is journaled, shown to an agent, or sent to a peer.
///
/// The message is the error's chain of causes joined by `: `, at most
/// [`Failure::MESSAGE_BYTES_MAX`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Failure {
    /// What a caller decides on.
    pub kind: ErrorKind,
    /// Whether the call may be repeated.
    pub retry: Retry,
    /// The stable code.
    pub code: String,
    /// The chain of causes, for people.
    pub message: String,
    /// What to do about it.
    pub fix: String,
    /// How long the other side asked to wait, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl Failure {
    /// The longest message kept, in bytes: a few lines, since failures are journaled and shown to
    /// models.
    pub const MESSAGE_BYTES_MAX: usize = 2_048;

    /// Creates a failure from its parts; it may be repeated only if `retry` says so.
    #[must_use]
    pub fn new(kind: ErrorKind, retry: Retry, code: &str, message: &str, fix: &str) -> Self {
        Self {
            kind,
            retry,
            code: code.to_owned(),
            message: clip(message, Self::MESSAGE_BYTES_MAX),
            fix: fix.to_owned(),
            retry_after_ms: None,
        }
    }

    /// Describes a classified error and its chain of causes.
    #[must_use]
    pub fn of<E: Classify + ?Sized>(error: &E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source
            && message.len() < Self::MESSAGE_BYTES_MAX
        {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            source = cause.source();
        }
        let mut failure = Self::new(
            error.kind(),
            error.retry(),
            error.code(),
            &message,
            &error.fix(),
        );
        failure.retry_after_ms = error
            .retry_after()
            .map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        failure
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Shortens text to at most `bytes_max` bytes on a character boundary.
fn clip(text: &str, bytes_max: usize) -> String {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default().to_owned()
}

/// The errors of this crate's vocabulary.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A text, number or structure is not of the required form.
    #[error("invalid {what}: {reason}")]
    #[non_exhaustive]
    Invalid {
        /// What was being read, for example `amount`.
        what: &'static str,
        /// Why it was refused.
        reason: String,
    },
    /// An amount does not fit, or two amounts have different assets.
    #[error("amount arithmetic failed: {reason}")]
    #[non_exhaustive]
    Amount {
        /// Which rule was broken.
        reason: &'static str,
    },
    /// A gate, meter, sink or model refused the call.
    #[error("{what} was refused: {reason}")]
    #[non_exhaustive]
    Denied {
        /// What was asked for.
        what: String,
        /// Which rule refused it.
        reason: String,
    },
    /// The call was canceled through its scope.
    #[error("canceled")]
    Canceled,
    /// The deadline of the scope passed.
    #[error("the deadline passed")]
    TimedOut,
    /// A seam's implementation failed.
    #[error("{backend} failed to {operation}")]
    #[non_exhaustive]
    Backend {
        /// The implementation's name.
        backend: &'static str,
        /// What it was doing.
        operation: &'static str,
        /// What a caller can decide on.
        kind: ErrorKind,
        /// Whether the call may be repeated.
        retry: Retry,
        /// How long the other side asked to wait.
        retry_after: Option<Duration>,
        /// The cause.
        source: BoxError,
    },
}

/// The result of this crate's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Creates an [`Error::Invalid`].
    #[must_use]
    pub fn invalid(what: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid {
            what,
            reason: reason.into(),
        }
    }

    /// Creates an [`Error::Denied`].
    #[must_use]
    pub fn denied(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Denied {
            what: what.into(),
            reason: reason.into(),
        }
    }

    /// Wraps the failure of a seam's implementation, for implementors outside this crate.
    #[must_use]
    pub fn backend(
        backend: &'static str,
        operation: &'static str,
        kind: ErrorKind,
        retry: Retry,
        source: impl Into<BoxError>,
    ) -> Self {
        Self::Backend {
            backend,
            operation,
            kind,
            retry,
            retry_after: None,
            source: source.into(),
        }
    }

    /// Adds how long the other side asked to wait; other variants are unchanged.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        if let Self::Backend { retry_after, .. } = &mut self {
            *retry_after = Some(wait);
        }
        self
    }
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid { .. } | Self::Amount { .. } => ErrorKind::Invalid,
            Self::Denied { .. } => ErrorKind::Denied,
            Self::Canceled => ErrorKind::Canceled,
            Self::TimedOut => ErrorKind::TimedOut,
            Self::Backend { kind, .. } => *kind,
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Invalid { .. } | Self::Amount { .. } | Self::Denied { .. } => Retry::Never,
            Self::Canceled | Self::TimedOut => Retry::Unknown,
            Self::Backend { retry, .. } => *retry,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "core.invalid",
            Self::Amount { .. } => "core.amount",
            Self::Denied { .. } => "core.denied",
            Self::Canceled => "core.canceled",
            Self::TimedOut => "core.timed_out",
            Self::Backend { .. } => "core.backend",
        }
    }

    fn fix(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Invalid { .. } => "correct the value the message names",
            Self::Amount { .. } => "use one asset per sum and amounts within the ledger's range",
            Self::Denied { .. } => "ask for a wider grant, or do without this effect",
            Self::Canceled => "start the call again if it is still wanted",
            Self::TimedOut => "allow more time, or split the work",
            Self::Backend { .. } => "see the cause; repeat only as the error's retry says",
        })
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Backend { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}
