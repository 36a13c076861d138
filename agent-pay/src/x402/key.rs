//! Keys that sign payments, behind a handle.

use std::fmt;

use agent_core::{ExposeSecret, Secret};
use async_trait::async_trait;
use k256::ecdsa::{RecoveryId, SigningKey, VerifyingKey};

use super::bytes::{Address, Bytes32, Signature};
use super::eip712::keccak;
use crate::error::{Error, Result};

/// A key of secp256k1 that signs digests: the host's vault, a hardware module, or [`LocalKey`].
///
/// This is the contract for _implementors_: `sign` signs exactly the digest, with an s in the lower
/// half, or fails; the key itself leaves it never, neither in `Debug` nor in errors.
#[async_trait]
pub trait Signer: fmt::Debug + Send + Sync + 'static {
    /// Returns the address of the key.
    fn address(&self) -> Address;

    /// Signs a digest.
    ///
    /// # Errors
    /// What the implementation reports.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn sign(&self, digest: Bytes32) -> Result<Signature>;
}

/// A key in the memory of this process, wiped when dropped.
pub struct LocalKey {
    key: SigningKey,
    address: Address,
}

impl LocalKey {
    /// Reads a key written as `0x` and 64 hexadecimal digits.
    ///
    /// # Errors
    /// `Invalid` for another form, and for the numbers that are no key.
    pub fn new(key: &Secret) -> Result<Self> {
        let wrong = || Error::invalid("signing key", "0x and 64 hexadecimal digits of a key");
        let mut bytes = k256::FieldBytes::default();
        let digits = key.expose_secret().strip_prefix("0x").ok_or_else(wrong)?;
        hex::decode_to_slice(digits, &mut bytes).map_err(|_form| wrong())?;
        let key = SigningKey::from_bytes(&bytes).map_err(|_range| wrong());
        bytes.fill(0);
        let key = key?;
        let address = address(key.verifying_key());
        Ok(Self { key, address })
    }
}

impl fmt::Debug for LocalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKey")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Signer for LocalKey {
    fn address(&self) -> Address {
        self.address
    }

    /// Signs with a nonce derived from key and digest (RFC 6979): one digest has one signature.
    async fn sign(&self, digest: Bytes32) -> Result<Signature> {
        let (signature, recovery) = self.key.sign_prehash_recoverable(digest.as_bytes());
        let mut bytes = [0_u8; 65];
        let (r_s, v) = bytes.split_at_mut(64);
        r_s.copy_from_slice(&signature.to_bytes());
        v.fill(recovery.to_byte().saturating_add(27));
        Signature::from_bytes(bytes)
    }
}

/// Returns who signed a digest; none if nobody can have.
#[must_use]
pub fn recover(digest: &Bytes32, signature: &Signature) -> Option<Address> {
    let (r_s, v) = signature.as_bytes().split_at(64);
    let recovery = RecoveryId::from_byte(v.first()?.checked_sub(27)?)?;
    let signature = k256::ecdsa::Signature::from_slice(r_s).ok()?;
    let key = VerifyingKey::recover_from_prehash(digest.as_bytes(), &signature, recovery);
    key.ok().as_ref().map(address)
}

fn address(key: &VerifyingKey) -> Address {
    let point = key.to_sec1_point(false);
    // The first byte says that the point is not compressed.
    let digest = keccak(point.as_bytes().get(1..).unwrap_or_default());
    let mut bytes = [0_u8; 20];
    bytes.copy_from_slice(digest.get(12..).unwrap_or(&[0; 20]));
    Address::from_bytes(bytes)
}
