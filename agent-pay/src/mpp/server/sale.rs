//! What is sold: a route, a body, and what it may cost.

use agent_core::Amount;

use super::{CHARGE, SESSION};
use crate::account::AccountName;
use crate::mpp::encoding;
use crate::mpp::request::PaymentRequest;

/// A way to pay for something.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Offer {
    /// One payment for one answer.
    Charge(Amount),
    /// Vouchers on a deposit; each answer costs one unit.
    #[non_exhaustive]
    Session {
        /// What a unit costs.
        amount: Amount,
        /// What a unit is, such as `request`.
        unit: String,
        /// The deposit to begin with.
        deposit: Amount,
    },
}

impl Offer {
    /// Offers answers for vouchers.
    #[must_use]
    pub fn session(amount: Amount, unit: impl Into<String>, deposit: Amount) -> Self {
        let unit = unit.into();
        Self::Session {
            amount,
            unit,
            deposit,
        }
    }

    pub(super) fn request(&self, recipient: &AccountName) -> (&'static str, PaymentRequest) {
        let recipient = recipient.as_str();
        match self {
            Self::Charge(amount) => (CHARGE, PaymentRequest::charge(*amount, recipient)),
            Self::Session {
                amount,
                unit,
                deposit,
            } => {
                let request = PaymentRequest::session(*amount, unit, *deposit, recipient);
                (SESSION, request)
            }
        }
    }
}

/// Something that costs money.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sale {
    /// What is asked for: method and path with query, or the name of a tool. An offer holds for
    /// exactly this.
    pub route: String,
    /// The body, or the arguments. An offer holds for exactly these.
    pub body: Vec<u8>,
    /// How it may be paid, what the seller would rather first.
    pub offers: Vec<Offer>,
}

impl Sale {
    /// Sells `route` in exchange for one of the offers.
    #[must_use]
    pub fn new(route: impl Into<String>, offers: Vec<Offer>) -> Self {
        Self {
            route: route.into(),
            body: Vec::new(),
            offers,
        }
    }

    /// Sets the body. Default: empty.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Returns the digest an offer binds; none for an empty body.
    pub(super) fn content_digest(&self) -> Option<String> {
        (!self.body.is_empty()).then(|| encoding::content_digest(&self.body))
    }
}
