//! Whether a payment is what was asked for: a pure function of both and the time.

use super::authorization::{Authorization, CanonicalKey};
use super::key::recover;
use super::message::{Accepted, PaymentPayload};
use super::requirements::Requirements;
use crate::error::Result;

/// Why a payment is not what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mismatch {
    /// The network is another, or what is accepted was not offered.
    Requirements,
    /// Another network.
    Network,
    /// Another recipient.
    Recipient,
    /// Another amount, more or less.
    Value,
    /// It does not hold yet.
    NotYetValid,
    /// It does not hold long enough to be carried out, or far longer than was asked.
    ValidBefore,
    /// Nobody signed it, or somebody else than who pays.
    Signature,
}

impl Mismatch {
    /// Returns the code of the specification (section 9).
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Requirements => "invalid_payment_requirements",
            Self::Network => "invalid_network",
            Self::Recipient => "invalid_exact_evm_payload_recipient_mismatch",
            Self::Value => "invalid_exact_evm_payload_authorization_value_mismatch",
            Self::NotYetValid => "invalid_exact_evm_payload_authorization_valid_after",
            Self::ValidBefore => "invalid_exact_evm_payload_authorization_valid_before",
            Self::Signature => "invalid_exact_evm_payload_signature",
        }
    }
}

/// How long an authorization must still hold to be carried out, in seconds: what the reference
/// facilitator wants, a few blocks.
pub const MARGIN_SECONDS: u64 = 6;
/// How much longer than asked an authorization may hold, in seconds: clocks differ, and answers are
/// kept for a day only, after which a payment that still held could be made again.
pub const EXCESS_SECONDS_MAX: u64 = 3_600;

/// Checks a payment against what was asked for at a second of Unix time, and names it.
///
/// Everything a chain is not needed for: what is accepted, network, recipient, amount, times and the
/// signature. Whether the payer has the money only the chain knows.
///
/// # Errors
/// The inner error is the mismatch; the outer one is for requirements that cannot be paid.
pub fn check(
    payment: &PaymentPayload,
    asked: &Requirements,
    now: u64,
) -> Result<std::result::Result<CanonicalKey, Mismatch>> {
    checked(payment, asked, Some(now))
}

/// Checks everything but the times: what names a payment that was taken in its time.
pub(super) fn check_late(
    payment: &PaymentPayload,
    asked: &Requirements,
) -> Result<std::result::Result<CanonicalKey, Mismatch>> {
    checked(payment, asked, None)
}

fn checked(
    payment: &PaymentPayload,
    asked: &Requirements,
    now: Option<u64>,
) -> Result<std::result::Result<CanonicalKey, Mismatch>> {
    let domain = asked.domain()?;
    let authorization = &payment.signed.authorization;
    let mismatch = match &payment.accepted {
        Accepted::V1(network) if *network != asked.network => Some(Mismatch::Network),
        Accepted::V2(accepted) if accepted.network != asked.network => Some(Mismatch::Network),
        Accepted::V2(accepted) if accepted != asked => Some(Mismatch::Requirements),
        _ if authorization.to != asked.pay_to => Some(Mismatch::Recipient),
        _ if authorization.value != asked.amount => Some(Mismatch::Value),
        _ => now.and_then(|now| times(authorization, asked, now)),
    };
    if let Some(mismatch) = mismatch {
        return Ok(Err(mismatch));
    }
    let signer = recover(&domain.digest(authorization), &payment.signed.signature);
    Ok(if signer == Some(authorization.from) {
        Ok(CanonicalKey::new(&domain, authorization))
    } else {
        Err(Mismatch::Signature)
    })
}

/// The token wants a block after `valid_after` and before `valid_before`.
fn times(authorization: &Authorization, asked: &Requirements, now: u64) -> Option<Mismatch> {
    let until = authorization.valid_before;
    if authorization.valid_after >= now {
        Some(Mismatch::NotYetValid)
    } else if until < now.saturating_add(MARGIN_SECONDS) || until > latest(asked, now) {
        Some(Mismatch::ValidBefore)
    } else {
        None
    }
}

fn latest(asked: &Requirements, now: u64) -> u64 {
    now.saturating_add(asked.max_timeout_seconds)
        .saturating_add(EXCESS_SECONDS_MAX)
}
