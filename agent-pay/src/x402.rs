//! Payments by x402 (specification version 2 of 2025-12-09; version 1 is read and answered too).
//!
//! A resource answers 402 and says what it costs; the client signs an authorization to move tokens
//! (EIP-3009) and sends the request again with it; the server has it carried out by a facilitator.
//! Of the schemes this is `exact`, of the networks those of Ethereum's kind.

mod atomic;
mod authorization;
mod buyer;
mod bytes;
mod chain;
mod check;
mod eip712;
mod facilitator;
pub mod header;
mod key;
mod message;
mod network;
mod offer;
mod refunds;
mod requirements;
mod seller;
mod store;

pub use atomic::Atomic;
pub use authorization::{Authorization, CanonicalKey, Signed};
pub use buyer::{Buyer, BuyerConfig, Fetched, Merchant, Purchase, Token};
pub use bytes::{Address, Bytes32, Signature};
pub use chain::{BlockTag, Chain, EvmRpc, Execution};
pub use check::{EXCESS_SECONDS_MAX, MARGIN_SECONDS, Mismatch, check};
pub use eip712::Domain;
pub use facilitator::{Facilitator, HttpFacilitator, LedgerFacilitator, Settlement, Verdict};
pub use key::{LocalKey, Signer, recover};
pub use message::{
    Accepted, Kind, PaymentPayload, PaymentRequired, SettleResponse, Supported, VerifyResponse,
    Version,
};
pub use network::Network;
pub use offer::{is_signed, sign_offers};
pub use refunds::{PayBack, Refunds};
pub use requirements::{EXACT, Requirements, ResourceInfo};
pub use seller::{
    Identifier, Paid, PaidLayer, Purged, Sale, Seller, SellerConfig, SettlePolicy, Undo,
};
