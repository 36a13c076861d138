//! Keys of mandates: P-256 with SHA-256 (`ES256`), and no other.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{Signature, VerifyingKey};

use super::json::Json;
use super::malformed;
use crate::error::Result;

/// A public key.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicKey").finish_non_exhaustive()
    }
}

impl PublicKey {
    /// Reads a key as JSON Web Key (RFC 7517): `EC` on `P-256`, for `ES256` if it says for what.
    ///
    /// # Errors
    /// `Invalid` for another kind of key, one with a private part, or a point off the curve.
    pub fn from_jwk(jwk: &str) -> Result<Self> {
        Self::from_json(&Json::parse(jwk.as_bytes())?)
    }

    pub(super) fn from_json(jwk: &Json) -> Result<Self> {
        let object = jwk.as_object().ok_or_else(|| malformed("a key"))?;
        let is = |name: &str, wanted: &str, required: bool| match object.get(name) {
            Some(value) => value.as_text() == Some(wanted),
            None => !required,
        };
        let is_signing = is("kty", "EC", true)
            && is("crv", "P-256", true)
            && is("alg", "ES256", false)
            && is("use", "sig", false);
        if !is_signing || object.contains_key("d") {
            return Err(malformed("not a public key for ES256"));
        }
        let mut point = vec![4];
        for name in ["x", "y"] {
            let text = object.get(name).and_then(Json::as_text).unwrap_or_default();
            let bytes = URL_SAFE_NO_PAD.decode(text);
            let bytes = bytes.ok().filter(|bytes| bytes.len() == 32);
            point.extend(bytes.ok_or_else(|| malformed("not a point of P-256"))?);
        }
        let key = VerifyingKey::from_sec1_bytes(&point);
        key.map(Self)
            .map_err(|_point| malformed("not a point of P-256"))
    }

    /// Returns whether a signature, `r` and `s` of 32 bytes each, is this key's.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature)
            .is_ok_and(|signature| self.0.verify(message, &signature).is_ok())
    }
}
