//! Payments of the spend authority over Stripe.

mod back;
mod heard;
mod refund;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use agent_core::store::{Db, Tx};
use agent_core::{Classify, Clock, Env, IdempotencyKey};
use async_trait::async_trait;

use super::METADATA_ID;
use super::client::{Stripe, step_key};
use super::error::CallError;
use super::id::{AccountId, IntentId, Source};
use super::intent::{IntentStatus, NewIntent, PaymentIntent};
use super::money::Money;
use super::store::{self, Entry, State};
use crate::error::{Error, Result};
use crate::rail::{Outcome, Payment, Rail};
use crate::transport::Refuses as _;

pub(super) use back::{Back, Noted, Refunded};

/// Who gets the money of a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Destination {
    /// The account of the key.
    This,
    /// A connected account.
    Account(AccountId),
}

/// Says what a payment is taken from. A [`Source`] is the wallet that always gives itself.
pub trait Wallet: fmt::Debug + Send + Sync + 'static {
    /// Returns the source for a payment, or none if there is none.
    fn source(&self, payment: &Payment) -> Option<Source>;
}

impl Wallet for Source {
    fn source(&self, _payment: &Payment) -> Option<Source> {
        Some(self.clone())
    }
}

/// The rail `stripe`. Cheap to clone.
///
/// Money moves at most once for a payment whatever Stripe remembers of keys, since a payment is
/// confirmed only after its one name at Stripe is written down, by whoever wrote it down.
#[derive(Clone, Debug)]
pub struct StripeRail {
    client: Stripe,
    db: Db,
    clock: Arc<dyn Clock>,
    wallet: Arc<dyn Wallet>,
    payees: BTreeMap<String, Destination>,
    grace: Duration,
    is_off_session: bool,
}

/// When to ask again about what the network has not answered.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// When to ask again after a call that may have been lost.
const ASK_AGAIN_SOON: Duration = Duration::from_secs(5);

impl StripeRail {
    /// Opens the rail: what it writes down is kept in `db`, best that of the authority. It pays
    /// nobody until payees are named; a payment on its way is left alone for a minute; a person is
    /// there to answer the bank.
    ///
    /// # Errors
    /// Those of the store.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn open(client: Stripe, db: Db, env: &Env, wallet: impl Wallet) -> Result<Self> {
        store::migrate(&db).await?;
        Ok(Self {
            client,
            db,
            clock: Arc::clone(&env.clock),
            wallet: Arc::new(wallet),
            payees: BTreeMap::new(),
            grace: Duration::from_secs(60),
            is_off_session: false,
        })
    }

    /// Names a payee. Default: none.
    #[must_use]
    pub fn with_payee(mut self, name: impl Into<String>, to: Destination) -> Self {
        self.payees.insert(name.into(), to);
        self
    }

    /// Sets how long a payment that another caller may still be sending is left alone before a
    /// look-up gives it up. Default: a minute, which is longer than a request takes.
    #[must_use]
    pub const fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Says that nobody is there to answer the bank. Default: somebody is.
    #[must_use]
    pub const fn off_session(mut self) -> Self {
        self.is_off_session = true;
        self
    }

    pub(super) const fn db(&self) -> &Db {
        &self.db
    }

    async fn write<T, F>(&self, write: F) -> Result<T>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        self.db.write(write).await
    }

    async fn try_pay(&self, payment: Payment) -> Result<Outcome, CallError> {
        let id = payment.id.clone();
        let (payee, amount) = (payment.payee.clone(), payment.amount);
        let of = id.clone();
        let entry = self
            .write(move |tx| store::begin(tx, &of, &payee, amount))
            .await?;
        match (entry.state, entry.intent) {
            (State::New, _) => self.create(&payment).await,
            (State::Created, Some(intent)) => self.confirm(&id, &intent).await,
            (_, intent) => self.told(&Entry { intent, ..entry }).map_or_else(
                || Ok(Outcome::unknown(ASK_AGAIN_SOON, "another call pays it")),
                Ok,
            ),
        }
    }

    /// Creates the payment. Whatever goes wrong here, nothing was confirmed: it has failed.
    async fn create(&self, payment: &Payment) -> Result<Outcome, CallError> {
        let id = payment.id.clone();
        let new = match self.describe(payment) {
            Ok(new) => new,
            Err(code) => return self.give_up(&id, code, State::Created).await,
        };
        let key = step_key("create", id.as_str())?;
        let intent = match self.client.create(&key, &new).await {
            Ok(intent) if is_as_asked(&intent, &new.money) => intent.name(),
            Ok(_other) => Err(CallError::unknown("another payment than asked for")),
            Err(error) => Err(error),
        };
        let intent = match intent {
            Ok(intent) => intent,
            Err(CallError::Refused(refusal)) => {
                return self.give_up(&id, &refusal.reason(), State::Created).await;
            }
            Err(error) => return self.give_up(&id, error.code(), State::Created).await,
        };
        let of = id.clone();
        let entry = self
            .write(move |tx| store::created(tx, &of, &intent))
            .await?;
        match (entry.state, &entry.intent) {
            (State::Created, Some(intent)) => self.confirm(&id, intent).await,
            _ => Ok(self
                .told(&entry)
                .unwrap_or_else(|| Outcome::unknown(ASK_AGAIN_SOON, "another call pays it"))),
        }
    }

    fn describe(&self, payment: &Payment) -> Result<NewIntent, &'static str> {
        let to = self.payees.get(&payment.payee).ok_or("unknown_payee")?;
        let money = Money::new(payment.amount).map_err(|_amount| "amount_not_payable")?;
        let source = self.wallet.source(payment).ok_or("no_source")?;
        let new = NewIntent::new(money, source).with_metadata(METADATA_ID, payment.id.as_str());
        Ok(match to {
            Destination::This => new,
            Destination::Account(account) => new.with_destination(account.clone()),
        })
    }

    async fn confirm(&self, id: &IdempotencyKey, intent: &IntentId) -> Result<Outcome, CallError> {
        let of = id.clone();
        if !self.write(move |tx| store::confirming(tx, &of)).await? {
            return Ok(Outcome::unknown(ASK_AGAIN_SOON, "another call pays it"));
        }
        let key = step_key("confirm", id.as_str())?;
        let confirmed = self.client.confirm(&key, intent, self.is_off_session);
        match confirmed.await {
            Ok(told) if told.status == IntentStatus::Succeeded => self.settle(id, &told).await,
            Ok(_told) => self.conclude(id, intent, "not_completed", true).await,
            Err(CallError::Refused(refusal)) => {
                self.conclude(id, intent, &refusal.reason(), true).await
            }
            // It cannot have arrived, and nobody else sends it.
            Err(CallError::NotSent { .. }) => self.give_up(id, "not_sent", State::Confirming).await,
            Err(error) => Err(error),
        }
    }

    /// Finds out how a payment stands that may have been confirmed. `may_close`: what is not under
    /// way is canceled, which fails it for good.
    async fn conclude(
        &self,
        id: &IdempotencyKey,
        intent: &IntentId,
        code: &str,
        may_close: bool,
    ) -> Result<Outcome, CallError> {
        // Twice, since it may succeed between the question and the cancelation.
        for _ in 0..2 {
            let told = self.client.intent(intent).await?;
            match told.status {
                IntentStatus::Succeeded => return self.settle(id, &told).await,
                IntentStatus::Canceled => return self.give_up(id, code, State::Confirming).await,
                IntentStatus::Processing | IntentStatus::Other => {
                    return Ok(Outcome::unknown(ASK_AGAIN, "the network has not answered"));
                }
                _ if !may_close => {
                    return Ok(Outcome::unknown(ASK_AGAIN_SOON, "it may be on its way"));
                }
                _ => {}
            }
            let key = step_key("cancel", id.as_str())?;
            match self.client.cancel(&key, intent).await {
                Ok(told) if told.status == IntentStatus::Canceled => {
                    return self.give_up(id, code, State::Confirming).await;
                }
                Ok(_) | Err(CallError::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Outcome::unknown(
            ASK_AGAIN,
            "it can be neither taken nor canceled",
        ))
    }

    async fn settle(
        &self,
        id: &IdempotencyKey,
        told: &PaymentIntent,
    ) -> Result<Outcome, CallError> {
        let (id, received, currency) = (id.clone(), told.received(), told.currency.clone());
        let entry = self.write(move |tx| {
            let entry = store::find(tx, &id)?;
            let entry = entry.ok_or_else(|| Error::KeyNotFound { key: id.clone() })?;
            let moved = Money::read(received, &currency, entry.amount.asset())?;
            if moved.compare(&entry.amount)?.is_gt() {
                return Err(Error::corrupt("Stripe took more than it was asked to"));
            }
            store::settled(tx, &id, moved)
        });
        let entry = entry.await?;
        match self.told(&entry) {
            Some(told) if entry.state == State::Settled => Ok(told),
            _ => Err(CallError::unknown(
                "money was taken after the payment had failed",
            )),
        }
    }

    async fn give_up(
        &self,
        id: &IdempotencyKey,
        code: &str,
        up_to: State,
    ) -> Result<Outcome, CallError> {
        let (id, code) = (id.clone(), code.to_owned());
        let entry = self
            .write(move |tx| store::failed(tx, &id, &code, up_to))
            .await?;
        let told = self.told(&entry);
        Ok(told.unwrap_or_else(|| Outcome::unknown(ASK_AGAIN_SOON, "another call pays it")))
    }

    /// Returns the outcome of what is final.
    #[expect(clippy::unused_self, reason = "reads as a question to the rail")]
    fn told(&self, entry: &Entry) -> Option<Outcome> {
        let intent = entry.intent.as_ref();
        match entry.state {
            State::Settled => {
                let reference = intent.map(IntentId::as_str).unwrap_or_default();
                Some(Outcome::settled(entry.amount, reference))
            }
            State::Failed => Some(Outcome::failed(entry.code.clone())),
            State::New | State::Created | State::Confirming => None,
        }
    }

    async fn try_look_up(&self, id: IdempotencyKey) -> Result<Outcome, CallError> {
        let of = id.clone();
        let found = self
            .db
            .read(move |tx| Ok::<_, Error>((store::refund_of(tx, &of)?, store::find(tx, &of)?)));
        let entry = match found.await? {
            (Some((payment, refund)), _) => {
                return self.look_up_refund(id, payment, refund).await;
            }
            (None, Some(entry)) => entry,
            (None, None) => return self.close_unseen(&id).await,
        };
        if let Some(told) = self.told(&entry) {
            return Ok(told);
        }
        let is_over = self.clock.now().since(entry.at) >= self.grace;
        match (entry.state, &entry.intent) {
            (State::Confirming, Some(intent)) => {
                self.conclude(&id, intent, "never_confirmed", is_over).await
            }
            _ if is_over => self.give_up(&id, "never_confirmed", State::Created).await,
            _ => Ok(Outcome::unknown(ASK_AGAIN_SOON, "it may be on its way")),
        }
    }

    /// Closes an id that was never written down here, so that it cannot be paid any more. Should
    /// the store have been restored from a copy, Stripe still knows what it did.
    async fn close_unseen(&self, id: &IdempotencyKey) -> Result<Outcome, CallError> {
        let found = match self.client.search(METADATA_ID, id.as_str()).await {
            Ok(found) => found,
            // Not every account can search, and the store is what decides.
            Err(CallError::Refused(_) | CallError::Invalid(_)) => Vec::new(),
            Err(error) => return Err(error),
        };
        if found
            .iter()
            .any(|told| told.status != IntentStatus::Canceled)
        {
            let why = "Stripe knows a payment that is not written down here";
            return Ok(Outcome::unknown(ASK_AGAIN, why));
        }
        let of = id.clone();
        let zero = agent_core::Amount::zero(agent_core::Asset::USD);
        self.write(move |tx| store::begin(tx, &of, "", zero))
            .await?;
        self.give_up(id, "never_seen", State::Created).await
    }
}

/// Whether what Stripe made is what was asked for.
fn is_as_asked(told: &PaymentIntent, money: &Money) -> bool {
    told.amount == money.minor() && told.currency.eq_ignore_ascii_case(money.currency())
}

/// What is not known is asked about; no error of a call is a failure of the payment.
fn or_unknown(outcome: Result<Outcome, CallError>) -> Outcome {
    outcome.unwrap_or_else(|error| {
        let wait = error.retry_after().unwrap_or(ASK_AGAIN_SOON);
        Outcome::unknown(wait, error.to_string())
    })
}

#[async_trait]
impl Rail for StripeRail {
    fn name(&self) -> &'static str {
        "stripe"
    }

    async fn pay(&self, payment: Payment) -> Outcome {
        or_unknown(self.try_pay(payment).await)
    }

    async fn look_up(&self, id: IdempotencyKey) -> Outcome {
        or_unknown(self.try_look_up(id).await)
    }

    async fn refund(&self, payment: IdempotencyKey, refund: Payment) -> Outcome {
        or_unknown(self.try_refund(payment, refund).await)
    }
}
