//! Events of Stripe brought to the books: each once, in whatever order they come.

use std::time::Duration;

use agent_core::{ErrorKind, IdempotencyKey, Retry, Timestamp};

use serde::de::DeserializeOwned;

use super::dispute::{Dispute, DisputeStatus};
use super::intent::PaymentIntent;
use super::rail::{Back, Noted, Refunded, StripeRail};
use super::refund::Refund;
use super::store;
use super::webhook::{WebhookEvent, Webhooks};
use crate::error::{Error, Result};
use crate::rail::{Event, EventId, Outcome, Paid, Payer, Rail};

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
    /// Money of a payment of the rail went back, by a refund of the rail, by one that somebody made by
    /// hand, or by a dispute that is lost; the books have it as a refund. Or a refund of the rail
    /// failed, which is [`Paid::Failed`], and what was set aside for it is free.
    #[non_exhaustive]
    GivenBack {
        /// The payment.
        payment: IdempotencyKey,
        /// The refund: `stripe/` and the name at Stripe if the rail was not asked for it.
        refund: IdempotencyKey,
        /// How it stands in the books.
        paid: Box<Paid>,
    },
    /// A payment of the rail is disputed, and nothing is lost yet or any more.
    #[non_exhaustive]
    Disputed {
        /// The payment.
        payment: IdempotencyKey,
        /// How the dispute stands.
        status: DisputeStatus,
    },
    /// Money of a payment of the rail went back, or did not, in a way the books cannot have; a person
    /// must look at it.
    #[non_exhaustive]
    Unbooked {
        /// The payment.
        payment: IdempotencyKey,
        /// The refund.
        refund: IdempotencyKey,
        /// Why it is not in the books.
        why: Unbooked,
    },
    /// It was worked off before.
    Repeated,
    /// It is about nothing of the rail, or says nothing new of it.
    Ignored,
    /// It is of a kind that is not worked off.
    #[non_exhaustive]
    Unknown {
        /// The kind, for example `invoice.paid`.
        kind: String,
    },
}

/// Why money that went back is not in the books.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unbooked {
    /// It is more than is left of the payment: a dispute after a refund, for example.
    MoreThanIsLeft,
    /// It is of another currency than the payment.
    OtherCurrency,
    /// A refund failed at the bank after it had succeeded, succeeded after it had been given up, or is
    /// of another amount than before.
    Contradiction,
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
    /// As [`Webhooks::verify`]; those of the store; `Corrupt` if Stripe contradicts what is booked;
    /// `Unavailable` for money that goes back of a payment that is not known to be settled yet.
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
        match event.kind.as_str() {
            kind if kind.starts_with("payment_intent.") => self.payment(event).await,
            kind if kind.starts_with("refund.") => self.refund(event).await,
            // What `refund.updated` was called before.
            "charge.refund.updated" => self.refund(event).await,
            kind if kind.starts_with("charge.dispute.") => self.dispute(event).await,
            kind => Ok(Received::Unknown {
                kind: kind.to_owned(),
            }),
        }
    }

    async fn payment(&self, event: &WebhookEvent) -> Result<Received> {
        let told: PaymentIntent = object(event)?;
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

    async fn refund(&self, event: &WebhookEvent) -> Result<Received> {
        let told: Refund = object(event)?;
        self.back(event, Back::refund(told)).await
    }

    /// Only a dispute that is lost moves money for good: what is withheld before comes back if it is
    /// won.
    async fn dispute(&self, event: &WebhookEvent) -> Result<Received> {
        let told: Dispute = object(event)?;
        if told.status == DisputeStatus::Lost {
            return self.back(event, Back::lost(told)).await;
        }
        let payment = self.rail.payment_of(told.payment_intent).await?;
        Ok(
            payment.map_or(Received::Ignored, |payment| Received::Disputed {
                payment,
                status: told.status,
            }),
        )
    }

    async fn back(&self, event: &WebhookEvent, told: Back) -> Result<Received> {
        let unbooked = |of: Refunded, why| Received::Unbooked {
            payment: of.payment,
            refund: of.refund,
            why,
        };
        match self.rail.heard_back(told).await? {
            Noted::NotOurs | Noted::UnderWay => Ok(Received::Ignored),
            Noted::OtherCurrency(of) => Ok(unbooked(of, Unbooked::OtherCurrency)),
            Noted::Contradiction(of) => Ok(unbooked(of, Unbooked::Contradiction)),
            Noted::Not(of) => {
                let failed = Outcome::failed("refund_failed");
                let heard = Event::new(EventId::new(&event.id), of.refund.clone(), failed);
                let booked = self.payer.on_event(heard).await;
                given_back(of, booked)
            }
            Noted::Back(of) => {
                let booked = match self.book_back(&of).await {
                    // The payment itself may not have been heard of.
                    Err(Error::ExceedsHold { .. }) => {
                        let outcome = self.rail.look_up(of.payment.clone()).await;
                        let id = EventId::new(&event.id);
                        let heard = Event::new(id, of.payment.clone(), outcome);
                        let paid = self.payer.on_event(heard).await?;
                        // Nor is it now; what is not written down as worked off comes again.
                        if matches!(paid, Paid::Unknown { .. }) {
                            return Err(not_yet());
                        }
                        self.book_back(&of).await
                    }
                    booked => booked,
                };
                match booked {
                    Err(Error::ExceedsHold { .. }) => Ok(unbooked(of, Unbooked::MoreThanIsLeft)),
                    booked => given_back(of, booked),
                }
            }
        }
    }

    /// What is written down as back is looked up there, so nothing is sent.
    async fn book_back(&self, of: &Refunded) -> Result<Paid> {
        let (payment, refund) = (of.payment.clone(), of.refund.clone());
        self.payer.refund(payment, refund, of.amount).await
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

fn given_back(of: Refunded, booked: Result<Paid>) -> Result<Received> {
    match booked {
        Ok(paid) => Ok(Received::GivenBack {
            payment: of.payment,
            refund: of.refund,
            paid: Box::new(paid),
        }),
        // Somebody pays over the rail without the authority, or a refund failed that it had no part in.
        Err(Error::KeyNotFound { .. }) => Ok(Received::Ignored),
        Err(error) => Err(error),
    }
}

fn not_yet() -> Error {
    Error::backend(
        "stripe",
        "book what goes back",
        ErrorKind::Unavailable,
        Retry::Safe,
        "its payment is not known to be settled",
    )
}

fn object<T: DeserializeOwned>(event: &WebhookEvent) -> Result<T> {
    serde_json::from_value(event.data.object.clone())
        .map_err(|form| Error::invalid("event", form.to_string()))
}
