//! Lists that are gone through in turns: a page a call, each going on where the last one stopped, and
//! from the beginning after the end. So that every row is reached, also behind a page of rows that
//! stay where they are whatever is tried.

use agent_core::IdempotencyKey;
use agent_core::store::{Tx, sql};
use rusqlite::{OptionalExtension, Row, params};

use super::statement::run;
use crate::error::Result;

/// A list: its name, under which the place of the last page is kept, and its rows after a place.
pub(crate) struct Turns {
    /// The name.
    pub(crate) list: &'static str,
    /// Selects an integer and a text, which together are a row's place and no other's, and whatever else
    /// is read: of rows after the place (`?1`, `?2`) whose integer is below `?4`, in the order of
    /// places, at most `?3`.
    pub(crate) select: &'static str,
}

/// The end of a page.
type Place = (i64, String);

/// Before all rows.
const START: (i64, &str) = (i64::MIN, "");

impl Turns {
    /// Returns the next at most `limit` rows whose integer is below one, each once. The page counts as looked at from here on: what
    /// a process that dies does not get to is reached in the next round.
    pub(crate) fn next<T>(
        &self,
        tx: &Tx<'_>,
        below: i64,
        limit: usize,
        read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let select = "SELECT at, key FROM pay_turn WHERE list = ?1";
        let found = tx.sql().prepare_cached(select).and_then(|mut select| {
            let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
            select.query_row([self.list], read).optional()
        });
        let last: Option<Place> = found.map_err(sql("find the last page"))?;
        let start = || (START.0, START.1.to_owned());
        let after = last.clone().unwrap_or_else(start);
        let mut page = self.after(tx, &after, (below, limit), &read)?;
        if let Some(last) = last {
            // The end: on from the beginning, up to where this page began.
            let missing = limit.saturating_sub(page.len());
            let before = self.after(tx, &start(), (below, missing), &read)?;
            page.extend(
                before
                    .into_iter()
                    .take_while(|(place, _row)| *place <= last),
            );
        }
        if page.len() == limit
            && let Some(((at, key), _row)) = page.last()
        {
            let keep = "INSERT OR REPLACE INTO pay_turn VALUES (?1, ?2, ?3)";
            run(tx, keep, params![self.list, at, key])?;
        }
        Ok(page.into_iter().map(|(_place, row)| row).collect())
    }

    fn after<T>(
        &self,
        tx: &Tx<'_>,
        (at, key): &Place,
        (below, limit): (i64, usize),
        read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<(Place, T)>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let found = tx.sql().prepare_cached(self.select).and_then(|mut select| {
            let read = |row: &Row<'_>| Ok(((row.get(0)?, row.get(1)?), read(row)?));
            let rows = select.query_map(params![at, key, limit, below], read)?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        });
        Ok(found.map_err(sql("list what is open"))?)
    }

    /// As [`next`](Self::next), of a list whose texts are keys.
    pub(crate) fn keys(&self, tx: &Tx<'_>, limit: usize) -> Result<Vec<IdempotencyKey>> {
        let texts = self.next(tx, i64::MAX, limit, |row| row.get::<_, String>(1))?;
        let keys = texts.into_iter().map(|text| Ok(IdempotencyKey::new(text)?));
        keys.collect()
    }
}

/// Spends that a rail was handed and that have no outcome.
pub(crate) const SPENDS: Turns = Turns {
    list: "spend",
    // A spend has its own decision.
    select: "SELECT s.decision, b.key FROM pay_spend s JOIN pay_batch b ON b.seq = s.batch \
             WHERE s.state = 1 AND s.decision > ?1 AND ?2 = ?2 AND s.decision < ?4 \
             ORDER BY s.decision LIMIT ?3",
};

/// Refunds that were set aside and have no outcome.
pub(crate) const REFUNDS: Turns = Turns {
    list: "refund",
    select: "SELECT 0, key FROM pay_refund WHERE state = 0 AND ?1 <= 0 AND key > ?2 AND 0 < ?4 \
             ORDER BY key LIMIT ?3",
};
