//! Completing a session: the one payment, taken once, and what becomes of it.

use agent_core::store::Tx;
use agent_core::{IdempotencyKey, Timestamp};

use super::{Call, Seller, SellerConfig, Write, Written, parse, wrong};
use crate::acp::answer::{Problem, Reply};
use crate::acp::merchant::Charge;
use crate::acp::render;
use crate::acp::session::{Session, SessionStatus};
use crate::acp::store::{self, Token, Versioned};
use crate::acp::wire::{CompleteRequest, Credential};
use crate::error::{Error, Result};
use crate::rail::Outcome;

impl Seller {
    pub(in crate::acp) async fn complete(&self, call: Call, id: &str) -> Reply {
        self.once(&call, self.do_complete(&call, id)).await
    }

    async fn do_complete(&self, call: &Call, id: &str) -> Result<Write, Problem> {
        let request: CompleteRequest = parse(&call.body)?;
        let data = request.payment_data;
        let is_later = data.payment_terms.is_some_and(|terms| terms != "immediate");
        if is_later || data.approval_required == Some(true) {
            let why = "only payment at once is taken";
            return Err(Problem::invalid("unsupported", why).about("$.payment_data"));
        }
        let offered = |id: &String| {
            let handlers = self.config.handlers();
            handlers.is_empty()
                || handlers
                    .iter()
                    .any(|h| h.get("id").is_some_and(|x| x == id))
        };
        if !data.handler_id.as_ref().is_none_or(offered) {
            return Err(wrong("$.payment_data.handler_id"));
        }
        let credential = data.instrument.map(|instrument| instrument.credential);
        let credential = credential.ok_or_else(|| wrong("$.payment_data.instrument"))?;
        let mut found = self.settled_first(&call.who, id).await?;
        let paid_by = found.session.paying.as_ref().map(|paying| &paying.key);
        if found.session.status == SessionStatus::Completed && paid_by == Some(&call.key) {
            // Its answer was lost with the process that took the payment.
            let shown = render::session(&found.session, &self.config)?;
            return Ok(Box::new(move |_tx| Ok(Written::Answer(200, shown))));
        }
        found.session.must_be_open()?;
        if found.session.status != SessionStatus::ReadyForPayment {
            let why = "the session's messages say what is missing";
            return Err(Problem::invalid("not_ready_for_payment", why));
        }
        if request.buyer.is_some() {
            found.session.cart.buyer = request.buyer;
        }
        let mut charge = self.reserve(&mut found, &call.key, &credential).await?;
        charge.billing_address = data.billing_address;
        let outcome = self.merchant.charge(charge).await;
        if let Outcome::Unknown { retry_after, .. } = outcome {
            // The session stays in progress; whoever comes next looks the payment up.
            return Err(Problem::later(retry_after));
        }
        let config = std::sync::Arc::clone(&self.config);
        Ok(Box::new(move |tx| {
            if !conclude(tx, &mut found, &outcome, &config)? {
                return Ok(Written::Changed);
            }
            let session = &found.session;
            Ok(match (&session.order, &outcome) {
                (None, Outcome::Failed { code }) => {
                    let declined = declined(code);
                    Written::Answer(declined.status, declined.body())
                }
                _ => Written::Answer(200, render::session(session, &config)?),
            })
        }))
    }

    /// Writes down which payment goes out and uses the token up, in one transaction.
    async fn reserve(
        &self,
        found: &mut Versioned,
        key: &IdempotencyKey,
        credential: &Credential,
    ) -> Result<Charge, Problem> {
        let is_vaulted = credential.token.starts_with("vt_");
        let digest = is_vaulted.then(|| store::token_digest(&credential.token));
        let paying = found.session.begin_payment(key, digest.clone())?;
        let (mut written, merchant) = (found.clone(), self.config.merchant_id.clone());
        let reserved = self.db.write(move |tx| {
            let token = match &digest {
                None => None,
                Some(digest) => {
                    let token = store::find_token(tx, digest, &written.session.owner)?;
                    if let Err(problem) =
                        covers(token.as_ref(), &written.session, &merchant, tx.now())
                    {
                        return Ok(Err(problem));
                    }
                    let paying = written.session.paying.as_ref().map(|p| p.id.as_str());
                    store::use_token(tx, digest, paying)?;
                    token
                }
            };
            written.session.updated = tx.now();
            if !store::update(tx, &written)? {
                // Nothing of it stays.
                return Err(Error::corrupt("the session changed"));
            }
            Ok::<_, Error>(Ok(token.map(|token| token.vault)))
        });
        let vaulted = match reserved.await {
            Ok(reserved) => reserved?,
            Err(Error::Corrupt { .. }) => {
                return Err(Problem::later(std::time::Duration::from_secs(1)));
            }
            Err(error) => return Err(error.into()),
        };
        found.version = found.version.saturating_add(1);
        let credential = vaulted.map_or_else(
            || credential.clone(),
            |vault| Credential::new("vault_token", vault),
        );
        Ok(Charge {
            id: paying.id,
            session: found.session.id.clone(),
            amount: found.session.amount(paying.total)?,
            credential,
            billing_address: None,
        })
    }

    /// Returns a session, after the outcome of a payment that is under way is found out.
    pub(super) async fn settled_first(&self, who: &str, id: &str) -> Result<Versioned, Problem> {
        let found = self.find(who, id).await?;
        let Some(paying) = &found.session.paying else {
            return Ok(found);
        };
        if found.session.status != SessionStatus::CompleteInProgress {
            return Ok(found);
        }
        let outcome = self.merchant.look_up(paying.id.clone()).await;
        if let Outcome::Unknown { retry_after, .. } = outcome {
            return Err(Problem::later(retry_after));
        }
        let (mut found, config) = (found, std::sync::Arc::clone(&self.config));
        self.db
            .write(move |tx| conclude(tx, &mut found, &outcome, &config))
            .await?;
        self.find(who, id).await
    }

    /// Finds out what became of at most `limit` payments whose outcome is not known, and returns how
    /// many are known. Call it from time to time, as an agent may never come back: the next call goes
    /// on with the payments after these, so that each is reached, however many stay unknown.
    ///
    /// # Errors
    /// Those of the store; `Corrupt` if the merchant took another amount than asked, when all were
    /// asked about.
    ///
    /// # Cancel safety
    /// Atomic for each payment.
    pub async fn reconcile(&self, limit: usize) -> Result<usize> {
        let (mut n_known, mut failed) = (0_usize, None);
        for id in self.db.write(move |tx| store::paying(tx, limit)).await? {
            match self.find_out(id).await {
                Ok(is_known) => n_known = n_known.saturating_add(usize::from(is_known)),
                // One that is contradicted must not keep the others from being asked about.
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(n_known), Err)
    }

    async fn find_out(&self, id: String) -> Result<bool> {
        let found = self.db.read(move |tx| store::find(tx, &id, None)).await?;
        let paying = found.and_then(|found| Some((found.session.paying.clone()?, found)));
        let Some((paying, mut found)) = paying else {
            return Ok(false);
        };
        let outcome = self.merchant.look_up(paying.id).await;
        if !outcome.is_final() {
            return Ok(false);
        }
        let config = std::sync::Arc::clone(&self.config);
        let concluded = self
            .db
            .write(move |tx| conclude(tx, &mut found, &outcome, &config));
        concluded.await
    }
}

fn declined(code: &str) -> Problem {
    let mut problem = Problem::invalid("payment_declined", format!("the payment failed: {code}"))
        .with_status(402)
        .about("$.payment_data");
    problem.kind = "processing_error";
    problem
}

/// Whether a token may pay for a session.
fn covers(
    token: Option<&Token>,
    session: &Session,
    merchant: &str,
    now: Timestamp,
) -> Result<(), Problem> {
    let refused = |why: &'static str| {
        let param = "$.payment_data.instrument.credential.token";
        Err(Problem::invalid("payment_declined", why).about(param))
    };
    let Some(token) = token else {
        return refused("there is no such token");
    };
    let allowance = &token.allowance;
    let total = session.paying.as_ref().map_or(i64::MAX, |p| p.total);
    if token.is_used {
        return refused("the token is used up");
    }
    if allowance.checkout_session_id != session.id || allowance.merchant_id != merchant {
        return refused("the token is for another session or merchant");
    }
    if allowance.currency != session.cart.currency || total > allowance.max_amount {
        return refused("the token does not go that far");
    }
    if allowance.expires().is_none_or(|ends| ends <= now) {
        return refused("the token has expired");
    }
    Ok(())
}

/// Writes down how a payment ended, with the order or with the token given back. False if somebody
/// else wrote in between.
fn conclude(
    tx: &mut Tx<'_>,
    found: &mut Versioned,
    outcome: &Outcome,
    config: &SellerConfig,
) -> Result<bool> {
    let Some(paying) = found.session.paying.clone() else {
        return Ok(false);
    };
    let now = tx.now();
    match outcome {
        Outcome::Settled { amount, .. } => {
            if *amount != found.session.amount(paying.total)? {
                return Err(Error::corrupt(
                    "the merchant took another amount than asked",
                ));
            }
            let order = render::order(&found.session, config)?;
            let event = serde_json::json!({ "type": "order_create", "data": order });
            found.session.order = Some(order);
            found.session.status = SessionStatus::Completed;
            found.session.updated = now;
            if !store::update(tx, found)? {
                return Ok(false);
            }
            store::push_event(tx, &found.session.id, &event.to_string())?;
        }
        Outcome::Failed { .. } => {
            found.session.payment_failed(now);
            if !store::update(tx, found)? {
                return Ok(false);
            }
            if let Some(token) = &paying.token {
                store::use_token(tx, token, None)?;
            }
        }
        Outcome::Unknown { .. } => return Ok(false),
    }
    Ok(true)
}
