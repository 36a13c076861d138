//! A session from the buyer's side: a deposit under the spend authority, and a voucher a request.

use agent_core::{Amount, IdempotencyKey};
use http::StatusCode;
use serde_json::{Value, json};

use super::fetch::unreachable;
use super::{AGAIN, MppRail, Row, Shopper, State, is_final, receipt_of, retry_after, row};
use crate::authority::{Intent, SpendHold};
use crate::error::{Error, Result};
use crate::mpp::challenge::Challenge;
use crate::mpp::credential::Credential;
use crate::mpp::request::{PaymentRequest, read_units};
use crate::mpp::server::SESSION;
use crate::mpp::statement::Order;
use crate::rail::{Event, EventId, Outcome, Rail};
use crate::trade::Voucher;
use crate::transport::{Answer, Request};

/// An open session. Closing it books what was used; one that is lost is closed by
/// [`Payer::reconcile`](crate::rail::Payer::reconcile).
#[derive(Debug)]
pub struct Stream {
    shopper: Shopper,
    key: IdempotencyKey,
    challenge: Challenge,
    request: PaymentRequest,
    deposit: Amount,
    promised: Amount,
    unit_max: Amount,
}

impl Shopper {
    /// Opens a session at a URL: holds `intent.amount_max` as its deposit, here and at the seller.
    /// A unit may cost `unit_max`.
    ///
    /// # Errors
    /// As [`Shopper::fetch`]; `Denied` if the spend is not allowed or the seller has no such offer;
    /// `Unavailable` if it is not known whether it opened: reconcile.
    ///
    /// # Cancel safety
    /// As [`Payer::pay`](crate::rail::Payer::pay).
    pub async fn open_session(
        &self,
        request: Request,
        intent: Intent,
        unit_max: Amount,
    ) -> Result<Stream> {
        if intent.resource != request.uri().to_string() || intent.rail != "mpp" {
            return Err(Error::invalid("intent", "it is about another resource"));
        }
        let answer = self
            .rail
            .probe(request.clone())
            .await
            .map_err(unreachable)?;
        let (payee, deposit) = (intent.payee.name.clone(), intent.amount_max);
        let found = self
            .rail
            .acceptable(&answer, SESSION, (&payee, unit_max), request.body());
        let (challenge, asked) = found.ok_or_else(|| not_as_allowed("no such offer"))?;
        let key = intent.key.clone();
        self.authority.authorize(intent).await?.into_hold()?;
        self.authority.submit(key.clone()).await?;
        let nothing = Amount::zero(deposit.asset());
        let row = Row::session(&key, &request, &challenge, nothing);
        if !row::insert(&self.rail.inner.db, row).await? {
            return Err(Error::invalid("session", "the key opened one before"));
        }
        let wallet = &self.rail.inner.wallet;
        let order = Order::pay(&challenge.id, &wallet.buyer, deposit, &asked.recipient);
        let mut credential = wallet.answer(&challenge, &order)?;
        set(&mut credential.payload, "action", json!("open"));
        let opened = self.rail.send(request, &credential).await;
        let is_open = opened
            .as_ref()
            .is_ok_and(|answer| answer.status().is_success());
        if !is_open {
            // Whether it opened is found out, and what is held comes free, by asking.
            self.conclude(key).await?;
            return Err(not_as_allowed("the seller did not open it"));
        }
        Ok(Stream {
            shopper: self.clone(),
            key,
            challenge,
            request: asked,
            deposit,
            promised: nothing,
            unit_max,
        })
    }
}

impl Shopper {
    /// Ends one session and books what it cost, as far as the seller says. Others stay open.
    async fn conclude(&self, key: IdempotencyKey) -> Result<()> {
        let outcome = self.rail.look_up(key.clone()).await;
        let told = Event::new(EventId::new(key.as_str()), key, outcome);
        let _paid = self.payer().on_event(told).await?;
        Ok(())
    }
}

impl Stream {
    /// Returns what is promised so far.
    #[must_use]
    pub const fn promised(&self) -> Amount {
        self.promised
    }

    /// Sends a request with a voucher that promises one unit more.
    ///
    /// # Errors
    /// `Invalid` ([`Error::ExceedsHold`]) if the deposit has no unit left; `Unavailable` if no
    /// answer came: the promise stands, and may have been used.
    ///
    /// # Cancel safety
    /// The promise may have been used.
    pub async fn fetch(&mut self, request: Request) -> Result<Answer> {
        let rail = self.shopper.rail.clone();
        let answer = rail.probe(request.clone()).await.map_err(unreachable)?;
        if answer.status() != StatusCode::PAYMENT_REQUIRED {
            return Ok(answer);
        }
        let allowed = (self.request.recipient.as_str(), self.unit_max);
        let found = rail.acceptable(&answer, SESSION, allowed, request.body());
        let (challenge, asked) = found.ok_or_else(|| not_as_allowed("no such offer"))?;
        let promised = self.promised.plus(asked.amount)?;
        if promised.compare(&self.deposit)?.is_gt() {
            let (held, asked) = (self.deposit, promised);
            return Err(Error::ExceedsHold { held, asked });
        }
        row::promise(&rail.inner.db, &self.key, promised).await?;
        self.promised = promised;
        let payload = voucher(&rail, &self.challenge, promised, "voucher")?;
        let source = Some(rail.inner.wallet.buyer.as_str().to_owned());
        let credential = Credential::new(challenge, source, payload);
        rail.send(request, &credential).await.map_err(unreachable)
    }

    /// Ends the session and books what was used.
    ///
    /// # Errors
    /// Those of [`Payer::on_event`](crate::rail::Payer::on_event).
    ///
    /// # Cancel safety
    /// What is not booked is booked by reconciling.
    pub async fn close(self) -> Result<Option<SpendHold>> {
        self.shopper.conclude(self.key.clone()).await?;
        self.shopper.authority.spend(self.key).await
    }
}

impl MppRail {
    /// Closes a session with what was promised, which says what was used.
    pub(super) async fn ask_session(&self, row: Row) -> Result<Outcome> {
        let challenge = row.challenge()?;
        let promised = row.amount()?;
        let payload = voucher(self, &challenge, promised, "close")?;
        let source = Some(self.inner.wallet.buyer.as_str().to_owned());
        let credential = Credential::new(challenge.clone(), source, payload);
        let answer = match self.send(row.request()?, &credential).await {
            Ok(answer) => answer,
            Err(lost) => return Ok(Outcome::unknown(AGAIN, lost.to_string())),
        };
        if let Some(receipt) = receipt_of(answer.headers())
            && answer.status().is_success()
        {
            let spent = receipt.spent.unwrap_or_default();
            let spent = read_units(&spent, promised.asset())?;
            // A seller can take what was promised, and no more, whatever it says.
            let spent = match spent.compare(&promised)? {
                std::cmp::Ordering::Greater => promised,
                _ => spent,
            };
            row::promise(&self.inner.db, &row.id, spent).await?;
            row::set(&self.inner.db, &row.id, State::Settled, &receipt.reference).await?;
            return Ok(Outcome::settled(spent, receipt.reference));
        }
        let is_over = challenge
            .expires_at()?
            .is_some_and(|at| at.after(super::SKEW) < self.now());
        // A channel that was never opened cannot open once its offer is over.
        if is_final(&answer) || promised.is_zero() && is_over && is_unknown_channel(&answer) {
            return self.end(row, State::Failed, "refused").await;
        }
        let reason = format!("the seller answered {}", answer.status().as_u16());
        Ok(Outcome::unknown(retry_after(answer.headers()), reason))
    }
}

fn is_unknown_channel(answer: &Answer) -> bool {
    let details: Option<crate::mpp::ProblemDetails> = serde_json::from_slice(answer.body()).ok();
    let problem = details.and_then(|details| details.problem());
    problem == Some(crate::mpp::Problem::ChannelNotFound)
}

/// Signs a voucher, as the payload of an action.
fn voucher(rail: &MppRail, opened: &Challenge, sum: Amount, action: &str) -> Result<Value> {
    let wallet = &rail.inner.wallet;
    let spend = IdempotencyKey::new(format!("mpp_{}", opened.id))?;
    let token = Voucher::new(spend, wallet.buyer.clone(), sum).sign(&*wallet.key)?;
    Ok(json!({ "action": action, "channelId": opened.id, "voucher": token }))
}

fn set(payload: &mut Value, name: &str, value: Value) {
    if let Some(object) = payload.as_object_mut() {
        object.insert(name.to_owned(), value);
    }
}

fn not_as_allowed(detail: &str) -> Error {
    Error::SpendDenied {
        code: "offer_not_as_allowed",
        detail: detail.to_owned(),
    }
}
