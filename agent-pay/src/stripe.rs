//! Stripe: payments with manual capture, refunds, shared payment tokens, meters and webhooks, and a
//! rail over them.
//!
//! There is no type for a card here: what is charged is a [`Source`], which names something Stripe
//! keeps. A payment is created, which moves nothing, written down, and only then confirmed; so what
//! may have moved money is known after every crash, and is asked about, never done again:
//!
//! ```text
//!  new ─► created ─► confirming ─┬─► settled
//!    └───────┴─────────► failed ◄┘    what is confirming is canceled before it counts as failed
//! ```

#![expect(
    clippy::module_name_repetitions,
    clippy::needless_pass_by_ref_mut,
    reason = "the client and the rail bear the name of the network; a write has the transaction to \
              itself"
)]

mod charge;
mod client;
mod dispute;
mod error;
mod form;
mod id;
mod inbox;
mod intent;
mod meter;
mod meter_export;
mod money;
mod rail;
mod refund;
mod shared_token;
mod store;
mod webhook;

pub use charge::{Charge, ChargeToken};
pub use client::{Stripe, StripeConfig};
pub use dispute::{Dispute, DisputeStatus};
pub use error::{CallError, Refusal};
pub use id::{
    AccountId, ChargeId, CustomerId, IntentId, MethodId, ProfileId, RefundId, SharedTokenId, Source,
};
pub use inbox::{Inbox, Received, Unbooked};
pub use intent::{Capture, IntentStatus, NewIntent, PaymentIntent};
pub use meter::MeterEvent;
pub use meter_export::{Exported, MeterExport, Withheld};
pub use money::Money;
pub use rail::{Destination, StripeRail, Wallet};
pub use refund::Refund;
pub use shared_token::{NewSharedToken, SharedToken, UsageLimits};
pub use webhook::{EventData, WebhookEvent, Webhooks};

/// The version of Stripe's interface everything here was written for: that of the official SDKs
/// 16.1 (Python) and 23.1 (Node).
pub const API_VERSION: &str = "2026-10-28.endive";

/// The version that has shared payment tokens, which are in preview.
pub const API_VERSION_SHARED: &str = "2026-04-22.preview";

/// The note on everything of ours at Stripe: the id of the payment or refund.
pub const METADATA_ID: &str = "agent_pay_id";
