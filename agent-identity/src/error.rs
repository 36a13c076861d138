//! What can go wrong with keys and grants, as decisions.

use std::borrow::Cow;
use std::time::Duration;

use agent_core::{BoxError, Classify, ErrorKind, IdempotencyKey, Retry};

use crate::did::DidKey;
use crate::grant::{GrantId, Widening};
use crate::key_store::{KeyId, KeyName};

/// The result of this crate's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A text, number or structure is not of the required form.
    #[error("invalid {what}: {reason}")]
    #[non_exhaustive]
    Invalid {
        /// What was being read, for example `did:key`.
        what: &'static str,
        /// Why it was refused.
        reason: Cow<'static, str>,
    },
    /// The passphrase or key does not open the vault, or the vault's header was altered; the two
    /// cannot be told apart.
    #[error("the secret does not open this key vault")]
    WrongSecret,
    /// A sealed private key was altered, or moved to another name, tenant or identity.
    #[error("the stored {key} was tampered with")]
    #[non_exhaustive]
    Tampered {
        /// The key.
        key: KeyId,
    },
    /// The stored header of a vault cannot be read.
    #[error("the stored header of the vault is damaged: {reason}")]
    #[non_exhaustive]
    Damaged {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No such key in this tenant.
    #[error("unknown {key}")]
    #[non_exhaustive]
    UnknownKey {
        /// The key.
        key: KeyId,
    },
    /// No key of that name in this tenant.
    #[error("no key is named {name}")]
    #[non_exhaustive]
    UnknownName {
        /// The name.
        name: KeyName,
    },
    /// The key was rotated away: it verifies, but signs nothing.
    #[error("{key} is retired")]
    #[non_exhaustive]
    Retired {
        /// The key.
        key: KeyId,
    },
    /// Another caller has rotated the key.
    #[error("expected {expected} to be current, {current} is")]
    #[non_exhaustive]
    NotCurrent {
        /// The key the caller expected to be current.
        expected: KeyId,
        /// The key that is.
        current: KeyId,
    },
    /// The signature is not the signer's over these bytes for this purpose.
    #[error("the signature does not verify")]
    BadSignature,
    /// The chain starts at an issuer the verifier does not trust.
    #[error("the grant was issued by {issuer}, which is not trusted")]
    #[non_exhaustive]
    Untrusted {
        /// The root issuer.
        issuer: DidKey,
    },
    /// A link of a chain does not continue the link before it.
    #[error("link {link} of the grant is broken: {reason}")]
    #[non_exhaustive]
    Broken {
        /// The position, zero for the root.
        link: usize,
        /// What does not fit.
        reason: &'static str,
    },
    /// A link grants more than the link before it.
    #[error("link {link} widens the grant: {by}")]
    #[non_exhaustive]
    Widened {
        /// The position, zero for the root.
        link: usize,
        /// In which respect.
        by: Widening,
    },
    /// A limit of a grant is used up.
    #[error("the {limit} limit of {grant} is used up")]
    #[non_exhaustive]
    UsedUp {
        /// The grant whose limit it is.
        grant: GrantId,
        /// Which limit: `call` or `spend`.
        limit: &'static str,
    },
    /// The idempotency key was used for another effect.
    #[error("the idempotency key {} belongs to another effect", key.as_str())]
    #[non_exhaustive]
    KeyReused {
        /// The key.
        key: IdempotencyKey,
    },
    /// A bound of this crate is reached.
    #[error("at most {max} {what}")]
    #[non_exhaustive]
    TooMany {
        /// What is bounded.
        what: &'static str,
        /// The bound.
        max: usize,
    },
    /// The storage behind a contract failed.
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
        /// The cause.
        source: BoxError,
    },
}

impl Error {
    /// Creates an [`Error::Invalid`].
    #[must_use]
    pub fn invalid(what: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Invalid {
            what,
            reason: reason.into(),
        }
    }

    /// Wraps the failure of a storage, for implementors outside this crate.
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
            source: source.into(),
        }
    }
}

#[cfg(feature = "sqlite")]
impl From<agent_core::store::Error> for Error {
    fn from(error: agent_core::store::Error) -> Self {
        Self::backend(
            "sqlite",
            "serve the key store",
            error.kind(),
            error.retry(),
            error,
        )
    }
}

impl From<Error> for agent_core::Error {
    /// Converts for the seams of `agent-core`, such as a gate.
    fn from(error: Error) -> Self {
        Self::backend(
            "agent-identity",
            "decide about a grant",
            error.kind(),
            error.retry(),
            error,
        )
    }
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid { .. } | Self::Broken { .. } => ErrorKind::Invalid,
            Self::WrongSecret
            | Self::BadSignature
            | Self::Untrusted { .. }
            | Self::Widened { .. } => ErrorKind::Denied,
            Self::Tampered { .. } | Self::Damaged { .. } => ErrorKind::Corrupt,
            Self::UnknownKey { .. } | Self::UnknownName { .. } => ErrorKind::NotFound,
            Self::Retired { .. } | Self::NotCurrent { .. } | Self::KeyReused { .. } => {
                ErrorKind::Conflict
            }
            Self::UsedUp { .. } | Self::TooMany { .. } => ErrorKind::Exhausted,
            Self::Backend { kind, .. } => *kind,
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Backend { retry, .. } => *retry,
            _ => Retry::Never,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "identity.invalid",
            Self::WrongSecret => "identity.wrong_secret",
            Self::Tampered { .. } => "identity.tampered",
            Self::Damaged { .. } => "identity.damaged",
            Self::UnknownKey { .. } => "identity.unknown_key",
            Self::UnknownName { .. } => "identity.unknown_name",
            Self::Retired { .. } => "identity.retired",
            Self::NotCurrent { .. } => "identity.not_current",
            Self::BadSignature => "identity.bad_signature",
            Self::Untrusted { .. } => "identity.untrusted",
            Self::Broken { .. } => "identity.broken",
            Self::Widened { .. } => "identity.widened",
            Self::UsedUp { .. } => "identity.used_up",
            Self::KeyReused { .. } => "identity.key_reused",
            Self::TooMany { .. } => "identity.too_many",
            Self::Backend { .. } => "identity.backend",
        }
    }

    fn fix(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Invalid { .. } => "correct the value the message names",
            Self::WrongSecret => "open the vault with the secret it was created with",
            Self::Tampered { .. } | Self::Damaged { .. } => {
                "restore the data directory from a backup and find out who wrote to it"
            }
            Self::UnknownKey { .. } | Self::UnknownName { .. } => {
                "generate the key first, in the same tenant"
            }
            Self::Retired { .. } => "sign with the current key of the same name",
            Self::NotCurrent { .. } => "read the current key and decide again",
            Self::BadSignature => "check the signer, the purpose and that the bytes are unchanged",
            Self::Untrusted { .. } => "add the issuer to the trusted roots, or refuse the grant",
            Self::Broken { .. } => "ask the delegator for the chain as it was signed",
            Self::Widened { .. } => "grant no more than the grant it is delegated from",
            Self::UsedUp { .. } => "ask for a grant with a higher limit, or do without this effect",
            Self::KeyReused { .. } => "use one idempotency key per effect",
            Self::TooMany { .. } => "split the request, or remove what is not needed",
            Self::Backend { .. } => "see the cause; repeat only as the error's retry says",
        })
    }

    fn retry_after(&self) -> Option<Duration> {
        None
    }
}
