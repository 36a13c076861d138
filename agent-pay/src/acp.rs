//! The Agentic Commerce Protocol, version 2026-04-17 (its documents of checkout, delegated payment
//! and order events): a seller as an axum router over the host's catalogue, and an agent
//! that buys under the spend authority.
//!
//! ```text
//!  not_ready_for_payment ◄─► ready_for_payment ─► complete_in_progress ─► completed
//!            └───────────┬───────┘  ▲                     │
//!        canceled, expired          └── declined for good ┘
//! ```
//!
//! A session is in the store before it is answered. Completing writes down under which id the
//! payment goes out before the merchant is asked to take it, so that after a crash it is looked up,
//! not taken again.

#![expect(
    clippy::module_name_repetitions,
    clippy::needless_pass_by_ref_mut,
    reason = "a seller's things bear its name; a write has the transaction to itself"
)]

mod answer;
mod card;
mod client;
mod merchant;
mod moment;
mod order;
mod rail;
mod render;
mod router;
mod seller;
mod session;
mod store;
mod wire;

pub use card::{Allowance, CardToStore, Vault, VaultError};
pub use client::{AcpClient, AcpError, CardDelegation, Checkout, SellerRefusal};
pub use merchant::{
    Cart, Charge, FulfillmentKind, FulfillmentOption, Merchant, MerchantError, Note, NoteLevel,
    Quote, QuotedLine,
};
pub use order::{OrderChange, OrderHooks};
pub use rail::{AcpRail, Credentials};
pub use router::router;
pub use seller::{Purged, Seller, SellerConfig};
pub use session::SessionStatus;
pub use wire::{Address, Buyer, Credential, FulfillmentDetails, Selected};

/// The version of the protocol this speaks.
pub const VERSION: &str = "2026-04-17";
