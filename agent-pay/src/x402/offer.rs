//! Signed offers (extension `offer-receipt`): who is paid commits to what a resource costs.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::bytes::Signature;
use super::eip712::{Words, typed};
use super::key::{Signer, recover};
use super::requirements::{EXACT, Requirements};
use crate::error::{Error, Result};

pub(super) const NAME: &str = "offer-receipt";
/// The most offers of a message that are looked at: one for each way to pay.
const OFFERS_MAX: usize = super::message::PaymentRequired::ACCEPTS_MAX;

/// What is signed, member for member as it is sent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Offer {
    version: u64,
    resource_url: String,
    scheme: String,
    network: String,
    asset: String,
    pay_to: String,
    amount: String,
    #[serde(default)]
    valid_until: u64,
}

impl Offer {
    fn digest(&self) -> super::bytes::Bytes32 {
        let separator = Words::of(b"EIP712Domain(string name,string version,uint256 chainId)")
            .hashed(b"x402 offer")
            .hashed(b"1")
            .number(1)
            .hash();
        let kind = b"Offer(uint256 version,string resourceUrl,string scheme,string network,\
                     string asset,string payTo,string amount,uint256 validUntil)";
        let message = Words::of(kind)
            .number(self.version.into())
            .hashed(self.resource_url.as_bytes())
            .hashed(self.scheme.as_bytes())
            .hashed(self.network.as_bytes())
            .hashed(self.asset.as_bytes())
            .hashed(self.pay_to.as_bytes())
            .hashed(self.amount.as_bytes())
            .number(self.valid_until.into())
            .hash();
        typed(&separator, &message)
    }

    /// Returns whether it offers a resource on these terms at a second of Unix time.
    fn is_of(&self, url: &str, asked: &Requirements, now: u64) -> bool {
        self.version == 1
            && self.resource_url == url
            && self.scheme == EXACT
            && self.network == asked.network.as_str()
            && self.asset.parse().ok() == Some(asked.asset)
            && self.pay_to.parse().ok() == Some(asked.pay_to)
            && self.amount.parse().ok() == Some(asked.amount)
            && (self.valid_until == 0 || now <= self.valid_until)
    }
}

/// Signs an offer for each of some requirements, by the key that is paid, and returns the extension.
///
/// # Errors
/// `Invalid` if another key is paid; those of the key.
///
/// # Cancel safety
/// Cancel safe.
pub async fn sign_offers(
    key: &dyn Signer,
    url: &str,
    accepts: &[Requirements],
    valid_until: u64,
) -> Result<(String, Value)> {
    let mut offers = Vec::new();
    for (n, asked) in accepts.iter().enumerate() {
        if asked.pay_to != key.address() {
            return Err(Error::invalid("offer", "another key is paid than signs"));
        }
        let offer = Offer {
            version: 1,
            resource_url: url.to_owned(),
            scheme: EXACT.to_owned(),
            network: asked.network.to_string(),
            asset: asked.asset.to_string(),
            pay_to: asked.pay_to.to_string(),
            amount: asked.amount.to_string(),
            valid_until,
        };
        let signature = key.sign(offer.digest()).await?;
        offers.push(json!({
            "format": "eip712",
            "acceptIndex": n,
            "payload": offer,
            "signature": signature,
        }));
    }
    Ok((NAME.to_owned(), json!({ "info": { "offers": offers } })))
}

/// Returns whether who is paid signed that a resource costs this, at a second of Unix time. Offers in
/// the form of JWS need a directory of keys and do not count.
#[must_use]
pub fn is_signed(
    extensions: &Map<String, Value>,
    url: &str,
    asked: &Requirements,
    now: u64,
) -> bool {
    let offers = extensions
        .get(NAME)
        .and_then(|extension| extension.pointer("/info/offers"));
    let offers = offers
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    offers.iter().take(OFFERS_MAX).any(|signed| {
        let is_eip712 = signed.get("format").and_then(Value::as_str) == Some("eip712");
        let offer = signed.get("payload").map(Offer::deserialize);
        let signature = signed.get("signature").map(Signature::deserialize);
        let (Some(Ok(offer)), Some(Ok(signature)), true) = (offer, signature, is_eip712) else {
            return false;
        };
        offer.is_of(url, asked, now) && recover(&offer.digest(), &signature) == Some(asked.pay_to)
    })
}
