//! One payment for one answer.

use std::sync::Arc;
use std::time::Duration;

use agent_core::store::Tx;
use agent_core::{Amount, Digest, IdempotencyKey, Principal, Timestamp};

use super::past::past;
use super::stored::{self, End, Stored, with_receipt};
use super::{METHOD, Sale, Server, Ticket, TicketKind, Verdict, unproved};
use crate::account::AccountName;
use crate::authority::{Authorization, Intent, Movement, Origin, Payee, PriceBasis, SpendState};
use crate::backend::sqlite::authority::{
    self as book, Answer as Kept, Begin, PolicyCache, begin, capture, release,
};
use crate::error::{Error, Result};
use crate::mpp::challenge::Challenge;
use crate::mpp::credential::Credential;
use crate::mpp::problem::Problem;
use crate::mpp::receipt::Receipt;
use crate::mpp::request::{PaymentRequest, write_units};
use crate::mpp::statement::Order;
use crate::transport::Answer;

/// How much longer than a handler may run its money is held and its key kept.
const MARGIN: Duration = Duration::from_secs(60);
/// When to ask again about what a person must approve.
const APPROVAL: Duration = Duration::from_secs(60);

/// All that the transactions of one credential need.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) scope: String,
    pub(super) key: IdempotencyKey,
    pub(super) spend: IdempotencyKey,
    pub(super) request: Digest,
    pub(super) buyer: Principal,
    pub(super) amount: Amount,
    pub(super) lease: Duration,
    intent: Intent,
    offered_until: Timestamp,
}

impl Server {
    /// Takes a credential for a sale: reserves the challenge and holds the money, in one
    /// transaction, or finds what became of it before.
    ///
    /// A handler must end within the configured time, and [`Server::settle`] be called with what it
    /// said; a ticket that is lost gives the money back when it is asked about, or expires.
    ///
    /// # Errors
    /// Those of the store. Whatever is wrong with the credential is a [`Verdict`].
    ///
    /// # Cancel safety
    /// The reservation may have been made: present the credential again.
    pub async fn present(
        &self,
        credential: &Credential,
        sale: &Sale,
        is_bodyless: bool,
    ) -> Result<Verdict> {
        let challenge = &credential.challenge;
        if let Err(refused) = self.check_offer(challenge, sale) {
            return Ok(Verdict::Refused(refused));
        }
        let request = PaymentRequest::decode(&challenge.request)?;
        if challenge.intent == super::SESSION {
            return self
                .present_session(credential, sale, request, is_bodyless)
                .await;
        }
        let order = Order::verify(&credential.payload, &challenge.id, &*self.config.keys);
        let order = match order {
            Ok(order) => order,
            Err(error) => {
                let refused = unproved(Problem::VerificationFailed, &error);
                return Ok(Verdict::Refused(refused));
            }
        };
        match order {
            Order::Pay {
                buyer,
                amount,
                recipient,
                ..
            } => {
                if let Err(refused) = Self::check_body(challenge, sale) {
                    return Ok(Verdict::Refused(refused));
                }
                if amount != request.amount || recipient != request.recipient {
                    let detail = "the proof is for another amount or recipient";
                    return Ok(Verdict::refused(Problem::VerificationFailed, detail));
                }
                self.charge(challenge, request, buyer).await
            }
            Order::Void { buyer, .. } => {
                let Some(plan) = self.plan(challenge, &request, &buyer)? else {
                    return Ok(stranger());
                };
                let detail = "the challenge was closed by the buyer";
                self.use_up(plan, Problem::InvalidChallenge, detail).await
            }
            Order::Refund {
                buyer,
                refund,
                amount,
                ..
            } => self.give_back(challenge, buyer, refund, amount).await,
            Order::TopUp { .. } => {
                let detail = "a charge has no deposit";
                Ok(Verdict::refused(Problem::VerificationFailed, detail))
            }
        }
    }

    async fn charge(
        &self,
        challenge: &Challenge,
        request: PaymentRequest,
        buyer: Principal,
    ) -> Result<Verdict> {
        let Some(plan) = self.plan(challenge, &request, &buyer)? else {
            return Ok(stranger());
        };
        let (cache, tried) = (Arc::clone(self.authority.cache()), plan.clone());
        let begun = self
            .authority
            .db()
            .write(move |tx| reserve(tx, &cache, &tried))
            .await;
        match begun {
            Ok(Reserved::Yes) => Ok(Verdict::Run(Ticket {
                buyer,
                challenge: challenge.id.clone(),
                paid: request,
                kind: Box::new(TicketKind::Charge(plan)),
            })),
            Ok(Reserved::No(verdict)) => Ok(verdict),
            Err(Error::InFlight { retry_after, .. }) => Ok(Verdict::Busy { retry_after }),
            // The ledger refused and everything was rolled back: the challenge is used up in a
            // transaction of its own, so that the refusal is final.
            Err(error) if error.is_refusal() => {
                let detail = "the buyer's purse has too little";
                self.use_up(plan, Problem::VerificationFailed, detail).await
            }
            Err(error) => Err(error),
        }
    }

    /// Uses a challenge up without a payment, unless it was used before.
    async fn use_up(&self, plan: Plan, problem: Problem, detail: &'static str) -> Result<Verdict> {
        let closed = self.authority.db().write(move |tx| {
            match begin(tx, &plan.scope, &plan.key, &plan.request, plan.lease)? {
                Begin::Replay(kept) => Stored::again(&kept, &plan.buyer),
                Begin::Run => match earlier(tx, &plan)? {
                    Earlier::Told(verdict) => Ok(verdict),
                    Earlier::None | Earlier::Over => shut(tx, &plan, problem, detail),
                },
            }
        });
        match closed.await {
            Err(Error::InFlight { retry_after, .. }) => Ok(Verdict::Busy { retry_after }),
            other => other,
        }
    }

    /// Ends what a ticket began. Only an answer of the 200s is paid for; any other gives the money
    /// back. An answer below 500 is kept for whoever presents the credential again.
    ///
    /// # Errors
    /// Those of the store: give no answer then, the credential can be presented again. `Invalid`
    /// for an answer of more than 512 KiB, which is not paid for.
    ///
    /// # Cancel safety
    /// Atomic; it may have been settled.
    pub async fn settle(&self, ticket: Ticket, answer: Answer) -> Result<Answer> {
        let is_paid = answer.status().is_success();
        let stored = Stored::answered(ticket.buyer.clone(), &answer, None);
        let (stored, answer, oversize) = match stored {
            Ok(stored) => (Some(stored), answer, None),
            Err(error) => (None, answer, Some(error)),
        };
        let is_paid = is_paid && stored.is_some();
        let challenge = ticket.challenge.clone();
        let receipt = match *ticket.kind {
            TicketKind::Session(plan) => {
                self.settle_session(plan, challenge, is_paid, stored)
                    .await?
            }
            TicketKind::Charge(plan) => {
                let settled = self
                    .authority
                    .db()
                    .write(move |tx| settle(tx, &plan, challenge, is_paid, stored));
                settled.await?
            }
        };
        match oversize {
            Some(error) => Err(error),
            None => with_receipt(answer, receipt.as_ref()),
        }
    }

    pub(super) fn plan(
        &self,
        challenge: &Challenge,
        request: &PaymentRequest,
        buyer: &Principal,
    ) -> Result<Option<Plan>> {
        let Some(purse) = self.config.purses.purse(buyer) else {
            return Ok(None);
        };
        let offered_until = challenge.expires_at()?.unwrap_or(Timestamp::EPOCH);
        let lease = self.config.run_max.saturating_add(MARGIN);
        let payee = Payee::new(&request.recipient, Origin::SignedOffer);
        let movement = Movement::new(purse.account, AccountName::new(&request.recipient)?);
        // The same for every presentation of the credential, whenever it comes.
        let held_until = offered_until.after(lease).after(MARGIN);
        let intent = Intent::new(
            spend_key(challenge)?,
            purse.node,
            buyer.clone(),
            request.amount,
            payee,
            held_until,
        )
        .with_basis(PriceBasis::SignedOffer)
        .with_rail("mpp")
        .with_resource(&self.config.realm, "")
        .with_movement(movement);
        Ok(Some(Plan {
            scope: format!("mpp/{}", self.config.realm),
            key: IdempotencyKey::new(&challenge.id)?,
            spend: intent.key.clone(),
            request: Digest::of_bytes(challenge.id.as_bytes()),
            buyer: buyer.clone(),
            amount: request.amount,
            lease,
            intent,
            offered_until,
        }))
    }
}

/// The key of the spend of a challenge.
fn spend_key(challenge: &Challenge) -> Result<IdempotencyKey> {
    Ok(IdempotencyKey::new(format!("mpp_{}", challenge.id))?)
}

pub(super) fn stranger() -> Verdict {
    Verdict::refused(Problem::VerificationFailed, "the buyer has no purse here")
}

enum Reserved {
    Yes,
    No(Verdict),
}

fn reserve(tx: &mut Tx<'_>, cache: &PolicyCache, plan: &Plan) -> Result<Reserved> {
    match begin(tx, &plan.scope, &plan.key, &plan.request, plan.lease)? {
        Begin::Replay(kept) => return Stored::again(&kept, &plan.buyer).map(Reserved::No),
        Begin::Run => {}
    }
    match earlier(tx, plan)? {
        Earlier::None => {}
        Earlier::Told(verdict) => return Ok(Reserved::No(verdict)),
        Earlier::Over => {
            // The run before this one may have done its work: it is not repeated.
            let detail = "its first run did not end, or bought nothing";
            return shut(tx, plan, Problem::InvalidChallenge, detail).map(Reserved::No);
        }
    }
    if plan.offered_until <= tx.now() {
        let detail = "the offer is over";
        return shut(tx, plan, Problem::Expired, detail).map(Reserved::No);
    }
    match book::authorize(tx, cache, &plan.intent)? {
        Authorization::Held { .. } => Ok(Reserved::Yes),
        Authorization::Denied(refusal) => {
            let detail = format!("the seller's policies refuse it: {}", refusal.code);
            shut(tx, plan, Problem::VerificationFailed, &detail).map(Reserved::No)
        }
        Authorization::NeedsApproval(_) => {
            // The key is free again, so that it can be presented when somebody has approved.
            unbegin(tx, plan)?;
            let retry_after = APPROVAL;
            Ok(Reserved::No(Verdict::Busy { retry_after }))
        }
    }
}

/// What the ledger has of a credential that has no answer.
enum Earlier {
    None,
    /// It ended without a payment.
    Over,
    /// What its presenter is told. Its key is free again.
    Told(Verdict),
}

/// Finds what became of a credential that was begun anew: its answer is forgotten, or its first run did
/// not end, and what that left held is released.
fn earlier(tx: &mut Tx<'_>, plan: &Plan) -> Result<Earlier> {
    let Some(past) = past(tx, &plan.spend)? else {
        return Ok(Earlier::None);
    };
    let told = if past.buyer == plan.buyer {
        match past.hold.state {
            SpendState::Captured => Verdict::Taken(past.receipt(plan.key.as_str())?),
            SpendState::Submitted => Verdict::Busy {
                retry_after: APPROVAL,
            },
            SpendState::Held => {
                release(tx, &plan.spend)?;
                return Ok(Earlier::Over);
            }
            SpendState::Released | SpendState::Expired => return Ok(Earlier::Over),
        }
    } else {
        stored::somebody_elses()
    };
    unbegin(tx, plan)?;
    Ok(Earlier::Told(told))
}

/// Makes the key of a credential free again.
fn unbegin(tx: &mut Tx<'_>, plan: &Plan) -> Result<()> {
    let nothing = Kept::new(503, String::new());
    book::finish(tx, &plan.scope, &plan.key, &nothing)
}

/// Uses up a challenge that was begun.
fn shut(tx: &mut Tx<'_>, plan: &Plan, problem: Problem, detail: &str) -> Result<Verdict> {
    let stored = Stored::closed(plan.buyer.clone(), problem, detail);
    stored.keep(tx, (&plan.scope, &plan.key), plan.offered_until)?;
    Ok(Verdict::closed(problem, detail))
}

fn settle(
    tx: &mut Tx<'_>,
    plan: &Plan,
    challenge: String,
    is_paid: bool,
    stored: Option<Stored>,
) -> Result<Option<Receipt>> {
    let receipt = if is_paid {
        capture(tx, &plan.spend, plan.amount)?;
        let mut receipt = Receipt::new(METHOD, tx.now(), plan.spend.as_str());
        receipt.challenge_id = Some(challenge);
        receipt.spent = Some(write_units(plan.amount)?);
        Some(receipt)
    } else {
        release(tx, &plan.spend)?;
        None
    };
    let mut stored = stored.unwrap_or_else(|| {
        let detail = "its answer was too long to be kept";
        Stored::closed(plan.buyer.clone(), Problem::InvalidChallenge, detail)
    });
    if let End::Answered { receipt: kept, .. } = &mut stored.end {
        kept.clone_from(&receipt);
    }
    stored.keep(tx, (&plan.scope, &plan.key), plan.offered_until)?;
    Ok(receipt)
}
