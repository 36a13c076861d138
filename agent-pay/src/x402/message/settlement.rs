//! What a server or a facilitator says of payments.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::read;
use crate::error::Result;
use crate::x402::network::Network;
use crate::x402::requirements::EXACT;

/// What became of a payment, as a server or a facilitator says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SettleResponse {
    /// Whether the money moved.
    pub success: bool,
    /// Why not, as a code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_reason: Option<String>,
    /// Who paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payer: Option<String>,
    /// The transaction; empty if there is none.
    #[serde(default)]
    pub transaction: String,
    /// The network, by the name of the version it is said in.
    #[serde(default)]
    pub network: String,
    /// Extensions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extensions: Option<Map<String, Value>>,
}

impl SettleResponse {
    /// The money moved in a transaction.
    #[must_use]
    pub fn settled(transaction: impl Into<String>, network: &Network) -> Self {
        Self {
            success: true,
            error_reason: None,
            payer: None,
            transaction: transaction.into(),
            network: network.to_string(),
            extensions: None,
        }
    }

    /// The money did not move.
    #[must_use]
    pub fn failed(code: impl Into<String>, network: &Network) -> Self {
        let mut response = Self::settled("", network);
        response.success = false;
        response.error_reason = Some(code.into());
        response
    }

    /// Reads the JSON.
    ///
    /// # Errors
    /// `Invalid` for another form.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        read(bytes)
    }
}

/// Whether a payment would settle, as a facilitator says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct VerifyResponse {
    /// Whether it would.
    pub is_valid: bool,
    /// Why not, as a code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invalid_reason: Option<String>,
    /// Who would pay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payer: Option<String>,
}

impl VerifyResponse {
    /// It would settle.
    #[must_use]
    pub const fn valid(payer: Option<String>) -> Self {
        Self {
            is_valid: true,
            invalid_reason: None,
            payer,
        }
    }

    /// It would not.
    #[must_use]
    pub fn invalid(code: impl Into<String>) -> Self {
        Self {
            is_valid: false,
            invalid_reason: Some(code.into()),
            payer: None,
        }
    }

    /// Reads the JSON.
    ///
    /// # Errors
    /// `Invalid` for another form.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        read(bytes)
    }
}

/// What a facilitator can do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Supported {
    /// Versions, schemes and networks.
    pub kinds: Vec<Kind>,
    /// Extensions.
    #[serde(default)]
    pub extensions: Vec<String>,
    /// By patterns of networks, the addresses that carry payments out.
    #[serde(default)]
    pub signers: BTreeMap<String, Vec<String>>,
}

impl Supported {
    /// Reads the JSON.
    ///
    /// # Errors
    /// `Invalid` for another form.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        read(bytes)
    }
}

/// A kind of payment a facilitator carries out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Kind {
    /// The version of the protocol.
    pub x402_version: u64,
    /// The scheme.
    pub scheme: String,
    /// The network, by the name the version has for it.
    pub network: String,
}

impl Kind {
    /// `exact` on a network, in version 2.
    #[must_use]
    pub fn exact(network: &Network) -> Self {
        Self {
            x402_version: 2,
            scheme: EXACT.to_owned(),
            network: network.to_string(),
        }
    }
}
