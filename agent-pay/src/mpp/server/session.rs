//! Vouchers on a deposit: each request names the sum of all it is willing to pay so far.
//!
//! The deposit is held on the ledger when the channel opens; what was used of it is captured when
//! the channel closes. A channel serves one request at a time, and one voucher with one challenge
//! pays for one answer.

mod close;
mod draw;
mod row;

use std::sync::Arc;
use std::time::Duration;

use agent_core::{Amount, Digest, IdempotencyKey, Principal, Timestamp};
use serde::Deserialize;
use serde_json::Value;

pub(in crate::mpp) use row::SCHEMA;

use super::stored::{End, Stored};
use super::{Refused, Sale, Server, Ticket, TicketKind, Verdict, unproved};
use crate::account::AccountName;
use crate::authority::{Authorization, Intent, Movement, Origin, Payee, PriceBasis};
use crate::backend::sqlite::authority as book;
use crate::error::{Error, Result};
use crate::mpp::challenge::Challenge;
use crate::mpp::credential::Credential;
use crate::mpp::problem::Problem;
use crate::mpp::receipt::Receipt;
use crate::mpp::request::PaymentRequest;
use crate::mpp::statement::Order;
use draw::{Drawn, draw};

/// How much longer than a handler may run its request keeps the channel.
const MARGIN: Duration = Duration::from_secs(60);
/// How long a deposit stays held after its session, for the seller to capture what was used.
const AFTER: Duration = Duration::from_secs(86_400);

/// What a session's credential carries.
#[derive(Deserialize)]
#[serde(
    tag = "action",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
enum Action {
    Open {
        voucher: Option<String>,
    },
    Voucher {
        channel_id: String,
        voucher: String,
    },
    TopUp {
        channel_id: String,
    },
    Close {
        channel_id: String,
        voucher: Option<String>,
    },
}

/// All that the transactions of one request need.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    scope: String,
    key: IdempotencyKey,
    request: Digest,
    buyer: Option<Principal>,
    channel: String,
    voucher: Option<String>,
    price: Amount,
    lease: Duration,
    is_alone: bool,
    open: Option<Box<Open>>,
}

#[derive(Clone, Debug)]
struct Open {
    intent: Intent,
    offered_until: Timestamp,
    ends_at: Timestamp,
}

impl Server {
    pub(super) async fn present_session(
        &self,
        credential: &Credential,
        sale: &Sale,
        request: PaymentRequest,
        is_bodyless: bool,
    ) -> Result<Verdict> {
        let challenge = &credential.challenge;
        let Ok(action) = Action::deserialize(&credential.payload) else {
            let detail = "not an action of a session";
            return Ok(Verdict::refused(Problem::MalformedCredential, detail));
        };
        let (channel, voucher) = match &action {
            Action::Open { voucher } => (challenge.id.clone(), voucher.clone()),
            Action::TopUp { channel_id } => (channel_id.clone(), None),
            Action::Voucher {
                channel_id,
                voucher,
            } => (channel_id.clone(), Some(voucher.clone())),
            Action::Close {
                channel_id,
                voucher,
            } => (channel_id.clone(), voucher.clone()),
        };
        // The offer a channel was opened with holds as long as the channel.
        let is_over = challenge
            .expires_at()?
            .is_none_or(|at| at <= self.env.clock.now());
        if is_over && channel != challenge.id {
            let detail = "the offer is over";
            return Ok(Verdict::refused(Problem::Expired, detail));
        }
        let is_alone = is_bodyless || voucher.is_none();
        let mut plan = self.session_plan(challenge, &request, (channel, voucher), is_alone)?;
        match action {
            Action::TopUp { .. } => return self.top_up(plan, &credential.payload).await,
            Action::Close { .. } => return self.close_channel(plan).await,
            Action::Open { .. } => match self.opening(challenge, &request, &credential.payload)? {
                Ok((open, buyer)) => {
                    plan.open = Some(Box::new(open));
                    plan.buyer = Some(buyer);
                }
                Err(refused) => return Ok(Verdict::Refused(refused)),
            },
            Action::Voucher { .. } => {}
        }
        if !plan.is_alone
            && let Err(refused) = Self::check_body(challenge, sale)
        {
            return Ok(Verdict::Refused(refused));
        }
        let (cache, keys) = (
            Arc::clone(self.authority.cache()),
            Arc::clone(&self.config.keys),
        );
        let tried = plan.clone();
        let drawn = self
            .authority
            .db()
            .write(move |tx| draw(tx, &cache, &*keys, &tried))
            .await;
        match drawn {
            Ok(Drawn::Yes(buyer)) => {
                plan.buyer = Some(buyer.clone());
                Ok(Verdict::Run(Ticket {
                    buyer,
                    challenge: challenge.id.clone(),
                    paid: request,
                    kind: Box::new(TicketKind::Session(plan)),
                }))
            }
            Ok(Drawn::No(verdict)) => Ok(verdict),
            Err(error) => verdict_of(error),
        }
    }

    fn session_plan(
        &self,
        challenge: &Challenge,
        request: &PaymentRequest,
        (channel, voucher): (String, Option<String>),
        is_alone: bool,
    ) -> Result<Plan> {
        // One voucher with one challenge pays for one answer.
        let digest = Digest::of_json(&(&challenge.id, &channel, &voucher, is_alone))?;
        Ok(Plan {
            scope: format!("mpp-session/{}", self.config.realm),
            key: IdempotencyKey::new(format!("draw_{digest}"))?,
            request: digest,
            buyer: None,
            channel,
            voucher,
            price: request.amount,
            lease: self.config.run_max.saturating_add(MARGIN),
            is_alone,
            open: None,
        })
    }

    /// Checks the order to hold a deposit.
    fn opening(
        &self,
        challenge: &Challenge,
        request: &PaymentRequest,
        payload: &Value,
    ) -> Result<Result<(Open, Principal), Refused>> {
        let order = match Order::verify(payload, &challenge.id, &*self.config.keys) {
            Ok(order) => order,
            Err(error) => return Ok(Err(unproved(Problem::InvalidSignature, &error))),
        };
        let refused = |detail: &str| Ok(Err(Refused::new(Problem::VerificationFailed, detail)));
        let Order::Pay {
            buyer,
            amount,
            recipient,
            ..
        } = order
        else {
            return refused("not an order to hold a deposit");
        };
        if amount.asset() != request.amount.asset() || recipient != request.recipient {
            return refused("the proof is for another asset or recipient");
        }
        let Some(purse) = self.config.purses.purse(&buyer) else {
            return refused("the buyer has no purse here");
        };
        let offered_until = challenge.expires_at()?.unwrap_or(Timestamp::EPOCH);
        let ends_at = offered_until.after(self.config.session_max);
        let payee = Payee::new(&request.recipient, Origin::SignedOffer);
        let movement = Movement::new(purse.account, AccountName::new(&request.recipient)?);
        let key = IdempotencyKey::new(format!("mpp_{}", challenge.id))?;
        let until = ends_at.after(AFTER);
        let intent = Intent::new(key, purse.node, buyer.clone(), amount, payee, until)
            .with_basis(PriceBasis::SignedOffer)
            .with_rail("mpp")
            .with_resource(&self.config.realm, "")
            .with_movement(movement);
        let open = Open {
            intent,
            offered_until,
            ends_at,
        };
        Ok(Ok((open, buyer)))
    }

    async fn top_up(&self, plan: Plan, payload: &Value) -> Result<Verdict> {
        let order = match Order::verify(payload, &plan.channel, &*self.config.keys) {
            Ok(order) => order,
            Err(error) => {
                let refused = unproved(Problem::InvalidSignature, &error);
                return Ok(Verdict::Refused(refused));
            }
        };
        let Order::TopUp {
            buyer,
            part,
            amount,
            ..
        } = order
        else {
            let detail = "not an order to top up";
            return Ok(Verdict::refused(Problem::VerificationFailed, detail));
        };
        let cache = Arc::clone(self.authority.cache());
        let topped = self.authority.db().write(move |tx| {
            let Some(mut row) = row::find(tx, &plan.channel)? else {
                return Ok(Verdict::Refused(gone(Problem::ChannelNotFound)));
            };
            if row.is_closed || row.ends_at <= tx.now() {
                return Ok(Verdict::Refused(gone(Problem::ChannelFinalized)));
            }
            if row.buyer != buyer {
                return Ok(Verdict::Refused(gone(Problem::InvalidSignature)));
            }
            match book::top_up(tx, &cache, &row.spend, part, amount)? {
                Authorization::Held { hold, .. } => {
                    row.deposit = hold.amount;
                    row::update(tx, &row)?;
                    row.receipt(tx.now()).map(Verdict::Taken)
                }
                Authorization::NeedsApproval(_) | Authorization::Denied(_) => {
                    let detail = "the seller's policies refuse it";
                    Ok(Verdict::refused(Problem::VerificationFailed, detail))
                }
            }
        });
        topped.await.or_else(verdict_of)
    }

    pub(super) async fn settle_session(
        &self,
        plan: Plan,
        challenge: String,
        is_paid: bool,
        stored: Option<Stored>,
    ) -> Result<Option<Receipt>> {
        let settled = self.authority.db().write(move |tx| {
            let mut row = row::find(tx, &plan.channel)?
                .ok_or_else(|| Error::corrupt("a session lost its channel"))?;
            row.busy = None;
            if !is_paid {
                row.spent = row.spent.minus(plan.price)?;
            }
            row::update(tx, &row)?;
            let mut receipt = None;
            if is_paid {
                let paid = receipt.insert(row.receipt(tx.now())?);
                paid.challenge_id = Some(challenge);
            }
            let mut stored = stored.unwrap_or_else(|| {
                let detail = "its answer was too long to be kept";
                Stored::closed(row.buyer.clone(), Problem::InvalidChallenge, detail)
            });
            if let End::Answered { receipt: kept, .. } = &mut stored.end {
                kept.clone_from(&receipt);
            }
            stored.keep(tx, (&plan.scope, &plan.key), row.ends_at)?;
            Ok::<_, Error>(receipt)
        });
        settled.await
    }
}

fn gone(problem: Problem) -> Refused {
    Refused::new(problem, problem.title())
}

/// What a caller is told when a write was rolled back.
fn verdict_of(error: Error) -> Result<Verdict> {
    match error {
        Error::InFlight { retry_after, .. } => Ok(Verdict::Busy { retry_after }),
        error if error.is_refusal() => {
            let detail = "the buyer's purse has too little";
            Ok(Verdict::refused(Problem::VerificationFailed, detail))
        }
        Error::Resolved { .. } | Error::Expired { .. } => {
            Ok(Verdict::Refused(gone(Problem::ChannelFinalized)))
        }
        Error::Invalid { .. } | Error::Value(_) | Error::KeyReused { .. } => Ok(Verdict::refused(
            Problem::VerificationFailed,
            "it contradicts what was held",
        )),
        error => Err(error),
    }
}
