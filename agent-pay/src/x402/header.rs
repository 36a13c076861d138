//! The headers of x402: JSON in base64 (RFC 4648, section 4, with padding).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::message::Version;
use crate::error::{Error, Result};

/// Carries [`PaymentRequired`](super::PaymentRequired) in version 2.
pub const PAYMENT_REQUIRED: HeaderName = HeaderName::from_static("payment-required");
/// Carries [`PaymentPayload`](super::PaymentPayload) in version 2.
pub const PAYMENT_SIGNATURE: HeaderName = HeaderName::from_static("payment-signature");
/// Carries [`SettleResponse`](super::SettleResponse) in version 2.
pub const PAYMENT_RESPONSE: HeaderName = HeaderName::from_static("payment-response");
/// Carries the payment in version 1.
pub const X_PAYMENT: HeaderName = HeaderName::from_static("x-payment");
/// Carries what became of it in version 1.
pub const X_PAYMENT_RESPONSE: HeaderName = HeaderName::from_static("x-payment-response");

/// The longest header that is read or written in bytes. Servers take 8 to 64 KiB of headers in all.
pub const HEADER_BYTES_MAX: usize = 32_768;

/// Returns the header a payment goes in.
#[must_use]
pub const fn payment(version: Version) -> HeaderName {
    match version {
        Version::V1 => X_PAYMENT,
        Version::V2 => PAYMENT_SIGNATURE,
    }
}

/// Returns the header in which it is said what became of a payment.
#[must_use]
pub const fn response(version: Version) -> HeaderName {
    match version {
        Version::V1 => X_PAYMENT_RESPONSE,
        Version::V2 => PAYMENT_RESPONSE,
    }
}

/// Writes JSON as the value of a header.
///
/// # Errors
/// `Invalid` for more than [`HEADER_BYTES_MAX`].
pub fn encode(json: &Value) -> Result<HeaderValue> {
    let text = STANDARD.encode(json.to_string());
    if text.len() > HEADER_BYTES_MAX {
        return Err(Error::invalid("x402 header", "longer than 32 KiB"));
    }
    HeaderValue::from_str(&text).map_err(|_form| Error::invalid("x402 header", "not ASCII"))
}

/// Reads the JSON in the value of a header.
///
/// # Errors
/// `Invalid` for more than [`HEADER_BYTES_MAX`] and for anything but base64 in its one form.
pub fn decode(value: &HeaderValue) -> Result<Vec<u8>> {
    if value.len() > HEADER_BYTES_MAX {
        return Err(Error::invalid("x402 header", "longer than 32 KiB"));
    }
    STANDARD
        .decode(value.as_bytes())
        .map_err(|_form| Error::invalid("x402 header", "it is not base64"))
}

/// Returns the one value of a header; none if it is absent.
///
/// # Errors
/// `Invalid` if it is there twice: who reads the first and who reads the last would disagree.
pub fn only<'m>(headers: &'m HeaderMap, name: &HeaderName) -> Result<Option<&'m HeaderValue>> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    match values.next() {
        Some(_) => Err(Error::invalid("x402 header", "it is there twice")),
        None => Ok(first),
    }
}
