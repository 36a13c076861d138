//! Authorizations to move tokens (EIP-3009), signed by who pays and carried out by anybody.

use agent_core::Timestamp;
use serde::{Deserialize, Serialize};

use super::atomic::{Atomic, digits};
use super::bytes::{Address, Bytes32, Signature};
use super::eip712::Domain;
use super::network::Network;
use crate::error::{Error, Result};

/// The right to move tokens once, within a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct Authorization {
    /// Who pays.
    pub from: Address,
    /// Who is paid.
    pub to: Address,
    /// How much.
    pub value: Atomic,
    /// After which second of Unix time it holds, itself not included.
    #[serde(with = "seconds")]
    pub valid_after: u64,
    /// Before which second of Unix time it must be carried out.
    #[serde(with = "seconds")]
    pub valid_before: u64,
    /// Which of all authorizations of who pays it is: each is carried out once.
    pub nonce: Bytes32,
}

impl Authorization {
    /// Describes an authorization. Times are seconds of Unix time.
    #[must_use]
    pub const fn new(
        (from, to): (Address, Address),
        value: Atomic,
        (valid_after, valid_before): (u64, u64),
        nonce: Bytes32,
    ) -> Self {
        Self {
            from,
            to,
            value,
            valid_after,
            valid_before,
            nonce,
        }
    }

    /// Returns from when on it cannot be carried out.
    pub(super) fn ends(&self) -> Timestamp {
        let ms = i64::try_from(self.valid_before).unwrap_or(i64::MAX);
        Timestamp::from_unix_ms(ms.saturating_mul(1_000))
    }
}

/// Seconds as the wire has them: decimal digits in a string.
mod seconds {
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    pub(super) fn serialize<S: Serializer>(seconds: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(seconds)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        let text = String::deserialize(from)?;
        super::digits("time", &text).map_err(serde::de::Error::custom)
    }
}

/// An authorization with its signature: whoever has it can carry it out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Signed {
    /// By who pays, over [`Domain::digest`].
    pub signature: Signature,
    /// What is signed.
    pub authorization: Authorization,
}

impl Signed {
    /// Joins an authorization and its signature.
    #[must_use]
    pub const fn new(authorization: Authorization, signature: Signature) -> Self {
        Self {
            signature,
            authorization,
        }
    }
}

/// Names a payment by what its signature covers and nothing else: the chain, the token, who pays and
/// the nonce. No other text of the same payment has another name, and a token carries out one
/// authorization for each.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CanonicalKey(String);

impl CanonicalKey {
    /// Names the payment of an authorization.
    #[must_use]
    pub fn new(domain: &Domain, authorization: &Authorization) -> Self {
        let mut bytes = b"agent-pay x402 payment v1".to_vec();
        bytes.extend_from_slice(&domain.chain_id.to_be_bytes());
        bytes.extend_from_slice(domain.contract.as_bytes());
        bytes.extend_from_slice(authorization.from.as_bytes());
        bytes.extend_from_slice(authorization.nonce.as_bytes());
        Self(format!("x402_{}", agent_core::Digest::of_bytes(&bytes)))
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name as a key.
    pub(super) fn key(&self) -> Result<agent_core::IdempotencyKey> {
        Ok(agent_core::IdempotencyKey::new(self.0.clone())?)
    }
}

/// Returns the id of a chain of Ethereum's kind, which is all this crate pays on.
pub(super) fn chain_id(network: &Network) -> Result<u64> {
    let id = network.chain_id();
    id.ok_or_else(|| Error::invalid("network", "it is no chain of Ethereum's kind"))
}
