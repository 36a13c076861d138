//! Delegated payment: a card goes to the vault and nowhere else; what is kept is a token and how far
//! it goes.

use std::fmt;

use agent_core::{BoxError, ExposeSecret, IdempotencyKey, Secret, Timestamp};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answer::Problem;
use super::moment;
use super::wire::Address;

/// How far a token goes: one payment, of at most an amount, for one session of one merchant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Allowance {
    /// Always `one_time`.
    pub reason: String,
    /// The most that may be charged, in the currency's smallest units.
    pub max_amount: i64,
    /// The currency in lower case.
    pub currency: String,
    /// The session.
    pub checkout_session_id: String,
    /// The merchant.
    pub merchant_id: String,
    /// When it ends (RFC 3339).
    pub expires_at: String,
}

impl Allowance {
    /// Allows one payment.
    #[must_use]
    pub fn new(
        session: impl Into<String>,
        merchant: impl Into<String>,
        max_amount: i64,
        currency: impl Into<String>,
        expires_at: Timestamp,
    ) -> Self {
        Self {
            reason: "one_time".to_owned(),
            max_amount,
            currency: currency.into(),
            checkout_session_id: session.into(),
            merchant_id: merchant.into(),
            expires_at: expires_at.to_string(),
        }
    }

    pub(super) fn expires(&self) -> Option<Timestamp> {
        moment::parse(&self.expires_at)
    }

    /// Checks the form, and that it has not ended.
    pub(super) fn check(&self, merchant: &str, now: Timestamp) -> Result<(), Problem> {
        let wrong = |param: &str, why: &'static str| {
            Err(Problem::invalid("invalid_card", why).about(format!("$.allowance.{param}")))
        };
        let is_code =
            self.currency.len() == 3 && self.currency.bytes().all(|b| b.is_ascii_lowercase());
        if self.reason != "one_time" {
            return wrong("reason", "only one_time is supported");
        }
        if self.max_amount <= 0 {
            return wrong("max_amount", "it must be above zero");
        }
        if !is_code {
            return wrong("currency", "three lower-case letters");
        }
        if self.merchant_id != merchant {
            return wrong("merchant_id", "another merchant");
        }
        if self.expires().is_none_or(|ends| ends <= now) {
            return wrong("expires_at", "not a moment to come");
        }
        Ok(())
    }
}

/// A card on its way to the vault. It is shown to nobody: no field, no `Debug`, and wiped when it is
/// dropped.
#[non_exhaustive]
pub struct CardToStore {
    method: Secret,
    billing_address: Option<Address>,
}

impl fmt::Debug for CardToStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CardToStore(…)")
    }
}

impl CardToStore {
    pub(super) fn new(method: &Value, billing_address: Option<Address>) -> Self {
        Self {
            method: Secret::from(method.to_string()),
            billing_address,
        }
    }

    /// Returns the payment method of the protocol (`PaymentMethodCard`) as JSON.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.method.expose_secret()
    }

    /// Returns where the bill goes.
    #[must_use]
    pub const fn billing_address(&self) -> Option<&Address> {
        self.billing_address.as_ref()
    }
}

/// The vault did not take a card.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// The card is not good.
    #[error("the vault refused the card")]
    Refused,
    /// Nobody knows.
    #[error("the vault cannot be reached")]
    Unavailable(BoxError),
}

/// Keeps cards.
///
/// This is the contract for _implementors_: a service that is allowed to see cards, usually that of
/// the payment provider. It must not log or echo what it is given.
#[async_trait]
pub trait Vault: fmt::Debug + Send + Sync + 'static {
    /// Stores a card, once under a key, and returns what the merchant charges it by.
    ///
    /// # Errors
    /// [`VaultError`], without anything of the card in it.
    async fn store(
        &self,
        key: IdempotencyKey,
        card: CardToStore,
        allowance: &Allowance,
    ) -> Result<String, VaultError>;

    /// Forgets a card by what [`store`](Self::store) returned: its token is over. Forgetting one that
    /// is not there is a success.
    ///
    /// # Errors
    /// `Unavailable`; it is asked again by the next [`Seller::purge`](super::Seller::purge).
    async fn forget(&self, vaulted: &str) -> Result<(), VaultError>;
}

/// A request to delegate, its card still in it. It is read from the body and dropped with it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DelegateRequest {
    pub(super) payment_method: Value,
    pub(super) allowance: Allowance,
    #[serde(default)]
    pub(super) billing_address: Option<Address>,
    #[serde(rename = "risk_signals")]
    risk: Vec<RiskSignal>,
    pub(super) metadata: serde_json::Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RiskSignal {
    #[serde(rename = "type")]
    _kind: String,
    #[serde(rename = "score")]
    _score: i64,
    action: String,
}

/// What a card may say, by the protocol.
const FIELDS: [&str; 17] = [
    "type",
    "card_number_type",
    "number",
    "exp_month",
    "exp_year",
    "name",
    "cvc",
    "cryptogram",
    "eci_value",
    "checks_performed",
    "iin",
    "display_card_funding_type",
    "display_wallet_type",
    "display_brand",
    "display_last4",
    "metadata",
    "virtual",
];

impl DelegateRequest {
    /// Reads a request. What is wrong is not repeated: it may be a card.
    pub(super) fn read(body: &Value) -> Result<Self, Problem> {
        let why = "not of the required form";
        Self::deserialize(body).map_err(|_form| Problem::invalid("invalid_card", why).about("$"))
    }

    /// Checks the form of the card. No message repeats anything of it.
    pub(super) fn check(&self) -> Result<(), Problem> {
        let wrong = |param: &str| {
            let param = format!("$.payment_method.{param}");
            Err(Problem::invalid("invalid_card", "not of the required form").about(param))
        };
        let Some(card) = self.payment_method.as_object() else {
            return wrong("type");
        };
        let text = |name: &str| card.get(name).and_then(Value::as_str).unwrap_or_default();
        if card.keys().any(|name| !FIELDS.contains(&name.as_str())) {
            return wrong("type");
        }
        if text("type") != "card" {
            return wrong("type");
        }
        if !["fpan", "network_token"].contains(&text("card_number_type")) {
            return wrong("card_number_type");
        }
        let number = text("number");
        let is_number = number.bytes().all(|b| b.is_ascii_digit());
        if !is_number || !(12..=19).contains(&number.len()) {
            return wrong("number");
        }
        let month = text("exp_month");
        let is_month = month
            .parse()
            .is_ok_and(|month: u8| (1..=12).contains(&month));
        if !month.is_empty() && !is_month {
            return wrong("exp_month");
        }
        if !["credit", "debit", "prepaid"].contains(&text("display_card_funding_type")) {
            return wrong("display_card_funding_type");
        }
        if !card.get("metadata").is_some_and(Value::is_object) {
            return wrong("metadata");
        }
        if self.risk.iter().any(|signal| signal.action == "blocked") {
            let why = "a risk signal says to block it";
            return Err(Problem::invalid("invalid_card", why).about("$.risk_signals"));
        }
        Ok(())
    }
}

/// The answer to a delegation.
pub(super) fn delegated(token: &str, at: Timestamp, request: &DelegateRequest) -> Value {
    let mut metadata = request.metadata.clone();
    let merchant = request.allowance.merchant_id.clone();
    metadata.insert("merchant_id".to_owned(), Value::String(merchant));
    json!({ "id": token, "created": at.to_string(), "metadata": metadata })
}
