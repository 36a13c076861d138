//! Gives back what was captured: set aside before a rail is asked, so that refunds under way at the
//! same time never exceed what was paid, and so that a crash leaves something to ask about.

use agent_core::store::{Tx, sql};
use agent_core::{Amount, IdempotencyKey};
use rusqlite::{OptionalExtension, Row, params};

use super::super::book::TxBook;
use super::super::statement::{keys, run};
use super::hold::SPENT;
use super::record;
use super::row::{Spend, find, update};
use crate::account::AccountName;
use crate::authority::{Refund, RefundState};
use crate::batch::{Batch, Entry, State};
use crate::error::{Error, Result};
use crate::journal::{self, Book, Difference};

/// A refund as it is stored.
struct Stored {
    spend: IdempotencyKey,
    units: i64,
    state: RefundState,
}

/// Sets a refund aside; see
/// [`SqliteAuthority::submit_refund`](super::SqliteAuthority::submit_refund).
///
/// # Errors
/// As there.
pub fn submit_refund(
    tx: &mut Tx<'_>,
    key: &IdempotencyKey,
    refund_key: &IdempotencyKey,
    amount: Amount,
) -> Result<Refund> {
    let spend = find(tx, key)?;
    let units = amount.units_i64()?;
    if let Some(stored) = read(tx, refund_key)? {
        return replayed(&spend, refund_key, &stored, units);
    }
    check(tx, &spend, units, amount)?;
    let row = params![
        refund_key.as_str(),
        key.as_str(),
        units,
        RefundState::New.code()
    ];
    run(tx, "INSERT INTO pay_refund VALUES (?1, ?2, ?3, ?4)", row)?;
    let hold = spend.hold();
    Ok(Refund::new(
        refund_key.clone(),
        hold,
        amount,
        RefundState::New,
    ))
}

/// Books a refund; see [`SqliteAuthority::refund`](super::SqliteAuthority::refund).
///
/// # Errors
/// As there.
pub fn refund(
    tx: &mut Tx<'_>,
    key: &IdempotencyKey,
    refund_key: &IdempotencyKey,
    amount: Amount,
) -> Result<Refund> {
    let mut spend = find(tx, key)?;
    let units = amount.units_i64()?;
    match read(tx, refund_key)? {
        None => check(tx, &spend, units, amount)?,
        Some(stored) if stored.state != RefundState::Submitted => {
            let refund = replayed(&spend, refund_key, &stored, units)?;
            return match refund.state {
                RefundState::Settled => Ok(refund),
                _ => Err(resolved(refund_key, State::Voided)),
            };
        }
        // A rail may give back less than it was asked for, and never more.
        Some(stored) if stored.spend != *key || units <= 0 || units > stored.units => {
            return Err(reused(refund_key));
        }
        Some(_set_aside) => {}
    }
    give_back(tx, &spend, refund_key, amount)?;
    spend.refunded = spend.refunded.saturating_add(units);
    let row = params![
        refund_key.as_str(),
        key.as_str(),
        units,
        RefundState::Settled.code()
    ];
    run(
        tx,
        "INSERT OR REPLACE INTO pay_refund VALUES (?1, ?2, ?3, ?4)",
        row,
    )?;
    update(tx, &spend)?;
    let (hold, state) = (spend.hold(), RefundState::Settled);
    Ok(Refund::new(refund_key.clone(), hold, amount, state))
}

/// Gives up a refund; see [`SqliteAuthority::fail_refund`](super::SqliteAuthority::fail_refund).
///
/// # Errors
/// As there.
pub fn fail_refund(tx: &mut Tx<'_>, refund_key: &IdempotencyKey) -> Result<Refund> {
    let stored = read(tx, refund_key)?.ok_or_else(|| Error::KeyNotFound {
        key: refund_key.clone(),
    })?;
    if stored.state == RefundState::Settled {
        return Err(resolved(refund_key, State::Posted));
    }
    let row = params![refund_key.as_str(), RefundState::Failed.code()];
    run(tx, "UPDATE pay_refund SET state = ?2 WHERE key = ?1", row)?;
    let spend = find(tx, &stored.spend)?;
    let (amount, state) = (spend.amount(stored.units), RefundState::Failed);
    Ok(Refund::new(refund_key.clone(), spend.hold(), amount, state))
}

/// Returns a refund; see [`SqliteAuthority::find_refund`](super::SqliteAuthority::find_refund).
///
/// # Errors
/// As there.
pub fn find_refund(tx: &Tx<'_>, refund_key: &IdempotencyKey) -> Result<Option<Refund>> {
    let Some(stored) = read(tx, refund_key)? else {
        return Ok(None);
    };
    let spend = find(tx, &stored.spend)?;
    let amount = spend.amount(stored.units);
    let refund = Refund::new(refund_key.clone(), spend.hold(), amount, stored.state);
    Ok(Some(refund))
}

/// Lists refunds without an outcome; see
/// [`SqliteAuthority::submitted_refunds`](super::SqliteAuthority::submitted_refunds).
///
/// # Errors
/// As there.
pub fn submitted_refunds(tx: &Tx<'_>, limit: usize) -> Result<Vec<IdempotencyKey>> {
    let select = "SELECT key FROM pay_refund WHERE state = 0 ORDER BY spend, key LIMIT ?1";
    keys(tx, select, limit)
}

/// Refuses more than was captured and is neither given back nor set aside.
fn check(tx: &Tx<'_>, spend: &Spend, units: i64, asked: Amount) -> Result<()> {
    let left = spend.captured.saturating_sub(spend.refunded);
    let held = spend.amount(left.saturating_sub(set_aside(tx, &spend.key)?));
    if units <= 0 || asked.compare(&held)?.is_gt() {
        return Err(Error::ExceedsHold { held, asked });
    }
    Ok(())
}

fn set_aside(tx: &Tx<'_>, spend: &IdempotencyKey) -> Result<i64> {
    let operation = "add up refunds under way";
    let statement = "SELECT coalesce(sum(units), 0) FROM pay_refund WHERE state = 0 AND spend = ?1";
    let mut select = tx.sql().prepare_cached(statement).map_err(sql(operation))?;
    let sum = select.query_row([spend.as_str()], |row| row.get(0));
    Ok(sum.map_err(sql(operation))?)
}

fn replayed(
    spend: &Spend,
    refund_key: &IdempotencyKey,
    stored: &Stored,
    units: i64,
) -> Result<Refund> {
    if stored.spend != spend.key || stored.units != units {
        return Err(reused(refund_key));
    }
    let (hold, amount) = (spend.hold(), spend.amount(units));
    Ok(Refund::new(refund_key.clone(), hold, amount, stored.state))
}

fn reused(refund_key: &IdempotencyKey) -> Error {
    let (key, differs) = (refund_key.clone(), Difference::Amount);
    Error::KeyReused { key, differs }
}

fn resolved(refund_key: &IdempotencyKey, state: State) -> Error {
    let key = refund_key.clone();
    Error::Resolved { key, state }
}

fn read(tx: &Tx<'_>, refund_key: &IdempotencyKey) -> Result<Option<Stored>> {
    let operation = "find a refund";
    let found = tx
        .sql()
        .prepare_cached("SELECT spend, units, state FROM pay_refund WHERE key = ?1")
        .and_then(|mut select| {
            let row = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?));
            select.query_row([refund_key.as_str()], row).optional()
        });
    let Some((spend, units, code)) = found.map_err(sql(operation))? else {
        return Ok(None);
    };
    Ok(Some(Stored {
        spend: IdempotencyKey::new(spend)?,
        units,
        state: RefundState::from_code(code)?,
    }))
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
