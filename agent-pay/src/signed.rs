//! Signed statements between agents: JSON Web Signatures (RFC 7515, compact form) over canonical
//! JSON (RFC 8785). The key is a handle of the host; this crate knows no key.

use std::fmt;

use agent_core::{Digest, canonical_json};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::error::{Error, Result};

/// The longest token read or written, in bytes: a statement, not a document.
pub const TOKEN_BYTES_MAX: usize = 16_384;

/// Signs with a key that stays where it is.
pub trait SignKey: fmt::Debug + Send + Sync {
    /// Returns the name of the key, as verifiers know it.
    fn key_id(&self) -> String;

    /// Returns the JWS algorithm, such as `EdDSA`.
    fn algorithm(&self) -> &'static str;

    /// Signs bytes.
    ///
    /// # Errors
    /// Of any kind if the key is not usable.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>>;
}

/// Knows keys and checks signatures.
pub trait VerifyKey: fmt::Debug + Send + Sync {
    /// Returns whether the signature over the bytes is that of the named key by the algorithm. An
    /// unknown key or algorithm verifies nothing.
    fn verify(&self, key_id: &str, algorithm: &str, message: &[u8], signature: &[u8]) -> bool;
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: String,
    typ: String,
}

/// Signs a statement of a kind (`typ`), so that no statement passes for one of another kind.
///
/// # Errors
/// `Invalid` for a statement canonical JSON cannot carry or that is too long; those of the key.
pub fn sign<T: Serialize>(kind: &str, statement: &T, key: &dyn SignKey) -> Result<String> {
    let header = Header {
        alg: key.algorithm().to_owned(),
        kid: key.key_id(),
        typ: kind.to_owned(),
    };
    let header = encode(&canonical_json(&header)?);
    let body = encode(&canonical_json(statement)?);
    let message = format!("{header}.{body}");
    let token = format!("{message}.{}", encode(&key.sign(message.as_bytes())?));
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Error::invalid("signed statement", "more than 16384 bytes"));
    }
    Ok(token)
}

/// A statement whose signature was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified<T> {
    /// The statement.
    pub statement: T,
    /// Who signed it.
    pub key_id: String,
    /// The digest of the token, by which others refer to it.
    pub digest: Digest,
}

/// Checks a statement of a kind.
///
/// # Errors
/// `Invalid` for a malformed token, another kind, or a body that is not canonical;
/// `Denied` ([`Error::BadSignature`]) for a signature that does not verify.
pub fn verify<T>(kind: &str, token: &str, keys: &dyn VerifyKey) -> Result<Verified<T>>
where
    T: DeserializeOwned + Serialize,
{
    let malformed = || Error::invalid("signed statement", "not a compact signature");
    if token.len() > TOKEN_BYTES_MAX {
        return Err(malformed());
    }
    let (message, signature) = token.rsplit_once('.').ok_or_else(malformed)?;
    let (header, body) = message.split_once('.').ok_or_else(malformed)?;
    let decoded = |part| decode(part).ok_or_else(malformed);
    let (header_bytes, body_bytes) = (decoded(header)?, decoded(body)?);
    let header: Header = serde_json::from_slice(&header_bytes).map_err(|_form| malformed())?;
    if header.typ != kind {
        return Err(Error::invalid("signed statement", "it is of another kind"));
    }
    let signature = decoded(signature)?;
    // What is signed is checked before what it says is read.
    if !keys.verify(&header.kid, &header.alg, message.as_bytes(), &signature) {
        return Err(Error::BadSignature { key_id: header.kid });
    }
    let statement: T = serde_json::from_slice(&body_bytes).map_err(|_form| malformed())?;
    if canonical_json(&statement)? != body_bytes {
        return Err(Error::invalid(
            "signed statement",
            "its body is not canonical",
        ));
    }
    Ok(Verified {
        statement,
        key_id: header.kid,
        digest: Digest::of_bytes(token.as_bytes()),
    })
}

/// Writes base64url without padding (RFC 4648, section 5).
fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads base64url without padding; one text for each sequence of bytes.
fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}
