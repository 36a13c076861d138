//! Events that count what a customer is billed for.

use agent_core::{Digest, IdempotencyKey, Timestamp, Unit};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::client::Stripe;
use super::error::CallError;
use super::form::Form;
use super::id::CustomerId;
use crate::error::{Error, Result};

/// One event of a meter. It always has an identifier: without one, an event whose answer is lost
/// could neither be sent again nor be left.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MeterEvent {
    name: String,
    customer: CustomerId,
    value: u64,
    identifier: IdempotencyKey,
    at: Timestamp,
}

impl MeterEvent {
    /// The longest name and identifier in bytes.
    pub const TEXT_BYTES_MAX: usize = 100;

    /// Counts `value` of the meter `name` for a customer.
    ///
    /// # Errors
    /// `Invalid` for an empty or overlong name or an overlong identifier.
    pub fn new(
        name: impl Into<String>,
        customer: CustomerId,
        value: u64,
        identifier: IdempotencyKey,
        at: Timestamp,
    ) -> Result<Self> {
        let name = name.into();
        let is_long = |text: &str| text.is_empty() || text.len() > Self::TEXT_BYTES_MAX;
        if is_long(&name) || is_long(identifier.as_str()) {
            return Err(Error::invalid("meter event", "texts of 1 to 100 bytes"));
        }
        Ok(Self {
            name,
            customer,
            value,
            identifier,
            at,
        })
    }

    /// Returns the identifier.
    #[must_use]
    pub const fn identifier(&self) -> &IdempotencyKey {
        &self.identifier
    }

    /// Derives the identifier of a unit of a usage record, the same on every try.
    pub(super) fn identify(source: &str, id: &str, unit: Unit) -> Result<IdempotencyKey> {
        let digest = Digest::of_json(&("agent-pay meter v1", source, id, unit.name()))?;
        Ok(IdempotencyKey::new(format!("agent-pay-{digest}"))?)
    }
}

impl Stripe {
    /// Sends an event. The same identifier counts once within a day.
    ///
    /// # Errors
    /// [`CallError`].
    ///
    /// # Cancel safety
    /// Not cancel safe; repeat it.
    pub async fn meter_event(&self, event: &MeterEvent) -> Result<(), CallError> {
        #[derive(Deserialize)]
        struct Taken {
            identifier: String,
            #[serde(rename = "event_name")]
            _name: IgnoredAny,
        }
        let seconds = event.at.as_unix_ms().div_euclid(1_000);
        let form = Form::new()
            .with("event_name", event.name.clone())
            .with("identifier", event.identifier.as_str())
            .with("payload[stripe_customer_id]", event.customer.as_str())
            .with("payload[value]", event.value.to_string())
            .with("timestamp", seconds.to_string());
        let path = "/v1/billing/meter_events";
        let taken: Taken = self.post(path, Some(&event.identifier), &form).await?;
        if taken.identifier == event.identifier.as_str() {
            Ok(())
        } else {
            Err(CallError::unknown("another event than was sent"))
        }
    }
}
