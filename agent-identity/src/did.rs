//! Identities named by their own key: the `did:key` method for Ed25519.

use std::fmt;
use std::str::FromStr;

use agent_core::Principal;
use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// An Ed25519 public key and the identity it is: `did:key:z6Mk…`.
///
/// Always a point of the curve in its one canonical encoding and not of small order, so that two
/// texts never name the same key and no signature verifies for every message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DidKey([u8; 32]);

impl DidKey {
    /// How every identity of this method begins.
    pub const PREFIX: &'static str = "did:key:";
    /// The length of the text: the prefix, `z`, and 47 base58 digits for 34 bytes.
    const TEXT_BYTES: usize = 56;
    /// The multicodec of an Ed25519 public key, as a variable-length integer.
    const CODEC: [u8; 2] = [0xed, 0x01];

    /// Takes a public key.
    ///
    /// # Errors
    /// `Invalid` if the bytes are no point, not its canonical encoding, or of small order.
    pub fn from_public_key(bytes: [u8; 32]) -> Result<Self> {
        let point = VerifyingKey::from_bytes(&bytes).map_err(|_point| {
            Error::invalid("public key", "the bytes are no point of the curve")
        })?;
        if point.is_weak() {
            return Err(Error::invalid("public key", "the point has a small order"));
        }
        if !is_canonical(&bytes) {
            return Err(Error::invalid(
                "public key",
                "the encoding is not canonical",
            ));
        }
        Ok(Self(bytes))
    }

    /// Returns the public key.
    #[must_use]
    pub const fn public_key(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Returns whether the encoded y coordinate is below the field's prime 2^255 − 19.
fn is_canonical(bytes: &[u8; 32]) -> bool {
    let [low, middle @ .., high] = bytes;
    high & 0x7f != 0x7f || middle.iter().any(|byte| *byte != 0xff) || *low < 0xed
}

impl fmt::Display for DidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: Vec<u8> = Self::CODEC.into_iter().chain(self.0).collect();
        write!(f, "{}z{}", Self::PREFIX, bs58::encode(bytes).into_string())
    }
}

impl fmt::Debug for DidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for DidKey {
    type Err = Error;

    /// Parses the identity alone: a DID URL with a path, query or fragment is refused.
    fn from_str(text: &str) -> Result<Self> {
        let invalid = |reason: &'static str| Error::invalid("did:key", reason);
        if text.len() != Self::TEXT_BYTES {
            return Err(invalid("an Ed25519 identity has 56 characters"));
        }
        let digits = text
            .strip_prefix(Self::PREFIX)
            .and_then(|rest| rest.strip_prefix('z'))
            .ok_or_else(|| invalid("expected `did:key:z`"))?;
        let mut bytes = [0_u8; 34];
        let n = bs58::decode(digits)
            .onto(&mut bytes)
            .map_err(|_digits| invalid("expected 34 bytes in base58"))?;
        let (codec, key) = bytes.split_at(Self::CODEC.len());
        match <[u8; 32]>::try_from(key) {
            Ok(key) if n == bytes.len() && codec == Self::CODEC => Self::from_public_key(key),
            _ => Err(invalid("expected an Ed25519 public key")),
        }
    }
}

impl TryFrom<String> for DidKey {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<DidKey> for String {
    fn from(did: DidKey) -> Self {
        did.to_string()
    }
}

impl TryFrom<&Principal> for DidKey {
    type Error = Error;

    fn try_from(principal: &Principal) -> Result<Self> {
        principal.as_str().parse()
    }
}

impl TryFrom<DidKey> for Principal {
    type Error = agent_core::Error;

    fn try_from(did: DidKey) -> Result<Self, agent_core::Error> {
        Self::new(&did.to_string())
    }
}
