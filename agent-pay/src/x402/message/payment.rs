//! A payment, as it goes with a request.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Version, read, version};
use crate::error::{Error, Result};
use crate::x402::authorization::Signed;
use crate::x402::network::Network;
use crate::x402::requirements::{EXACT, Requirements, ResourceInfo};

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
        Self::of(Accepted::V2(accepted), signed)
    }

    /// Pays what version 1 asked for.
    #[must_use]
    pub fn new_v1(network: Network, signed: Signed) -> Self {
        Self::of(Accepted::V1(network), signed)
    }

    fn of(accepted: Accepted, signed: Signed) -> Self {
        Self {
            resource: None,
            accepted,
            signed,
            extensions: Map::new(),
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
