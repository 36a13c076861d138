//! Signatures that hold for one purpose only.
//!
//! What is signed is never the bytes alone but
//! `"agent-identity signature v1\0" ‖ u8 length ‖ purpose ‖ u64 length ‖ bytes` (big endian), so
//! that a signature asked for under one pretext proves nothing under another.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use base64ct::{Base64UrlUnpadded, Encoding};
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::did::DidKey;
use crate::error::{Error, Result};

const DOMAIN: &[u8] = b"agent-identity signature v1\0";

/// What a signature is for. A signature for one purpose does not verify for another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Purpose(Cow<'static, str>);

impl Purpose {
    /// A link of a grant.
    pub const GRANT: Self = Self(Cow::Borrowed("grant"));
    /// A commit of a repository.
    pub const COMMIT: Self = Self(Cow::Borrowed("commit"));
    /// The root of an audit log.
    pub const AUDIT_ROOT: Self = Self(Cow::Borrowed("audit-root"));
    /// A message to another agent.
    pub const MESSAGE: Self = Self(Cow::Borrowed("message"));
    /// A receipt for work or money.
    pub const RECEIPT: Self = Self(Cow::Borrowed("receipt"));
    /// The answer to a verifier's challenge.
    pub const CHALLENGE: Self = Self(Cow::Borrowed("challenge"));

    /// The longest name in bytes: it is part of every signed message.
    pub const BYTES_MAX: usize = 64;

    /// Creates a purpose of the host's own. Its name contains a dot, as in `acme.invoice`, which
    /// keeps it apart from the purposes of this crate.
    ///
    /// # Errors
    /// `Invalid` if the name is empty, longer than [`Self::BYTES_MAX`], has no dot, or anything
    /// but `a-z`, `0-9`, `-` and `.`.
    pub fn custom(name: &str) -> Result<Self> {
        let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
        if name.len() > Self::BYTES_MAX || !name.contains('.') || !name.bytes().all(allowed) {
            return Err(Error::invalid(
                "purpose",
                "expected at most 64 of `a-z`, `0-9`, `-` and `.`, with a dot",
            ));
        }
        Ok(Self(Cow::Owned(name.to_owned())))
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A detached Ed25519 signature, written `ed25519:<86 base64url digits>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signature([u8; 64]);

impl Signature {
    const PREFIX: &'static str = "ed25519:";

    /// Takes the 64 bytes of a signature; whether it verifies is asked later.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// Returns the 64 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }

    pub(crate) fn sign(key: &SigningKey, purpose: &Purpose, bytes: &[u8]) -> Self {
        Self(key.sign(&message(purpose, bytes)).to_bytes())
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = Base64UrlUnpadded::encode_string(&self.0);
        write!(f, "{}{digits}", Self::PREFIX)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Signature {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut bytes = [0_u8; 64];
        let read = text
            .strip_prefix(Self::PREFIX)
            .and_then(|digits| Base64UrlUnpadded::decode(digits, &mut bytes).ok())
            .map(<[u8]>::len);
        if read == Some(bytes.len()) {
            Ok(Self(bytes))
        } else {
            Err(Error::invalid(
                "signature",
                "expected `ed25519:` and 86 base64url digits",
            ))
        }
    }
}

impl TryFrom<String> for Signature {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Signature> for String {
    fn from(signature: Signature) -> Self {
        signature.to_string()
    }
}

impl DidKey {
    /// Verifies a signature of this identity strictly (RFC 8032, no cofactor, no malleable `s`, no
    /// key of small order). Needs no key store.
    ///
    /// # Errors
    /// `Denied` if it is not this identity's signature over these bytes for this purpose.
    pub fn verify(&self, purpose: &Purpose, bytes: &[u8], signature: &Signature) -> Result<()> {
        let signature = ed25519_dalek::Signature::from_bytes(signature.as_bytes());
        VerifyingKey::from_bytes(self.public_key())
            .and_then(|key| key.verify_strict(&message(purpose, bytes), &signature))
            .map_err(|_detail| Error::BadSignature)
    }
}

fn message(purpose: &Purpose, bytes: &[u8]) -> Vec<u8> {
    let purpose = purpose.as_str();
    let mut message = Vec::with_capacity(DOMAIN.len() + purpose.len() + bytes.len() + 9);
    message.extend_from_slice(DOMAIN);
    // A purpose has at most 64 bytes.
    message.push(u8::try_from(purpose.len()).unwrap_or(u8::MAX));
    message.extend_from_slice(purpose.as_bytes());
    message.extend_from_slice(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
    message.extend_from_slice(bytes);
    message
}
