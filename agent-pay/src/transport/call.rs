//! How a call can end other than well, as what a caller can decide on.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use agent_core::{BoxError, Classify, ErrorKind, Retry};
use http::header::RETRY_AFTER;
use serde::de::DeserializeOwned;

use super::{Answer, Lost};
use crate::error::Error;

/// The longest time a peer can ask to be left alone for.
const RETRY_AFTER_MAX_S: u64 = 3_600;

/// What a peer says when it refuses a call.
///
/// This is the contract for whoever adds a peer; nothing in it may repeat a secret of the call.
pub trait Refuses: fmt::Debug + Send + Sync + 'static {
    /// Who refuses, as in "Stripe refused".
    const WHO: &'static str;
    /// The stable codes of a call that is refused, was not done for now, may have been done, and was
    /// not sent.
    const CODES: [&'static str; 4];

    /// Reads the answer of a status from 400 to 499; one nobody understands is a refusal too.
    fn read(status: u16, body: &[u8]) -> Self;

    /// Returns the HTTP status.
    fn status(&self) -> u16;

    /// Returns a short code that says why, bounded and plain.
    fn reason(&self) -> String;
}

/// Makes a code of a peer bounded and plain.
#[cfg(any(feature = "acp", feature = "stripe"))]
pub(crate) fn plain(code: &str) -> String {
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
    code.chars().filter(is_plain).take(64).collect()
}

/// A call that did not end well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError<R: Refuses> {
    /// Refused; the call had no effect and would be refused again.
    #[error("{} refused: {}", R::WHO, .0.reason())]
    Refused(Box<R>),
    /// It was not done: too many calls, or one with the same key is not finished.
    #[error("{} is busy", R::WHO)]
    #[non_exhaustive]
    Busy {
        /// When to ask again.
        retry_after: Duration,
    },
    /// It may have been done: no answer, a failure of the server, or an answer nobody understands.
    #[error("nobody knows what {} did: {reason}", R::WHO)]
    #[non_exhaustive]
    Unknown {
        /// What came.
        reason: Cow<'static, str>,
        /// When to ask again, if it was said.
        retry_after: Option<Duration>,
        /// The cause, where there is one.
        source: Option<BoxError>,
    },
    /// It was not sent.
    #[error("the call was not sent")]
    #[non_exhaustive]
    NotSent {
        /// Why.
        source: BoxError,
    },
    /// It was not sent, for an argument is wrong.
    #[error(transparent)]
    Invalid(#[from] Error),
}

impl<R: Refuses> CallError<R> {
    /// Nobody knows, and this came.
    #[must_use]
    pub fn unknown(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Unknown {
            reason: reason.into(),
            retry_after: None,
            source: None,
        }
    }

    /// Returns whether it was not done for certain, whatever happens later.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Invalid(_))
    }

    /// Returns a short code that says why.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Refused(refusal) => refusal.reason(),
            other => other.code().to_owned(),
        }
    }

    /// Reads what came as an answer to a call.
    ///
    /// # Errors
    /// What the status says: 409 and 429 are busy, the rest of 400 to 499 refused, everything else
    /// that is no success unknown, and so is a success nobody can read.
    pub fn read<T: DeserializeOwned>(answer: &Answer) -> Result<T, Self> {
        let status = answer.status().as_u16();
        let wait = answer.headers().get(RETRY_AFTER);
        let wait = wait.and_then(|text| text.to_str().ok()?.parse().ok());
        let wait = wait.map(|seconds: u64| Duration::from_secs(seconds.min(RETRY_AFTER_MAX_S)));
        match status {
            200..=299 => serde_json::from_slice(answer.body()).map_err(|form| Self::Unknown {
                reason: "an answer that cannot be read".into(),
                retry_after: None,
                source: Some(form.into()),
            }),
            409 | 429 => Err(Self::Busy {
                retry_after: wait.unwrap_or(Duration::from_secs(1)),
            }),
            400..=499 => Err(Self::Refused(Box::new(R::read(status, answer.body())))),
            _ => Err(Self::Unknown {
                reason: format!("status {status}").into(),
                retry_after: wait,
                source: None,
            }),
        }
    }
}

impl<R: Refuses> From<Lost> for CallError<R> {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::NotSent { source } => Self::NotSent { source },
            Lost::MayHaveArrived { source } => Self::Unknown {
                reason: "the answer was lost".into(),
                retry_after: None,
                source: Some(source),
            },
        }
    }
}

impl<R: Refuses> Classify for CallError<R> {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused(refusal) => match refusal.status() {
                401 | 403 => ErrorKind::Denied,
                404 => ErrorKind::NotFound,
                405 | 422 => ErrorKind::Conflict,
                _ => ErrorKind::Invalid,
            },
            Self::Busy { .. } | Self::Unknown { .. } | Self::NotSent { .. } => {
                ErrorKind::Unavailable
            }
            Self::Invalid(error) => error.kind(),
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Refused(_) => Retry::Never,
            Self::Busy { .. } | Self::NotSent { .. } => Retry::Safe,
            Self::Unknown { .. } => Retry::Unknown,
            Self::Invalid(error) => error.retry(),
        }
    }

    fn code(&self) -> &'static str {
        let [refused, busy, unknown, not_sent] = R::CODES;
        match self {
            Self::Refused(_) => refused,
            Self::Busy { .. } => busy,
            Self::Unknown { .. } => unknown,
            Self::NotSent { .. } => not_sent,
            Self::Invalid(error) => error.code(),
        }
    }

    fn fix(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Refused(_) => "correct what the code names; another try needs another key",
            Self::Busy { .. } => "wait and repeat with the same key",
            Self::Unknown { .. } => "look it up, or repeat with the same key",
            Self::NotSent { .. } => "repeat it when the other side can be reached",
            Self::Invalid(error) => return error.fix(),
        })
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after } => Some(*retry_after),
            Self::Unknown { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}
