//! Who buys: the rail `mpp`. What a challenge asks is checked against what was allowed, the challenge
//! is stored before anything is sent, and what is not known is asked about, never paid again.

mod config;
mod fetch;
mod row;
mod session;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use agent_core::store::Db;
use agent_core::{Amount, Env, IdempotencyKey, Timestamp};
use async_trait::async_trait;
use http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, StatusCode};
use parking_lot::Mutex;

pub use config::{RailConfig, Wallet};
pub use fetch::{Fetched, Shopper};
pub use session::Stream;

use super::challenge::Challenge;
use super::credential::Credential;
use super::problem::ProblemDetails;
use super::receipt::Receipt;
use super::request::PaymentRequest;
use super::server::{CHARGE, METHOD};
use super::statement::Order;
use crate::error::{Error, Result};
use crate::rail::{Outcome, Payment, Rail};
use crate::transport::{Answer, Lost, Request, Transport};
use row::{Kind, Row, State};

/// How long to wait before asking again.
const AGAIN: Duration = Duration::from_secs(5);
/// How far clocks of a buyer and a seller may be apart.
const SKEW: Duration = Duration::from_secs(60);
/// The most answers that wait for whoever asked.
const ANSWERS_MAX: usize = 64;

/// What is prepared for a payment before it is authorized.
#[derive(Clone)]
struct Prepared {
    request: Request,
    challenge: Challenge,
}

/// The rail `mpp`: pays sellers that speak the protocol by the method `ledger`. Cheap to clone.
#[derive(Clone)]
pub struct MppRail {
    inner: Arc<Inner>,
}

struct Inner {
    db: Db,
    env: Env,
    transport: Arc<dyn Transport>,
    wallet: Wallet,
    config: RailConfig,
    prepared: Mutex<BTreeMap<IdempotencyKey, Prepared>>,
    answers: Mutex<BTreeMap<IdempotencyKey, Answer>>,
}

impl fmt::Debug for MppRail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MppRail")
            .field("wallet", &self.inner.wallet)
            .field("config", &self.inner.config)
            .finish_non_exhaustive()
    }
}

impl MppRail {
    /// Opens the rail on a store, which keeps the challenges that were answered.
    ///
    /// # Errors
    /// Those of the store.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn open(
        db: Db,
        env: Env,
        transport: Arc<dyn Transport>,
        wallet: Wallet,
        config: RailConfig,
    ) -> Result<Self> {
        db.migrate("pay_mpp_buyer", row::SCHEMA).await?;
        Ok(Self {
            inner: Arc::new(Inner {
                db,
                env,
                transport,
                wallet,
                config,
                prepared: Mutex::default(),
                answers: Mutex::default(),
            }),
        })
    }

    fn now(&self) -> Timestamp {
        self.inner.env.clock.now()
    }

    /// Finds a challenge of an answer that asks at most `amount_max`, for `payee`, in the same
    /// asset, for this body and within the window. Nothing else of it decides.
    fn acceptable(
        &self,
        answer: &Answer,
        intent: &str,
        (payee, amount_max): (&str, Amount),
        body: &[u8],
    ) -> Option<(Challenge, PaymentRequest)> {
        let now = self.now();
        let fields = answer.headers().get_all(WWW_AUTHENTICATE);
        let fields = fields.iter().filter_map(|field| field.to_str().ok());
        let challenges = fields.filter_map(|field| Challenge::parse_all(field).ok());
        challenges.flatten().find_map(|challenge| {
            let request = PaymentRequest::decode(&challenge.request).ok()?;
            let expires = challenge.expires_at().ok()??;
            let is_so = challenge.method == METHOD
                && challenge.intent == intent
                && request.recipient == payee
                && request.amount.asset() == amount_max.asset()
                && request
                    .amount
                    .compare(&amount_max)
                    .is_ok_and(std::cmp::Ordering::is_le)
                && expires > now
                && expires <= now.after(self.inner.config.window_max)
                && challenge.is_for_body(body);
            is_so.then_some((challenge, request))
        })
    }

    /// Sends a request with a credential.
    async fn send(&self, mut request: Request, credential: &Credential) -> Result<Answer, Lost> {
        let field = credential.to_field().map_err(Lost::not_sent)?;
        let mut field: http::HeaderValue = field.parse().map_err(Lost::not_sent)?;
        field.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, field);
        self.inner.transport.send(request).await
    }

    /// Asks for the price: sends a request without a payment.
    async fn probe(&self, mut request: Request) -> Result<Answer, Lost> {
        request.headers_mut().remove(AUTHORIZATION);
        let accepted = http::HeaderValue::from_static("ledger/charge, ledger/session");
        request.headers_mut().insert("accept-payment", accepted);
        self.inner.transport.send(request).await
    }

    fn keep_answer(&self, id: &IdempotencyKey, answer: Answer) {
        let mut answers = self.inner.answers.lock();
        if answers.len() >= ANSWERS_MAX {
            answers.pop_first();
        }
        answers.insert(id.clone(), answer);
    }

    /// Pays what was never paid before.
    async fn first(&self, payment: &Payment) -> Result<Outcome> {
        let prepared = self.inner.prepared.lock().remove(&payment.id);
        let prepared = match prepared {
            Some(prepared) => prepared,
            None => match self.prepare(payment).await {
                Ok(prepared) => prepared,
                // Nothing that pays was sent, and nothing ever is under this id.
                Err(code) => return self.close(&payment.id, code).await,
            },
        };
        let Prepared { request, challenge } = prepared;
        let asked = PaymentRequest::decode(&challenge.request)?;
        let order = Order::pay(
            &challenge.id,
            &self.inner.wallet.buyer,
            asked.amount,
            &asked.recipient,
        );
        let credential = self.inner.wallet.answer(&challenge, &order)?;
        let row = Row::charge(&payment.id, &request, &challenge, asked.amount);
        if !row::insert(&self.inner.db, row.clone()).await? {
            return self.ask(payment.id.clone()).await;
        }
        let answer = match self.send(request, &credential).await {
            Ok(answer) => answer,
            Err(lost) if lost.may_have_had_effect() => {
                return Ok(Outcome::unknown(AGAIN, lost.to_string()));
            }
            Err(_not_sent) => return self.end(row, State::Failed, "unreachable").await,
        };
        if answer.status().is_success() {
            return self.settled(row, answer).await;
        }
        if answer.status() == StatusCode::PAYMENT_REQUIRED && !is_final(&answer) {
            // Not taken; where the seller cannot say for good, the offer's end does.
            row::set(&self.inner.db, &payment.id, State::Refused, "").await?;
        }
        self.ask(payment.id.clone()).await
    }

    async fn prepare(&self, payment: &Payment) -> Result<Prepared, &'static str> {
        let endpoint = self.inner.config.endpoints.get(&payment.payee);
        let url = match payment.resource.as_str() {
            "" => endpoint.ok_or("no_endpoint")?.as_str(),
            resource => resource,
        };
        let request = http::Request::get(url).body(Vec::new());
        let request: Request = request.map_err(|_form| "no_url")?;
        let answer = self.probe(request.clone()).await;
        let answer = answer.map_err(|_lost| "unreachable")?;
        if answer.status() != StatusCode::PAYMENT_REQUIRED {
            return Err("not_for_sale");
        }
        let allowed = (payment.payee.as_str(), payment.amount);
        let found = self.acceptable(&answer, CHARGE, allowed, &[]);
        let (challenge, _) = found.ok_or("offer_not_as_allowed")?;
        Ok(Prepared { request, challenge })
    }

    /// Uses an id up that nothing was sent for.
    async fn close(&self, id: &IdempotencyKey, code: &str) -> Result<Outcome> {
        if row::insert(&self.inner.db, Row::closed(id, code)).await? {
            return Ok(Outcome::failed(code));
        }
        self.ask(id.clone()).await
    }

    async fn end(&self, row: Row, state: State, note: &str) -> Result<Outcome> {
        row::set(&self.inner.db, &row.id, state, note).await?;
        Ok(match state {
            State::Settled => Outcome::settled(row.amount()?, note),
            _ => Outcome::failed(note),
        })
    }

    async fn settled(&self, row: Row, answer: Answer) -> Result<Outcome> {
        let receipt = receipt_of(answer.headers());
        let reference = receipt.map_or_else(String::new, |receipt| receipt.reference);
        self.keep_answer(&row.id, answer);
        self.end(row, State::Settled, &reference).await
    }

    /// Says how a payment stands, asking the seller where it is not known, which closes what did
    /// not arrive.
    async fn ask(&self, id: IdempotencyKey) -> Result<Outcome> {
        let Some(row) = row::find(&self.inner.db, id.clone()).await? else {
            return Box::pin(self.close(&id, "never_sent")).await;
        };
        match row.state {
            State::Settled => return Ok(Outcome::settled(row.amount()?, row.note)),
            State::Failed => return Ok(Outcome::failed(row.note)),
            State::Sent | State::Refused => {}
        }
        match row.kind {
            Kind::Charge => self.ask_charge(row).await,
            Kind::Session => self.ask_session(row).await,
            Kind::Refund => self.ask_refund(row).await,
        }
    }

    async fn ask_charge(&self, row: Row) -> Result<Outcome> {
        let challenge = row.challenge()?;
        let order = Order::void(&challenge.id, &self.inner.wallet.buyer);
        let credential = self.inner.wallet.answer(&challenge, &order)?;
        let answer = match self.send(row.request()?, &credential).await {
            Ok(answer) => answer,
            Err(lost) => return Ok(Outcome::unknown(AGAIN, lost.to_string())),
        };
        let is_replayed = answer.headers().contains_key("idempotent-replayed");
        if let Some(receipt) = receipt_of(answer.headers()) {
            if is_replayed {
                return self.settled(row, answer).await;
            }
            // Paid; what it bought is not kept any more.
            return self.end(row, State::Settled, &receipt.reference).await;
        }
        if is_final(&answer) {
            return self.end(row, State::Failed, "refused").await;
        }
        if is_replayed {
            self.keep_answer(&row.id, answer);
            return self.end(row, State::Failed, "not_served").await;
        }
        // A seller that does not know the question: what it refused once it cannot take after the
        // end of its offer.
        let is_over = challenge
            .expires_at()?
            .is_some_and(|at| at.after(SKEW) < self.now());
        if row.state == State::Refused && is_over {
            return self.end(row, State::Failed, "refused").await;
        }
        let reason = format!("the seller answered {}", answer.status().as_u16());
        Ok(Outcome::unknown(retry_after(answer.headers()), reason))
    }

    async fn back(&self, payment: IdempotencyKey, refund: Payment) -> Result<Outcome> {
        let row = row::find(&self.inner.db, payment).await?;
        let Some(row) = row.filter(|r| r.state == State::Settled && r.kind == Kind::Charge) else {
            return self.close(&refund.id, "no_payment").await;
        };
        row::insert(&self.inner.db, row.refund(&refund.id, refund.amount)).await?;
        self.ask(refund.id).await
    }

    /// Asks for a refund, again if it was asked for before: the seller knows it by its name.
    async fn ask_refund(&self, row: Row) -> Result<Outcome> {
        let challenge = row.challenge()?;
        let (buyer, amount) = (&self.inner.wallet.buyer, row.amount()?);
        let order = Order::refund(&challenge.id, buyer, row.id.clone(), amount);
        let credential = self.inner.wallet.answer(&challenge, &order)?;
        let answer = match self.send(row.request()?, &credential).await {
            Ok(answer) => answer,
            Err(lost) => return Ok(Outcome::unknown(AGAIN, lost.to_string())),
        };
        match receipt_of(answer.headers()) {
            Some(receipt) if answer.status().is_success() => {
                self.end(row, State::Settled, &receipt.reference).await
            }
            _ if is_final(&answer) => self.end(row, State::Failed, "refused").await,
            _ => {
                let reason = format!("the seller answered {}", answer.status().as_u16());
                Ok(Outcome::unknown(retry_after(answer.headers()), reason))
            }
        }
    }
}

/// What could not be found out, as an outcome.
fn or_unknown(outcome: Result<Outcome>) -> Outcome {
    outcome.unwrap_or_else(|error| Outcome::unknown(AGAIN, error.to_string()))
}

fn receipt_of(headers: &HeaderMap) -> Option<Receipt> {
    let field = headers.get("payment-receipt")?.to_str().ok()?;
    Receipt::parse(field).ok()
}

/// Returns whether an answer says that its challenge is used up without a payment.
fn is_final(answer: &Answer) -> bool {
    let details: Option<ProblemDetails> = serde_json::from_slice(answer.body()).ok();
    answer.status() == StatusCode::PAYMENT_REQUIRED && details.is_some_and(|d| d.is_final)
}

fn retry_after(headers: &HeaderMap) -> Duration {
    let seconds = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok());
    let seconds: Option<u64> = seconds.and_then(|seconds| seconds.parse().ok());
    seconds.map_or(AGAIN, |seconds| {
        Duration::from_secs(seconds.clamp(1, 3_600))
    })
}

/// Makes the request that asks about a payment: the same method and URL, nothing else.
fn bare(method: &str, url: &str) -> Result<Request> {
    let malformed = |_form| Error::corrupt("a stored request cannot be made again");
    let method = Method::from_bytes(method.as_bytes());
    let method = method.map_err(|_form| Error::corrupt("a stored method"))?;
    let request = http::Request::builder().method(method).uri(url);
    request.body(Vec::new()).map_err(malformed)
}

#[async_trait]
impl Rail for MppRail {
    fn name(&self) -> &'static str {
        "mpp"
    }

    async fn pay(&self, payment: Payment) -> Outcome {
        let before = row::find(&self.inner.db, payment.id.clone()).await;
        or_unknown(match before {
            Ok(None) => self.first(&payment).await,
            Ok(Some(_)) => self.ask(payment.id).await,
            Err(error) => Err(error),
        })
    }

    async fn look_up(&self, id: IdempotencyKey) -> Outcome {
        or_unknown(self.ask(id).await)
    }

    async fn refund(&self, payment: IdempotencyKey, refund: Payment) -> Outcome {
        or_unknown(self.back(payment, refund).await)
    }
}
