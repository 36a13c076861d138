//! What Stripe tells by itself, once its signature is verified ("Verify webhook signatures", scheme
//! `v1`: HMAC-SHA256 over time and body).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use agent_core::{Clock, Env, Secret};
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::timed_signature;

/// An event, whose signature was good.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct WebhookEvent {
    /// Its name, by which it is recognized when it comes again.
    pub id: String,
    /// What happened, for example `payment_intent.succeeded`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it happened to, as it was then.
    pub data: EventData,
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct EventData {
    /// The thing.
    pub object: serde_json::Value,
}

/// Verifies events.
pub struct Webhooks {
    secrets: Vec<Secret>,
    tolerance: Duration,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhooks")
            .field("n_secrets", &self.secrets.len())
            .field("tolerance", &self.tolerance)
            .finish_non_exhaustive()
    }
}

impl Webhooks {
    /// The longest body that is read in bytes.
    pub const BODY_BYTES_MAX: usize = 1 << 20;

    /// Verifies with the secret of an endpoint (`whsec_…`), of the last five minutes.
    #[must_use]
    pub fn new(secret: Secret, env: &Env) -> Self {
        Self {
            secrets: vec![secret],
            tolerance: Duration::from_secs(300),
            clock: Arc::clone(&env.clock),
        }
    }

    /// Accepts another secret too, while one is being rotated. Default: one.
    #[must_use]
    pub fn with_secret(mut self, secret: Secret) -> Self {
        self.secrets.push(secret);
        self
    }

    /// Sets how far the time of a signature may be from the clock, before or after. Default: five
    /// minutes, as the official SDKs have it.
    #[must_use]
    pub const fn with_tolerance(mut self, tolerance: Duration) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// Returns the event of a body whose `Stripe-Signature` is good and fresh.
    ///
    /// # Errors
    /// `Denied` for a signature that is not, whatever is wrong with it; `Invalid` for a signed body
    /// that is no event.
    pub fn verify(&self, header: &str, body: &[u8]) -> Result<WebhookEvent> {
        let denied = || Error::BadSignature {
            key_id: "Stripe webhook".to_owned(),
        };
        if body.len() > Self::BODY_BYTES_MAX {
            return Err(Error::invalid("event", "a body of at most 1 MiB"));
        }
        let now = self.clock.now();
        if !timed_signature::verify(&self.secrets, header, body, now, self.tolerance) {
            return Err(denied());
        }
        serde_json::from_slice(body).map_err(|e| Error::invalid("event", e.to_string()))
    }

    /// Signs a body as Stripe would with the first secret, for endpoints that are tried out.
    #[must_use]
    pub fn sign(&self, body: &[u8]) -> String {
        let (secret, now) = (self.secrets.first(), self.clock.now());
        let signed = secret.and_then(|secret| timed_signature::sign(secret, now, body));
        signed.unwrap_or_default()
    }
}
