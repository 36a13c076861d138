//! The nodes of mandates, and when they end.

use agent_core::Timestamp;
use agent_core::store::{Tx, sql};
use rusqlite::{OptionalExtension, params};

use crate::backend::SqliteAuthority;
use crate::backend::sqlite::authority::revoke;
use crate::backend::sqlite::statement::run;
use crate::budget::BudgetPath;
use crate::error::{Error, Result};

/// Which mandates have a node. Of those an earlier version imported, some have no end though the
/// mandate has one.
const SCHEMA: &[&str] = &[
    "CREATE TABLE pay_ap2_node (node TEXT PRIMARY KEY) STRICT;",
    "ALTER TABLE pay_ap2_node ADD COLUMN ends_ms INTEGER;
     CREATE INDEX pay_ap2_node_ends ON pay_ap2_node (ends_ms) WHERE ends_ms IS NOT NULL;",
    "ALTER TABLE pay_ap2_node ADD COLUMN state INTEGER NOT NULL DEFAULT 0;
     UPDATE pay_ap2_node SET state = 1 WHERE ends_ms IS NOT NULL;
     CREATE INDEX pay_ap2_node_unsure ON pay_ap2_node (node) WHERE state = 0;",
];

/// Nobody wrote down whether it ends.
const UNSURE: i64 = 0;
/// It ends when it says, or never.
const SURE: i64 = 1;
/// It was closed because nobody knew whether it ends.
const CLOSED_UNSURE: i64 = 2;

pub(super) async fn migrate(authority: &SqliteAuthority) -> Result<()> {
    Ok(authority.db().migrate("pay_ap2", SCHEMA).await?)
}

/// Closes the budgets of at most `limit` imported mandates that have ended, the first to end first, and
/// returns how many: their nodes are revoked, so that nothing new is authorized there; what is held may
/// still be captured. An ended mandate allows no payment by its own check, swept or not; this closes
/// its budget for whoever spends from the node without it. Importing it again does not open it.
///
/// Of mandates that an earlier version imported nobody wrote down when they end. They are closed as
/// well, as many besides; importing one again opens it until its end.
///
/// # Errors
/// Those of the store.
///
/// # Cancel safety
/// Atomic.
pub async fn sweep(authority: &SqliteAuthority, limit: usize) -> Result<usize> {
    migrate(authority).await?;
    let write = authority.db().write(move |tx| {
        let ended = "SELECT node FROM pay_ap2_node WHERE ends_ms <= ?1 ORDER BY ends_ms LIMIT ?2";
        let unsure = "SELECT node FROM pay_ap2_node WHERE state = 0 AND ?1 = ?1 \
                      ORDER BY node LIMIT ?2";
        let ended = nodes(tx, ended, limit)?;
        let unsure = nodes(tx, unsure, limit)?;
        for node in &ended {
            revoke(tx, &BudgetPath::new(node)?, true)?;
            mark(tx, node, SURE, None)?;
        }
        let mut n_closed = ended.len();
        for node in &unsure {
            if is_revoked(tx, node)? {
                // By a sweep before, or by the host: that is for good.
                mark(tx, node, SURE, None)?;
            } else {
                revoke(tx, &BudgetPath::new(node)?, true)?;
                mark(tx, node, CLOSED_UNSURE, None)?;
                n_closed = n_closed.saturating_add(1);
            }
        }
        Ok::<_, Error>(n_closed)
    });
    write.await
}

/// Writes down a node and returns whether it is new. One of which nobody knew when it ends does from
/// here on, and is open until then.
pub(super) fn put(tx: &mut Tx<'_>, node: &BudgetPath, ends: Option<Timestamp>) -> Result<bool> {
    let insert = "INSERT OR IGNORE INTO pay_ap2_node VALUES (?1, ?2, ?3)";
    let ends_ms = ends.map(Timestamp::as_unix_ms);
    if run(tx, insert, params![node.as_str(), ends_ms, SURE])? == 1 {
        return Ok(true);
    }
    let select = "SELECT state FROM pay_ap2_node WHERE node = ?1";
    let state = tx.sql().prepare_cached(select).and_then(|mut select| {
        let state = select.query_row([node.as_str()], |row| row.get::<_, i64>(0));
        state.optional()
    });
    let state = state.map_err(sql("find a mandate"))?;
    let is_over = ends.is_some_and(|ends| ends <= tx.now());
    match state {
        Some(UNSURE) => mark(tx, node.as_str(), SURE, ends_ms)?,
        Some(CLOSED_UNSURE) if !is_over => {
            revoke(tx, node, false)?;
            mark(tx, node.as_str(), SURE, ends_ms)?;
        }
        _ => {}
    }
    Ok(false)
}

fn nodes(tx: &Tx<'_>, query: &str, limit: usize) -> Result<Vec<String>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let now_ms = tx.now().as_unix_ms();
    let nodes = tx.sql().prepare_cached(query).and_then(|mut select| {
        let rows = select.query_map(params![now_ms, limit], |row| row.get(0))?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    });
    Ok(nodes.map_err(sql("list mandates"))?)
}

fn is_revoked(tx: &Tx<'_>, node: &str) -> Result<bool> {
    let select = "SELECT is_revoked FROM pay_node WHERE path = ?1";
    let found = tx.sql().prepare_cached(select).and_then(|mut select| {
        let found = select.query_row([node], |row| row.get(0));
        found.optional()
    });
    Ok(found.map_err(sql("find a node"))?.unwrap_or(true))
}

fn mark(tx: &Tx<'_>, node: &str, state: i64, ends_ms: Option<i64>) -> Result<()> {
    let update = "UPDATE pay_ap2_node SET state = ?2, ends_ms = ?3 WHERE node = ?1";
    run(tx, update, params![node, state, ends_ms])?;
    Ok(())
}
