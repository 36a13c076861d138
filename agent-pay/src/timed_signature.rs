//! Signatures over a time and a body, `t=…,v1=…`: HMAC-SHA256 of `time.body`. Stripe signs its
//! webhooks so, and merchants the order events of the Agentic Commerce Protocol.

use std::time::Duration;

use agent_core::{ExposeSecret, Secret, Timestamp};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The longest header that is read; Stripe sends some 200 bytes.
const HEADER_BYTES_MAX: usize = 4_096;
/// The most signatures that are tried: one for each secret that is being rotated, and some.
const SIGNATURES_MAX: usize = 16;

/// Signs a body at a moment; none only for a key HMAC cannot take, and it takes all.
pub(crate) fn sign(secret: &Secret, now: Timestamp, body: &[u8]) -> Option<String> {
    let seconds = now.as_unix_ms().div_euclid(1_000);
    let tag = mac(secret, seconds, body)?.finalize().into_bytes();
    Some(format!("t={seconds},v1={}", hex::encode(tag)))
}

/// Whether one of the signatures is that of one of the secrets, from a time near enough to `now`.
pub(crate) fn verify(
    secrets: &[Secret],
    header: &str,
    body: &[u8],
    now: Timestamp,
    tolerance: Duration,
) -> bool {
    let Some((seconds, signatures)) = read_header(header) else {
        return false;
    };
    let at = Timestamp::from_unix_ms(seconds.saturating_mul(1_000));
    let apart = now.since(at).max(at.since(now));
    let is_of = |secret| is_signed(secret, seconds, body, &signatures);
    secrets.iter().any(is_of) && apart <= tolerance
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
