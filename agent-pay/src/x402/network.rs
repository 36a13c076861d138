//! Names of networks.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::atomic::digits;
use crate::error::{Error, Result};

/// A network by its CAIP-2 name, such as `eip155:8453`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network(String);

/// The networks version 1 names by a word of its own (x402 version 1 of the reference SDKs).
const V1_NAMES: [(&str, u64); 12] = [
    ("abstract", 2_741),
    ("abstract-testnet", 11_124),
    ("avalanche", 43_114),
    ("avalanche-fuji", 43_113),
    ("base", 8_453),
    ("base-sepolia", 84_532),
    ("iotex", 4_689),
    ("peaq", 3_338),
    ("polygon", 137),
    ("polygon-amoy", 80_002),
    ("sei", 1_329),
    ("sei-testnet", 1_328),
];

impl Network {
    /// Names the chain of Ethereum's kind with an id (EIP-155).
    #[must_use]
    pub fn evm(chain_id: u64) -> Self {
        Self(format!("eip155:{chain_id}"))
    }

    /// Reads the name version 1 uses.
    ///
    /// # Errors
    /// `Invalid` for a name it does not have.
    pub fn from_v1(name: &str) -> Result<Self> {
        let known = V1_NAMES.iter().find(|(word, _id)| *word == name);
        known
            .map(|(_word, id)| Self::evm(*id))
            .ok_or_else(|| Error::invalid("network", "version 1 has no network of that name"))
    }

    /// Returns the name version 1 uses, if it has one.
    #[must_use]
    pub fn v1_name(&self) -> Option<&'static str> {
        let id = self.chain_id()?;
        V1_NAMES
            .iter()
            .find(|(_word, known)| *known == id)
            .map(|(word, _id)| *word)
    }

    /// Returns the id of a chain of Ethereum's kind.
    #[must_use]
    pub fn chain_id(&self) -> Option<u64> {
        digits("chain id", self.0.strip_prefix("eip155:")?).ok()
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Network {
    type Err = Error;

    /// Reads `namespace:reference` (CAIP-2). A chain id has no zeros in front, so that one chain has
    /// one name.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::invalid("network", "expected a CAIP-2 name such as eip155:8453");
        let (namespace, reference) = text.split_once(':').ok_or_else(wrong)?;
        let is_namespace = (3..=8).contains(&namespace.len())
            && namespace
                .bytes()
                .all(|b| matches!(b, b'-' | b'a'..=b'z' | b'0'..=b'9'));
        let is_reference = (1..=32).contains(&reference.len())
            && reference
                .bytes()
                .all(|b| matches!(b, b'-' | b'_') || b.is_ascii_alphanumeric());
        if !is_namespace || !is_reference {
            return Err(wrong());
        }
        let network = Self(text.to_owned());
        if namespace == "eip155" && network.chain_id().is_none() {
            return Err(wrong());
        }
        Ok(network)
    }
}

impl TryFrom<String> for Network {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.0
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
