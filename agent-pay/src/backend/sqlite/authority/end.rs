//! Ends what was authorized: captured, released, expired, given back.

use agent_core::store::Tx;
use agent_core::{Amount, IdempotencyKey};

use super::desk::Desk;
use super::nodes::PolicyCache;
use super::row::{Spend, part_key, update};
use super::sweep;
use crate::authority::{Limit, SpendHold, SpendState};
use crate::error::{Error, Result};
use crate::journal::{self, Book, Origin, TransferRow};

/// Marks as handed to a rail; see [`SqliteAuthority::submit`](super::SqliteAuthority::submit).
///
/// # Errors
/// As there.
pub fn submit(tx: &mut Tx<'_>, key: &IdempotencyKey) -> Result<SpendHold> {
    let cache = PolicyCache::default();
    Desk::with(tx, &cache, |desk| submit_at(desk, key))
}

pub(super) fn submit_at(desk: &mut Desk<'_, '_>, key: &IdempotencyKey) -> Result<SpendHold> {
    let tx = desk.tx;
    let mut spend = desk.find(key)?;
    spend.check_open(tx.now())?;
    if spend.state == SpendState::Held {
        spend.state = SpendState::Submitted;
        update(tx, &spend)?;
    }
    Ok(spend.hold())
}

/// Posts what was spent; see [`SqliteAuthority::capture`](super::SqliteAuthority::capture).
///
/// # Errors
/// As there.
pub fn capture(tx: &mut Tx<'_>, key: &IdempotencyKey, actual: Amount) -> Result<SpendHold> {
    let cache = PolicyCache::default();
    Desk::with(tx, &cache, |desk| capture_at(desk, key, actual))
}

pub(super) fn capture_at(
    desk: &mut Desk<'_, '_>,
    key: &IdempotencyKey,
    actual: Amount,
) -> Result<SpendHold> {
    let tx = desk.tx;
    let mut spend = desk.find(key)?;
    let units = actual.units_i64()?;
    let held = spend.amount(spend.units);
    if actual.is_negative() || actual.compare(&held)?.is_gt() {
        return Err(Error::ExceedsHold {
            held,
            asked: actual,
        });
    }
    if spend.state == SpendState::Captured && spend.captured == units {
        return Ok(spend.hold());
    }
    spend.check_open(tx.now())?;
    let mut left = units;
    for part in 0..spend.n_parts {
        left = left.saturating_sub(capture_part(desk, &spend, part, left)?);
    }
    if left != 0 {
        return Err(Error::corrupt(format!(
            "{left} units of {} are not held",
            key.as_str()
        )));
    }
    spend.state = SpendState::Captured;
    spend.captured = units;
    update(tx, &spend)?;
    if units > 0 {
        desk.trust(&spend.node, &spend.payee)?;
    }
    Ok(spend.hold())
}

/// Captures at most `left` of a part and returns how much; nothing of it is released whole.
fn capture_part(desk: &mut Desk<'_, '_>, spend: &Spend, part: u32, left: i64) -> Result<i64> {
    let n_counts = if part == 0 { spend.n_counts } else { 0 };
    let mut taken = 0;
    let count = Limit::count_asset()?;
    resolve_part(desk, spend, part, |holds| {
        taken = holds.get(n_counts).map_or(0, |hold| hold.units.min(left));
        if taken == 0 {
            return Ok((Origin::Voided, Vec::new()));
        }
        let one = |n: usize| {
            let hold = holds.get(n).map_or(0, |hold| hold.units);
            match n < n_counts {
                true => Amount::from_units(hold.into(), count),
                false => spend.amount(taken),
            }
        };
        Ok((Origin::Captured, (0..holds.len()).map(one).collect()))
    })?;
    Ok(taken)
}

/// Resolves the holds of a part, which leave the windows they were held beyond.
fn resolve_part(
    desk: &mut Desk<'_, '_>,
    spend: &Spend,
    part: u32,
    how: impl FnOnce(&[TransferRow]) -> Result<(Origin, Vec<Amount>)>,
) -> Result<()> {
    let key = part_key(&spend.key, part)?;
    // The batch of the first part is known, and its number finds it sooner than its key.
    let held = match part {
        0 => Some(desk.book.batch(spend.batch)?),
        _ => desk.book.batch_by_key(&key)?,
    };
    let held = held.ok_or_else(|| Error::corrupt(format!("part {part} of a spend is missing")))?;
    journal::resolve_batch(&mut desk.book, &key, &held, how)?;
    sweep::unpark(desk, held.seq)
}

/// Releases; see [`SqliteAuthority::release`](super::SqliteAuthority::release).
///
/// # Errors
/// As there.
pub fn release(tx: &mut Tx<'_>, key: &IdempotencyKey) -> Result<SpendHold> {
    let cache = PolicyCache::default();
    Desk::with(tx, &cache, |desk| release_at(desk, key))
}

pub(super) fn release_at(desk: &mut Desk<'_, '_>, key: &IdempotencyKey) -> Result<SpendHold> {
    let tx = desk.tx;
    let spend = desk.find(key)?;
    match spend.state {
        SpendState::Released | SpendState::Expired => Ok(spend.hold()),
        SpendState::Captured => Err(spend
            .check_open(tx.now())
            .err()
            .unwrap_or_else(|| Error::corrupt("a captured spend is open"))),
        SpendState::Held | SpendState::Submitted => end(desk, spend, Origin::Voided),
    }
}

/// Releases a hold whose time is over.
pub(super) fn expire(desk: &mut Desk<'_, '_>, key: &IdempotencyKey) -> Result<()> {
    let spend = desk.find(key)?;
    end(desk, spend, Origin::Expired)?;
    Ok(())
}

fn end(desk: &mut Desk<'_, '_>, mut spend: Spend, origin: Origin) -> Result<SpendHold> {
    for part in 0..spend.n_parts {
        resolve_part(desk, &spend, part, |_holds| Ok((origin, Vec::new())))?;
    }
    spend.state = match origin {
        Origin::Expired => SpendState::Expired,
        _ => SpendState::Released,
    };
    update(desk.tx, &spend)?;
    Ok(spend.hold())
}
