//! A chain of tokens (draft-gco-oauth-delegate-sd-jwt-00): each is signed with the key the one before
//! confirms, and bound to it by its digest.

use std::collections::BTreeMap;
use std::time::Duration;

use agent_core::Timestamp;

use super::json::Json;
use super::key::PublicKey;
use super::malformed;
use super::sd_jwt::{HIDDEN, Token};
use crate::error::{Error, Result};

/// For whom a token behind the first was made: what this verifier, or the delegate before it, asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hop {
    /// The audience.
    pub audience: String,
    /// The nonce.
    pub nonce: String,
}

impl Hop {
    /// Expects an audience and a nonce.
    #[must_use]
    pub fn new(audience: impl Into<String>, nonce: impl Into<String>) -> Self {
        Self {
            audience: audience.into(),
            nonce: nonce.into(),
        }
    }
}

/// Verifies chains whose first key it trusts.
#[derive(Clone, Debug)]
pub struct Verifier {
    roots: BTreeMap<String, PublicKey>,
    skew: Duration,
}

/// A chain whose every token was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    pub(super) mandates: Vec<Json>,
    pub(super) identities: Vec<String>,
    pub(super) first_digest: String,
    pub(super) root: String,
}

impl Chain {
    /// Returns the name of the first key: whose mandate it is.
    #[must_use]
    pub fn root(&self) -> &str {
        &self.root
    }

    /// Returns how many tokens it has.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.mandates.len()
    }

    /// Returns whether it has none, which no verified chain has.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.mandates.is_empty()
    }

    /// Returns the digest of the first token: what a payment mandate refers to an open checkout
    /// mandate by.
    #[must_use]
    pub fn first_digest(&self) -> &str {
        &self.first_digest
    }
}

impl Verifier {
    /// The longest chain in bytes.
    pub const CHAIN_BYTES_MAX: usize = 128 * 1_024;
    /// The most tokens of a chain.
    pub const TOKENS_MAX: usize = 8;

    /// Trusts nobody yet. Clocks may be a minute apart.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            roots: BTreeMap::new(),
            skew: Duration::from_secs(60),
        }
    }

    /// Trusts a key for first tokens, by the name they call it (`kid`). Default: none.
    #[must_use]
    pub fn with_root(mut self, kid: impl Into<String>, key: PublicKey) -> Self {
        self.roots.insert(kid.into(), key);
        self
    }

    /// Sets how far clocks may be apart. Default: a minute.
    #[must_use]
    pub const fn with_skew(mut self, skew: Duration) -> Self {
        self.skew = skew;
        self
    }

    /// Verifies a chain. `hops` has what each token behind the first must be made for: a chain of
    /// another length is refused.
    ///
    /// # Errors
    /// `Invalid` for a malformed chain, a time that is over or not come, another audience or nonce,
    /// a binding that does not match, or something hidden where nothing may be; `Denied`
    /// ([`Error::BadSignature`]) for a key nobody trusts and a signature that does not verify.
    pub fn verify(&self, chain: &str, hops: &[Hop], now: Timestamp) -> Result<Chain> {
        if chain.len() > Self::CHAIN_BYTES_MAX {
            return Err(malformed("a chain longer than 128 KiB"));
        }
        if !chain.ends_with('~') {
            return Err(malformed(
                "a chain that was cut off, or with a token of another kind",
            ));
        }
        let n_tokens = hops.len().saturating_add(1);
        let texts: Vec<&str> = chain.splitn(n_tokens.saturating_add(1), "~~").collect();
        if texts.len() != n_tokens || n_tokens > Self::TOKENS_MAX {
            return Err(malformed("a chain of another length"));
        }
        let tokens: Result<Vec<Token<'_>>> = texts.into_iter().map(Token::parse).collect();
        let tokens = tokens?;
        let Some((first, rest)) = tokens.split_first() else {
            return Err(malformed("a chain without tokens"));
        };
        let kid = first.header_text("kid").unwrap_or_default();
        let Some(root) = self.roots.get(kid) else {
            let key_id = kid.to_owned();
            return Err(Error::BadSignature { key_id });
        };
        let payload = first.verify(root, kid)?;
        let mandate = self.mandate(&payload, now)?;
        let mut key = confirmed(&mandate)?;
        let (mut mandates, mut identities) = (vec![mandate], vec![first.identity()]);
        let mut before = first;
        for (token, hop) in rest.iter().zip(hops) {
            let is_between = match token.header_text("typ") {
                Some("kb+sd-jwt" | "kb-sd-jwt") => false,
                Some("kb+sd-jwt+kb" | "kb-sd-jwt+kb") => true,
                _ => return Err(malformed("a token of another type")),
            };
            let Some(signer) = key.take() else {
                return Err(malformed("a token behind one that confirms no key"));
            };
            let payload = token.verify(&signer, "a delegate")?;
            check_hop(&payload, hop, before)?;
            if payload.get("iat").is_none() {
                return Err(malformed("a token that does not say when it was made"));
            }
            let mandate = self.mandate(&payload, now)?;
            key = confirmed(&mandate)?;
            if key.is_some() != is_between {
                return Err(malformed(
                    "a confirmed key where none, or none where one is due",
                ));
            }
            mandates.push(mandate);
            identities.push(token.identity());
            before = token;
        }
        Ok(Chain {
            mandates,
            identities,
            first_digest: first.sd_hash(),
            root: kid.to_owned(),
        })
    }

    /// Takes the one mandate of a token, and checks both's times.
    fn mandate(&self, payload: &Json, now: Timestamp) -> Result<Json> {
        self.check_time(payload, now)?;
        let Some([mandate]) = payload.get("delegate_payload").and_then(Json::as_array) else {
            return Err(malformed("not one mandate in a token"));
        };
        if mandate.as_object().is_none() || payload.get(HIDDEN).is_some() {
            return Err(malformed("a mandate that is hidden"));
        }
        self.check_time(mandate, now)?;
        Ok(mandate.clone())
    }

    fn check_time(&self, claims: &Json, now: Timestamp) -> Result<()> {
        let moment = |name: &str| -> Result<Option<Timestamp>> {
            let Some(value) = claims.get(name) else {
                return Ok(None);
            };
            let seconds = value.as_integer();
            let seconds = seconds.filter(|s| (0..=253_402_300_799).contains(s));
            let seconds = seconds.ok_or_else(|| malformed("a time that is none"))?;
            let ms = seconds.saturating_mul(1_000);
            Ok(Some(Timestamp::from_unix_ms(ms)))
        };
        let (made, not_before, over) = (moment("iat")?, moment("nbf")?, moment("exp")?);
        let latest = now.after(self.skew);
        if made.max(not_before).is_some_and(|from| from > latest) {
            return Err(malformed("a time that has not come"));
        }
        if over.is_some_and(|over| over.after(self.skew) <= now) {
            return Err(malformed("a time that is over"));
        }
        Ok(())
    }
}

impl Default for Verifier {
    fn default() -> Self {
        Self::new()
    }
}

/// Checks for whom a token was made and what it is bound to.
fn check_hop(payload: &Json, hop: &Hop, before: &Token<'_>) -> Result<()> {
    let text = |name: &str| payload.get(name).and_then(Json::as_text);
    if text("aud") != Some(&hop.audience) || text("nonce") != Some(&hop.nonce) {
        return Err(malformed("a token for another audience or nonce"));
    }
    let is_bound = match (payload.get("sd_hash"), payload.get("issuer_jwt_hash")) {
        (Some(hash), None) => hash.as_text() == Some(before.sd_hash().as_str()),
        (None, Some(hash)) => hash.as_text() == Some(before.issuer_jwt_hash().as_str()),
        _ => false,
    };
    if is_bound {
        return Ok(());
    }
    Err(malformed("a token bound to another than the one before"))
}

/// Reads the key a mandate confirms.
fn confirmed(mandate: &Json) -> Result<Option<PublicKey>> {
    let Some(cnf) = mandate.get("cnf") else {
        return Ok(None);
    };
    let jwk = cnf
        .get("jwk")
        .ok_or_else(|| malformed("a key in another form"))?;
    PublicKey::from_json(jwk).map(Some)
}
