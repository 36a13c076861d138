//! What must be paid: the challenge of a server, and the id that makes it an offer the server knows
//! again without having kept it.

use std::collections::BTreeMap;
use std::fmt;

use agent_core::{ExposeSecret, SecretBytes, Timestamp};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::auth_param;
use super::encoding::{self, encode};
use crate::error::{Error, Result};

/// A challenge, its parameters as they are on the wire: what is bound is the text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Challenge {
    /// The id, which binds the rest.
    pub id: String,
    /// The protection space.
    pub realm: String,
    /// How to pay.
    pub method: String,
    /// What kind of payment: `charge` or `session`.
    pub intent: String,
    /// How much to whom: canonical JSON in base64url.
    pub request: String,
    /// When the offer is over, in the form of RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// The digest of the body the offer is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// What the server wants back: a flat map in base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opaque: Option<String>,
    /// What is bought, in words. It is shown to people and decides nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

impl Challenge {
    /// The scheme of the protocol.
    pub const SCHEME: &'static str = "Payment";

    /// Reads the challenges of the scheme `Payment` in one `WWW-Authenticate` field; those of other
    /// schemes, and of this scheme without a required parameter, are passed over.
    ///
    /// # Errors
    /// `Invalid` for a malformed field, or one longer than 16,384 bytes.
    pub fn parse_all(field: &str) -> Result<Vec<Self>> {
        let challenges = auth_param::parse(field)?;
        let payments = challenges
            .into_iter()
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(Self::SCHEME));
        Ok(payments
            .filter_map(|(_, params)| Self::from_params(params))
            .collect())
    }

    fn from_params(mut params: BTreeMap<String, String>) -> Option<Self> {
        let mut take = |name: &str| params.remove(name).filter(|value| !value.is_empty());
        Some(Self {
            id: take("id")?,
            realm: take("realm")?,
            method: take("method")?,
            intent: take("intent")?,
            request: take("request")?,
            expires: take("expires"),
            digest: take("digest"),
            opaque: take("opaque"),
            description: take("description"),
        })
    }

    /// Writes the challenge as a `WWW-Authenticate` field.
    ///
    /// # Errors
    /// `Invalid` for a value that no field can carry.
    pub fn to_field(&self) -> Result<String> {
        let mut field = String::from(Self::SCHEME);
        let optional = [
            ("expires", &self.expires),
            ("digest", &self.digest),
            ("opaque", &self.opaque),
            ("description", &self.description),
        ];
        let required = [
            ("id", &self.id),
            ("realm", &self.realm),
            ("method", &self.method),
            ("intent", &self.intent),
            ("request", &self.request),
        ];
        let optional = optional
            .into_iter()
            .filter_map(|(name, value)| value.as_ref().map(|value| (name, value)));
        for (n, (name, value)) in required.into_iter().chain(optional).enumerate() {
            field.push_str(if n == 0 { " " } else { ", " });
            auth_param::quote(&mut field, name, value)?;
        }
        Ok(field)
    }

    /// Returns when the offer is over.
    ///
    /// # Errors
    /// `Invalid` for a moment not of the form of RFC 3339.
    pub fn expires_at(&self) -> Result<Option<Timestamp>> {
        self.expires
            .as_deref()
            .map(crate::moment::parse)
            .transpose()
    }

    /// Returns whether the offer is for a body: it names no digest, or the body's.
    #[must_use]
    pub fn is_for_body(&self, body: &[u8]) -> bool {
        let digest = self.digest.as_deref();
        digest.is_none_or(|digest| encoding::is_digest_of(digest, body))
    }

    /// Returns what the server wants back under a name.
    pub(super) fn opaque_value(&self, name: &str) -> Option<String> {
        let opaque = self.opaque.as_deref()?;
        let mut map: BTreeMap<String, String> =
            encoding::decode_json("payment challenge", opaque).ok()?;
        map.remove(name)
    }

    /// The seven fixed slots that the id covers.
    fn bound(&self) -> String {
        let or_empty = |value: &Option<String>| value.clone().unwrap_or_default();
        [
            self.realm.clone(),
            self.method.clone(),
            self.intent.clone(),
            self.request.clone(),
            or_empty(&self.expires),
            or_empty(&self.digest),
            or_empty(&self.opaque),
        ]
        .join("|")
    }
}

/// The secrets of a server: the first makes ids, all of them know theirs again, so that offers made
/// before a change of the secret hold until they are over.
pub struct OfferKey {
    secrets: Vec<SecretBytes>,
}

impl fmt::Debug for OfferKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OfferKey").finish_non_exhaustive()
    }
}

impl OfferKey {
    /// The shortest secret in bytes: the length of the hash.
    pub const SECRET_BYTES_MIN: usize = 32;

    /// Takes a secret.
    ///
    /// # Errors
    /// `Invalid` for fewer than 32 bytes.
    pub fn new(secret: SecretBytes) -> Result<Self> {
        Self {
            secrets: Vec::new(),
        }
        .with_former(secret)
    }

    /// Adds a secret that made ids before. Default: none.
    ///
    /// # Errors
    /// `Invalid` for fewer than 32 bytes.
    pub fn with_former(mut self, secret: SecretBytes) -> Result<Self> {
        if secret.expose_secret().len() < Self::SECRET_BYTES_MIN {
            return Err(Error::invalid("offer key", "32 bytes at least"));
        }
        self.secrets.push(secret);
        Ok(self)
    }

    /// Gives a challenge the id that binds it: HMAC-SHA256 over realm, method, intent, request,
    /// expiry, digest and opaque data (draft-httpauth-payment-00, section 5.1.2.1.1).
    ///
    /// # Errors
    /// `Invalid` if a slot holds the character that separates them.
    pub fn bind(&self, mut challenge: Challenge) -> Result<Challenge> {
        let slots = [&challenge.realm, &challenge.method, &challenge.intent];
        if slots.iter().any(|slot| slot.contains('|')) {
            return Err(Error::invalid("payment challenge", "a slot holds `|`"));
        }
        let mac = self
            .secrets
            .first()
            .and_then(|secret| mac(secret, &challenge));
        let mac = mac.ok_or_else(|| Error::invalid("offer key", "no secret"))?;
        challenge.id = encode(&mac.finalize().into_bytes());
        Ok(challenge)
    }

    /// Returns whether this server made a challenge, in constant time.
    #[must_use]
    pub fn knows(&self, challenge: &Challenge) -> bool {
        use base64::Engine;
        let id = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(&challenge.id);
        let Ok(id) = id else { return false };
        let is_made_by = |secret: &SecretBytes| {
            mac(secret, challenge).is_some_and(|mac| mac.verify_slice(&id).is_ok())
        };
        self.secrets.iter().any(is_made_by)
    }
}

fn mac(secret: &SecretBytes, challenge: &Challenge) -> Option<Hmac<Sha256>> {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(secret.expose_secret()).ok()?;
    mac.update(challenge.bound().as_bytes());
    Some(mac)
}
