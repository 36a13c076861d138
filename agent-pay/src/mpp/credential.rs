//! The answer to a challenge: what pays for it.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::challenge::Challenge;
use super::encoding;
use crate::error::{Error, Result};

/// A credential. Whoever has it can have what it pays for: `Debug` does not show the payload, and
/// no error quotes one.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Credential {
    /// The challenge, as the server wrote it.
    pub challenge: Challenge,
    /// Who pays, as a DID or another name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The proof of the method.
    pub payload: Value,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("challenge", &self.challenge.id)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl Credential {
    /// Answers a challenge.
    #[must_use]
    pub const fn new(challenge: Challenge, source: Option<String>, payload: Value) -> Self {
        Self {
            challenge,
            source,
            payload,
        }
    }

    /// Reads an `Authorization` field. `None` for another scheme.
    ///
    /// # Errors
    /// `Invalid` for a malformed credential, or one longer than 16,384 bytes.
    pub fn parse(field: &str) -> Result<Option<Self>> {
        let field = field.trim_matches([' ', '\t']);
        let (scheme, encoded) = field.split_once(' ').unwrap_or((field, ""));
        if !scheme.eq_ignore_ascii_case(Challenge::SCHEME) {
            return Ok(None);
        }
        let credential: Self = encoding::decode_json("payment credential", encoded.trim_start())?;
        credential.check()?;
        Ok(Some(credential))
    }

    /// Checks the form: what a server did not make cannot match, but must not be looked at either.
    pub(super) fn check(&self) -> Result<()> {
        let is_whole = ![&self.challenge.id, &self.challenge.request]
            .iter()
            .any(|text| text.is_empty());
        if is_whole && self.payload.is_object() {
            return Ok(());
        }
        Err(Error::invalid("payment credential", "it is not whole"))
    }

    /// Writes it as an `Authorization` field.
    ///
    /// # Errors
    /// `Invalid` for a payload canonical JSON cannot carry.
    pub fn to_field(&self) -> Result<String> {
        let encoded = encoding::encode_json(self)?;
        Ok(format!("{} {encoded}", Challenge::SCHEME))
    }
}
