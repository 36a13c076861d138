//! The index of keys: a number for each key and the batch that may have it. Keys are long and in no
//! order, so an index of the keys themselves would be most of what a commit writes.

use agent_core::store::{Tx, sql};
use agent_core::{Digest, IdempotencyKey};
use rusqlite::CachedStatement;

use super::super::append::Append;
use super::row::stored;
use crate::error::{Error, Result};
use crate::journal::BatchRow;

static KEYS: Append = Append::new("INSERT OR FAIL INTO pay_key (hash, batch) VALUES", 2);
/// The sum keeps SQLite from preparing it anew for each value, as it does to plan a bare one.
const CANDIDATES: &str = "SELECT batch FROM pay_key WHERE hash = ?1 + 0 ORDER BY batch";

/// Returns the number a key is listed under: 48 bits of its digest. Other keys may have the same.
pub(super) fn hash(key: &str) -> i64 {
    let bits = Digest::of_bytes(key.as_bytes()).to_bits() >> 80;
    i64::try_from(bits).unwrap_or(i64::MAX)
}

/// Lists new keys, given their numbers and batches.
pub(super) fn put(tx: &Tx<'_>, mut listed: Vec<(i64, i64)>) -> Result<()> {
    // Neighbours in the table one after another.
    listed.sort_unstable();
    KEYS.run(tx, &listed, |values, (hash, batch)| {
        values.put(hash)?.put(batch)?;
        Ok(())
    })
}

/// Returns the batches that may have a key.
pub(super) fn candidates(tx: &Tx<'_>, key: &str) -> Result<Vec<i64>> {
    let operation = "look a key up";
    let mut select = tx
        .sql()
        .prepare_cached(CANDIDATES)
        .map_err(sql(operation))?;
    let rows = select.query_map([hash(key)], |row| row.get(0));
    let found: rusqlite::Result<_> = rows.and_then(Iterator::collect);
    Ok(found.map_err(sql(operation))?)
}

/// Returns the number of the batch that has a key.
pub(in super::super) fn batch_of(tx: &Tx<'_>, key: &IdempotencyKey) -> Result<Option<i64>> {
    for batch in candidates(tx, key.as_str())? {
        if has_key(tx, batch, key.as_str())? {
            return Ok(Some(batch));
        }
    }
    Ok(None)
}

fn has_key(tx: &Tx<'_>, batch: i64, key: &str) -> Result<bool> {
    tx.sql()
        .prepare_cached("SELECT key = ?2 FROM pay_batch WHERE seq = ?1")
        .and_then(|mut select| select.query_row((batch, key), |row| row.get(0)))
        .map_err(|e| sql("compare a key")(e).into())
}

/// Returns whether keys are listed, as they are not in a file of an earlier version.
pub(in super::super) fn is_listed(tx: &Tx<'_>) -> Result<bool> {
    tx.sql()
        .query_row(
            "SELECT EXISTS (SELECT 1 FROM pay_key) OR NOT EXISTS (SELECT 1 FROM pay_batch)",
            [],
            |row| row.get(0),
        )
        .map_err(|e| sql("look for keys")(e).into())
}

/// Lists all keys of a file that lists none: 16 bytes of memory for each.
pub(in super::super) fn list_all(tx: &Tx<'_>) -> Result<()> {
    if is_listed(tx)? {
        return Ok(());
    }
    let operation = "list the keys";
    let mut listed = Vec::new();
    let mut select = tx
        .sql()
        .prepare("SELECT seq, key FROM pay_batch WHERE key IS NOT NULL")
        .map_err(sql(operation))?;
    let mut rows = select.query([]).map_err(sql(operation))?;
    while let Some(row) = rows.next().map_err(sql(operation))? {
        let key: String = row.get(1).map_err(sql(operation))?;
        listed.push((hash(&key), row.get(0).map_err(sql(operation))?));
    }
    put(tx, listed)
}

/// Checks that each key is listed, and once.
pub(in super::super) struct ListedKeys<'a, 'c> {
    tx: &'a Tx<'c>,
    find: CachedStatement<'c>,
    n_keys: i64,
}

impl<'a, 'c> ListedKeys<'a, 'c> {
    pub(in super::super) fn new(tx: &'a Tx<'c>) -> Result<Self> {
        let find = tx.sql().prepare_cached(CANDIDATES);
        Ok(Self {
            tx,
            find: find.map_err(sql("read the keys"))?,
            n_keys: 0,
        })
    }

    pub(in super::super) fn check(&mut self, batch: &BatchRow) -> Result<()> {
        let Some(key) = &batch.key else { return Ok(()) };
        let (seq, key) = (stored(batch.seq)?, key.as_str());
        let mut is_listed = false;
        let found = self.find.query_map([hash(key)], |row| row.get::<_, i64>(0));
        for other in found.map_err(sql("read the keys"))? {
            let other = other.map_err(sql("read the keys"))?;
            is_listed |= other == seq;
            if other != seq && has_key(self.tx, other, key)? {
                let found = format!("batches {seq} and {other} have one key");
                return Err(Error::corrupt(found));
            }
        }
        if !is_listed {
            return Err(Error::corrupt(format!(
                "the key of batch {seq} is not listed"
            )));
        }
        self.n_keys = self.n_keys.saturating_add(1);
        Ok(())
    }

    /// Compares how many are listed.
    pub(in super::super) fn finish(self) -> Result<()> {
        let n_listed: i64 = self
            .tx
            .sql()
            .query_row("SELECT count(*) FROM pay_key", [], |row| row.get(0))
            .map_err(sql("count the keys"))?;
        if n_listed == self.n_keys {
            return Ok(());
        }
        let n_keys = self.n_keys;
        Err(Error::corrupt(format!(
            "{n_listed} keys are listed of {n_keys}"
        )))
    }
}
