//! What a voucher pays for, within one transaction.

use agent_core::Principal;
use agent_core::store::Tx;

use super::row::{self, Busy, Row};
use super::{Plan, gone};
use crate::authority::{Authorization, SpendState};
use crate::backend::sqlite::authority::{
    self as book, Answer as Kept, Begin, PolicyCache, begin, finish,
};
use crate::error::{Error, Result};
use crate::mpp::problem::Problem;
use crate::mpp::request::write_units;
use crate::mpp::server::stored::{End, Stored};
use crate::mpp::server::{Refused, Verdict, unproved};
use crate::signed::VerifyKey;
use crate::trade::Channel;

pub(super) enum Drawn {
    Yes(Principal),
    No(Verdict),
}

/// Takes the price of one answer from what is promised.
pub(super) fn draw(
    tx: &mut Tx<'_>,
    cache: &PolicyCache,
    keys: &dyn VerifyKey,
    plan: &Plan,
) -> Result<Drawn> {
    let begun = begin(tx, &plan.scope, &plan.key, &plan.request, plan.lease)?;
    let mut row = match opened(tx, cache, plan)? {
        Ok(row) => row,
        Err(refused) => return pass(tx, plan, &begun, refused),
    };
    if let Begin::Replay(kept) = &begun {
        return Stored::again(kept, &row.buyer).map(Drawn::No);
    }
    if let Some(busy) = row.settle_busy(tx.now())? {
        let (key, retry_after) = (plan.key.clone(), busy.until.since(tx.now()));
        return Err(Error::InFlight { key, retry_after });
    }
    if row.was_cut_off_at(&plan.key) {
        let detail = "its first run did not end";
        row::update(tx, &row)?;
        let stored = Stored::closed(row.buyer.clone(), Problem::InvalidChallenge, detail);
        stored.keep(tx, (&plan.scope, &plan.key), row.ends_at)?;
        let verdict = Verdict::closed(Problem::InvalidChallenge, detail);
        return Ok(Drawn::No(verdict));
    }
    if row.is_closed || row.ends_at <= tx.now() {
        return pass(tx, plan, &begun, gone(Problem::ChannelFinalized));
    }
    if let Some(voucher) = &plan.voucher
        && let Err(refused) = accept(&mut row, voucher, keys)?
    {
        return pass(tx, plan, &begun, refused);
    }
    if plan.is_alone {
        row::update(tx, &row)?;
        let receipt = row.receipt(tx.now())?;
        let end = End::Taken {
            receipt: receipt.clone(),
        };
        let buyer = row.buyer.clone();
        Stored { buyer, end }.keep(tx, (&plan.scope, &plan.key), row.ends_at)?;
        return Ok(Drawn::No(Verdict::Taken(receipt)));
    }
    let spent = row.spent.plus(plan.price)?;
    if spent.compare(&row.accepted)?.is_gt() {
        row::update(tx, &row)?;
        let missing = spent.minus(row.accepted)?;
        let detail = format!("{} more must be promised", write_units(missing)?);
        let refused = Refused::new(Problem::InsufficientBalance, detail);
        return pass(tx, plan, &begun, refused);
    }
    row.spent = spent;
    row.busy = Some(Busy {
        key: plan.key.clone(),
        units: plan.price,
        until: tx.now().after(plan.lease),
    });
    row::update(tx, &row)?;
    Ok(Drawn::Yes(row.buyer))
}

/// Finds the channel, or holds the deposit and opens it.
fn opened(tx: &mut Tx<'_>, cache: &PolicyCache, plan: &Plan) -> Result<Result<Row, Refused>> {
    if let Some(row) = row::find(tx, &plan.channel)? {
        let is_owner = plan.buyer.as_ref().is_none_or(|buyer| *buyer == row.buyer);
        return Ok(if is_owner {
            Ok(row)
        } else {
            Err(gone(Problem::InvalidSignature))
        });
    }
    let (Some(open), Some(buyer)) = (&plan.open, &plan.buyer) else {
        return Ok(Err(gone(Problem::ChannelNotFound)));
    };
    if open.offered_until <= tx.now() {
        return Ok(Err(gone(Problem::Expired)));
    }
    match book::authorize(tx, cache, &open.intent)? {
        // The channel of a hold that was there before is forgotten: it was closed.
        Authorization::Held { hold, is_replayed }
            if is_replayed || hold.state != SpendState::Held =>
        {
            Ok(Err(gone(Problem::ChannelFinalized)))
        }
        Authorization::Held { hold, .. } => {
            let row = Row::open(&plan.channel, buyer, &hold, open.ends_at);
            row::insert(tx, &row, &plan.scope)?;
            Ok(Ok(row))
        }
        Authorization::NeedsApproval(_) | Authorization::Denied(_) => {
            let detail = "the seller's policies refuse the deposit";
            Ok(Err(Refused::new(Problem::VerificationFailed, detail)))
        }
    }
}

/// Takes a voucher: signed by the buyer, of this channel, within the deposit, and not below the best.
pub(super) fn accept(
    row: &mut Row,
    voucher: &str,
    keys: &dyn VerifyKey,
) -> Result<Result<(), Refused>> {
    let mut channel = Channel::new(row.spend.clone(), row.buyer.clone(), row.deposit);
    let promised = match channel.accept(voucher, keys) {
        Ok(promised) => promised,
        Err(Error::ExceedsHold { .. }) => return Ok(Err(gone(Problem::AmountExceedsDeposit))),
        Err(error @ (Error::BadSignature { .. } | Error::Invalid { .. } | Error::Value(_))) => {
            return Ok(Err(unproved(Problem::InvalidSignature, &error)));
        }
        Err(error) => return Err(error),
    };
    if promised.compare(&row.accepted)?.is_lt() {
        return Ok(Err(gone(Problem::DeltaTooSmall)));
    }
    row.accepted = promised;
    Ok(Ok(()))
}

/// Refuses and leaves the key free: nothing was done for it.
fn pass(tx: &mut Tx<'_>, plan: &Plan, begun: &Begin, refused: Refused) -> Result<Drawn> {
    if matches!(begun, Begin::Run) {
        finish(tx, &plan.scope, &plan.key, &Kept::new(503, String::new()))?;
    }
    Ok(Drawn::No(Verdict::Refused(refused)))
}
