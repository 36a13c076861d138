//! Statements in the form the layers above write most: a change, and a page of keys.

use agent_core::IdempotencyKey;
use agent_core::store::{Tx, sql};
use rusqlite::Params;

use crate::error::Result;

/// Runs a statement and returns how many rows it changed.
pub(crate) fn run(tx: &Tx<'_>, statement: &str, values: impl Params) -> Result<usize> {
    let done = tx
        .sql()
        .prepare_cached(statement)
        .and_then(|mut prepared| prepared.execute(values));
    Ok(done.map_err(sql("change the books"))?)
}

/// Lists keys: `select` names one column and takes the most rows as `?1`.
pub(crate) fn keys(tx: &Tx<'_>, select: &str, limit: usize) -> Result<Vec<IdempotencyKey>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let texts: rusqlite::Result<Vec<String>> = tx
        .sql()
        .prepare_cached(select)
        .and_then(|mut prepared| prepared.query_map([limit], |row| row.get(0))?.collect());
    let texts = texts.map_err(sql("list keys"))?;
    let keys = texts.into_iter().map(|text| Ok(IdempotencyKey::new(text)?));
    keys.collect()
}
