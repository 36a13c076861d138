//! base64url, canonical JSON and digests, as the protocol uses them.

use agent_core::canonical_json;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// The longest encoded value that is read, in bytes.
pub(super) const ENCODED_BYTES_MAX: usize = 16_384;

/// Writes base64url without padding (RFC 4648, section 5).
pub(super) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Writes a value as canonical JSON (RFC 8785) in base64url.
pub(super) fn encode_json<T: Serialize>(value: &T) -> Result<String> {
    Ok(encode(&canonical_json(value)?))
}

/// Reads JSON in base64url. The message tells nothing of what was read: it may be a credential.
pub(super) fn decode_json<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T> {
    if text.len() > ENCODED_BYTES_MAX {
        return Err(Error::invalid(what, "longer than 16384 bytes"));
    }
    let bytes = URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_secret| Error::invalid(what, "not base64url without padding"))?;
    serde_json::from_slice(&bytes).map_err(|_secret| Error::invalid(what, "not the JSON of one"))
}

/// Writes the digest of a body as `Content-Digest` does (RFC 9530): `sha-256=:…:`.
pub(super) fn content_digest(body: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(body)))
}

/// Returns whether a digest is that of a body, in the form of RFC 9530 or in that of servers which
/// leave out the colons.
pub(super) fn is_digest_of(digest: &str, body: &[u8]) -> bool {
    let whole = content_digest(body);
    digest == whole || digest == whole.replacen("=:", "=", 1).trim_end_matches(':')
}
