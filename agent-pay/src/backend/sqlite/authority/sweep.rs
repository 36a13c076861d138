//! Releases what is over: holds past their time, and spends that left rolling windows.

use agent_core::store::{Tx, sql};
use agent_core::{Amount, IdempotencyKey, Timestamp};
use rusqlite::params;

use super::super::book::TxBook;
use super::super::statement::run;
use super::desk::Desk;
use super::nodes::{PolicyCache, number};
use super::{end, hold};
use crate::account::{Account, AccountName};
use crate::batch::{Batch, Entry, TransferKind};
use crate::error::{Error, Result};
use crate::journal::{self, Book};

/// How many rows of rolling windows one ledger batch takes back.
const ROLLING_PAGE: usize = 60;
/// When what is held beyond its window leaves it: not before it ends.
const PARKED: i64 = i64::MAX;

/// Releases at most `limit` of both; see
/// [`SqliteAuthority::sweep`](super::SqliteAuthority::sweep).
///
/// # Errors
/// As there.
pub fn sweep(tx: &mut Tx<'_>, limit: usize) -> Result<usize> {
    let cache = PolicyCache::default();
    Desk::with(tx, &cache, |desk| sweep_at(desk, limit))
}

fn sweep_at(desk: &mut Desk<'_, '_>, limit: usize) -> Result<usize> {
    let now = desk.now()?;
    let n_expired = expire_due(desk, now, limit)?;
    let mut n_left = 0_usize;
    while n_left < limit {
        let n = leave(desk, now)?;
        n_left = n_left.saturating_add(n);
        if n < ROLLING_PAGE {
            break;
        }
    }
    Ok(n_expired.saturating_add(n_left))
}

/// Expires holds whose time is over, the earliest first.
fn expire_due(desk: &mut Desk<'_, '_>, now: Timestamp, limit: usize) -> Result<usize> {
    let operation = "list expired spends";
    desk.append()?;
    let keys: Vec<String> = {
        let mut select = desk
            .tx
            .sql()
            .prepare_cached(
                "SELECT b.key FROM pay_spend s JOIN pay_batch b ON b.seq = s.batch \
                 WHERE s.state = 0 AND s.expires_ms <= ?1 ORDER BY s.expires_ms LIMIT ?2",
            )
            .map_err(sql(operation))?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = select.query_map(params![now.as_unix_ms(), limit], |row| row.get(0));
        let rows: rusqlite::Result<_> = rows.and_then(Iterator::collect);
        rows.map_err(sql(operation))?
    };
    for key in &keys {
        end::expire(desk, &IdempotencyKey::new(key.clone())?)?;
    }
    Ok(keys.len())
}

/// Takes one page of spends out of their rolling windows and returns how many it looked at.
fn leave(desk: &mut Desk<'_, '_>, now: Timestamp) -> Result<usize> {
    let tx = desk.tx;
    let due = due(tx, now)?;
    let Some(first) = due.first().copied() else {
        return Ok(0);
    };
    let mut entries: Vec<Entry> = Vec::new();
    let spent = AccountName::new(hold::SPENT)?;
    for (leaves_ms, batch, account) in &due {
        let values = params![leaves_ms, batch, account];
        let row = "WHERE leaves_ms = ?1 AND batch = ?2 AND account = ?3";
        let Some(captured) = captured(&desk.book, *batch, *account)? else {
            // It is still held, which counts whatever its age, until it ends.
            let statement = format!("UPDATE pay_rolling SET leaves_ms = {PARKED} {row}");
            run(tx, &statement, values)?;
            desk.parked();
            continue;
        };
        run(tx, &format!("DELETE FROM pay_rolling {row}"), values)?;
        let (account, units) = captured;
        if units > 0 {
            let amount = Amount::from_units(units.into(), account.asset);
            add(&mut entries, account.name, &spent, amount)?;
        }
    }
    if !entries.is_empty() {
        let (leaves_ms, batch, account) = first;
        let key = format!("agent-pay.leave/{leaves_ms}/{batch}/{account}");
        journal::post(
            &mut desk.book,
            &Batch::new(IdempotencyKey::new(key)?, entries),
        )?;
    }
    Ok(due.len())
}

type Due = (i64, i64, i64);

fn due(tx: &Tx<'_>, now: Timestamp) -> Result<Vec<Due>> {
    let operation = "list what left a window";
    let mut select = tx
        .sql()
        .prepare_cached(
            "SELECT leaves_ms, batch, account FROM pay_rolling WHERE leaves_ms <= ?1 \
             ORDER BY leaves_ms LIMIT ?2",
        )
        .map_err(sql(operation))?;
    let limit = i64::try_from(ROLLING_PAGE).unwrap_or(i64::MAX);
    let rows = select.query_map(params![now.as_unix_ms(), limit], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
    });
    let rows: rusqlite::Result<_> = rows.and_then(Iterator::collect);
    Ok(rows.map_err(sql(operation))?)
}

/// Returns the account of a window and what a batch captured on it; none while it is held.
fn captured(book: &TxBook<'_, '_>, batch: i64, account: i64) -> Result<Option<(Account, i64)>> {
    let unsigned = |n: i64| u64::try_from(n).map_err(|_sign| Error::corrupt("a stored number"));
    let (batch, id) = (unsigned(batch)?, unsigned(account)?);
    let Some(resolution) = book.resolution_of(batch)? else {
        return Ok(None);
    };
    let transfers = book.transfers(&resolution)?;
    let of = |kind| move |t: &&journal::TransferRow| t.kind == kind && t.debit == id;
    let units = transfers
        .iter()
        .find(of(TransferKind::Captured))
        .map_or(0, |t| t.units);
    Ok(Some((book.account(id)?, units)))
}

/// Adds a reversal, together with one of the same account if there is one.
fn add(
    entries: &mut Vec<Entry>,
    of: AccountName,
    spent: &AccountName,
    amount: Amount,
) -> Result<()> {
    for entry in entries.iter_mut() {
        if let Entry::Reverse {
            debit, amount: sum, ..
        } = entry
            && *debit == of
            && sum.asset() == amount.asset()
        {
            *sum = sum.plus(amount)?;
            return Ok(());
        }
    }
    entries.push(Entry::reverse(of, spent.clone(), amount));
    Ok(())
}

/// Notes when a spend leaves a window.
pub(super) fn enter(tx: &Tx<'_>, leaves: Timestamp, batch: u64, account: u64) -> Result<()> {
    let statement = "INSERT INTO pay_rolling VALUES (?1, ?2, ?3)";
    let values = params![leaves.as_unix_ms(), number(batch)?, number(account)?];
    run(tx, statement, values)?;
    Ok(())
}

/// Returns whether anything is held beyond its window.
pub(super) fn has_parked(tx: &Tx<'_>) -> Result<bool> {
    tx.sql()
        .prepare_cached("SELECT 1 FROM pay_rolling WHERE leaves_ms = ?1")
        .and_then(|mut select| select.exists([PARKED]))
        .map_err(|e| sql("look for what is held beyond its window")(e).into())
}

/// Lets a batch that ended leave the windows it was held beyond.
pub(super) fn unpark(desk: &mut Desk<'_, '_>, batch: u64) -> Result<()> {
    if !desk.has_parked()? {
        return Ok(());
    }
    let statement = "UPDATE pay_rolling SET leaves_ms = ?1 WHERE leaves_ms = ?2 AND batch = ?3";
    let values = params![desk.tx.now().as_unix_ms(), PARKED, number(batch)?];
    if run(desk.tx, statement, values)? > 0 {
        desk.is_swept = false;
    }
    Ok(())
}

/// Does the part of the sweep that every authorization does: enough that the sums stay right.
pub(super) fn a_little(desk: &mut Desk<'_, '_>) -> Result<()> {
    /// What one write adds is a few rows a spend, and this many are taken away at once.
    const ROWS: usize = 960;
    if desk.is_swept {
        return Ok(());
    }
    let operation = "look for what is over";
    desk.append()?;
    let now = desk.now()?;
    // One statement where mostly nothing is due.
    let is_due: bool = desk
        .tx
        .sql()
        .prepare_cached(
            "SELECT ?1 >= min(coalesce((SELECT expires_ms FROM pay_spend WHERE state = 0 \
             ORDER BY expires_ms LIMIT 1), ?2), coalesce((SELECT leaves_ms FROM pay_rolling \
             ORDER BY leaves_ms LIMIT 1), ?2))",
        )
        .and_then(|mut select| {
            select.query_row(params![now.as_unix_ms(), PARKED], |row| row.get(0))
        })
        .map_err(sql(operation))?;
    let n_swept = if is_due { sweep_at(desk, ROWS)? } else { 0 };
    desk.is_swept = n_swept < ROWS;
    Ok(())
}
