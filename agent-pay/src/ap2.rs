//! Mandates of the Agent Payments Protocol, version 0.2: what a user allows an agent to buy and to
//! pay, signed by the user, handed on from agent to agent, and verified by code alone.
//!
//! ```text
//!  user ─ open mandate ─► agent ─ open mandate ─► agent ─ closed mandate ─► verifier
//!         confirms a key         signed with that key    signed with that key
//!                                bound to the one before bound to the one before
//! ```
//!
//! [`Verifier`] checks every token of a chain: ES256 and nothing else, audience, nonce, binding and
//! times of each. [`PaymentMandate`] and [`CheckoutMandate`] read what it says, in exact amounts, and
//! check what was decided against what was allowed. What runs over many payments (budgets, how often)
//! becomes policies of the spend authority: [`PaymentMandate::import`].

mod chain;
mod checkout;
mod constraint;
mod json;
mod key;
mod money;
mod node;
mod party;
mod payment;
mod policy;
mod read;
mod sd_jwt;

pub use chain::{Chain, Hop, Verifier};
pub use checkout::{Checkout, CheckoutMandate, OpenCheckout};
pub use constraint::{Constraint, Frequency, Violation};
pub use key::PublicKey;
pub use node::sweep;
pub use party::{Instrument, Merchant, Pisp};
pub use payment::{Facts, OpenPayment, Payment, PaymentMandate};

use crate::error::Error;

fn malformed(reason: &'static str) -> Error {
    Error::invalid("mandate", reason)
}
