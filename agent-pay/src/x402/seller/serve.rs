//! One request with a payment, from its headers to its answer.

use std::future::Future;
use std::time::Duration;

use agent_core::store::Tx;
use agent_core::{ClockExt, Digest, IdempotencyKey, Timestamp};
use http::{HeaderName, HeaderValue, Request, StatusCode, request};

use super::answer::{self, Whole};
use super::bought::{Bought, Matched, paid_by, read};
use super::settle::{Taken, forgotten, is_taken, is_worked, note_work};
use super::{Sale, Seller, SettlePolicy};
use crate::backend::sqlite::authority::{Answer, Begin, begin, finish, keep_until};
use crate::error::{Error, Result};
use crate::journal::Difference;
use crate::x402::check::{Mismatch, check, check_late};
use crate::x402::facilitator::{Settlement, Verdict};
use crate::x402::message::SettleResponse;
use crate::x402::offer::sign_offers;

/// Marks an answer that was given before (Agentic Commerce Protocol, 2026-04-17).
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// How long to wait before asking again about what nobody knows.
const UNKNOWN_AFTER: Duration = Duration::from_secs(2);
/// What a work's lease has beyond the times of its steps.
const LEASE_MARGIN: Duration = Duration::from_secs(15);

/// How long a signed offer holds in seconds: enough to ask a person who is there.
const OFFER_SECONDS: u64 = 600;

pub(super) const WORK: &str = "x402/work";

impl Seller {
    /// The URL of a request as clients are told it.
    pub(super) fn url(&self, parts: &request::Parts) -> String {
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        format!("{}{path}", self.inner.config.base)
    }

    /// Answers a request without a payment.
    pub(super) async fn offer(&self, sale: &Sale, url: &str) -> Whole {
        let mut required = sale.required(url, None);
        if let Some(key) = &sale.offers_by {
            let until = self.now().saturating_add(OFFER_SECONDS);
            match sign_offers(key.as_ref(), url, &sale.accepts, until).await {
                Ok((name, extension)) => {
                    required.extensions.insert(name, extension);
                }
                Err(error) => return failed(&error),
            }
        }
        answer::payment_required(&required)
    }

    /// Serves a request with a payment.
    pub(super) async fn serve<W, F>(
        &self,
        sale: &Sale,
        url: &str,
        request: Request<Vec<u8>>,
        work: W,
    ) -> Whole
    where
        W: FnOnce(Request<Vec<u8>>) -> F + Send,
        F: Future<Output = Whole> + Send,
    {
        let payment = match read(&request) {
            Ok(payment) => payment,
            Err(_form) => return answer::problem(StatusCode::BAD_REQUEST, "invalid_payload"),
        };
        let named = payment
            .resource
            .as_ref()
            .map(|resource| resource.url.as_str());
        if named.is_some_and(|named| named != url) {
            // It may be signed for this resource's price and was meant for another.
            return answer::problem(StatusCode::BAD_REQUEST, "invalid_resource");
        }
        let Ok(id) = sale.identifier.of(&payment) else {
            return answer::problem(StatusCode::BAD_REQUEST, "invalid_payment_identifier");
        };
        let version = payment.version();
        let now = self.now();
        let (mut matched, mut is_late) =
            (sale.matching(|asked| check(&payment, asked, now)), false);
        if matches!(&matched, Ok(Err(Mismatch::ValidBefore))) {
            // A payment that was taken in its time is known after it.
            let late = sale.matching(|asked| check_late(&payment, asked));
            match self.is_taken(&late).await {
                Ok(true) => (matched, is_late) = (late, true),
                Ok(false) => {}
                Err(error) => return failed(&error),
            }
        }
        let (canonical, asked) = match matched {
            Ok(Ok(found)) => found,
            Ok(Err(mismatch)) => {
                return answer::payment_required(&sale.required(url, Some(mismatch.code())));
            }
            Err(error) => return failed(&error),
        };
        let network = asked.network.clone();
        let Ok(bought) = Bought::new(canonical, payment, asked) else {
            return answer::problem(StatusCode::INTERNAL_SERVER_ERROR, "internal");
        };
        let served = match self.reserve(&bought, url, &request, (id, is_late)).await {
            Ok(Begin::Run) => self.run(sale, bought, request, work).await,
            Ok(Begin::Replay(kept)) => self.replay(bought, &kept).await,
            Err(used @ Error::KeyReused { .. }) => self.tell(&bought, used).await,
            Err(error) => Err(error),
        };
        let (mut answer, said) = match served {
            Ok(Served::Answer(answer, said)) => (answer, said),
            Ok(Served::Unpaid(code)) => {
                let said = SettleResponse::failed(code.clone(), &network);
                (
                    answer::payment_required(&sale.required(url, Some(&code))),
                    Some(said),
                )
            }
            Ok(Served::Unknown) => {
                let status = StatusCode::SERVICE_UNAVAILABLE;
                (
                    answer::later(status, "settlement_unknown", UNKNOWN_AFTER),
                    None,
                )
            }
            Err(error) => return failed(&error),
        };
        if let Some(said) = said {
            answer::say(&mut answer, version, &network, said);
        }
        answer
    }

    fn now(&self) -> u64 {
        self.inner.clock.now().as_unix_ms_u64() / 1_000
    }

    /// Returns whether a payment was taken before.
    async fn is_taken(&self, matched: &Result<Matched>) -> Result<bool> {
        let Ok(Ok((key, _asked))) = matched else {
            return Ok(false);
        };
        let key = key.key()?;
        self.inner.db.read(move |tx| is_taken(tx, &key)).await
    }

    /// Reserves the payment for this request, before anything is done for it.
    async fn reserve(
        &self,
        bought: &Bought,
        url: &str,
        request: &Request<Vec<u8>>,
        (id, is_late): (Option<IdempotencyKey>, bool),
    ) -> Result<Begin> {
        let authorization = &bought.payment.signed.authorization;
        let body = Digest::of_bytes(request.body());
        let method = request.method().as_str();
        let digest = Digest::of_json(&(("x402 work v1", method, url, body), authorization))?;
        let taken = Taken::new(&bought.payment, &bought.asked);
        let config = &self.inner.config;
        let lease = config
            .settle_max
            .saturating_mul(2)
            .saturating_add(config.work_max);
        let lease = lease.saturating_add(LEASE_MARGIN);
        let (key, payer, ends) = (bought.key.clone(), authorization.from, authorization.ends());
        let write = move |tx: &mut Tx<'_>| {
            if let Some(id) = id {
                name(tx, (&payer.to_string(), &id), &digest, ends)?;
            }
            let begun = begin(tx, WORK, &key, &digest, lease)?;
            let is_used_up = |tx: &Tx<'_>| {
                Ok::<_, Error>(is_worked(tx, &key)? || (is_late && !is_taken(tx, &key)?))
            };
            if begun == Begin::Run && is_used_up(tx)? {
                // Its answer was forgotten, or all of it since it was read: it is used up all the same.
                let differs = Difference::Entries;
                return Err(Error::KeyReused { key, differs });
            }
            taken.insert(tx, &key)?;
            Ok(begun)
        };
        self.inner.db.write(write).await
    }

    /// Does what was paid for, in the order of the policy.
    async fn run<W, F>(
        &self,
        sale: &Sale,
        bought: Bought,
        mut request: Request<Vec<u8>>,
        work: W,
    ) -> Result<Served>
    where
        W: FnOnce(Request<Vec<u8>>) -> F + Send,
        F: Future<Output = Whole> + Send,
    {
        let first = match sale.policy {
            SettlePolicy::SettleFirst => self.settle(&bought.key).await,
            SettlePolicy::WorkFirst => self.verify(&bought).await,
        };
        let transaction = match first {
            Ok(Settlement::Settled { transaction }) => transaction,
            Ok(Settlement::Failed { code }) => {
                self.free(&bought.key).await?;
                return Ok(Served::Unpaid(code));
            }
            Ok(Settlement::Unknown { .. }) => {
                self.free(&bought.key).await?;
                return Ok(Served::Unknown);
            }
            Err(error) => {
                self.free(&bought.key).await?;
                return Err(error);
            }
        };
        // Work that dies in the middle is done again, and knows by this that it is the same.
        request.extensions_mut().insert(bought.canonical.clone());
        let deadline = self.inner.clock.now().after(self.inner.config.work_max);
        let worked = self.inner.clock.deadline(deadline, work(request)).await;
        let mut answer = worked
            .unwrap_or_else(|| answer::problem(StatusCode::GATEWAY_TIMEOUT, "work_took_too_long"));
        answer::keep_private(answer.headers_mut());
        let is_refused = sale.policy == SettlePolicy::WorkFirst && !answer.status().is_success();
        if is_refused {
            // Nobody pays for an error, and what is not paid is not kept.
            self.free(&bought.key).await?;
            return Ok(Served::Answer(answer, None));
        }
        let Ok(kept) = answer::keep(&answer) else {
            self.free(&bought.key).await?;
            let internal = StatusCode::INTERNAL_SERVER_ERROR;
            return Ok(Served::Answer(
                answer::problem(internal, "answer_too_long"),
                None,
            ));
        };
        let (key, is_unsettled) = (bought.key.clone(), sale.policy == SettlePolicy::WorkFirst);
        let write = move |tx: &mut Tx<'_>| {
            if is_unsettled || kept.status < 500 {
                note_work(tx, &key)?;
            }
            finish(tx, WORK, &key, &kept)
        };
        self.inner.db.write(write).await?;
        if is_unsettled {
            return self.hand_out(bought, answer).await;
        }
        let said = SettleResponse::settled(transaction, &bought.asked.network);
        Ok(Served::Answer(answer, Some(paid_by(said, &bought))))
    }

    /// Gives an answer again, once it is paid.
    async fn replay(&self, bought: Bought, kept: &Answer) -> Result<Served> {
        let mut answer = answer::kept(kept)?;
        answer
            .headers_mut()
            .insert(REPLAYED, HeaderValue::from_static("true"));
        self.hand_out(bought, answer).await
    }

    /// Hands out an answer whose payment is settled, or settles it.
    async fn hand_out(&self, bought: Bought, answer: Whole) -> Result<Served> {
        match self.settle(&bought.key).await? {
            Settlement::Settled { transaction } => {
                let said = SettleResponse::settled(transaction, &bought.asked.network);
                Ok(Served::Answer(answer, Some(paid_by(said, &bought))))
            }
            Settlement::Failed { code } => Ok(Served::Unpaid(code)),
            Settlement::Unknown { .. } => Ok(Served::Unknown),
        }
    }

    /// Tells a late buyer of a payment whose answer is forgotten that it was carried out: it may have
    /// no other way to know. A payment that is used up otherwise is refused.
    async fn tell(&self, bought: &Bought, used: Error) -> Result<Served> {
        let key = bought.key.clone();
        let found = self.inner.db.read(move |tx| forgotten(tx, &key)).await?;
        let transaction = found.ok_or(used)?;
        let said = SettleResponse::settled(transaction, &bought.asked.network);
        let answer = answer::problem(StatusCode::GONE, "answer_forgotten");
        Ok(Served::Answer(answer, Some(paid_by(said, bought))))
    }

    async fn verify(&self, bought: &Bought) -> Result<Settlement> {
        let (payment, asked) = (bought.payment.clone(), bought.asked.clone());
        Ok(match self.inner.facilitator.verify(payment, asked).await {
            Verdict::Valid => Settlement::settled(""),
            Verdict::Invalid { code } => Settlement::failed(code),
            Verdict::Unknown { reason } => Settlement::unknown(reason),
        })
    }

    /// Frees a payment whose work was not done.
    async fn free(&self, key: &IdempotencyKey) -> Result<()> {
        let key = key.clone();
        let nothing = Answer::new(503, String::new());
        self.inner
            .db
            .write(move |tx| finish(tx, WORK, &key, &nothing))
            .await
    }
}

/// What a request comes to.
#[expect(clippy::large_enum_variant, reason = "it lives for one call")]
enum Served {
    /// Its answer, and what is said of the payment.
    Answer(Whole, Option<SettleResponse>),
    /// It is not paid, for good.
    Unpaid(String),
    /// Nobody knows whether it is paid.
    Unknown,
}

/// Binds the name a payment has of itself to what it pays and what for, for its payer, for as long as the
/// payment can be carried out.
fn name(
    tx: &mut Tx<'_>,
    (payer, id): (&str, &IdempotencyKey),
    digest: &Digest,
    ends: Timestamp,
) -> Result<()> {
    let scope = format!("x402/id/{payer}");
    if begin(tx, &scope, id, digest, Duration::from_secs(1))? == Begin::Run {
        finish(tx, &scope, id, &Answer::new(200, String::new()))?;
        keep_until(tx, &scope, id, ends)?;
    }
    Ok(())
}

/// What a client is told of an error: nothing that is not its own.
fn failed(error: &Error) -> Whole {
    match error {
        Error::InFlight { retry_after, .. } => answer::later(
            StatusCode::CONFLICT,
            "payment_in_progress",
            *retry_after.min(&UNKNOWN_AFTER),
        ),
        Error::KeyReused { .. } => answer::problem(StatusCode::CONFLICT, "payment_used_otherwise"),
        _ => answer::later(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            UNKNOWN_AFTER,
        ),
    }
}
