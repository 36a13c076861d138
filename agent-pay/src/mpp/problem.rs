//! Why a request was not served, as Problem Details (RFC 9457).

use serde::{Deserialize, Serialize};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Problem {
    /// It costs something and nothing was paid.
    PaymentRequired,
    /// The amount is too low.
    Insufficient,
    /// The offer is over.
    Expired,
    /// The proof does not hold, or the payment was refused.
    VerificationFailed,
    /// The method is not one of the server's.
    MethodUnsupported,
    /// The credential cannot be read.
    MalformedCredential,
    /// The challenge is not the server's, or was used.
    InvalidChallenge,
    /// There is no such channel.
    ChannelNotFound,
    /// The channel is closed.
    ChannelFinalized,
    /// A voucher promises more than the deposit.
    AmountExceedsDeposit,
    /// A voucher promises less than one before.
    DeltaTooSmall,
    /// What is promised does not pay for the request.
    InsufficientBalance,
    /// The signature of a voucher does not hold.
    InvalidSignature,
}

impl Problem {
    /// Where the problems of the protocol are described.
    pub const BASE: &'static str = "https://paymentauth.org/problems/";

    /// Returns the name of the problem behind the base.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::PaymentRequired => "payment-required",
            Self::Insufficient => "payment-insufficient",
            Self::Expired => "payment-expired",
            Self::VerificationFailed => "verification-failed",
            Self::MethodUnsupported => "method-unsupported",
            Self::MalformedCredential => "malformed-credential",
            Self::InvalidChallenge => "invalid-challenge",
            Self::ChannelNotFound => "session/channel-not-found",
            Self::ChannelFinalized => "session/channel-finalized",
            Self::AmountExceedsDeposit => "session/amount-exceeds-deposit",
            Self::DeltaTooSmall => "session/delta-too-small",
            Self::InsufficientBalance => "session/insufficient-balance",
            Self::InvalidSignature => "session/invalid-signature",
        }
    }

    /// Finds a problem by its name, for answers that are given again.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|problem| problem.code() == code)
    }

    const ALL: [Self; 13] = [
        Self::PaymentRequired,
        Self::Insufficient,
        Self::Expired,
        Self::VerificationFailed,
        Self::MethodUnsupported,
        Self::MalformedCredential,
        Self::InvalidChallenge,
        Self::ChannelNotFound,
        Self::ChannelFinalized,
        Self::AmountExceedsDeposit,
        Self::DeltaTooSmall,
        Self::InsufficientBalance,
        Self::InvalidSignature,
    ];

    /// Returns the status a server answers with. All but one carry a fresh challenge.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::MethodUnsupported => 400,
            _ => 402,
        }
    }

    /// Returns a short title.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::PaymentRequired => "Payment Required",
            Self::Insufficient => "Payment Insufficient",
            Self::Expired => "Payment Expired",
            Self::VerificationFailed => "Payment Verification Failed",
            Self::MethodUnsupported => "Method Unsupported",
            Self::MalformedCredential => "Malformed Credential",
            Self::InvalidChallenge => "Invalid Challenge",
            Self::ChannelNotFound => "Channel Not Found",
            Self::ChannelFinalized => "Channel Finalized",
            Self::AmountExceedsDeposit => "Amount Exceeds Deposit",
            Self::DeltaTooSmall => "Delta Too Small",
            Self::InsufficientBalance => "Insufficient Balance",
            Self::InvalidSignature => "Invalid Signature",
        }
    }

    /// Returns the body of the answer.
    #[must_use]
    pub fn details(self, detail: &str) -> ProblemDetails {
        ProblemDetails {
            kind: format!("{}{}", Self::BASE, self.code()),
            title: self.title().to_owned(),
            status: self.status(),
            detail: detail.to_owned(),
            is_final: false,
        }
    }
}

/// The body of an answer that says what is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ProblemDetails {
    /// The problem as a URI.
    #[serde(rename = "type")]
    pub kind: String,
    /// A short title.
    #[serde(default)]
    pub title: String,
    /// The status of the answer.
    #[serde(default)]
    pub status: u16,
    /// What happened, in words.
    #[serde(default)]
    pub detail: String,
    /// Whether the challenge is used up, so that no payment can come of it any more: an extension
    /// of the method `ledger`, by which a buyer knows that money is free again.
    #[serde(rename = "final", default, skip_serializing_if = "std::ops::Not::not")]
    pub is_final: bool,
}

impl ProblemDetails {
    /// Returns which problem of the protocol it is.
    #[must_use]
    pub fn problem(&self) -> Option<Problem> {
        Problem::from_code(self.kind.strip_prefix(Problem::BASE)?)
    }
}
