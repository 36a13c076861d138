//! What goes back to a buyer who asks for it.

use agent_core::store::Tx;
use agent_core::{Amount, Digest, IdempotencyKey, Principal};

use super::charge::{Plan, stranger};
use super::past::past;
use super::stored::Stored;
use super::{METHOD, Server, Verdict};
use crate::authority::{Refund, RefundState, SpendState};
use crate::backend::sqlite::authority::{self as book, Begin, begin, find_refund};
use crate::error::{Error, Result};
use crate::mpp::challenge::Challenge;
use crate::mpp::problem::Problem;
use crate::mpp::receipt::Receipt;
use crate::mpp::request::{PaymentRequest, write_units};

impl Server {
    pub(super) async fn give_back(
        &self,
        challenge: &Challenge,
        buyer: Principal,
        refund: IdempotencyKey,
        amount: Amount,
    ) -> Result<Verdict> {
        let request = PaymentRequest::decode(&challenge.request)?;
        let Some(plan) = self.plan(challenge, &request, &buyer)? else {
            return Ok(stranger());
        };
        let digest = Digest::of_json(&(plan.spend.as_str(), refund.as_str()))?;
        let refund = IdempotencyKey::new(format!("mpp-refund_{digest}"))?;
        let gives_refunds = self.config.gives_refunds;
        let given = self
            .authority
            .db()
            .write(move |tx| match told(tx, &plan, &refund, amount)? {
                Some(verdict) => Ok(verdict),
                None if gives_refunds => give(tx, &plan, &refund, amount),
                None => {
                    let detail = "nothing is given back on request";
                    Ok(Verdict::closed(Problem::VerificationFailed, detail))
                }
            });
        match given.await {
            Err(Error::InFlight { retry_after, .. }) => Ok(Verdict::Busy { retry_after }),
            Err(Error::ExceedsHold { .. } | Error::KeyNotFound { .. }) => {
                let detail = "less was paid, or nothing";
                Ok(Verdict::closed(Problem::VerificationFailed, detail))
            }
            Err(error) if error.is_refusal() => {
                let detail = "the seller's account has too little";
                Ok(Verdict::refused(Problem::VerificationFailed, detail))
            }
            other => other,
        }
    }
}

/// Tells a buyer what the ledger has: a refund that went back, though it would not be given now, or a
/// payment whose end is not known.
fn told(
    tx: &Tx<'_>,
    plan: &Plan,
    refund: &IdempotencyKey,
    amount: Amount,
) -> Result<Option<Verdict>> {
    let own = past(tx, &plan.spend)?.filter(|past| past.buyer == plan.buyer);
    let Some(own) = own else {
        return Ok(None);
    };
    if matches!(own.hold.state, SpendState::Held | SpendState::Submitted) {
        let retry_after = plan.lease;
        return Ok(Some(Verdict::Busy { retry_after }));
    }
    match find_refund(tx, refund)? {
        Some(given) if given.state == RefundState::Settled && given.amount == amount => {
            receipt(tx, &given).map(|receipt| Some(Verdict::Taken(receipt)))
        }
        _ => Ok(None),
    }
}

/// Gives back. Rolled back where nothing was paid.
fn give(tx: &mut Tx<'_>, plan: &Plan, refund: &IdempotencyKey, amount: Amount) -> Result<Verdict> {
    let is_paid_by_buyer = match begin(tx, &plan.scope, &plan.key, &plan.request, plan.lease)? {
        Begin::Replay(kept) => Stored::is_paid_by(&kept, &plan.buyer)?,
        Begin::Run => false,
    };
    if !is_paid_by_buyer {
        let key = plan.spend.clone();
        return Err(Error::KeyNotFound { key });
    }
    let given = book::refund(tx, &plan.spend, refund, amount)?;
    receipt(tx, &given).map(Verdict::Taken)
}

fn receipt(tx: &Tx<'_>, given: &Refund) -> Result<Receipt> {
    let hold = &given.spend;
    let mut receipt = Receipt::new(METHOD, tx.now(), given.key.as_str());
    receipt.spent = Some(write_units(hold.captured.minus(hold.refunded)?)?);
    Ok(receipt)
}
