//! The Machine Payments Protocol (draft-httpauth-payment-00): HTTP 402 with a challenge, a request
//! with the credential that answers it, and a receipt. The same in JSON-RPC and MCP ([`rpc`]).
//!
//! The method here is `ledger`, this crate's own: a buyer has a purse on the seller's ledger and
//! signs what is to be paid from it. It has both intents of the protocol, `charge` and `session`,
//! whose vouchers are those of [`crate::trade`].

#![expect(
    clippy::module_name_repetitions,
    reason = "a rail is named beside other rails"
)]

mod accept;
mod auth_param;
mod challenge;
mod client;
mod credential;
mod encoding;
mod problem;
mod receipt;
mod request;
pub mod rpc;
mod server;
mod statement;

pub use accept::AcceptPayment;
pub use challenge::{Challenge, OfferKey};
pub use client::{Fetched, MppRail, RailConfig, Shopper, Stream, Wallet};
pub use credential::Credential;
pub use problem::{Problem, ProblemDetails};
pub use receipt::Receipt;
pub use request::PaymentRequest;
pub use server::{
    Buyer, CHARGE, METHOD, Offer, Paid, PaidLayer, Pricing, Purged, Purse, Purses, Refused,
    SESSION, Sale, Server, ServerConfig, Ticket, Verdict,
};
pub use statement::Order;
