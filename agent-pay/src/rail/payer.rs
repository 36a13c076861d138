//! Who pays: the spend authority before, the rail, and the books after.

use agent_core::IdempotencyKey;

#[cfg(feature = "sqlite")]
pub use with_authority::{Paid, Payer};

use super::Outcome;

/// What a rail calls an event.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId(String);

impl EventId {
    /// Names an event.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a rail tells by itself, perhaps twice and in any order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// Its name.
    pub id: EventId,
    /// The payment it is about.
    pub payment: IdempotencyKey,
    /// How the payment stood.
    pub outcome: Outcome,
}

impl Event {
    /// Describes an event.
    #[must_use]
    pub const fn new(id: EventId, payment: IdempotencyKey, outcome: Outcome) -> Self {
        Self {
            id,
            payment,
            outcome,
        }
    }
}

#[cfg(feature = "sqlite")]
mod with_authority {
    use std::sync::Arc;
    use std::time::Duration;

    use agent_core::{Amount, IdempotencyKey};

    use super::Event;
    use crate::authority::{
        ApprovalRequest, Authorization, Intent, Refund, RefundState, Refusal, SpendHold, SpendState,
    };
    use crate::backend::SqliteAuthority;
    use crate::backend::sqlite::turn::{SPENDS, is_over, refunds_over};
    use crate::error::{Error, Result};
    use crate::rail::{Outcome, Payment, Rail};

    /// How paying ended.
    #[derive(Clone, Debug, PartialEq, Eq)]
    #[must_use = "only a settled payment is paid"]
    #[non_exhaustive]
    pub enum Paid {
        /// The money moved and is booked.
        Settled(SpendHold),
        /// The money did not move; what was held is free. The key is used up.
        Failed(SpendHold),
        /// It may have moved. What is held stays held until [`Payer::reconcile`] knows.
        #[non_exhaustive]
        Unknown {
            /// The hold.
            hold: SpendHold,
            /// When to ask again.
            retry_after: Duration,
        },
        /// Somebody must approve it first.
        NeedsApproval(ApprovalRequest),
        /// It is not allowed.
        Denied(Refusal),
    }

    /// Pays over a rail what the authority allows. Cheap to clone.
    #[derive(Clone, Debug)]
    pub struct Payer {
        authority: SqliteAuthority,
        rail: Arc<dyn Rail>,
    }

    impl Payer {
        /// Pays over `rail`.
        #[must_use]
        pub const fn new(authority: SqliteAuthority, rail: Arc<dyn Rail>) -> Self {
            Self { authority, rail }
        }

        /// Authorizes and pays. Repeating it after a crash or a lost answer pays at most once: a
        /// payment that was submitted is looked up, not paid again.
        ///
        /// # Errors
        /// Those of [`SqliteAuthority::authorize`]; `Invalid` if the intent names another rail.
        ///
        /// # Cancel safety
        /// Atomic in its effect on the books; what the rail did is found out by repeating it.
        pub async fn pay(&self, intent: Intent) -> Result<Paid> {
            if intent.rail != self.rail.name() {
                return Err(Error::invalid("intent", "it names another rail"));
            }
            let payment = Payment::new(
                intent.key.clone(),
                intent.payee.name.clone(),
                intent.amount_max,
            );
            let payment = payment.with_resource(intent.resource.clone());
            let hold = match self.authority.authorize(intent).await? {
                Authorization::Held { hold, .. } => hold,
                Authorization::NeedsApproval(request) => return Ok(Paid::NeedsApproval(request)),
                Authorization::Denied(refusal) => return Ok(Paid::Denied(refusal)),
            };
            match hold.state {
                SpendState::Held => {
                    // From here on a crash leaves a payment that is looked up.
                    self.authority.submit(hold.key.clone()).await?;
                    let outcome = self.rail.pay(payment).await;
                    self.book(&hold.key, outcome).await
                }
                SpendState::Submitted => self.look_up(hold.key).await,
                SpendState::Captured => Ok(Paid::Settled(hold)),
                SpendState::Released | SpendState::Expired => Ok(Paid::Failed(hold)),
            }
        }

        /// Asks the rail about at most `limit` payments and as many refunds that were authorized for a
        /// rail of its name and whose outcome is not known, and returns how many of them are known now. The next call goes on where this one
        /// stops, and from the beginning after the last: each is reached, however many stay unknown.
        ///
        /// # Errors
        /// Those of the store; `Corrupt` if the rail contradicts what is booked, when all were asked
        /// about.
        ///
        /// # Cancel safety
        /// Atomic for each payment.
        pub async fn reconcile(&self, limit: usize) -> Result<usize> {
            let (db, rail) = (self.authority.db(), self.rail.name().to_owned());
            let pages = db.write(move |tx| {
                let spends = SPENDS.keys_of(tx, &rail, limit)?;
                Ok::<_, Error>((spends, refunds_over(tx, &rail, limit)?))
            });
            let (spends, refunds) = pages.await?;
            let (mut n_known, mut failed) = (0_usize, None);
            let mut count = |paid: Result<Paid>| match paid {
                Ok(Paid::Unknown { .. }) => {}
                Ok(_) => n_known = n_known.saturating_add(1),
                // One that is contradicted must not keep the others from being asked about.
                Err(error) => failed = Some(error),
            };
            for key in spends {
                count(self.look_up(key).await);
            }
            for key in refunds {
                count(self.look_up_refund(&key).await);
            }
            failed.map_or(Ok(n_known), Err)
        }

        /// Books what the rail tells by itself. An event told twice or late changes nothing.
        ///
        /// # Errors
        /// `NotFound` for a payment nobody authorized for a rail of its name; `Corrupt` if it
        /// contradicts what is booked.
        ///
        /// # Cancel safety
        /// Atomic.
        pub async fn on_event(&self, event: Event) -> Result<Paid> {
            match self.authority.find_refund(event.payment.clone()).await? {
                Some(refund) => {
                    self.expect_ours(&refund.spend.key).await?;
                    self.book_refund(refund, event.outcome).await
                }
                None => {
                    self.expect_ours(&event.payment).await?;
                    self.book(&event.payment, event.outcome).await
                }
            }
        }

        /// What another rail was asked to pay is nothing this one knows of.
        async fn expect_ours(&self, key: &IdempotencyKey) -> Result<()> {
            let (of, rail) = (key.clone(), self.rail.name().to_owned());
            let is_ours = self.authority.db().read(move |tx| is_over(tx, &of, &rail));
            match is_ours.await? {
                true => Ok(()),
                false => Err(Error::KeyNotFound { key: key.clone() }),
            }
        }

        /// Gives back part of a settled payment, on the rail and in the books. Repeating it after a
        /// crash or a lost answer gives back at most once: a refund that was submitted is looked up.
        /// [`Paid::Failed`] uses its key up; what was set aside for it can go back under another.
        ///
        /// # Errors
        /// `NotFound` for a payment nobody authorized for a rail of its name; `Invalid` for more than is
        /// left, beside what other refunds are under way with; those of
        /// [`SqliteAuthority::submit_refund`].
        ///
        /// # Cancel safety
        /// Repeat it with the same key, or [`Payer::reconcile`].
        pub async fn refund(
            &self,
            key: IdempotencyKey,
            refund_key: IdempotencyKey,
            amount: Amount,
        ) -> Result<Paid> {
            self.expect_ours(&key).await?;
            let submitted = self
                .authority
                .submit_refund(key.clone(), refund_key.clone(), amount);
            let refund = submitted.await?;
            match refund.state {
                RefundState::New => {
                    let back = Payment::new(refund_key, "", amount);
                    let outcome = self.rail.refund(key, back).await;
                    self.book_refund(refund, outcome).await
                }
                RefundState::Submitted => self.look_up_refund(&refund_key).await,
                RefundState::Settled => Ok(Paid::Settled(refund.spend)),
                RefundState::Failed => Ok(Paid::Failed(refund.spend)),
            }
        }

        async fn look_up_refund(&self, key: &IdempotencyKey) -> Result<Paid> {
            let found = self.authority.find_refund(key.clone()).await?;
            let refund = found.ok_or_else(|| Error::KeyNotFound { key: key.clone() })?;
            let outcome = self.rail.look_up(key.clone()).await;
            self.book_refund(refund, outcome).await
        }

        async fn book_refund(&self, refund: Refund, outcome: Outcome) -> Result<Paid> {
            let (hold, key) = (refund.spend, refund.key);
            let booked = match (outcome, refund.state) {
                (Outcome::Settled { amount, .. }, _) => {
                    let booked = self.authority.refund(hold.key, key.clone(), amount).await;
                    booked.map(Paid::Settled)
                }
                (Outcome::Failed { .. }, _) => {
                    let booked = self.authority.fail_refund(key.clone()).await;
                    booked.map(|refund| Paid::Failed(refund.spend))
                }
                // An event that is older than what is booked.
                (Outcome::Unknown { .. }, RefundState::Settled) => Ok(Paid::Settled(hold)),
                (Outcome::Unknown { .. }, RefundState::Failed) => Ok(Paid::Failed(hold)),
                (Outcome::Unknown { retry_after, .. }, _) => {
                    Ok(Paid::Unknown { hold, retry_after })
                }
            };
            match booked {
                Err(Error::Resolved { .. } | Error::KeyReused { .. }) => Err(contradiction(&key)),
                booked => booked,
            }
        }

        async fn look_up(&self, key: IdempotencyKey) -> Result<Paid> {
            let outcome = self.rail.look_up(key.clone()).await;
            self.book(&key, outcome).await
        }

        async fn find(&self, key: &IdempotencyKey) -> Result<SpendHold> {
            let found = self.authority.spend(key.clone()).await?;
            found.ok_or_else(|| Error::KeyNotFound { key: key.clone() })
        }

        async fn book(&self, key: &IdempotencyKey, outcome: Outcome) -> Result<Paid> {
            let hold = self.find(key).await?;
            match (outcome, hold.state) {
                (Outcome::Settled { amount, .. }, SpendState::Submitted | SpendState::Captured) => {
                    match self.authority.capture(key.clone(), amount).await {
                        Ok(hold) => Ok(Paid::Settled(hold)),
                        Err(Error::Resolved { .. }) => Err(contradiction(key)),
                        Err(error) => Err(error),
                    }
                }
                (Outcome::Failed { .. }, SpendState::Submitted | SpendState::Released) => {
                    Ok(Paid::Failed(self.authority.release(key.clone()).await?))
                }
                (Outcome::Unknown { retry_after, .. }, SpendState::Submitted) => {
                    Ok(Paid::Unknown { hold, retry_after })
                }
                // An event that is older than what is booked.
                (Outcome::Unknown { .. }, SpendState::Captured) => Ok(Paid::Settled(hold)),
                (Outcome::Unknown { .. }, _) => Ok(Paid::Failed(hold)),
                (Outcome::Settled { .. } | Outcome::Failed { .. }, _) => Err(contradiction(key)),
            }
        }
    }

    fn contradiction(key: &IdempotencyKey) -> Error {
        let key = key.as_str();
        Error::corrupt(format!("the rail contradicts what is booked of {key}"))
    }
}
