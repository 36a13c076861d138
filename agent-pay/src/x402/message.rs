//! The messages of x402 between client, resource server and facilitator (versions 2 and 1).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::authorization::Signed;
use super::network::Network;
use super::requirements::{EXACT, Requirements, ResourceInfo};
use crate::error::{Error, Result};

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Version {
    /// Version 1: the offer in the body of the 402, the payment in `X-PAYMENT`.
    V1,
    /// Version 2: the offer in `PAYMENT-REQUIRED`, the payment in `PAYMENT-SIGNATURE`.
    V2,
}

/// That a resource costs something, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PaymentRequired {
    /// The version it was said in.
    pub version: Version,
    /// Why it is said, in words, which decide nothing.
    pub error: Option<String>,
    /// What is sold; version 1 says it with each way to pay.
    pub resource: Option<ResourceInfo>,
    /// The ways to pay this crate knows, in the order of the server.
    pub accepts: Vec<Requirements>,
    /// How many ways to pay this crate does not know.
    pub n_others: usize,
    /// Extensions.
    pub extensions: Map<String, Value>,
}

impl PaymentRequired {
    /// The most ways to pay that are read.
    pub const ACCEPTS_MAX: usize = 32;

    /// Says what a resource costs, in version 2.
    #[must_use]
    pub fn new(resource: ResourceInfo, accepts: Vec<Requirements>) -> Self {
        Self {
            version: Version::V2,
            error: None,
            resource: Some(resource),
            accepts,
            n_others: 0,
            extensions: Map::new(),
        }
    }

    /// Reads the JSON of either version.
    ///
    /// # Errors
    /// `Invalid` for another form or version, and for more than [`Self::ACCEPTS_MAX`] ways to pay. A
    /// way to pay that is not known is no error.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Wire {
            x402_version: u64,
            #[serde(default)]
            error: Option<String>,
            #[serde(default)]
            resource: Option<ResourceInfo>,
            accepts: Vec<Value>,
            #[serde(default)]
            extensions: Option<Map<String, Value>>,
        }
        let wire: Wire = read(bytes)?;
        let version = version(wire.x402_version)?;
        let n_offered = wire.accepts.len();
        if n_offered > Self::ACCEPTS_MAX {
            return Err(Error::invalid("x402 message", "more than 32 ways to pay"));
        }
        if version == Version::V2 && wire.resource.is_none() {
            return Err(Error::invalid("x402 message", "it names no resource"));
        }
        let read = match version {
            Version::V1 => Requirements::read_v1,
            Version::V2 => Requirements::read,
        };
        let accepts: Vec<_> = wire
            .accepts
            .into_iter()
            .filter_map(|raw| read(raw).ok())
            .collect();
        Ok(Self {
            version,
            error: wire.error,
            resource: wire.resource,
            n_others: n_offered.saturating_sub(accepts.len()),
            accepts,
            extensions: wire.extensions.unwrap_or_default(),
        })
    }

    /// Writes the JSON of version 2.
    #[must_use]
    pub fn to_v2(&self) -> Value {
        let mut value = json!({
            "x402Version": 2,
            "resource": self.resource,
            "accepts": self.accepts,
            "extensions": self.extensions,
        });
        if let (Some(error), Some(members)) = (&self.error, value.as_object_mut()) {
            members.insert("error".to_owned(), json!(error));
        }
        value
    }

    /// Writes the JSON of version 1, with the ways to pay it has names for.
    #[must_use]
    pub fn to_v1(&self) -> Value {
        let nothing = ResourceInfo::new("");
        let resource = self.resource.as_ref().unwrap_or(&nothing);
        let accepts: Vec<_> = self
            .accepts
            .iter()
            .filter_map(|one| one.to_v1(resource))
            .collect();
        let error = self.error.as_deref().unwrap_or("payment required");
        json!({ "x402Version": 1, "error": error, "accepts": accepts })
    }
}

/// A payment, as it goes with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PaymentPayload {
    /// What is paid for, if it is said.
    pub resource: Option<ResourceInfo>,
    /// What is accepted: whole in version 2, network alone in version 1.
    pub accepted: Accepted,
    /// The signed authorization.
    pub signed: Signed,
    /// Extensions.
    pub extensions: Map<String, Value>,
}

/// What a payment says it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Accepted {
    /// Version 2 echoes the whole requirements.
    V2(Requirements),
    /// Version 1 names the network.
    V1(Network),
}

impl PaymentPayload {
    /// Pays what version 2 asked for.
    #[must_use]
    pub fn new(accepted: Requirements, signed: Signed) -> Self {
        let (accepted, resource, extensions) = (Accepted::V2(accepted), None, Map::new());
        Self {
            resource,
            accepted,
            signed,
            extensions,
        }
    }

    /// Pays what version 1 asked for.
    #[must_use]
    pub fn new_v1(network: Network, signed: Signed) -> Self {
        let (accepted, resource, extensions) = (Accepted::V1(network), None, Map::new());
        Self {
            resource,
            accepted,
            signed,
            extensions,
        }
    }

    /// Returns the version it is said in.
    #[must_use]
    pub const fn version(&self) -> Version {
        match self.accepted {
            Accepted::V1(_) => Version::V1,
            Accepted::V2(_) => Version::V2,
        }
    }

    /// Reads the JSON of either version.
    ///
    /// # Errors
    /// `Invalid` for another form, version, scheme or transfer method.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Wire {
            x402_version: u64,
            #[serde(default)]
            resource: Option<ResourceInfo>,
            #[serde(default)]
            accepted: Option<Requirements>,
            #[serde(default)]
            scheme: Option<String>,
            #[serde(default)]
            network: Option<String>,
            payload: Signed,
            #[serde(default)]
            extensions: Option<Map<String, Value>>,
        }
        let wire: Wire = read(bytes)?;
        let accepted = match (version(wire.x402_version)?, wire.accepted, wire.network) {
            (Version::V2, Some(accepted), None) => Accepted::V2(accepted),
            (Version::V1, None, Some(network)) if wire.scheme.as_deref() == Some(EXACT) => {
                Accepted::V1(Network::from_v1(&network)?)
            }
            _ => {
                return Err(Error::invalid(
                    "x402 payment",
                    "it does not say what it accepts",
                ));
            }
        };
        Ok(Self {
            resource: wire.resource,
            accepted,
            signed: wire.payload,
            extensions: wire.extensions.unwrap_or_default(),
        })
    }

    /// Writes the JSON of its version.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match &self.accepted {
            Accepted::V1(network) => json!({
                "x402Version": 1,
                "scheme": EXACT,
                "network": network.v1_name().unwrap_or_else(|| network.as_str()),
                "payload": self.signed,
            }),
            Accepted::V2(accepted) => {
                let mut value = json!({
                    "x402Version": 2,
                    "accepted": accepted,
                    "payload": self.signed,
                    "extensions": self.extensions,
                });
                if let (Some(resource), Some(members)) = (&self.resource, value.as_object_mut()) {
                    members.insert("resource".to_owned(), json!(resource));
                }
                value
            }
        }
    }
}

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
