//! What a seller tells of its orders: signed, in order, until it is taken (`order_create`,
//! `order_update`).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use agent_core::{Clock, Env, Secret};
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};

use super::seller::Seller;
use super::store;
use crate::error::{Error, Result};
use crate::timed_signature;
use crate::transport::Transport;

/// What changed of an order.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct OrderChange {
    status: Option<String>,
    fulfillments: Option<Value>,
    adjustments: Option<Value>,
}

impl OrderChange {
    /// Nothing changed yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the status: `shipped`, `completed`… Default: as it was.
    #[must_use]
    pub fn with_status(mut self, status: impl Into<String>) -> Self {
        self.status = Some(status.into());
        self
    }

    /// Sets all deliveries (`Fulfillment`s of the protocol). Default: as they were.
    #[must_use]
    pub fn with_fulfillments(mut self, all: Vec<Value>) -> Self {
        self.fulfillments = Some(Value::Array(all));
        self
    }

    /// Sets all refunds, credits and disputes (`Adjustment`s). Default: as they were.
    #[must_use]
    pub fn with_adjustments(mut self, all: Vec<Value>) -> Self {
        self.adjustments = Some(Value::Array(all));
        self
    }
}

impl Seller {
    /// Changes the order of a session and puts the event that tells of it in the queue, in one
    /// transaction.
    ///
    /// # Errors
    /// `Invalid` for a session without an order; those of the store.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn change_order(&self, session: String, change: OrderChange) -> Result<Value> {
        self.db
            .write(move |tx| {
                let none = || Error::invalid("session", "one with an order");
                let mut found = store::find(tx, &session, None)?.ok_or_else(none)?;
                let order = found.session.order.as_mut();
                let order = order.and_then(Value::as_object_mut).ok_or_else(none)?;
                if let Some(status) = change.status {
                    order.insert("status".to_owned(), Value::String(status));
                }
                for (name, all) in [
                    ("fulfillments", change.fulfillments),
                    ("adjustments", change.adjustments),
                ] {
                    if let Some(all) = all {
                        order.insert(name.to_owned(), all);
                    }
                }
                let order = Value::Object(order.clone());
                let event = json!({ "type": "order_update", "data": order });
                found.session.updated = tx.now();
                store::update(tx, &found)?;
                store::push_event(tx, &session, &event.to_string())?;
                Ok(order)
            })
            .await
    }
}

/// Delivers the events of orders to one receiver, and verifies them there.
pub struct OrderHooks {
    url: String,
    secret: [Secret; 1],
    transport: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
    tolerance: Duration,
}

impl fmt::Debug for OrderHooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OrderHooks")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl OrderHooks {
    /// Delivers to `url`, signed with a secret both sides know; signatures are good for five minutes.
    #[must_use]
    pub fn new(
        url: impl Into<String>,
        secret: Secret,
        transport: Arc<dyn Transport>,
        env: &Env,
    ) -> Self {
        Self {
            url: url.into(),
            secret: [secret],
            transport,
            clock: Arc::clone(&env.clock),
            tolerance: Duration::from_secs(300),
        }
    }

    /// Sends at most `limit` events in the order they happened and returns how many were taken. It
    /// ends at the first that is not; that one is sent again the next time, so a receiver may get one
    /// twice, and none too early.
    ///
    /// # Errors
    /// Those of the store. A receiver that does not answer is no error.
    ///
    /// # Cancel safety
    /// Repeat it.
    pub async fn deliver(&self, seller: &Seller, limit: usize) -> Result<usize> {
        let mut n_taken = 0_usize;
        let events = seller
            .db
            .read(move |tx| store::next_events(tx, limit))
            .await?;
        for (seq, body) in events {
            let [secret] = &self.secret;
            let signature = timed_signature::sign(secret, self.clock.now(), body.as_bytes());
            let request = http::Request::post(&self.url)
                .header(CONTENT_TYPE, "application/json")
                .header("merchant-signature", signature.unwrap_or_default())
                .header("request-id", format!("event-{seq}"))
                .body(body.into_bytes())
                .map_err(|e| Error::invalid("address of the receiver", e.to_string()))?;
            match self.transport.send(request).await {
                Ok(answer) if answer.status().is_success() => {}
                Ok(_) | Err(_) => break,
            }
            seller
                .db
                .write(move |tx| store::remove_event(tx, seq))
                .await?;
            n_taken = n_taken.saturating_add(1);
        }
        Ok(n_taken)
    }

    /// Returns the event of a body whose `Merchant-Signature` is good and fresh.
    ///
    /// # Errors
    /// `Denied` for a signature that is not; `Invalid` for a signed body that is no event.
    pub fn verify(&self, signature: &str, body: &[u8]) -> Result<Value> {
        let now = self.clock.now();
        if !timed_signature::verify(&self.secret, signature, body, now, self.tolerance) {
            return Err(Error::BadSignature {
                key_id: "merchant".to_owned(),
            });
        }
        let event: Value =
            serde_json::from_slice(body).map_err(|e| Error::invalid("event", e.to_string()))?;
        let is_event = event.get("type").is_some_and(Value::is_string)
            && event.get("data").is_some_and(Value::is_object);
        if is_event {
            Ok(event)
        } else {
            Err(Error::invalid("event", "a type and an order"))
        }
    }
}
