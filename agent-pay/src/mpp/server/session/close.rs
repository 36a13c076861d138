//! The end of a session: what was used is captured, and told to its buyer for good.

use std::sync::Arc;

use agent_core::store::Tx;
use agent_core::{Amount, IdempotencyKey};

use super::draw::accept;
use super::row::{self, Row};
use super::{MARGIN, Plan, gone, verdict_of};
use crate::authority::{SpendHold, SpendState};
use crate::backend::sqlite::authority::{capture, spend};
use crate::error::{Error, Result};
use crate::mpp::problem::Problem;
use crate::mpp::server::past::past;
use crate::mpp::server::{Server, Verdict};
use crate::signed::VerifyKey;

impl Server {
    pub(super) async fn close_channel(&self, plan: Plan) -> Result<Verdict> {
        let keys = Arc::clone(&self.config.keys);
        let closed = self.authority.db().write(move |tx| {
            let Some(mut row) = row::find(tx, &plan.channel)? else {
                return told(tx, &plan, &*keys);
            };
            // Whoever has no voucher of the buyer may not end the session.
            let Some(voucher) = &plan.voucher else {
                return Ok(Verdict::Refused(gone(Problem::InvalidSignature)));
            };
            if !row.is_closed {
                if row.settle_busy(tx.now())?.is_some() {
                    return Ok(Verdict::Busy {
                        retry_after: MARGIN,
                    });
                }
                if let Err(refused) = accept(&mut row, voucher, &*keys)? {
                    return Ok(Verdict::Refused(refused));
                }
                end(tx, &mut row)?;
            } else if let Err(refused) = accept(&mut row, voucher, &*keys)? {
                return Ok(Verdict::Refused(refused));
            }
            row.receipt(tx.now()).map(Verdict::Taken)
        });
        closed.await.or_else(verdict_of)
    }

    /// Captures what was used of at most `limit` sessions whose time is over, and returns how many
    /// there were. Call it now and then: a day after its end a deposit is no longer held, and a session
    /// is then closed without it, and cost nothing.
    ///
    /// # Errors
    /// Those of the store.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn close_ended(&self, limit: usize) -> Result<usize> {
        let closed = self.authority.db().write(move |tx| {
            let ended = row::ended(tx, limit)?;
            for channel in &ended {
                if let Some(mut row) = row::find(tx, channel)?
                    && row.settle_busy(tx.now())?.is_none()
                {
                    end(tx, &mut row)?;
                }
            }
            Ok::<_, Error>(ended.len())
        });
        closed.await
    }
}

/// Captures what was used, and frees the rest of the deposit. Where the deposit is no longer held there is
/// nothing to be captured, now or later: the session cost what was captured before.
fn end(tx: &mut Tx<'_>, row: &mut Row) -> Result<()> {
    let hold =
        spend(tx, &row.spend)?.ok_or_else(|| Error::corrupt("a session lost its deposit"))?;
    let is_open = match hold.state {
        SpendState::Held => tx.now() < hold.expires_at,
        SpendState::Submitted => true,
        SpendState::Captured | SpendState::Released | SpendState::Expired => false,
    };
    if is_open {
        capture(tx, &row.spend, row.spent)?;
    } else {
        row.spent = least(hold.captured, row.accepted)?;
    }
    row.is_closed = true;
    row::update(tx, row)
}

/// Tells its buyer what a session cost that is forgotten: its spend is in the ledger.
fn told(tx: &Tx<'_>, plan: &Plan, keys: &dyn VerifyKey) -> Result<Verdict> {
    let unknown = || Ok(Verdict::Refused(gone(Problem::ChannelNotFound)));
    let Ok(key) = IdempotencyKey::new(format!("mpp_{}", plan.channel)) else {
        return unknown();
    };
    let Some(past) = past(tx, &key)? else {
        return unknown();
    };
    let Some(voucher) = &plan.voucher else {
        return Ok(Verdict::Refused(gone(Problem::InvalidSignature)));
    };
    let SpendHold {
        state, captured, ..
    } = past.hold;
    let until = past.hold.expires_at;
    let mut row = Row::open(&plan.channel, &past.buyer, &past.hold, until);
    if let Err(refused) = accept(&mut row, voucher, keys)? {
        return Ok(Verdict::Refused(refused));
    }
    if matches!(state, SpendState::Held | SpendState::Submitted) {
        let retry_after = MARGIN;
        return Ok(Verdict::Busy { retry_after });
    }
    row.spent = captured;
    row.receipt(tx.now()).map(Verdict::Taken)
}

fn least(one: Amount, other: Amount) -> Result<Amount> {
    Ok(if one.compare(&other)?.is_le() {
        one
    } else {
        other
    })
}
