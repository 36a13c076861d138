//! One token with selective disclosures (SD-JWT, RFC 9901), signed with ES256.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::json::Json;
use super::key::PublicKey;
use super::malformed;
use crate::error::{Error, Result};

/// The most disclosures of one token.
const DISCLOSURES_MAX: usize = 256;

/// A token in its parts, whose signature nobody has checked.
#[derive(Debug)]
pub(super) struct Token<'a> {
    jwt: &'a str,
    disclosures: Vec<&'a str>,
    header: Json,
    payload: Json,
}

impl<'a> Token<'a> {
    /// Reads a token without a key-binding token behind it: `jwt~disclosure~…~`, of which a chain
    /// leaves out the last `~`.
    pub(super) fn parse(text: &'a str) -> Result<Self> {
        let mut parts = text.strip_suffix('~').unwrap_or(text).split('~');
        let jwt = parts.next().unwrap_or_default();
        let disclosures: Vec<&str> = parts.collect();
        if disclosures.len() > DISCLOSURES_MAX || disclosures.iter().any(|d| d.is_empty()) {
            return Err(malformed("empty disclosures, or too many"));
        }
        let [header, payload, _] = sections(jwt)?;
        Ok(Self {
            jwt,
            disclosures,
            header: Json::parse(&decode(header)?)?,
            payload: Json::parse(&decode(payload)?)?,
        })
    }

    pub(super) fn header_text(&self, name: &str) -> Option<&str> {
        self.header.get(name)?.as_text()
    }

    /// Returns the digest of the token with its disclosures, which the next one is bound to.
    pub(super) fn sd_hash(&self) -> String {
        let mut whole = format!("{}~", self.jwt);
        for disclosure in &self.disclosures {
            whole.push_str(disclosure);
            whole.push('~');
        }
        hash(&whole)
    }

    /// Returns what names the token whatever is disclosed of it: the digest of what is signed. The
    /// signature is no part of it, since another of the same key is as good.
    pub(super) fn identity(&self) -> String {
        hash(self.jwt.rsplit_once('.').map_or("", |(signed, _)| signed))
    }

    /// Returns the digest of the token without its disclosures.
    pub(super) fn issuer_jwt_hash(&self) -> String {
        hash(self.jwt)
    }

    /// Checks the signature and returns the payload with what is disclosed in its place.
    pub(super) fn verify(&self, key: &PublicKey, who: &str) -> Result<Json> {
        verify_jwt(self.jwt, &self.header, key, who)?;
        let alg = self.payload.get("_sd_alg");
        if alg.is_some_and(|alg| alg.as_text() != Some("sha-256")) {
            return Err(malformed("another digest than sha-256"));
        }
        let mut found = BTreeMap::new();
        for disclosure in &self.disclosures {
            let value = Json::parse(&decode(disclosure)?)?;
            if found.insert(hash(disclosure), value).is_some() {
                return Err(malformed("a disclosure twice"));
            }
        }
        let mut disclosed = Disclosed { found };
        let mut payload = disclosed.object(&self.payload)?;
        payload.remove("_sd_alg");
        // What no digest refers to was not signed.
        if !disclosed.found.is_empty() {
            return Err(malformed("a disclosure nothing refers to"));
        }
        Ok(Json::Object(payload))
    }
}

/// Checks a compact signature: the algorithm is ES256 whatever the token would rather have.
pub(super) fn verify_jwt(jwt: &str, header: &Json, key: &PublicKey, who: &str) -> Result<()> {
    let [_, _, signature] = sections(jwt)?;
    let alg = header.get("alg").and_then(Json::as_text);
    if alg != Some("ES256") || header.get("crit").is_some() {
        return Err(malformed("another algorithm than ES256, or an extension"));
    }
    let message = jwt.rsplit_once('.').map_or("", |(message, _)| message);
    if key.verifies(message.as_bytes(), &decode(signature)?) {
        return Ok(());
    }
    let key_id = who.to_owned();
    Err(Error::BadSignature { key_id })
}

/// Reads the header and the payload of a compact signature.
pub(super) fn open_jwt(jwt: &str) -> Result<(Json, Json)> {
    let [header, payload, _] = sections(jwt)?;
    Ok((
        Json::parse(&decode(header)?)?,
        Json::parse(&decode(payload)?)?,
    ))
}

fn sections(jwt: &str) -> Result<[&str; 3]> {
    let mut sections = jwt.split('.');
    let three = [sections.next(), sections.next(), sections.next()];
    match (three, sections.next()) {
        ([Some(header), Some(payload), Some(signature)], None) => Ok([header, payload, signature]),
        _ => Err(malformed("not a compact signature")),
    }
}

fn decode(text: &str) -> Result<Vec<u8>> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_form| malformed("not base64url without padding"))
}

/// Returns the digest of a text as mandates write it.
pub(super) fn hash(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(text.as_bytes()))
}

/// The name that marks what was not disclosed: no claim can have it.
pub(super) const HIDDEN: &str = "_sd";

/// The disclosures that were not used yet, by their digests.
struct Disclosed {
    found: BTreeMap<String, Json>,
}

impl Disclosed {
    /// Puts claims in their place. Whether some stay hidden is kept under [`HIDDEN`].
    fn object(&mut self, object: &Json) -> Result<BTreeMap<String, Json>> {
        let object = object.as_object().ok_or_else(|| malformed("no object"))?;
        let mut resolved = BTreeMap::new();
        for (name, value) in object {
            if name == "..." {
                return Err(malformed("a digest where no element is"));
            }
            if name != HIDDEN {
                resolved.insert(name.clone(), self.value(value)?);
            }
        }
        let digests = match object.get(HIDDEN) {
            Some(digests) => digests.as_array().ok_or_else(|| malformed("no digests"))?,
            None => return Ok(resolved),
        };
        let mut is_hidden = false;
        for digest in digests {
            let digest = digest.as_text().ok_or_else(|| malformed("no digest"))?;
            let Some(disclosure) = self.found.remove(digest) else {
                is_hidden = true;
                continue;
            };
            let Some([_salt, name, value]) = disclosure.as_array() else {
                return Err(malformed("not the disclosure of a claim"));
            };
            let name = name
                .as_text()
                .ok_or_else(|| malformed("a claim without a name"))?;
            let value = self.value(value)?;
            if [HIDDEN, "..."].contains(&name) || resolved.insert(name.to_owned(), value).is_some()
            {
                return Err(malformed("a disclosed claim of another's name"));
            }
        }
        if is_hidden {
            resolved.insert(HIDDEN.to_owned(), Json::Bool(true));
        }
        Ok(resolved)
    }

    fn value(&mut self, value: &Json) -> Result<Json> {
        Ok(match value {
            Json::Object(_) => Json::Object(self.object(value)?),
            Json::Array(items) => {
                let mut resolved = Vec::new();
                for item in items {
                    resolved.push(self.element(item)?);
                }
                Json::Array(resolved)
            }
            other => other.clone(),
        })
    }

    /// Puts an element in its place; one that is hidden becomes `null`, which no mandate has.
    fn element(&mut self, item: &Json) -> Result<Json> {
        let Some(digest) = item.get("...") else {
            return self.value(item);
        };
        let is_alone = item.as_object().is_some_and(|object| object.len() == 1);
        let digest = digest.as_text().filter(|_digest| is_alone);
        let digest = digest.ok_or_else(|| malformed("no digest"))?;
        match self.found.remove(digest) {
            None => Ok(Json::Null),
            Some(disclosure) => match disclosure.as_array() {
                Some([_salt, value]) => self.value(value),
                _ => Err(malformed("not the disclosure of an element")),
            },
        }
    }
}
