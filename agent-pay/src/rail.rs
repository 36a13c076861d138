//! The contract of a rail, which moves money outside of budgets, and who pays over it.
//!
//! A payment has three ends. Only a final failure frees what is held for it; what is not known is
//! asked about until it is, and never paid a second time:
//!
//! ```text
//!  authorize ─► submit (durable) ─► pay ─┬─► Settled ─► capture
//!                                        ├─► Failed ──► release
//!                                        └─► Unknown ─► look up, later, under the same id
//! ```

mod internal;
mod payer;
mod simulator;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use agent_core::{Amount, IdempotencyKey};
use async_trait::async_trait;

pub use internal::Internal;
pub use payer::{Event, EventId};
#[cfg(feature = "sqlite")]
pub use payer::{Paid, Payer};
pub use simulator::{Simulator, SimulatorFaults};

/// What a rail is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Payment {
    /// Names the payment on both sides, for ever: the key of the intent.
    pub id: IdempotencyKey,
    /// Who is paid.
    pub payee: String,
    /// How much.
    pub amount: Amount,
    /// What for, as the other side knows it.
    pub resource: String,
}

impl Payment {
    /// Describes a payment.
    #[must_use]
    pub fn new(id: IdempotencyKey, payee: impl Into<String>, amount: Amount) -> Self {
        Self {
            id,
            payee: payee.into(),
            amount,
            resource: String::new(),
        }
    }

    /// Sets what for. Default: nothing said.
    #[must_use]
    pub fn with_resource(mut self, resource: impl Into<String>) -> Self {
        self.resource = resource.into();
        self
    }
}

/// How a payment stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "money may have moved"]
#[non_exhaustive]
pub enum Outcome {
    /// The money moved. Final.
    #[non_exhaustive]
    Settled {
        /// How much.
        amount: Amount,
        /// What the rail calls it.
        reference: String,
    },
    /// The money did not move and never will under this id. Final.
    #[non_exhaustive]
    Failed {
        /// A stable code of the rail.
        code: String,
    },
    /// It may have moved or move yet.
    #[non_exhaustive]
    Unknown {
        /// When to ask again.
        retry_after: Duration,
        /// What happened.
        reason: String,
    },
}

impl Outcome {
    /// The money moved.
    pub fn settled(amount: Amount, reference: impl Into<String>) -> Self {
        let reference = reference.into();
        Self::Settled { amount, reference }
    }

    /// The money did not move and never will.
    pub fn failed(code: impl Into<String>) -> Self {
        Self::Failed { code: code.into() }
    }

    /// Nobody can say yet.
    pub fn unknown(retry_after: Duration, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self::Unknown {
            retry_after,
            reason,
        }
    }

    /// Returns whether nothing can change it.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        !matches!(self, Self::Unknown { .. })
    }
}

/// Moves money to payees.
///
/// This is the contract for _implementors_. Whatever goes wrong on the way is
/// [`Outcome::Unknown`]; an error of transport is no failure of the payment. Under one id money
/// moves at most once, to the payee and in the amount of the first call, and an outcome that is
/// final stays. An implementation passes the conformance suite of rails.
#[async_trait]
pub trait Rail: fmt::Debug + Send + Sync + 'static {
    /// Returns the name policies list.
    fn name(&self) -> &str;

    /// Pays. Calling it again with the same payment moves nothing more.
    ///
    /// # Cancel safety
    /// Not cancel safe: the outcome is unknown then. Look it up.
    async fn pay(&self, payment: Payment) -> Outcome;

    /// Says how a payment stands. An id that never arrived is closed where the rail can do that,
    /// so that a request still on its way fails, and is `Failed`; where it cannot, it is `Unknown`
    /// until no such request can arrive any more.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn look_up(&self, id: IdempotencyKey) -> Outcome;

    /// Gives back part of a settled payment under an id of its own.
    ///
    /// # Cancel safety
    /// As [`Rail::pay`].
    async fn refund(&self, payment: IdempotencyKey, refund: Payment) -> Outcome;
}

#[async_trait]
#[deny(
    clippy::missing_trait_methods,
    reason = "a forwarded rail forwards everything"
)]
impl<R: Rail + ?Sized> Rail for Arc<R> {
    fn name(&self) -> &str {
        (**self).name()
    }

    async fn pay(&self, payment: Payment) -> Outcome {
        (**self).pay(payment).await
    }

    async fn look_up(&self, id: IdempotencyKey) -> Outcome {
        (**self).look_up(id).await
    }

    async fn refund(&self, payment: IdempotencyKey, refund: Payment) -> Outcome {
        (**self).refund(payment, refund).await
    }
}
