//! The messages of x402 between client, resource server and facilitator (versions 2 and 1).

mod payment;
mod required;
mod settlement;

use crate::error::{Error, Result};

pub use payment::{Accepted, PaymentPayload};
pub use required::PaymentRequired;
pub use settlement::{Kind, SettleResponse, Supported, VerifyResponse};

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Version {
    /// Version 1: the offer in the body of the 402, the payment in `X-PAYMENT`.
    V1,
    /// Version 2: the offer in `PAYMENT-REQUIRED`, the payment in `PAYMENT-SIGNATURE`.
    V2,
}

/// The longest JSON that is read in bytes: an offer with all its ways to pay, not a document.
pub(super) const JSON_BYTES_MAX: usize = 65_536;

fn read<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    if bytes.len() > JSON_BYTES_MAX {
        return Err(Error::invalid("x402 message", "longer than 64 KiB"));
    }
    serde_json::from_slice(bytes)
        .map_err(|error| Error::invalid("x402 message", format!("{:?} error", error.classify())))
}

fn version(number: u64) -> Result<Version> {
    match number {
        1 => Ok(Version::V1),
        2 => Ok(Version::V2),
        _ => Err(Error::invalid("x402 message", "neither version 1 nor 2")),
    }
}
