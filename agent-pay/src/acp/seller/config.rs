//! How a seller is set up, and what is kept secret with it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use agent_core::{Digest, ExposeSecret, Secret, canonical_json};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

use crate::error::{Error, Result};

/// How a seller sells.
#[non_exhaustive]
pub struct SellerConfig {
    pub(super) merchant_id: String,
    digest_key: Secret,
    order_base: String,
    agents: BTreeMap<String, Secret>,
    handlers: Vec<Value>,
    links: Vec<Value>,
    pub(super) session_life: Duration,
}

impl fmt::Debug for SellerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SellerConfig")
            .field("merchant_id", &self.merchant_id)
            .field("agents", &self.agents.keys())
            .finish_non_exhaustive()
    }
}

impl SellerConfig {
    /// Sells as `merchant_id`; orders are shown at `order_base` followed by their id. `digest_key`
    /// keys the digests of requests, some of which hold cards; keep it, or repeated requests conflict
    /// after a restart. No agents, no payment handlers, no links, sessions of six hours.
    #[must_use]
    pub fn new(
        merchant_id: impl Into<String>,
        order_base: impl Into<String>,
        digest_key: Secret,
    ) -> Self {
        Self {
            merchant_id: merchant_id.into(),
            digest_key,
            order_base: order_base.into(),
            agents: BTreeMap::new(),
            handlers: Vec::new(),
            links: Vec::new(),
            session_life: Duration::from_secs(6 * 3_600),
        }
    }

    /// Lets an agent in by its bearer token. Sessions of one are not there for another. Default:
    /// nobody.
    #[must_use]
    pub fn with_agent(mut self, name: impl Into<String>, bearer: Secret) -> Self {
        self.agents.insert(name.into(), bearer);
        self
    }

    /// Offers a way to pay (`PaymentHandler`). Default: none.
    #[must_use]
    pub fn with_handler(mut self, handler: Value) -> Self {
        self.handlers.push(handler);
        self
    }

    /// Shows a link (`terms_of_use`, `privacy_policy`…). Default: none.
    #[must_use]
    pub fn with_link(mut self, kind: &str, url: &str) -> Self {
        let link = serde_json::json!({ "type": kind, "url": url });
        self.links.push(link);
        self
    }

    /// Sets how long a session stays open. Default: six hours.
    #[must_use]
    pub const fn with_session_life(mut self, life: Duration) -> Self {
        self.session_life = life;
        self
    }

    pub(in crate::acp) fn handlers(&self) -> &[Value] {
        &self.handlers
    }

    pub(in crate::acp) fn links(&self) -> &[Value] {
        &self.links
    }

    pub(in crate::acp) fn permalink(&self, order: &str) -> String {
        format!("{}{order}", self.order_base)
    }

    fn mac(&self, bytes: &[u8]) -> Option<Hmac<Sha256>> {
        let key = self.digest_key.expose_secret().as_bytes();
        let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
        mac.update(bytes);
        Some(mac)
    }

    /// Returns whose token it is. Tags are compared, all of them, and in constant time.
    pub(in crate::acp) fn identify(&self, bearer: &str) -> Option<&str> {
        let given = self.mac(bearer.as_bytes())?;
        let mut found = None;
        for (name, secret) in &self.agents {
            let tag = self.mac(secret.expose_secret().as_bytes())?.finalize();
            if given.clone().verify(&tag.into_bytes()).is_ok() {
                found = Some(name.as_str());
            }
        }
        found
    }

    /// Digests a request for the comparison with an earlier one. The key keeps a digest of a card
    /// from being searched for.
    pub(super) fn digest(&self, body: &Value) -> Result<Digest> {
        let mac = self.mac(&canonical_json(body)?);
        let tag = mac.ok_or_else(|| Error::invalid("digest key", "no key"))?;
        Ok(Digest::from_bytes(tag.finalize().into_bytes().into()))
    }
}
