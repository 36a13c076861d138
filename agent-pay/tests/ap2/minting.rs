//! Mints chains, good ones and bad ones.

use agent_core::{Asset, Timestamp};
use agent_pay::ap2::{Chain, Hop, PublicKey, Verifier};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::common::NOON_MS;

/// The second at which everything is verified.
pub(crate) const NOON: i64 = NOON_MS / 1_000;

pub(crate) fn now() -> Timestamp {
    Timestamp::from_unix_ms(NOON_MS)
}

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn hash(text: &str) -> String {
    encode(Sha256::digest(text))
}

/// The keys of the tests; the peers make the same from the same bytes.
pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_slice(&[seed; 32]).unwrap()
}

pub(crate) fn jwk(seed: u8) -> Value {
    let point = key(seed).verifying_key().to_sec1_point(false);
    let point = point.as_bytes();
    json!({ "kty": "EC", "crv": "P-256", "x": encode(&point[1..33]), "y": encode(&point[33..]) })
}

pub(crate) fn public(seed: u8) -> PublicKey {
    PublicKey::from_jwk(&jwk(seed).to_string()).unwrap()
}

/// Signs a header and a payload as they are written.
pub(crate) fn jwt(seed: u8, header: &str, payload: &str) -> String {
    let message = format!("{}.{}", encode(header), encode(payload));
    let signature: Signature = key(seed).sign(message.as_bytes());
    format!("{message}.{}", encode(signature.to_bytes()))
}

/// A token of a chain in the making.
#[derive(Clone)]
pub(crate) struct Minted {
    pub(crate) seed: u8,
    pub(crate) header: Value,
    /// The claims beside the mandate.
    pub(crate) claims: Value,
    pub(crate) mandate: String,
    /// More disclosures than that of the mandate.
    pub(crate) disclosures: Vec<String>,
}

pub(crate) fn disclosure(value: &str) -> String {
    encode(format!("[\"c2FsdA\",{value}]"))
}

impl Minted {
    pub(crate) fn root(mandate: impl ToString) -> Self {
        Self {
            seed: 1,
            header: json!({ "alg": "ES256", "kid": "user-1", "typ": "example+sd-jwt" }),
            claims: json!({}),
            mandate: mandate.to_string(),
            disclosures: Vec::new(),
        }
    }

    pub(crate) fn hop(seed: u8, typ: &str, mandate: impl ToString) -> Self {
        Self {
            seed,
            header: json!({ "alg": "ES256", "typ": typ }),
            claims: json!({ "iat": NOON, "aud": "shop", "nonce": format!("n{seed}") }),
            mandate: mandate.to_string(),
            disclosures: Vec::new(),
        }
    }

    /// The token, without a last `~`.
    fn token(&self, before: Option<&str>) -> String {
        let shown = disclosure(&self.mandate);
        let mut claims = self.claims.clone();
        claims["_sd_alg"] = json!("sha-256");
        claims["delegate_payload"] = json!([{ "...": hash(&shown) }]);
        if let (Some(before), None) = (before, claims.get("sd_hash")) {
            claims["sd_hash"] = json!(hash(&format!("{before}~")));
        }
        let jwt = jwt(self.seed, &self.header.to_string(), &claims.to_string());
        let mut token = format!("{jwt}~{shown}");
        for disclosure in &self.disclosures {
            token.push('~');
            token.push_str(disclosure);
        }
        token
    }
}

/// Joins tokens, each bound to the one before.
pub(crate) fn chain(minted: &[Minted]) -> String {
    let mut tokens: Vec<String> = Vec::new();
    for token in minted {
        tokens.push(token.token(tokens.last().map(String::as_str)));
    }
    format!("{}~", tokens.join("~~"))
}

pub(crate) fn verifier() -> Verifier {
    Verifier::new().with_root("user-1", public(1))
}

/// Verifies a chain whose tokens are signed by the keys 2, 3 and so on.
pub(crate) fn verify(chain: &str, n_hops: u8) -> agent_pay::Result<Chain> {
    let hops: Vec<Hop> = (0..n_hops)
        .map(|n| Hop::new("shop", format!("n{}", n + 2)))
        .collect();
    verifier().verify(chain, &hops, now())
}

/// An open payment mandate that confirms a key.
pub(crate) fn open(constraints: &str, seed: u8) -> String {
    let cnf = json!({ "jwk": jwk(seed) });
    format!(
        r#"{{"vct":"mandate.payment.open.1","constraints":[{{"type":"payment.reference","conditional_transaction_id":"open-1"}}{}{constraints}],"cnf":{cnf},"iat":{NOON},"exp":{}}}"#,
        if constraints.is_empty() { "" } else { "," },
        NOON + 3_600,
    )
}

/// A closed payment mandate.
pub(crate) fn closed(minor: i64, currency: &str) -> Value {
    json!({
        "vct": "mandate.payment.1",
        "transaction_id": "tx-1",
        "payee": { "id": "shop:tea", "name": "Tea" },
        "payment_amount": { "amount": minor, "currency": currency },
        "payment_instrument": { "id": "card-1", "type": "card" },
    })
}

/// The user's mandate and what the agent decided.
pub(crate) fn pair(constraints: &str, closed: &Value) -> Vec<Minted> {
    vec![
        Minted::root(open(constraints, 2)),
        Minted::hop(2, "kb+sd-jwt", closed),
    ]
}

pub(crate) fn assets() -> [Asset; 2] {
    [Asset::USD, "JPY/0".parse().unwrap()]
}
