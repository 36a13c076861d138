//! Checkouts paid under the spend authority: what is authorized is the total the seller names, and
//! what is captured is what was ordered.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use agent_core::store::Db;
use agent_core::{Amount, BoxError, Classify, Clock, Env, IdempotencyKey};
use async_trait::async_trait;

use super::client::{AcpClient, AcpError, Checkout};
use super::session::SessionStatus;
use super::store;
use super::wire::Credential;
use crate::currency::{from_minor, iso_scale};
use crate::error::{Error, Result};
use crate::rail::{Outcome, Payment, Rail};

/// Gives what a checkout is paid with: a token for this seller, this session and this amount.
#[async_trait]
pub trait Credentials: fmt::Debug + Send + Sync + 'static {
    /// Returns the handler of the seller it is for and the token, once for a payment.
    ///
    /// # Errors
    /// Of any kind; the payment has failed then.
    async fn credential(
        &self,
        payment: &Payment,
        checkout: &Checkout,
    ) -> Result<(String, Credential), BoxError>;
}

/// The rail `acp`: [`Payment::resource`] names the checkout session. Cheap to clone.
///
/// A payment has one session and a session one payment. Refunds are the seller's: an order's
/// adjustments tell of them.
#[derive(Clone, Debug)]
pub struct AcpRail {
    client: AcpClient,
    db: Db,
    clock: Arc<dyn Clock>,
    credentials: Arc<dyn Credentials>,
    grace: Duration,
}

const SENT: i64 = 1;
const SETTLED: i64 = 2;
const FAILED: i64 = 3;

/// When to ask again about what is not known.
const ASK_AGAIN: Duration = Duration::from_secs(5);

impl AcpRail {
    /// Opens the rail: what it writes down is kept in `db`, best that of the authority. A request on
    /// its way is left alone for a minute.
    ///
    /// # Errors
    /// Those of the store.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn open(
        client: AcpClient,
        db: Db,
        env: &Env,
        credentials: impl Credentials,
    ) -> Result<Self> {
        store::migrate(&db).await?;
        Ok(Self {
            client,
            db,
            clock: Arc::clone(&env.clock),
            credentials: Arc::new(credentials),
            grace: Duration::from_secs(60),
        })
    }

    /// Sets how long a session that is not completed is left alone before a look-up gives it up.
    /// Default: a minute, which is longer than a request takes.
    #[must_use]
    pub const fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    async fn try_pay(&self, payment: Payment) -> Result<Outcome, AcpError> {
        if let Some(told) = self.told(&payment.id).await? {
            return Ok(told);
        }
        // Nothing was sent yet: whatever is wrong is a failure, and stays one.
        let prepared = match self.client.get(&payment.resource).await {
            Ok(checkout) => self.prepare(&payment, &checkout).await,
            Err(error) => Err(error.reason()),
        };
        let (handler, credential) = match prepared {
            Ok(prepared) => prepared,
            Err(code) => return self.refuse(&payment, &code).await,
        };
        if !self.begin(&payment, SENT, None).await? {
            // Another call sent it, or another payment has the session.
            let told = self.told(&payment.id).await?;
            return match told {
                Some(told) => Ok(told),
                None => self.refuse(&payment, "session_taken").await,
            };
        }
        let (key, session) = (&payment.id, &payment.resource);
        match self
            .client
            .complete(key, session, &handler, &credential)
            .await
        {
            Ok(checkout) => self.conclude(&payment.id, payment.amount, &checkout).await,
            Err(error @ AcpError::Refused(_)) => self.fail(&payment.id, &error.reason()).await,
            Err(AcpError::NotSent { .. }) => self.fail(&payment.id, "not_sent").await,
            Err(error) => Err(error),
        }
    }

    async fn prepare(
        &self,
        payment: &Payment,
        checkout: &Checkout,
    ) -> Result<(String, Credential), String> {
        if checkout.status != SessionStatus::ReadyForPayment || checkout.id != payment.resource {
            return Err("not_ready_for_payment".to_owned());
        }
        if total(checkout, payment.amount) != Some(payment.amount) {
            return Err("another_total".to_owned());
        }
        let credential = self.credentials.credential(payment, checkout).await;
        credential.map_err(|_why| "no_credential".to_owned())
    }

    async fn begin(&self, payment: &Payment, state: i64, code: Option<&str>) -> Result<bool> {
        let (id, session) = (payment.id.clone(), payment.resource.clone());
        let (amount, code) = (payment.amount.to_string(), code.map(ToOwned::to_owned));
        self.db
            .write(move |tx| {
                let how = (state, code.as_deref());
                store::begin_purchase(tx, id.as_str(), &session, &amount, how)
            })
            .await
    }

    async fn refuse(&self, payment: &Payment, code: &str) -> Result<Outcome, AcpError> {
        self.begin(payment, FAILED, Some(code)).await?;
        let told = self.told(&payment.id).await?;
        Ok(told.unwrap_or_else(|| Outcome::unknown(ASK_AGAIN, "another call pays it")))
    }

    /// Returns how a payment stands by what is written down; none if nothing is.
    async fn told(&self, id: &IdempotencyKey) -> Result<Option<Outcome>> {
        let of = id.as_str().to_owned();
        let found = self
            .db
            .read(move |tx| store::find_purchase(tx, &of))
            .await?;
        let Some(found) = found else { return Ok(None) };
        Ok(Some(match found.state {
            SETTLED => Outcome::settled(found.amount.parse()?, found.code),
            FAILED => Outcome::failed(found.code),
            _ => Outcome::unknown(ASK_AGAIN, "another call pays it"),
        }))
    }

    async fn end(&self, id: &IdempotencyKey, state: i64, code: &str) -> Result<Outcome, AcpError> {
        let (of, code) = (id.as_str().to_owned(), code.to_owned());
        self.db
            .write(move |tx| store::end_purchase(tx, &of, state, &code))
            .await?;
        let told = self.told(id).await?;
        told.ok_or_else(|| AcpError::unknown("a payment that is not written down"))
    }

    async fn fail(&self, id: &IdempotencyKey, code: &str) -> Result<Outcome, AcpError> {
        self.end(id, FAILED, code).await
    }

    /// Reads from a session how its payment stands.
    async fn conclude(
        &self,
        id: &IdempotencyKey,
        amount: Amount,
        checkout: &Checkout,
    ) -> Result<Outcome, AcpError> {
        match checkout.status {
            SessionStatus::Completed if total(checkout, amount) == Some(amount) => {
                let order = checkout.order_id().unwrap_or_default();
                self.end(id, SETTLED, &order).await
            }
            SessionStatus::Completed => Err(AcpError::unknown("an order of another total")),
            SessionStatus::Canceled | SessionStatus::Expired => {
                self.fail(id, "session_closed").await
            }
            _ => Ok(Outcome::unknown(ASK_AGAIN, "the session is not completed")),
        }
    }

    async fn try_look_up(&self, id: IdempotencyKey) -> Result<Outcome, AcpError> {
        let of = id.as_str().to_owned();
        let found = self
            .db
            .read(move |tx| store::find_purchase(tx, &of))
            .await?;
        let Some(found) = found else {
            // Closed here, so that it is not sent from here on.
            let unseen = Payment::new(id, "", Amount::zero(agent_core::Asset::USD));
            return self.refuse(&unseen, "never_sent").await;
        };
        if found.state != SENT {
            let told = self.told(&id).await?;
            return told.ok_or_else(|| AcpError::unknown("a payment that is not written down"));
        }
        let amount: Amount = found.amount.parse().map_err(Error::from)?;
        let checkout = self.client.get(&found.session).await?;
        let is_open = matches!(
            checkout.status,
            SessionStatus::ReadyForPayment | SessionStatus::NotReadyForPayment
        );
        let is_over = self.clock.now().since(found.at) >= self.grace;
        if !is_open || !is_over {
            return self.conclude(&id, amount, &checkout).await;
        }
        // A canceled session takes no completion that is still on its way.
        let key = format!(
            "cancel.{}",
            agent_core::Digest::of_bytes(id.as_str().as_bytes())
        );
        let key = IdempotencyKey::new(key).map_err(Error::from)?;
        match self.client.cancel(&key, &found.session).await {
            Ok(checkout) => self.conclude(&id, amount, &checkout).await,
            Err(AcpError::Refused(_)) => {
                let checkout = self.client.get(&found.session).await?;
                self.conclude(&id, amount, &checkout).await
            }
            Err(error) => Err(error),
        }
    }
}

/// What a session costs, in the asset of an amount.
fn total(checkout: &Checkout, amount: Amount) -> Option<Amount> {
    let asset = amount.asset();
    if !checkout.currency.eq_ignore_ascii_case(asset.code()) {
        return None;
    }
    from_minor(checkout.total()?, iso_scale(&checkout.currency)?, asset).ok()
}

fn or_unknown(outcome: Result<Outcome, AcpError>) -> Outcome {
    outcome.unwrap_or_else(|error| {
        let wait = error.retry_after().unwrap_or(ASK_AGAIN);
        Outcome::unknown(wait, error.to_string())
    })
}

#[async_trait]
impl Rail for AcpRail {
    fn name(&self) -> &'static str {
        "acp"
    }

    async fn pay(&self, payment: Payment) -> Outcome {
        or_unknown(self.try_pay(payment).await)
    }

    async fn look_up(&self, id: IdempotencyKey) -> Outcome {
        or_unknown(self.try_look_up(id).await)
    }

    async fn refund(&self, _payment: IdempotencyKey, _refund: Payment) -> Outcome {
        Outcome::failed("refunds_are_the_sellers")
    }
}
