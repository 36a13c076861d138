//! Who carries payments out.

mod http;
mod ledger;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

pub use self::http::HttpFacilitator;
pub use ledger::LedgerFacilitator;

use super::message::{PaymentPayload, Supported};
use super::requirements::Requirements;
use crate::error::Result;

/// Whether a payment would settle.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "only a valid payment is worth work"]
#[non_exhaustive]
pub enum Verdict {
    /// It would, at this moment.
    Valid,
    /// It would not.
    #[non_exhaustive]
    Invalid {
        /// Why, as a code.
        code: String,
    },
    /// Nobody could say.
    #[non_exhaustive]
    Unknown {
        /// What happened.
        reason: String,
    },
}

/// What became of carrying a payment out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "money may have moved"]
#[non_exhaustive]
pub enum Settlement {
    /// The money moved. Final.
    #[non_exhaustive]
    Settled {
        /// The transaction.
        transaction: String,
    },
    /// This call moved nothing, and nothing of it is on its way. An earlier call may have.
    #[non_exhaustive]
    Failed {
        /// Why, as a code.
        code: String,
    },
    /// It may have moved or move yet.
    #[non_exhaustive]
    Unknown {
        /// What happened.
        reason: String,
    },
}

impl Settlement {
    /// The money moved in a transaction.
    pub fn settled(transaction: impl Into<String>) -> Self {
        Self::Settled {
            transaction: transaction.into(),
        }
    }

    /// The call moved nothing.
    pub fn failed(code: impl Into<String>) -> Self {
        Self::Failed { code: code.into() }
    }

    /// Nobody can say yet.
    pub fn unknown(reason: impl Into<String>) -> Self {
        Self::Unknown {
            reason: reason.into(),
        }
    }
}

/// Verifies payments and carries them out (specification, section 7).
///
/// This is the contract for _implementors_. Whatever is not certain is `Unknown`: a lost answer, an
/// error of the server, a transaction that failed or is not final. Under one authorization money
/// moves at most once, however often it is settled.
#[async_trait]
pub trait Facilitator: fmt::Debug + Send + Sync + 'static {
    /// Says whether a payment would settle. Nothing moves.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn verify(&self, payment: PaymentPayload, asked: Requirements) -> Verdict;

    /// Carries a payment out.
    ///
    /// # Cancel safety
    /// Not cancel safe: the money may have moved.
    async fn settle(&self, payment: PaymentPayload, asked: Requirements) -> Settlement;

    /// Says what it can do.
    ///
    /// # Errors
    /// `Unavailable` if it does not answer, `Invalid` if it answers something else.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn supported(&self) -> Result<Supported>;
}

#[async_trait]
#[deny(
    clippy::missing_trait_methods,
    reason = "a forwarded facilitator forwards everything"
)]
impl<F: Facilitator + ?Sized> Facilitator for Arc<F> {
    async fn verify(&self, payment: PaymentPayload, asked: Requirements) -> Verdict {
        (**self).verify(payment, asked).await
    }

    async fn settle(&self, payment: PaymentPayload, asked: Requirements) -> Settlement {
        (**self).settle(payment, asked).await
    }

    async fn supported(&self) -> Result<Supported> {
        (**self).supported().await
    }
}
