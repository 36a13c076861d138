//! Events of Stripe brought to the books: each once, in whatever order they come.

use std::time::Duration;

use agent_core::{IdempotencyKey, Timestamp};

use super::intent::PaymentIntent;
use super::rail::StripeRail;
use super::store;
use super::webhook::{WebhookEvent, Webhooks};
use crate::error::{Error, Result};
use crate::rail::{Event, EventId, Paid, Payer};

/// What became of an event. All of them are answered with 200.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a payment may have ended"]
#[non_exhaustive]
pub enum Received {
    /// It is about a payment of the rail, which stands like this.
    #[non_exhaustive]
    Booked {
        /// The payment.
        payment: IdempotencyKey,
        /// How it stands in the books.
        paid: Box<Paid>,
    },
    /// It was worked off before.
    Repeated,
    /// It is about nothing of the rail.
    Ignored,
}

/// Takes events of one endpoint.
#[derive(Debug)]
pub struct Inbox {
    rail: StripeRail,
    payer: Payer,
    webhooks: Webhooks,
}

impl Inbox {
    /// Stripe repeats an event for three days, and a person may repeat one of the last thirty.
    const KEPT_MIN: Duration = Duration::from_secs(31 * 86_400);

    /// Brings the events of a rail to whoever pays over it.
    #[must_use]
    pub const fn new(rail: StripeRail, payer: Payer, webhooks: Webhooks) -> Self {
        Self {
            rail,
            payer,
            webhooks,
        }
    }

    /// Verifies an event and books what it says. Answer 200 to whatever it returns, 400 to `Denied`
    /// and `Invalid`, and 500 to other errors, so that Stripe sends it again.
    ///
    /// Events are written down once they are worked off, so that one that comes while this process
    /// dies is worked off when it comes again. Only what is final changes the books, and nothing
    /// final changes, so their order does not matter.
    ///
    /// # Errors
    /// As [`Webhooks::verify`]; those of the store; `Corrupt` if Stripe contradicts what is booked.
    ///
    /// # Cancel safety
    /// Repeat it: nothing is booked twice.
    pub async fn receive(&self, signature: &str, body: &[u8]) -> Result<Received> {
        let event = self.webhooks.verify(signature, body)?;
        let id = event.id.clone();
        if self
            .rail
            .db()
            .read(move |tx| store::is_seen(tx, &id))
            .await?
        {
            return Ok(Received::Repeated);
        }
        let received = self.work_off(&event).await?;
        let id = event.id;
        let is_first = self
            .rail
            .db()
            .write(move |tx| store::mark_seen(tx, &id))
            .await?;
        Ok(if is_first {
            received
        } else {
            Received::Repeated
        })
    }

    async fn work_off(&self, event: &WebhookEvent) -> Result<Received> {
        if !event.kind.starts_with("payment_intent.") {
            return Ok(Received::Ignored);
        }
        let object = event.data.object.clone();
        let told: PaymentIntent =
            serde_json::from_value(object).map_err(|e| Error::invalid("event", e.to_string()))?;
        let Some((payment, outcome)) = self.rail.heard(&told).await? else {
            return Ok(Received::Ignored);
        };
        let heard = Event::new(EventId::new(&event.id), payment.clone(), outcome);
        match self.payer.on_event(heard).await {
            Ok(paid) => Ok(Received::Booked {
                payment,
                paid: Box::new(paid),
            }),
            // Somebody pays over the rail without the authority.
            Err(Error::KeyNotFound { .. }) => Ok(Received::Ignored),
            Err(error) => Err(error),
        }
    }

    /// Forgets at most `limit` events worked off before a moment; those of the last 31 days before
    /// `now` are kept whatever it says.
    ///
    /// # Errors
    /// Those of the store.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn forget(&self, before: Timestamp, now: Timestamp, limit: usize) -> Result<usize> {
        let kept_ms = i64::try_from(Self::KEPT_MIN.as_millis()).unwrap_or(i64::MAX);
        let latest_ms = now.as_unix_ms().saturating_sub(kept_ms);
        let before = before.min(Timestamp::from_unix_ms(latest_ms));
        self.rail
            .db()
            .write(move |tx| store::forget_seen(tx, before, limit))
            .await
    }
}
