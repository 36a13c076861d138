//! Payments of the rail that an event tells of.

use agent_core::IdempotencyKey;

use super::{ASK_AGAIN, StripeRail};
use crate::error::{Error, Result};
use crate::rail::Outcome;
use crate::stripe::error::CallError;
use crate::stripe::intent::{IntentStatus, PaymentIntent};
use crate::stripe::store::{self, State};

impl StripeRail {
    /// Notes what an event says of a payment of this rail, and returns whose it is and how it stands.
    pub(in crate::stripe) async fn heard(
        &self,
        told: &PaymentIntent,
    ) -> Result<Option<(IdempotencyKey, Outcome)>> {
        let intent = told.id.clone();
        let id = self
            .db
            .read(move |tx| store::payment_of(tx, &intent))
            .await?;
        let Some(id) = id else {
            return Ok(None);
        };
        let outcome = match told.status {
            IntentStatus::Succeeded => self.settle(&id, told).await,
            IntentStatus::Canceled => self.give_up(&id, "canceled", State::Confirming).await,
            _ => Ok(Outcome::unknown(ASK_AGAIN, "the network has not answered")),
        };
        match outcome {
            Ok(outcome) => Ok(Some((id, outcome))),
            Err(CallError::Invalid(error)) => Err(error),
            Err(_) => Err(Error::corrupt(
                "an event that contradicts what is written down",
            )),
        }
    }
}
