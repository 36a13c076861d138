//! Requests of the protocol as they come. Fields it does not name are refused, as its documents ask
//! (`additionalProperties: false`); parts the seller does not decide on are kept as they are.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where something goes or a bill is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Address {
    /// The recipient.
    pub name: String,
    /// Street and number.
    pub line_one: String,
    /// Flat or suite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line_two: Option<String>,
    /// The city.
    pub city: String,
    /// The state or province.
    pub state: String,
    /// The country (ISO 3166-1 alpha-2).
    pub country: String,
    /// The postal code.
    pub postal_code: String,
}

/// To whom things go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct FulfillmentDetails {
    /// The name of whoever receives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Their number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone_number: Option<String>,
    /// Their e-mail address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Where to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
}

/// Who buys. What the seller does not read is kept in `rest`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Buyer {
    /// The e-mail address.
    pub email: String,
    /// Everything else that was said.
    #[serde(flatten)]
    pub rest: BTreeMap<String, Value>,
}

/// How items are to be delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Selected {
    /// `shipping`, `digital`, `pickup` or `local_delivery`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The option.
    pub option_id: String,
    /// The lines it is for.
    pub item_ids: Vec<String>,
}

/// One thing to buy; to buy two, it is there twice.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Item {
    pub(super) id: String,
    #[serde(default, rename = "name")]
    _name: Option<String>,
    #[serde(default, rename = "unit_amount")]
    _unit_amount: Option<i64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateRequest {
    pub(super) line_items: Vec<Item>,
    pub(super) currency: String,
    pub(super) capabilities: Value,
    #[serde(default)]
    pub(super) buyer: Option<Buyer>,
    #[serde(default)]
    pub(super) fulfillment_details: Option<FulfillmentDetails>,
    #[serde(default)]
    pub(super) coupons: Option<Vec<String>>,
    #[serde(default)]
    pub(super) locale: Option<String>,
    #[serde(default)]
    pub(super) timezone: Option<String>,
    #[serde(default)]
    pub(super) metadata: Option<Value>,
    #[serde(default)]
    pub(super) quote_id: Option<String>,
    #[serde(default, rename = "fulfillment_groups")]
    _groups: Option<Value>,
    #[serde(default, rename = "discounts")]
    _discounts: Option<Value>,
    #[serde(default, rename = "affiliate_attribution")]
    _affiliate: Option<Value>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateRequest {
    #[serde(default)]
    pub(super) line_items: Option<Vec<Item>>,
    #[serde(default)]
    pub(super) buyer: Option<Buyer>,
    #[serde(default)]
    pub(super) fulfillment_details: Option<FulfillmentDetails>,
    #[serde(default)]
    pub(super) selected_fulfillment_options: Option<Vec<Selected>>,
    #[serde(default)]
    pub(super) coupons: Option<Vec<String>>,
    #[serde(default, rename = "fulfillment_groups")]
    _groups: Option<Value>,
    #[serde(default, rename = "discounts")]
    _discounts: Option<Value>,
}

/// What a payment is taken from, as the agent hands it over: a token, never a card. `Debug` does not
/// show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Credential {
    /// What kind of token it is: `spt`, `vault_token`…
    #[serde(rename = "type")]
    pub kind: String,
    /// The token.
    pub token: String,
}

impl Credential {
    /// Takes a token.
    #[must_use]
    pub fn new(kind: impl Into<String>, token: impl Into<String>) -> Self {
        let (kind, token) = (kind.into(), token.into());
        Self { kind, token }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Instrument {
    #[serde(rename = "type")]
    pub(super) _kind: String,
    pub(super) credential: Credential,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PaymentData {
    #[serde(default)]
    pub(super) handler_id: Option<String>,
    #[serde(default)]
    pub(super) instrument: Option<Instrument>,
    #[serde(default)]
    pub(super) billing_address: Option<Address>,
    #[serde(default, rename = "purchase_order_number")]
    _number: Option<String>,
    #[serde(default)]
    pub(super) payment_terms: Option<String>,
    #[serde(default, rename = "due_date")]
    _due: Option<String>,
    #[serde(default)]
    pub(super) approval_required: Option<bool>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CompleteRequest {
    pub(super) payment_data: PaymentData,
    #[serde(default)]
    pub(super) buyer: Option<Buyer>,
    #[serde(default, rename = "authentication_result")]
    _authentication: Option<Value>,
    #[serde(default, rename = "affiliate_attribution")]
    _affiliate: Option<Value>,
    #[serde(default, rename = "risk_signals")]
    _risk: Option<Value>,
    #[serde(default, rename = "marketing_consents")]
    _consents: Option<Value>,
}
