//! The stored header of a vault: the wrapped data key and how the wrapping key is derived.

use std::fmt;
use std::str::FromStr;

use agent_core::{Entropy, ExposeSecret, OsEntropy};
use base64ct::{Base64UrlUnpadded, Encoding};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Cost, Unlock, open, seal};
use crate::error::{Error, Result};

/// The header of a vault, as text to be stored beside the keys. Without the secret it opens
/// nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    derivation: Derivation,
    wrapped: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Derivation {
    Argon2id { cost: Cost, salt: [u8; 16] },
    Blake3,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    v: u32,
    kdf: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    memory_kib: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    passes: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    salt: Option<String>,
    key: String,
}

impl Header {
    const VERSION: u32 = 1;
    /// Longer texts are not headers: a header has about 200 bytes.
    const TEXT_BYTES_MAX: usize = 1_024;

    pub(super) fn wrap(unlock: &Unlock, data_key: &[u8; 32]) -> Result<Self> {
        let derivation = match unlock {
            Unlock::Passphrase { cost, .. } => {
                let mut salt = [0_u8; 16];
                OsEntropy::new().fill(&mut salt);
                Derivation::Argon2id { cost: *cost, salt }
            }
            Unlock::Key { .. } => Derivation::Blake3,
        };
        let wrapping_key = derivation.derive(unlock)?;
        let wrapped = seal(&wrapping_key, data_key, &derivation.binding())?;
        Ok(Self {
            derivation,
            wrapped,
        })
    }

    pub(super) fn unwrap_key(&self, unlock: &Unlock) -> Result<Zeroizing<[u8; 32]>> {
        let wrapping_key = self.derivation.derive(unlock)?;
        open(&wrapping_key, &self.wrapped, &self.derivation.binding()).ok_or(Error::WrongSecret)
    }
}

impl Derivation {
    /// Returns what the wrapped key is sealed to: the derivation itself.
    fn binding(&self) -> Vec<u8> {
        let mut binding = b"agent-identity vault v1\0".to_vec();
        if let Self::Argon2id { cost, salt } = self {
            binding.extend_from_slice(&cost.memory_kib.to_be_bytes());
            binding.extend_from_slice(&cost.passes.to_be_bytes());
            binding.extend_from_slice(salt);
        }
        binding
    }

    fn derive(&self, unlock: &Unlock) -> Result<Zeroizing<[u8; 32]>> {
        let mut key = Zeroizing::new([0_u8; 32]);
        match (self, unlock) {
            (Self::Argon2id { cost, salt }, Unlock::Passphrase { secret, .. }) => {
                let secret = secret.expose_secret();
                if secret.is_empty() {
                    return Err(Error::invalid("passphrase", "it is empty"));
                }
                let invalid = |e: argon2::Error| Error::invalid("argon2id cost", e.to_string());
                let params = argon2::Params::new(cost.memory_kib, cost.passes, 1, Some(key.len()))
                    .map_err(invalid)?;
                argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
                    .hash_password_into(secret.as_bytes(), salt, key.as_mut_slice())
                    .map_err(invalid)?;
            }
            (Self::Blake3, Unlock::Key { secret }) => {
                let secret = secret.expose_secret();
                if secret.len() != key.len() {
                    return Err(Error::invalid("vault key", "expected 32 bytes"));
                }
                *key = blake3::derive_key("agent-identity vault wrapping key v1", secret);
            }
            _ => return Err(Error::WrongSecret),
        }
        Ok(key)
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Header").finish_non_exhaustive()
    }
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = Base64UrlUnpadded::encode_string(&self.wrapped);
        let wire = match &self.derivation {
            Derivation::Argon2id { cost, salt } => Wire {
                v: Self::VERSION,
                kdf: "argon2id".to_owned(),
                memory_kib: Some(cost.memory_kib),
                passes: Some(cost.passes),
                salt: Some(Base64UrlUnpadded::encode_string(salt)),
                key,
            },
            Derivation::Blake3 => Wire {
                v: Self::VERSION,
                kdf: "blake3".to_owned(),
                memory_kib: None,
                passes: None,
                salt: None,
                key,
            },
        };
        f.write_str(&serde_json::to_string(&wire).map_err(|_json| fmt::Error)?)
    }
}

impl FromStr for Header {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let damaged = |reason| Error::Damaged { reason };
        if text.len() > Self::TEXT_BYTES_MAX {
            return Err(damaged("it is too long"));
        }
        let wire: Wire =
            serde_json::from_str(text).map_err(|_json| damaged("it is not a header"))?;
        if wire.v != Self::VERSION {
            return Err(damaged("its version is unknown"));
        }
        let derivation = match (wire.kdf.as_str(), wire.memory_kib, wire.passes, wire.salt) {
            ("argon2id", Some(memory_kib), Some(passes), Some(salt_text)) => {
                let mut salt = [0_u8; 16];
                let read = Base64UrlUnpadded::decode(&salt_text, &mut salt).map(<[u8]>::len);
                if read != Ok(salt.len()) {
                    return Err(damaged("its salt is not 16 bytes"));
                }
                let cost = Cost::new(memory_kib, passes)
                    .map_err(|_range| damaged("its cost is out of bounds"))?;
                Derivation::Argon2id { cost, salt }
            }
            ("blake3", None, None, None) => Derivation::Blake3,
            _ => return Err(damaged("its key derivation is unknown")),
        };
        let wrapped = Base64UrlUnpadded::decode_vec(&wire.key)
            .map_err(|_digits| damaged("its key is not base64url"))?;
        Ok(Self {
            derivation,
            wrapped,
        })
    }
}
