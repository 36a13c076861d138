//! What can go wrong with money, as decisions.

mod classify;

use std::borrow::Cow;
use std::time::Duration;

use agent_core::{
    Amount, Asset, BoxError, Digest, ErrorKind, IdempotencyKey, Principal, Retry, Timestamp, Unit,
};

use crate::account::AccountName;
use crate::authority::{ApprovalState, PolicyError};
use crate::batch::State;
use crate::budget::{BudgetPath, Denial};
use crate::journal::Difference;
use crate::provision::{Blocker, ResourceName};

/// The result of this crate's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an account's balance guard refused a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shortfall {
    /// The guarded account.
    pub account: AccountName,
    /// What was credited to it.
    pub credits: Amount,
    /// What was debited from it and posted.
    pub debits_posted: Amount,
    /// What holds keep from it.
    pub debits_pending: Amount,
    /// What the refused entry asked for.
    pub asked: Amount,
}

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument is not of the required form.
    #[error("invalid {what}: {reason}")]
    #[non_exhaustive]
    Invalid {
        /// Which argument.
        what: &'static str,
        /// Why it was refused.
        reason: Cow<'static, str>,
    },
    /// A value of the common vocabulary is wrong, for example amounts of two assets.
    #[error(transparent)]
    Value(#[from] agent_core::Error),
    /// A balance would leave the range of a 64-bit integer.
    #[error("the balance of {account} would overflow")]
    #[non_exhaustive]
    Overflow {
        /// The account.
        account: AccountName,
    },
    /// An account was never opened.
    #[error("no account {account} in the ledger of {asset}")]
    #[non_exhaustive]
    AccountNotFound {
        /// The ledger.
        asset: Asset,
        /// The account.
        account: AccountName,
    },
    /// An account is open with another guard.
    #[error("account {account} is open with another guard")]
    #[non_exhaustive]
    AccountDiffers {
        /// The account.
        account: AccountName,
    },
    /// No batch was posted under a key.
    #[error("nothing was posted under the key {}", key.as_str())]
    #[non_exhaustive]
    KeyNotFound {
        /// The key.
        key: IdempotencyKey,
    },
    /// A key was used before with another body.
    #[error("the key {} was used with another {differs}", key.as_str())]
    #[non_exhaustive]
    KeyReused {
        /// The key.
        key: IdempotencyKey,
        /// The first difference found.
        differs: Difference,
    },
    /// A batch that pins its refusal was refused before.
    #[error("the key {} was used up by a refusal", key.as_str())]
    #[non_exhaustive]
    AlreadyFailed {
        /// The key.
        key: IdempotencyKey,
    },
    /// The holds of a batch are resolved already, in another way than asked.
    #[error("the holds of {} are {state}", key.as_str())]
    #[non_exhaustive]
    Resolved {
        /// The key of the batch.
        key: IdempotencyKey,
        /// How they are resolved.
        state: State,
    },
    /// The holds of a batch expired before they were captured.
    #[error("the holds of {} expired at {expired_at}", key.as_str())]
    #[non_exhaustive]
    Expired {
        /// The key of the batch.
        key: IdempotencyKey,
        /// When they expired.
        expired_at: Timestamp,
    },
    /// A capture asked for more than was held.
    #[error("cannot capture {asked} of a hold of {held}")]
    #[non_exhaustive]
    ExceedsHold {
        /// What is held.
        held: Amount,
        /// What was asked.
        asked: Amount,
    },
    /// A guarded account does not have what was asked.
    #[error("account {} has too little for {}", .0.account, .0.asked)]
    Insufficient(Box<Shortfall>),
    /// A budget does not have what was asked.
    #[error(transparent)]
    OverBudget(Box<Denial>),
    /// A spend was denied, or somebody has to approve it first.
    #[error("the spend is denied, {code}: {detail}")]
    #[non_exhaustive]
    SpendDenied {
        /// The rule that denied, as a stable code; `needs_approval` if somebody must be asked.
        code: &'static str,
        /// The rule and its node.
        detail: String,
    },
    /// Nobody defined a node of the spend authority.
    #[error("no node {node} in the spend authority")]
    #[non_exhaustive]
    NodeNotFound {
        /// The node.
        node: BudgetPath,
    },
    /// Nobody asked for approval of what a digest names.
    #[error("nobody asked for approval of {digest}")]
    #[non_exhaustive]
    ApprovalNotFound {
        /// The digest.
        digest: Digest,
    },
    /// Votes on a request are closed.
    #[error("the request {digest} is closed")]
    #[non_exhaustive]
    ApprovalClosed {
        /// The digest.
        digest: Digest,
        /// What became of the request.
        state: ApprovalState,
    },
    /// Somebody may not vote on a request.
    #[error("{who} may not approve this: {reason}")]
    #[non_exhaustive]
    NotAnApprover {
        /// Who.
        who: Principal,
        /// Why not.
        reason: &'static str,
    },
    /// A signature does not verify, or is not that of who should have signed.
    #[error("the signature of {key_id} does not count")]
    #[non_exhaustive]
    BadSignature {
        /// The key it names.
        key_id: String,
    },
    /// The first call with a key is not finished.
    #[error("a call with the key {} is in flight", key.as_str())]
    #[non_exhaustive]
    InFlight {
        /// The key.
        key: IdempotencyKey,
        /// How long to wait before asking again.
        retry_after: Duration,
    },
    /// A resource cannot be provisioned as things stand.
    #[error("{} things stand in the way: {}", blockers.len(), listed(blockers))]
    #[non_exhaustive]
    Blocked {
        /// Everything that stands in the way.
        blockers: Vec<Blocker>,
    },
    /// There is no resource of a name.
    #[error("no resource {name}")]
    #[non_exhaustive]
    ResourceNotFound {
        /// The name.
        name: ResourceName,
    },
    /// Somebody uses a resource.
    #[error("resource {name} is in use")]
    #[non_exhaustive]
    ResourceInUse {
        /// The resource.
        name: ResourceName,
    },
    /// A policy does not make sense.
    #[error(transparent)]
    Policy(#[from] Box<PolicyError>),
    /// A budget is open with another limit.
    #[error("budget {path} has the limit {limit}")]
    #[non_exhaustive]
    LimitDiffers {
        /// The budget.
        path: BudgetPath,
        /// Its limit.
        limit: Amount,
    },
    /// The rate card has no price for something that was used.
    #[error("rate card {card} has no price for {} of {resource}", unit.name())]
    #[non_exhaustive]
    Unpriced {
        /// The version of the card.
        card: String,
        /// What was used.
        resource: String,
        /// The unit without a price.
        unit: Unit,
    },
    /// The stored ledger contradicts itself.
    #[error("the ledger is damaged: {found}")]
    #[non_exhaustive]
    Corrupt {
        /// What was found.
        found: String,
    },
    /// A backend failed.
    #[error("{backend} failed to {operation}")]
    #[non_exhaustive]
    Backend {
        /// The backend's name.
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

    /// Creates an [`Error::Corrupt`].
    #[must_use]
    pub fn corrupt(found: impl Into<String>) -> Self {
        Self::Corrupt {
            found: found.into(),
        }
    }

    /// Creates an [`Error::Blocked`].
    #[must_use]
    pub const fn blocked(blockers: Vec<Blocker>) -> Self {
        Self::Blocked { blockers }
    }

    /// Returns whether the balances or accounts of the moment refused, which another moment might
    /// not: a transient failure of a transfer.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Insufficient(_)
                | Self::OverBudget(_)
                | Self::AccountNotFound { .. }
                | Self::Overflow { .. }
        )
    }

    /// Wraps a backend's failure, for implementors outside this crate.
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
        use agent_core::Classify;
        let (kind, retry) = (error.kind(), error.retry());
        Self::backend("sqlite", "use the store", kind, retry, error)
    }
}

fn listed(blockers: &[Blocker]) -> String {
    let codes: Vec<&str> = blockers.iter().map(|b| b.code.as_str()).collect();
    codes.join(", ")
}
