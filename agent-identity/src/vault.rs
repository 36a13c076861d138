//! How private keys are sealed at rest: the part every key store backend shares.
//!
//! ```text
//!  passphrase ──argon2id──┐
//!                         ├─► wrapping key ──► header: data key, sealed
//!  host's 32 bytes ─blake3┘                         │
//!                                        data key ──┴─► each private key, sealed to its
//!                                                       tenant, name, generation and public key
//! ```
//!
//! Deriving happens once, when the vault is opened. A backend stores the header's text and the
//! [`SealedKey`]s and never sees a private key.

mod header;

use std::fmt;

use agent_core::{Entropy, OsEntropy, Secret, SecretBytes, Timestamp};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

use crate::did::DidKey;
use crate::error::{Error, Result};
use crate::key_store::{Key, KeyName};
use crate::signature::{Purpose, Signature};

pub use header::Header;

/// The cost of deriving a key from a passphrase with Argon2id.
///
/// Default: 64 MiB, 3 passes, 1 lane, above the OWASP minimum of 19 MiB and 2 passes. The cost is
/// stored with the vault, so it can be raised for other vaults without losing this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    memory_kib: u32,
    passes: u32,
}

impl Cost {
    /// The OWASP minimum, in KiB.
    pub const MEMORY_KIB_MIN: u32 = 19 * 1_024;
    /// One GiB: a damaged header must not exhaust the host's memory.
    pub const MEMORY_KIB_MAX: u32 = 1 << 20;
    /// The OWASP minimum.
    pub const PASSES_MIN: u32 = 2;
    /// A damaged header must not keep the host busy for minutes.
    pub const PASSES_MAX: u32 = 16;

    /// Creates a cost.
    ///
    /// # Errors
    /// `Invalid` outside the bounds above.
    pub fn new(memory_kib: u32, passes: u32) -> Result<Self> {
        let memory_range = Self::MEMORY_KIB_MIN..=Self::MEMORY_KIB_MAX;
        if !memory_range.contains(&memory_kib)
            || !(Self::PASSES_MIN..=Self::PASSES_MAX).contains(&passes)
        {
            return Err(Error::invalid(
                "argon2id cost",
                "expected 19 MiB to 1 GiB and 2 to 16 passes",
            ));
        }
        Ok(Self { memory_kib, passes })
    }
}

impl Default for Cost {
    fn default() -> Self {
        Self {
            memory_kib: 64 * 1_024,
            passes: 3,
        }
    }
}

/// What opens a vault. `Debug` shows no secret.
#[derive(Debug)]
#[non_exhaustive]
pub enum Unlock {
    /// A passphrase, and the cost a vault created with it gets.
    #[non_exhaustive]
    Passphrase {
        /// The passphrase.
        secret: Secret,
        /// The cost of creating; opening takes the stored one.
        cost: Cost,
    },
    /// A key of 32 random bytes kept by the host, for example by a key management service.
    #[non_exhaustive]
    Key {
        /// The key.
        secret: SecretBytes,
    },
}

impl Unlock {
    /// Unlocks with a passphrase, at the default [`Cost`].
    #[must_use]
    pub fn passphrase(secret: Secret) -> Self {
        Self::Passphrase {
            secret,
            cost: Cost::default(),
        }
    }

    /// Unlocks with 32 random bytes.
    #[must_use]
    pub const fn key(secret: SecretBytes) -> Self {
        Self::Key { secret }
    }

    /// Sets the cost of a vault created with a passphrase; a key has none. Default:
    /// [`Cost::default`].
    #[must_use]
    pub const fn with_cost(mut self, new: Cost) -> Self {
        if let Self::Passphrase { cost, .. } = &mut self {
            *cost = new;
        }
        self
    }
}

/// A private key as it is stored: ciphertext, and what it is sealed to.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SealedKey {
    /// The tenant it belongs to.
    pub tenant: String,
    /// Its public half.
    pub key: Key,
    /// The ciphertext; empty for a retired key.
    pub sealed: Vec<u8>,
}

impl SealedKey {
    /// Puts a stored key together again.
    #[must_use]
    pub fn new(tenant: impl Into<String>, key: Key, sealed: Vec<u8>) -> Self {
        Self {
            tenant: tenant.into(),
            key,
            sealed,
        }
    }

    /// Names everything the ciphertext belongs to, so that it opens nowhere else.
    fn binding(&self) -> Vec<u8> {
        let generation = self.key.generation.to_be_bytes();
        let parts: [&[u8]; 5] = [
            &self.key.id.to_bits().to_be_bytes(),
            self.key.did.public_key(),
            &generation,
            self.tenant.as_bytes(),
            self.key.name.as_str().as_bytes(),
        ];
        let mut binding = b"agent-identity key v1\0".to_vec();
        for part in parts {
            let len = u64::try_from(part.len()).unwrap_or(u64::MAX);
            binding.extend_from_slice(&len.to_be_bytes());
            binding.extend_from_slice(part);
        }
        binding
    }
}

impl fmt::Debug for SealedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedKey")
            .field("tenant", &self.tenant)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// An open vault: generates keys and signs with sealed ones. `Debug` shows no secret; the data key
/// is wiped when the vault is dropped.
pub struct Vault {
    data_key: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").finish_non_exhaustive()
    }
}

const NONCE_BYTES: usize = 24;

impl Vault {
    /// Creates a vault with a random data key and the header it is opened from later.
    ///
    /// Deriving from a passphrase takes a good part of a second: call it off the async threads.
    ///
    /// # Errors
    /// `Invalid` for an empty passphrase or a key that has not 32 bytes.
    pub fn create(unlock: &Unlock) -> Result<(Self, Header)> {
        let data_key = random_key();
        let header = Header::wrap(unlock, &data_key)?;
        Ok((Self { data_key }, header))
    }

    /// Opens the vault a header belongs to.
    ///
    /// # Errors
    /// `Denied` for a wrong secret, `Invalid` as for [`Vault::create`].
    pub fn open(header: &Header, unlock: &Unlock) -> Result<Self> {
        let data_key = header.unwrap_key(unlock)?;
        Ok(Self { data_key })
    }

    /// Writes a header under another secret. The keys stay as they are; only with the header
    /// stored does the old secret stop working.
    ///
    /// # Errors
    /// As [`Vault::create`].
    pub fn rewrap(&self, unlock: &Unlock) -> Result<Header> {
        Header::wrap(unlock, &self.data_key)
    }

    /// Creates a vault that ends with the process, for keys kept in memory.
    #[must_use]
    pub fn ephemeral() -> Self {
        Self {
            data_key: random_key(),
        }
    }

    /// Generates a key, sealed to what it belongs to.
    ///
    /// # Errors
    /// `Internal` never happens with a sound random source.
    pub fn generate(
        &self,
        tenant: &str,
        name: &KeyName,
        generation: u32,
        now: Timestamp,
    ) -> Result<SealedKey> {
        let secret = random_key();
        let public = SigningKey::from_bytes(&secret).verifying_key().to_bytes();
        let key = Key::new(
            name.clone(),
            DidKey::from_public_key(public)?,
            generation,
            now,
        );
        let mut sealed = SealedKey::new(tenant, key, Vec::new());
        sealed.sealed = seal(&self.data_key, secret.as_slice(), &sealed.binding())?;
        Ok(sealed)
    }

    /// Signs with a sealed key.
    ///
    /// # Errors
    /// `Conflict` for a retired key, `Corrupt` if the key was sealed by another vault, altered, or
    /// moved to another tenant, name, generation or public key.
    pub fn sign(&self, sealed: &SealedKey, purpose: &Purpose, bytes: &[u8]) -> Result<Signature> {
        let key = sealed.key.id;
        if sealed.key.retired.is_some() {
            return Err(Error::Retired { key });
        }
        let tampered = Error::Tampered { key };
        let Some(secret) = open(&self.data_key, &sealed.sealed, &sealed.binding()) else {
            return Err(tampered);
        };
        let signing = SigningKey::from_bytes(&secret);
        if signing.verifying_key().as_bytes() != sealed.key.did.public_key() {
            return Err(tampered);
        }
        Ok(Signature::sign(&signing, purpose, bytes))
    }
}

fn random_key() -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0_u8; 32]);
    OsEntropy::new().fill(key.as_mut_slice());
    key
}

/// Seals with XChaCha20-Poly1305 under a random nonce, which stands before the ciphertext. At 192
/// bits random nonces do not repeat.
fn seal(key: &[u8; 32], secret: &[u8], binding: &[u8]) -> Result<Vec<u8>> {
    let mut nonce = [0_u8; NONCE_BYTES];
    OsEntropy::new().fill(&mut nonce);
    let payload = Payload {
        msg: secret,
        aad: binding,
    };
    let ciphertext = XChaCha20Poly1305::new(key.into())
        .encrypt(&XNonce::from(nonce), payload)
        .map_err(|_opaque| Error::invalid("secret", "too long to seal"))?;
    let mut sealed = nonce.to_vec();
    sealed.extend_from_slice(&ciphertext);
    Ok(sealed)
}

/// Opens what [`seal`] made, if it is unaltered and 32 bytes long.
fn open(key: &[u8; 32], sealed: &[u8], binding: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_BYTES>()?;
    let payload = Payload {
        msg: ciphertext,
        aad: binding,
    };
    let secret = XChaCha20Poly1305::new(key.into())
        .decrypt(&XNonce::from(*nonce), payload)
        .ok()
        .map(Zeroizing::new)?;
    let mut bytes = Zeroizing::new([0_u8; 32]);
    if secret.len() != bytes.len() {
        return None;
    }
    bytes.copy_from_slice(&secret);
    Some(bytes)
}
