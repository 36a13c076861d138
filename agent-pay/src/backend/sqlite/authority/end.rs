//! Ends what was authorized: captured, released, expired, given back.

use agent_core::store::{Tx, sql};
use agent_core::{Amount, IdempotencyKey};
use rusqlite::{OptionalExtension, Row, params};

use super::super::book::TxBook;
use super::hold::SPENT;
use super::nodes::{self, run};
use super::row::{Spend, find, part_key, update};
use super::{record, sweep};
use crate::account::AccountName;
use crate::authority::{Limit, SpendHold, SpendState};
use crate::batch::{Batch, Entry};
use crate::error::{Error, Result};
use crate::journal::{self, Book, Difference, Origin, TransferRow};

/// Marks as handed to a rail; see [`SqliteAuthority::submit`](super::SqliteAuthority::submit).
///
/// # Errors
/// As there.
pub fn submit(tx: &mut Tx<'_>, key: &IdempotencyKey) -> Result<SpendHold> {
    let mut spend = find(tx, key)?;
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
    let mut spend = find(tx, key)?;
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
        left = left.saturating_sub(capture_part(tx, &spend, part, left)?);
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
        nodes::trust_payee(tx, &spend.node, &spend.payee)?;
    }
    Ok(spend.hold())
}

/// Captures at most `left` of a part and returns how much; nothing of it is released whole.
fn capture_part(tx: &Tx<'_>, spend: &Spend, part: u32, left: i64) -> Result<i64> {
    let mut book = TxBook::new(tx);
    let n_counts = if part == 0 { spend.n_counts } else { 0 };
    let mut taken = 0;
    let count = Limit::count_asset()?;
    let (holds, _receipt) =
        journal::resolve_by(&mut book, &part_key(&spend.key, part)?, |holds| {
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
    unpark(tx, &holds)?;
    Ok(taken)
}

fn unpark(tx: &Tx<'_>, holds: &[TransferRow]) -> Result<()> {
    match holds.first() {
        Some(hold) => sweep::unpark(tx, hold.batch),
        None => Ok(()),
    }
}

/// Releases; see [`SqliteAuthority::release`](super::SqliteAuthority::release).
///
/// # Errors
/// As there.
pub fn release(tx: &mut Tx<'_>, key: &IdempotencyKey) -> Result<SpendHold> {
    let spend = find(tx, key)?;
    match spend.state {
        SpendState::Released | SpendState::Expired => Ok(spend.hold()),
        SpendState::Captured => Err(spend
            .check_open(tx.now())
            .err()
            .unwrap_or_else(|| Error::corrupt("a captured spend is open"))),
        SpendState::Held | SpendState::Submitted => end(tx, spend, Origin::Voided),
    }
}

/// Releases a hold whose time is over.
pub(super) fn expire(tx: &mut Tx<'_>, key: &IdempotencyKey) -> Result<()> {
    let spend = find(tx, key)?;
    end(tx, spend, Origin::Expired)?;
    Ok(())
}

fn end(tx: &Tx<'_>, mut spend: Spend, origin: Origin) -> Result<SpendHold> {
    let mut book = TxBook::new(tx);
    for part in 0..spend.n_parts {
        let key = part_key(&spend.key, part)?;
        let how = |_holds: &[TransferRow]| Ok((origin, Vec::new()));
        let (holds, _receipt) = journal::resolve_by(&mut book, &key, how)?;
        unpark(tx, &holds)?;
    }
    spend.state = match origin {
        Origin::Expired => SpendState::Expired,
        _ => SpendState::Released,
    };
    update(tx, &spend)?;
    Ok(spend.hold())
}

/// Gives back; see [`SqliteAuthority::refund`](super::SqliteAuthority::refund).
///
/// # Errors
/// As there.
pub fn refund(
    tx: &mut Tx<'_>,
    key: &IdempotencyKey,
    refund_key: &IdempotencyKey,
    amount: Amount,
) -> Result<SpendHold> {
    let mut spend = find(tx, key)?;
    let units = amount.units_i64()?;
    let before = refund_row(tx, refund_key)?;
    if let Some(before) = before {
        if before == (key.as_str().to_owned(), units) {
            return Ok(spend.hold());
        }
        let (key, differs) = (refund_key.clone(), Difference::Amount);
        return Err(Error::KeyReused { key, differs });
    }
    let left = spend.amount(spend.captured.saturating_sub(spend.refunded));
    if units <= 0 || amount.compare(&left)?.is_gt() {
        return Err(Error::ExceedsHold {
            held: left,
            asked: amount,
        });
    }
    give_back(tx, &spend, refund_key, amount)?;
    spend.refunded = spend.refunded.saturating_add(units);
    run(
        tx,
        "INSERT INTO pay_refund VALUES (?1, ?2, ?3)",
        params![refund_key.as_str(), key.as_str(), units],
    )?;
    update(tx, &spend)?;
    Ok(spend.hold())
}

fn refund_row(tx: &Tx<'_>, refund_key: &IdempotencyKey) -> Result<Option<(String, i64)>> {
    let found = tx
        .sql()
        .prepare_cached("SELECT spend, units FROM pay_refund WHERE key = ?1")
        .and_then(|mut select| {
            let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
            select.query_row([refund_key.as_str()], read).optional()
        });
    Ok(found.map_err(sql("find a refund"))?)
}

/// Returns the spend a refund belongs to.
pub(super) fn refunded(tx: &Tx<'_>, refund_key: &IdempotencyKey) -> Result<Option<IdempotencyKey>> {
    let row = refund_row(tx, refund_key)?;
    row.map(|(spend, _units)| Ok(IdempotencyKey::new(spend)?))
        .transpose()
}

fn give_back(tx: &Tx<'_>, spend: &Spend, key: &IdempotencyKey, amount: Amount) -> Result<()> {
    let mut book = TxBook::new(tx);
    let spent = AccountName::new(SPENT)?;
    let mut entries = Vec::new();
    for node in spend.node.levels() {
        let name = node.account()?;
        if book.account_by_name(spend.asset, &name)?.is_some() {
            entries.push(Entry::reverse(name, spent.clone(), amount));
        }
    }
    let intent = record::intent(tx, spend.decision)?;
    if let Some(movement) = intent.movement {
        entries.push(Entry::post(movement.to, movement.from, amount));
    }
    let batch = Batch::new(key.clone(), entries);
    journal::post(
        &mut book,
        &batch.with_memo(format!("refund of {}", spend.key.as_str())),
    )?;
    Ok(())
}
