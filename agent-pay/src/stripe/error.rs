//! How a call to Stripe can end other than well, as what a caller can decide on.

use std::borrow::Cow;
use std::time::Duration;

use agent_core::{BoxError, Classify, ErrorKind, Retry};
use serde::Deserialize;

use crate::transport::Lost;

/// Why Stripe refused a call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Refusal {
    /// The HTTP status.
    #[serde(skip)]
    pub status: u16,
    /// The kind of error: `card_error`, `invalid_request_error`, `idempotency_error`…
    #[serde(rename = "type")]
    pub kind: String,
    /// The stable code, empty if there is none.
    #[serde(deserialize_with = "text")]
    pub code: String,
    /// Why the bank declined, empty if it did not.
    #[serde(deserialize_with = "text")]
    pub decline_code: String,
    /// Which parameter it is about, empty if none.
    #[serde(deserialize_with = "text")]
    pub param: String,
}

fn text<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Option::<String>::deserialize(from).map(Option::unwrap_or_default)
}

impl Refusal {
    /// Returns the most telling of the codes, bounded and plain.
    #[must_use]
    pub fn reason(&self) -> String {
        let codes = [&self.decline_code, &self.code, &self.kind];
        let code = codes.into_iter().find(|code| !code.is_empty());
        let is_plain = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
        match code {
            Some(code) => code.chars().filter(is_plain).take(64).collect(),
            None => format!("http_{}", self.status),
        }
    }
}

/// A call that did not end well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// Refused; the call had no effect and would be refused again.
    #[error("Stripe refused: {}", .0.reason())]
    Refused(Box<Refusal>),
    /// It was not done: too many calls, or one with the same key is not finished.
    #[error("Stripe is busy")]
    #[non_exhaustive]
    Busy {
        /// When to ask again.
        retry_after: Duration,
    },
    /// It may have been done: no answer, a failure of the server, or an answer nobody understands.
    #[error("nobody knows what Stripe did: {reason}")]
    #[non_exhaustive]
    Unknown {
        /// What came.
        reason: Cow<'static, str>,
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
    Invalid(#[from] crate::Error),
}

impl CallError {
    pub(super) fn unknown(reason: impl Into<Cow<'static, str>>) -> Self {
        let (reason, source) = (reason.into(), None);
        Self::Unknown { reason, source }
    }

    /// Returns whether it was not done for certain, whatever happens later.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Invalid(_))
    }

    /// Reads an answer that is no success.
    pub(super) fn of_status(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Self {
        #[derive(Default, Deserialize)]
        struct Wrapped {
            #[serde(default)]
            error: Refusal,
        }
        match status {
            409 | 429 => Self::Busy {
                retry_after: retry_after.unwrap_or(Duration::from_secs(1)),
            },
            400..=499 => {
                let wrapped: Wrapped = serde_json::from_slice(body).unwrap_or_default();
                Self::Refused(Box::new(Refusal {
                    status,
                    ..wrapped.error
                }))
            }
            _ => Self::unknown(format!("status {status}")),
        }
    }
}

impl From<Lost> for CallError {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::NotSent { source } => Self::NotSent { source },
            Lost::MayHaveArrived { source } => Self::Unknown {
                reason: "the answer was lost".into(),
                source: Some(source),
            },
        }
    }
}

impl Classify for CallError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused(refusal) => match refusal.status {
                401 | 403 => ErrorKind::Denied,
                404 => ErrorKind::NotFound,
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
        match self {
            Self::Refused(_) => "pay.stripe.refused",
            Self::Busy { .. } => "pay.stripe.busy",
            Self::Unknown { .. } => "pay.stripe.unknown",
            Self::NotSent { .. } => "pay.stripe.not_sent",
            Self::Invalid(error) => error.code(),
        }
    }

    fn fix(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Refused(_) => "correct what the code names; another try needs another key",
            Self::Busy { .. } => "wait and repeat with the same key",
            Self::Unknown { .. } => "look it up, or repeat with the same key",
            Self::NotSent { .. } => "repeat it when Stripe can be reached",
            Self::Invalid(error) => return error.fix(),
        })
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after } => Some(*retry_after),
            _ => None,
        }
    }
}
