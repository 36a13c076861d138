//! A payment that came with a request, and what it pays for.

use agent_core::IdempotencyKey;
use http::Request;
use serde_json::Map;

use super::{Sale, identifier};
use crate::error::{Error, Result};
use crate::x402::authorization::CanonicalKey;
use crate::x402::check::Mismatch;
use crate::x402::header;
use crate::x402::message::{PaymentPayload, PaymentRequired, SettleResponse, Version};
use crate::x402::requirements::Requirements;

/// A payment that passed its check.
pub(super) struct Bought {
    pub(super) key: IdempotencyKey,
    pub(super) canonical: CanonicalKey,
    pub(super) payment: PaymentPayload,
    pub(super) asked: Requirements,
}

impl Bought {
    pub(super) fn new(
        canonical: CanonicalKey,
        payment: PaymentPayload,
        asked: Requirements,
    ) -> Result<Self> {
        Ok(Self {
            key: canonical.key()?,
            canonical,
            payment,
            asked,
        })
    }
}

/// The requirements a payment satisfies, and its name.
pub(super) type Matched = std::result::Result<(CanonicalKey, Requirements), Mismatch>;

impl Sale {
    /// What a resource costs, and why that is said.
    pub(super) fn required(&self, url: &str, error: Option<&str>) -> PaymentRequired {
        let mut required = PaymentRequired::new(self.resource(url), self.accepts.clone());
        let extension = (identifier::NAME.to_owned(), self.identifier.advertised());
        required.extensions = Map::from_iter([extension]);
        required.error = Some(error.unwrap_or("payment required").to_owned());
        required
    }

    /// Finds the requirements a payment satisfies, or the mismatch nearest to one.
    pub(super) fn matching(
        &self,
        check: impl Fn(&Requirements) -> Result<std::result::Result<CanonicalKey, Mismatch>>,
    ) -> Result<Matched> {
        let mut nearest = Mismatch::Network;
        for asked in &self.accepts {
            match check(asked)? {
                Ok(key) => return Ok(Ok((key, asked.clone()))),
                Err(Mismatch::Network) => {}
                Err(Mismatch::Requirements) if nearest != Mismatch::Network => {}
                Err(mismatch) => nearest = mismatch,
            }
        }
        Ok(Err(nearest))
    }
}

pub(super) fn paid_by(mut said: SettleResponse, bought: &Bought) -> SettleResponse {
    said.payer = Some(bought.payment.signed.authorization.from.to_string());
    said
}

/// Reads the payment of a request, which comes in one of two headers and once.
pub(super) fn read(request: &Request<Vec<u8>>) -> Result<PaymentPayload> {
    let headers = request.headers();
    let v2 = header::only(headers, &header::PAYMENT_SIGNATURE)?;
    let v1 = header::only(headers, &header::X_PAYMENT)?;
    let (value, version) = match (v2, v1) {
        (Some(value), None) => (value, Version::V2),
        (None, Some(value)) => (value, Version::V1),
        _ => return Err(Error::invalid("x402 header", "a payment in one header")),
    };
    let payment = PaymentPayload::read(&header::decode(value)?)?;
    if payment.version() != version {
        return Err(Error::invalid(
            "x402 header",
            "the header is of another version",
        ));
    }
    Ok(payment)
}
