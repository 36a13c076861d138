//! How a call to a seller can end other than well.

use std::borrow::Cow;
use std::time::Duration;

use agent_core::{BoxError, Classify, ErrorKind, Retry};
use serde::Deserialize;

use crate::error::Error;
use crate::transport::Lost;

/// Why a seller refused, as it said it; text of a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct AcpErrorBody {
    /// The category.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code.
    pub code: String,
    /// Words for people.
    pub message: String,
    /// What it is about.
    pub param: Option<String>,
}

/// A call that did not end well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcpError {
    /// Refused; the call had no effect.
    #[error("the seller refused with status {status}")]
    #[non_exhaustive]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it said.
        body: Box<AcpErrorBody>,
    },
    /// The same call is under way, or there are too many.
    #[error("the seller is busy")]
    #[non_exhaustive]
    Busy {
        /// When to ask again.
        retry_after: Duration,
    },
    /// It may have been done.
    #[error("nobody knows what the seller did: {reason}")]
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

impl AcpError {
    pub(in crate::acp) fn unknown(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Unknown {
            reason: reason.into(),
            retry_after: None,
            source: None,
        }
    }

    /// Returns a short code that says why it was refused.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Refused { status, body } if body.code.is_empty() => format!("http_{status}"),
            Self::Refused { body, .. } => {
                let is_plain = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
                body.code.chars().filter(is_plain).take(64).collect()
            }
            other => other.code().to_owned(),
        }
    }
}

impl From<Lost> for AcpError {
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

impl Classify for AcpError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused { status, .. } => match status {
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
            Self::Refused { .. } => Retry::Never,
            Self::Busy { .. } | Self::NotSent { .. } => Retry::Safe,
            Self::Unknown { .. } => Retry::Unknown,
            Self::Invalid(error) => error.retry(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "pay.acp.refused",
            Self::Busy { .. } => "pay.acp.busy",
            Self::Unknown { .. } => "pay.acp.unknown",
            Self::NotSent { .. } => "pay.acp.not_sent",
            Self::Invalid(error) => error.code(),
        }
    }

    fn fix(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Refused { .. } => "correct what the code names",
            Self::Busy { .. } => "wait and repeat with the same key",
            Self::Unknown { .. } => "read the session, or repeat with the same key",
            Self::NotSent { .. } => "repeat it when the seller can be reached",
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
