//! The side of the agent: requests to a seller, and what is known when no answer came.

mod error;

use std::fmt;
use std::sync::Arc;

use agent_core::{ExposeSecret, IdempotencyKey, Secret};
use http::Method;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use serde::Deserialize;
use serde_json::{Value, json};

use super::VERSION;
use super::card::Allowance;
use super::session::SessionStatus;
use super::wire::{Address, Buyer, Credential, FulfillmentDetails, Selected};
use crate::error::{Error, Result};
use crate::transport::{Answer, Transport};

pub use error::{AcpError, SellerRefusal};

#[derive(Clone, Debug, Deserialize)]
struct Total {
    #[serde(rename = "type")]
    kind: String,
    amount: i64,
}

/// A session as the seller shows it; all of it is text of a peer.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Checkout {
    /// Its id.
    pub id: String,
    /// How it stands.
    pub status: SessionStatus,
    /// The currency in lower case.
    pub currency: String,
    totals: Vec<Total>,
    /// The lines.
    #[serde(default)]
    pub line_items: Vec<Value>,
    /// The ways to deliver it.
    #[serde(default)]
    pub fulfillment_options: Vec<Value>,
    /// What the seller says.
    #[serde(default)]
    pub messages: Vec<Value>,
    /// What the seller can do.
    #[serde(default)]
    pub capabilities: Value,
    /// The order, once it is completed.
    #[serde(default)]
    pub order: Option<Value>,
}

impl Checkout {
    /// Returns what it costs in the currency's smallest units; none if the seller names no total, or
    /// two.
    #[must_use]
    pub fn total(&self) -> Option<i64> {
        let mut totals = self.totals.iter().filter(|total| total.kind == "total");
        match (totals.next(), totals.next()) {
            (Some(total), None) if total.amount >= 0 => Some(total.amount),
            _ => None,
        }
    }

    /// Returns the id of the order, bounded.
    #[must_use]
    pub fn order_id(&self) -> Option<String> {
        let id = self.order.as_ref()?.get("id")?.as_str()?;
        Some(id.chars().take(255).collect())
    }
}

/// What is delegated to a seller's vault. The card in it comes from the host and is shown to nobody.
#[non_exhaustive]
pub struct CardDelegation {
    method: Secret,
    allowance: Allowance,
    billing_address: Option<Address>,
}

impl fmt::Debug for CardDelegation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CardDelegation")
            .field("allowance", &self.allowance)
            .finish_non_exhaustive()
    }
}

impl CardDelegation {
    /// Takes the JSON of a `PaymentMethodCard` and how far it may be charged.
    #[must_use]
    pub const fn new(method: Secret, allowance: Allowance) -> Self {
        Self {
            method,
            allowance,
            billing_address: None,
        }
    }

    /// Sets where the bill goes. Default: not said.
    #[must_use]
    pub fn with_billing_address(mut self, address: Address) -> Self {
        self.billing_address = Some(address);
        self
    }
}

/// A client of one seller. Cheap to clone. It repeats nothing by itself.
#[derive(Clone)]
pub struct AcpClient {
    base: String,
    authorization: HeaderValue,
    transport: Arc<dyn Transport>,
}

impl fmt::Debug for AcpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcpClient")
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

impl AcpClient {
    /// Prepares a client of the seller at `base`, let in by a bearer token. Nothing is sent.
    ///
    /// # Errors
    /// `Invalid` for a token no header can carry.
    pub fn new(
        base: impl Into<String>,
        bearer: &Secret,
        transport: Arc<dyn Transport>,
    ) -> Result<Self> {
        let text = format!("Bearer {}", bearer.expose_secret());
        let mut authorization = HeaderValue::from_str(&text)
            .map_err(|_text| Error::invalid("bearer token", "visible characters"))?;
        authorization.set_sensitive(true);
        Ok(Self {
            base: base.into().trim_end_matches('/').to_owned(),
            authorization,
            transport,
        })
    }

    /// Opens a session for items; one that is to be bought twice is named twice.
    ///
    /// # Errors
    /// [`AcpError`].
    ///
    /// # Cancel safety
    /// Not cancel safe; repeat it with the same key.
    pub async fn create(
        &self,
        key: &IdempotencyKey,
        items: &[&str],
        currency: &str,
        buyer: Option<&Buyer>,
        details: Option<&FulfillmentDetails>,
    ) -> Result<Checkout, AcpError> {
        let items: Vec<Value> = items.iter().map(|id| json!({ "id": id })).collect();
        let mut body = json!({ "line_items": items, "currency": currency, "capabilities": {} });
        put(&mut body, "buyer", buyer.map(|buyer| json!(buyer)));
        put(&mut body, "fulfillment_details", details.map(|d| json!(d)));
        self.post("/checkout_sessions", key, &body).await
    }

    /// Returns a session.
    ///
    /// # Errors
    /// [`AcpError`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn get(&self, id: &str) -> Result<Checkout, AcpError> {
        let path = session_path(id, "")?;
        let answer = self.send(Method::GET, &path, None, Vec::new()).await?;
        AcpError::read(&answer)
    }

    /// Says who buys, where to, or how.
    ///
    /// # Errors
    /// [`AcpError`].
    ///
    /// # Cancel safety
    /// Not cancel safe; repeat it with the same key.
    pub async fn update(
        &self,
        key: &IdempotencyKey,
        id: &str,
        details: Option<&FulfillmentDetails>,
        selected: Option<&[Selected]>,
    ) -> Result<Checkout, AcpError> {
        let mut body = json!({});
        put(&mut body, "fulfillment_details", details.map(|d| json!(d)));
        let selected = selected.map(|selected| json!(selected));
        put(&mut body, "selected_fulfillment_options", selected);
        self.post(&session_path(id, "")?, key, &body).await
    }

    /// Pays and orders.
    ///
    /// # Errors
    /// [`AcpError`]. The same key pays once.
    ///
    /// # Cancel safety
    /// Not cancel safe; read the session, or repeat it with the same key.
    pub async fn complete(
        &self,
        key: &IdempotencyKey,
        id: &str,
        handler: &str,
        credential: &Credential,
    ) -> Result<Checkout, AcpError> {
        let body = json!({
            "payment_data": {
                "handler_id": handler,
                "instrument": { "type": "card", "credential": credential },
            },
        });
        self.post(&session_path(id, "/complete")?, key, &body).await
    }

    /// Gives a session up.
    ///
    /// # Errors
    /// [`AcpError`]; `Refused` with 405 if it cannot be any more.
    ///
    /// # Cancel safety
    /// Not cancel safe; repeat it with the same key.
    pub async fn cancel(&self, key: &IdempotencyKey, id: &str) -> Result<Checkout, AcpError> {
        self.post(&session_path(id, "/cancel")?, key, &json!({}))
            .await
    }

    /// Lets the seller charge a card within an allowance, and returns the token for it.
    ///
    /// # Errors
    /// [`AcpError`], without anything of the card in it.
    ///
    /// # Cancel safety
    /// Not cancel safe; repeat it with the same key.
    pub async fn delegate(
        &self,
        key: &IdempotencyKey,
        delegation: &CardDelegation,
    ) -> Result<Credential, AcpError> {
        #[derive(Deserialize)]
        struct Delegated {
            id: String,
        }
        let method: Value = serde_json::from_str(delegation.method.expose_secret())
            .map_err(|_form| Error::invalid("card", "JSON of a payment method"))?;
        let mut body = json!({
            "payment_method": method,
            "allowance": delegation.allowance,
            "risk_signals": [],
            "metadata": {},
        });
        let address = delegation.billing_address.as_ref().map(|a| json!(a));
        put(&mut body, "billing_address", address);
        let path = "/agentic_commerce/delegate_payment";
        let answer = self.send(Method::POST, path, Some(key), body.to_string().into_bytes());
        let delegated: Delegated = AcpError::read(&answer.await?)?;
        Ok(Credential::new("vault_token", delegated.id))
    }

    async fn post(
        &self,
        path: &str,
        key: &IdempotencyKey,
        body: &Value,
    ) -> Result<Checkout, AcpError> {
        let body = body.to_string().into_bytes();
        let answer = self.send(Method::POST, path, Some(key), body).await?;
        AcpError::read(&answer)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        key: Option<&IdempotencyKey>,
        body: Vec<u8>,
    ) -> Result<Answer, AcpError> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(AUTHORIZATION, &self.authorization)
            .header("api-version", VERSION);
        if let Some(key) = key {
            request = request
                .header("idempotency-key", key.as_str())
                .header(CONTENT_TYPE, "application/json");
        }
        let request = request
            .body(body)
            .map_err(|e| Error::invalid("address of the seller", e.to_string()))?;
        Ok(self.transport.send(request).await?)
    }
}

fn put(body: &mut Value, name: &str, value: Option<Value>) {
    if let (Some(body), Some(value)) = (body.as_object_mut(), value) {
        body.insert(name.to_owned(), value);
    }
}

/// An id comes from a seller and must stay one part of a path.
fn session_path(id: &str, step: &str) -> Result<String, AcpError> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.~".contains(&b);
    let is_id =
        !id.is_empty() && id.len() <= 255 && id.bytes().all(is_plain) && !id.starts_with('.');
    if is_id {
        Ok(format!("/checkout_sessions/{id}{step}"))
    } else {
        Err(Error::invalid("checkout session", "an id of letters and digits").into())
    }
}
