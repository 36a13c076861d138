//! That a resource costs something, and what.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Version, read, version};
use crate::error::{Error, Result};
use crate::x402::requirements::{Requirements, ResourceInfo};

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
