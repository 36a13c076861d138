//! The contract of a key store: private keys that sign and never leave.

use std::fmt;
use std::str::FromStr;

use agent_core::{Digest, Scope, Timestamp};
use async_trait::async_trait;

use crate::did::DidKey;
use crate::error::{Error, Result};
use crate::signature::{Purpose, Signature};

agent_core::define_id!(
    /// A key, named by a digest of its public half.
    KeyId, "key"
);

impl From<DidKey> for KeyId {
    fn from(did: DidKey) -> Self {
        let mut bytes = b"agent-identity key id v1\0".to_vec();
        bytes.extend_from_slice(did.public_key());
        Self::from_bits(Digest::of_bytes(&bytes).to_bits())
    }
}

/// The name a key is found by: `pool-a/agent-07`.
///
/// 1 to [`KeyName::BYTES_MAX`] of `A-Z`, `a-z`, `0-9` and `. _ - / :`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyName(String);

impl KeyName {
    /// The longest name in bytes.
    pub const BYTES_MAX: usize = 128;

    /// Creates a name.
    ///
    /// # Errors
    /// `Invalid` if it is empty, too long or has other characters.
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-/:".contains(&b);
        if name.is_empty() || name.len() > Self::BYTES_MAX || !name.bytes().all(allowed) {
            return Err(Error::invalid(
                "key name",
                "expected 1 to 128 of `A-Z`, `a-z`, `0-9` and `._-/:`",
            ));
        }
        Ok(Self(name))
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl FromStr for KeyName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

/// The public half of a stored key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Key {
    /// Its id, derived from the public key.
    pub id: KeyId,
    /// The name it is found by.
    pub name: KeyName,
    /// The identity it is.
    pub did: DidKey,
    /// Zero for the first key of the name, one more with each rotation.
    pub generation: u32,
    /// When it was generated.
    pub created: Timestamp,
    /// When it was rotated away. A retired key verifies and signs nothing.
    pub retired: Option<Timestamp>,
}

impl Key {
    /// Describes a current key.
    #[must_use]
    pub fn new(name: KeyName, did: DidKey, generation: u32, created: Timestamp) -> Self {
        Self {
            id: did.into(),
            name,
            did,
            generation,
            created,
            retired: None,
        }
    }

    /// Sets when it was rotated away. Default: it is current.
    #[must_use]
    pub fn with_retired(mut self, at: Option<Timestamp>) -> Self {
        self.retired = at;
        self
    }
}

/// The most names in one call of [`KeyStore::generate`].
pub const NAMES_MAX: usize = 1_000;
/// The most keys a name may have had; a name that needs more is used for something else.
pub const GENERATIONS_MAX: u32 = 1_000;
/// The longest message signed, in bytes. Sign the digest of what is longer.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// The longest page of [`KeyStore::list`].
pub const PAGE_MAX: usize = 1_000;

/// Keeps private keys and signs with them.
///
/// This is the contract for _implementors_: no method returns a private key. Keys belong to the
/// scope's tenant; the keys of other tenants do not exist for it. Implementations seal what they
/// store with a [`Vault`](crate::vault::Vault) and pass
/// `key_store_conformance!`.
#[async_trait]
pub trait KeyStore: fmt::Debug + Send + Sync + 'static {
    /// Returns the current key of each name, in the order given, and generates those that are
    /// missing, all in one commit. The same name gives the same key until it is rotated or removed.
    ///
    /// # Errors
    /// `Exhausted` for more than [`NAMES_MAX`] names.
    ///
    /// # Cancel safety
    /// Atomic: all missing keys are generated or none; repeating the call returns them.
    async fn generate(&self, scope: &Scope, names: Vec<KeyName>) -> Result<Vec<Key>>;

    /// Returns the current keys ordered by name, those behind `after`, at most `limit` and
    /// [`PAGE_MAX`].
    ///
    /// # Errors
    /// Of the storage.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn list(&self, scope: &Scope, after: Option<KeyName>, limit: usize) -> Result<Vec<Key>>;

    /// Returns every key the name has had, the current one first; nothing for an unknown name.
    ///
    /// # Errors
    /// Of the storage.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn history(&self, scope: &Scope, name: KeyName) -> Result<Vec<Key>>;

    /// Signs bytes for a purpose.
    ///
    /// # Errors
    /// `NotFound` for an unknown key, `Conflict` for a retired one, `Corrupt` if the stored key
    /// was altered, `Invalid` for more than [`MESSAGE_BYTES_MAX`].
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is changed.
    async fn sign(
        &self,
        scope: &Scope,
        key: KeyId,
        purpose: Purpose,
        bytes: Vec<u8>,
    ) -> Result<Signature>;

    /// Replaces the current key of a name, if it is `expect`. The private half of the old key is
    /// destroyed, its public half is kept. The name is another identity afterwards: grants to the
    /// old one must be issued again.
    ///
    /// # Errors
    /// `NotFound` for an unknown name, `Conflict` if another key is current, `Exhausted` after
    /// [`GENERATIONS_MAX`].
    ///
    /// # Cancel safety
    /// Atomic; after a lost answer, [`KeyStore::history`] tells whether it happened.
    async fn rotate(&self, scope: &Scope, name: KeyName, expect: KeyId) -> Result<Key>;

    /// Destroys every key of a name and returns whether there was one. The name may be generated
    /// again, as another identity.
    ///
    /// # Errors
    /// Of the storage.
    ///
    /// # Cancel safety
    /// Atomic, and harmless to repeat.
    async fn remove(&self, scope: &Scope, name: KeyName) -> Result<bool>;
}

/// Refuses a message that is too long to sign, for implementors.
///
/// # Errors
/// `Invalid` above [`MESSAGE_BYTES_MAX`].
pub fn check_message(bytes: &[u8]) -> Result<()> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(Error::invalid(
            "message",
            "longer than 1 MiB, sign its digest",
        ));
    }
    Ok(())
}

/// Refuses a batch that is too large, for implementors.
///
/// # Errors
/// `Exhausted` above [`NAMES_MAX`].
pub fn check_names(names: &[KeyName]) -> Result<()> {
    if names.len() > NAMES_MAX {
        return Err(Error::TooMany {
            what: "names in one call",
            max: NAMES_MAX,
        });
    }
    Ok(())
}
