//! What a server says about a payment it took.

use agent_core::Timestamp;
use serde::{Deserialize, Serialize};

use super::encoding;
use crate::error::{Error, Result};

/// A receipt. It is not signed: it tells, and proves nothing to others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Receipt {
    /// `success`; there is no other.
    pub status: String,
    /// How it was paid.
    pub method: String,
    /// When, in the form of RFC 3339.
    pub timestamp: String,
    /// What the method calls the payment.
    #[serde(default)]
    pub reference: String,
    /// The challenge that was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenge_id: Option<String>,
    /// What was paid in base units; of a session, what was used in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spent: Option<String>,
    /// What a session's vouchers promise in base units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_cumulative: Option<String>,
}

impl Receipt {
    /// The only status.
    const SUCCESS: &'static str = "success";

    /// Says that a payment was taken.
    #[must_use]
    pub fn new(method: &str, at: Timestamp, reference: impl Into<String>) -> Self {
        Self {
            status: Self::SUCCESS.to_owned(),
            method: method.to_owned(),
            timestamp: at.to_string(),
            reference: reference.into(),
            challenge_id: None,
            spent: None,
            accepted_cumulative: None,
        }
    }

    /// Reads a `Payment-Receipt` field. Fields it does not know are passed over.
    ///
    /// # Errors
    /// `Invalid` for what is not a receipt, or not of success.
    pub fn parse(field: &str) -> Result<Self> {
        let receipt: Self = encoding::decode_json("payment receipt", field.trim())?;
        receipt.check()?;
        Ok(receipt)
    }

    /// Checks the form.
    pub(super) fn check(&self) -> Result<()> {
        if self.status != Self::SUCCESS || self.method.is_empty() {
            return Err(Error::invalid("payment receipt", "not one of success"));
        }
        crate::moment::parse(&self.timestamp).map(|_at| ())
    }

    /// Writes it as a `Payment-Receipt` field.
    ///
    /// # Errors
    /// None for receipts of this crate.
    pub fn to_field(&self) -> Result<String> {
        encoding::encode_json(self)
    }
}
