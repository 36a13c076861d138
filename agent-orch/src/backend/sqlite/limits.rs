//! Concurrency limits: how many leases count against a key, and which lines must wait for it.

use agent_core::store::{Tx, sql};
use rusqlite::params;

use super::queue;
use super::rows::from_json;
use crate::error::Result;

/// The keys of a task's limits as stored.
fn keys(stored: &str) -> Result<Vec<String>> {
    if stored.is_empty() {
        return Ok(Vec::new());
    }
    from_json(stored)
}

/// Counts a lease against its limits.
pub(super) fn take(tx: &Tx<'_>, stored: &str) -> Result<()> {
    for key in keys(stored)? {
        if count(tx, &key, 1)? == Reached::JustNow {
            block(tx, &key, 1)?;
        }
    }
    Ok(())
}

/// Frees what a lease counted against its limits.
pub(super) fn give_back(tx: &Tx<'_>, stored: &str) -> Result<()> {
    for key in keys(stored)? {
        if count(tx, &key, -1)? == Reached::UntilNow {
            block(tx, &key, -1)?;
        }
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reached {
    Unchanged,
    JustNow,
    UntilNow,
}

impl Reached {
    const fn between(before: bool, after: bool) -> Self {
        match (before, after) {
            (false, true) => Self::JustNow,
            (true, false) => Self::UntilNow,
            _ => Self::Unchanged,
        }
    }
}

fn count(tx: &Tx<'_>, key: &str, by: i64) -> Result<Reached> {
    Ok(tx
        .sql()
        .prepare_cached(
            "INSERT INTO orch_limit VALUES (?1, NULL, ?2)
             ON CONFLICT DO UPDATE SET in_use = in_use + excluded.in_use
             RETURNING coalesce(in_use - ?2 >= concurrency, 0), coalesce(in_use >= concurrency, 0)",
        )
        .and_then(|mut s| {
            s.query_row(params![key, by], |row| {
                Ok(Reached::between(row.get(0)?, row.get(1)?))
            })
        })
        .map_err(sql("count a lease against a limit"))?)
}

/// Lets the lines of a key wait for it, or no more.
fn block(tx: &Tx<'_>, key: &str, by: i64) -> Result<()> {
    let lines: Vec<(i64, i64, i64)> = {
        let mut statement = tx
            .sql()
            .prepare_cached(
                "UPDATE orch_line SET n_blocked = n_blocked + ?2
                 WHERE id IN (SELECT line FROM orch_limit_line WHERE key = ?1)
                 RETURNING flow, n_ready, n_blocked",
            )
            .map_err(sql("block lines"))?;
        let rows = statement.query_map(params![key, by], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        });
        rows.and_then(Iterator::collect)
            .map_err(sql("block lines"))?
    };
    for (flow, n_ready, n_blocked) in lines {
        match (n_blocked, by) {
            (1, 1) => queue::open(tx, flow, n_ready.saturating_neg())?,
            (0, -1) => queue::open(tx, flow, n_ready)?,
            // Another limit keeps it waiting either way.
            _ => {}
        }
    }
    Ok(())
}

/// Returns how many of the limits are reached.
pub(super) fn n_reached(tx: &Tx<'_>, stored: &str) -> Result<i64> {
    let mut n = 0_i64;
    for key in keys(stored)? {
        n = n.saturating_add(i64::from(is_reached(tx, &key)?));
    }
    Ok(n)
}

fn is_reached(tx: &Tx<'_>, key: &str) -> Result<bool> {
    Ok(tx
        .sql()
        .prepare_cached("SELECT 1 FROM orch_limit WHERE key = ?1 AND in_use >= concurrency")
        .and_then(|mut s| s.exists([key]))
        .map_err(sql("look at a limit"))?)
}

/// Notes that a line waits for its limits.
pub(super) fn watch(tx: &Tx<'_>, stored: &str, line: i64) -> Result<()> {
    for key in keys(stored)? {
        tx.sql()
            .prepare_cached("INSERT INTO orch_limit_line VALUES (?1, ?2)")
            .and_then(|mut s| s.execute(params![key, line]))
            .map_err(sql("watch a limit"))?;
    }
    Ok(())
}

/// Sets how many leases a key may have; `None` for any number.
pub(super) fn set(tx: &Tx<'_>, key: &str, concurrency: Option<u32>) -> Result<()> {
    let before = is_reached(tx, key)?;
    tx.sql()
        .prepare_cached(
            "INSERT INTO orch_limit VALUES (?1, ?2, 0)
             ON CONFLICT DO UPDATE SET concurrency = excluded.concurrency",
        )
        .and_then(|mut s| s.execute(params![key, concurrency]))
        .map_err(sql("set a limit"))?;
    match Reached::between(before, is_reached(tx, key)?) {
        Reached::JustNow => block(tx, key, 1),
        Reached::UntilNow => block(tx, key, -1),
        Reached::Unchanged => Ok(()),
    }
}
