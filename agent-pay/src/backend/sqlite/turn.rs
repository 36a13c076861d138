//! Lists that are gone through in turns: a page a call, each going on where the last one stopped, and
//! from the beginning after the end. So that every row is reached, also behind a page of rows that
//! stay where they are whatever is tried.

use agent_core::IdempotencyKey;
use agent_core::store::{Tx, sql};
use rusqlite::{OptionalExtension, Params, Row, params};

use super::book::batch_of;
use super::statement::run;
use crate::error::Result;

/// A list: its name, under which the place of the last page is kept, and its rows after a place.
pub(crate) struct Turns {
    /// The name.
    pub(crate) list: &'static str,
    /// Selects an integer and a text, which together are a row's place and no other's, and whatever else
    /// is read: of rows after the place (`?1`, `?2`) whose integer is below `?4`, in the order of
    /// places, at most `?3`. [`page_of`](Self::page_of) says whose as `?5`.
    pub(crate) select: &'static str,
}

/// The end of a page.
type Place = (i64, String);

/// Before all rows.
const START: (i64, &str) = (i64::MIN, "");

impl Turns {
    /// Returns the next at most `limit` rows whose integer is below one, each once. The page counts as
    /// looked at from here on: what a process that dies does not get to is reached in the next round.
    #[cfg(any(feature = "x402", feature = "acp"))]
    pub(crate) fn next<T>(
        &self,
        tx: &Tx<'_>,
        below: i64,
        limit: usize,
        read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        self.page(tx, self.list, limit, |after, limit| {
            self.after(tx, params![after.0, after.1, limit, below], &read)
        })
    }

    /// As [`next`](Self::next), of a list whose texts are keys.
    #[cfg(feature = "x402")]
    pub(crate) fn keys(&self, tx: &Tx<'_>, limit: usize) -> Result<Vec<IdempotencyKey>> {
        read_keys(self.next(tx, i64::MAX, limit, |row| row.get(1))?)
    }

    /// The same of those that are somebody's; see [`page_of`](Self::page_of).
    pub(crate) fn keys_of(
        &self,
        tx: &Tx<'_>,
        whose: &str,
        limit: usize,
    ) -> Result<Vec<IdempotencyKey>> {
        read_keys(self.page_of(tx, whose, (i64::MAX, limit), |row| row.get(1))?)
    }

    /// As [`next`](Self::next), of those that are somebody's, who goes through them in turns of its own.
    pub(crate) fn page_of<T>(
        &self,
        tx: &Tx<'_>,
        whose: &str,
        (below, limit): (i64, usize),
        read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let list = format!("{}/{whose}", self.list);
        self.page(tx, &list, limit, |after, limit| {
            let params = params![after.0, after.1, limit, below, whose];
            self.after(tx, params, &read)
        })
    }

    fn page<T>(
        &self,
        tx: &Tx<'_>,
        list: &str,
        limit: usize,
        after: impl Fn(&Place, i64) -> Result<Vec<(Place, T)>>,
    ) -> Result<Vec<T>> {
        let select = "SELECT at, key FROM pay_turn WHERE list = ?1";
        let found = tx.sql().prepare_cached(select).and_then(|mut select| {
            let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
            select.query_row([list], read).optional()
        });
        let last: Option<Place> = found.map_err(sql("find the last page"))?;
        let rows = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let start = || (START.0, START.1.to_owned());
        let mut page = after(&last.clone().unwrap_or_else(start), rows(limit))?;
        if let Some(last) = last {
            // The end: on from the beginning, up to where this page began.
            let missing = limit.saturating_sub(page.len());
            let before = after(&start(), rows(missing))?.into_iter();
            page.extend(before.take_while(|(place, _row)| *place <= last));
        }
        if page.len() == limit
            && let Some(((at, key), _row)) = page.last()
        {
            let keep = "INSERT OR REPLACE INTO pay_turn VALUES (?1, ?2, ?3)";
            run(tx, keep, params![list, at, key])?;
        }
        Ok(page.into_iter().map(|(_place, row)| row).collect())
    }

    fn after<T>(
        &self,
        tx: &Tx<'_>,
        params: impl Params,
        read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<(Place, T)>> {
        let found = tx.sql().prepare_cached(self.select).and_then(|mut select| {
            let read = |row: &Row<'_>| Ok(((row.get(0)?, row.get(1)?), read(row)?));
            let rows = select.query_map(params, read)?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        });
        Ok(found.map_err(sql("list what is open"))?)
    }
}

fn read_keys(texts: Vec<String>) -> Result<Vec<IdempotencyKey>> {
    let keys = texts.into_iter().map(|text| Ok(IdempotencyKey::new(text)?));
    keys.collect()
}

/// Spends that the rail `?5` was handed and that have no outcome. What is disputed or lies in escrow
/// is an arbiter's.
pub(crate) const SPENDS: Turns = Turns {
    list: "spend",
    // A spend has its own decision.
    select: "SELECT s.decision, b.key FROM pay_spend s JOIN pay_batch b ON b.seq = s.batch \
             JOIN pay_decision d ON d.id = s.decision \
             WHERE s.state = 1 AND s.decision > ?1 AND ?2 = ?2 AND s.decision < ?4 \
             AND json_extract(d.intent, '$.rail') = ?5 \
             AND NOT EXISTS (SELECT 1 FROM pay_escrow WHERE key = b.key) \
             AND NOT EXISTS (SELECT 1 FROM pay_dispute WHERE spend = b.key) \
             ORDER BY s.decision LIMIT ?3",
};

/// Refunds that were set aside and have no outcome, and their spends.
const REFUNDS: Turns = Turns {
    list: "refund",
    select: "SELECT 0, key, spend FROM pay_refund WHERE state = 0 AND ?1 <= 0 AND key > ?2 \
             AND 0 < ?4 AND ?5 = ?5 ORDER BY key LIMIT ?3",
};

/// Returns the next refunds over a rail among at most `limit` that have no outcome.
pub(crate) fn refunds_over(tx: &Tx<'_>, rail: &str, limit: usize) -> Result<Vec<IdempotencyKey>> {
    let read = |row: &Row<'_>| Ok((row.get(1)?, row.get(2)?));
    let page: Vec<(String, String)> = REFUNDS.page_of(tx, rail, (i64::MAX, limit), read)?;
    let mut over = Vec::new();
    for (key, spend) in page {
        if is_over(tx, &IdempotencyKey::new(spend)?, rail)? {
            over.push(IdempotencyKey::new(key)?);
        }
    }
    Ok(over)
}

/// Returns whether a spend was authorized for a rail.
pub(crate) fn is_over(tx: &Tx<'_>, key: &IdempotencyKey, rail: &str) -> Result<bool> {
    let Some(batch) = batch_of(tx, key)? else {
        return Ok(false);
    };
    let select = "SELECT json_extract(d.intent, '$.rail') = ?2 FROM pay_spend s \
                  JOIN pay_decision d ON d.id = s.decision WHERE s.batch = ?1";
    let found = tx.sql().prepare_cached(select).and_then(|mut select| {
        let read = |row: &Row<'_>| row.get(0);
        select.query_row(params![batch, rail], read).optional()
    });
    Ok(found
        .map_err(sql("find the rail of a spend"))?
        .unwrap_or(false))
}
