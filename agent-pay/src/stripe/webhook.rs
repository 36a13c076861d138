//! What Stripe tells by itself, once its signature is verified ("Verify webhook signatures", scheme
//! `v1`: HMAC-SHA256 over time and body).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use agent_core::{Clock, Env, ExposeSecret, Secret, Timestamp};
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;

use crate::error::{Error, Result};

/// The longest header that is read; Stripe sends some 200 bytes.
const HEADER_BYTES_MAX: usize = 4_096;
/// The most signatures that are tried: one for each secret that is being rotated, and some.
const SIGNATURES_MAX: usize = 16;

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
        let (seconds, signatures) = read_header(header).ok_or_else(denied)?;
        let at = Timestamp::from_unix_ms(seconds.saturating_mul(1_000));
        let now = self.clock.now();
        let apart = now.since(at).max(at.since(now));
        let is_good = self
            .secrets
            .iter()
            .any(|secret| is_signed(secret, seconds, body, &signatures));
        if !is_good || apart > self.tolerance {
            return Err(denied());
        }
        serde_json::from_slice(body).map_err(|e| Error::invalid("event", e.to_string()))
    }

    /// Signs a body as Stripe would with the first secret, for endpoints that are tried out.
    #[must_use]
    pub fn sign(&self, body: &[u8]) -> String {
        let seconds = self.clock.now().as_unix_ms().div_euclid(1_000);
        let mac = self.secrets.first().and_then(|s| mac(s, seconds, body));
        let tag = mac.map(|mac| hex::encode(mac.finalize().into_bytes()));
        format!("t={seconds},v1={}", tag.unwrap_or_default())
    }
}

fn mac(secret: &Secret, seconds: i64, body: &[u8]) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()).ok()?;
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body);
    Some(mac)
}

/// `verify_slice` compares in constant time. All signatures are tried, so that how long it takes
/// does not say which one was good.
fn is_signed(secret: &Secret, seconds: i64, body: &[u8], signatures: &[[u8; 32]]) -> bool {
    let Some(mac) = mac(secret, seconds, body) else {
        return false;
    };
    let is_one = |signature: &[u8; 32]| mac.clone().verify_slice(signature).is_ok();
    signatures.iter().filter(|s| is_one(s)).count() > 0
}

/// Reads `t=…,v1=…,v1=…`; schemes other than `v1` are passed over, as documented. A header with two
/// times is refused, since it would leave open which of them was signed.
fn read_header(header: &str) -> Option<(i64, Vec<[u8; 32]>)> {
    if header.len() > HEADER_BYTES_MAX {
        return None;
    }
    let (mut seconds, mut signatures) = (None, Vec::new());
    for item in header.split(',') {
        let (name, value) = item.split_once('=')?;
        match name.trim() {
            "t" if seconds.is_some() => return None,
            "t" if value.bytes().all(|b| b.is_ascii_digit()) => seconds = Some(value.parse().ok()?),
            "t" => return None,
            "v1" => {
                let mut signature = [0; 32];
                if hex::decode_to_slice(value, &mut signature).is_ok() {
                    signatures.push(signature);
                }
            }
            _ => {}
        }
    }
    if signatures.is_empty() || signatures.len() > SIGNATURES_MAX {
        return None;
    }
    Some((seconds?, signatures))
}
