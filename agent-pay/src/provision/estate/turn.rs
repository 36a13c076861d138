//! Lists of resources that are gone through in turns: each page goes on where the last one of the same
//! provisioner stopped, and from the first name after the last one. So that every resource is reached,
//! also behind a page of those that stay as they are whatever is tried.

use agent_core::store::{Tx, sql};
use rusqlite::{OptionalExtension, params};

use crate::backend::sqlite::statement::run;
use crate::error::Result;
use crate::provision::ResourceName;

/// A list: its name, under which the place of the last page is kept, and the names of a provisioner
/// (`?1`) after a name (`?2`) in their order, at a moment (`?3`), at most `?4`.
pub(super) struct Turn {
    list: &'static str,
    select: &'static str,
}

/// What something was begun with and nobody works on.
pub(super) const UNFINISHED: Turn = Turn {
    list: "provision unfinished",
    // The words of the index, or it is not used.
    select: "SELECT name FROM pay_resource WHERE provisioner = ?1 AND name > ?2 \
             AND condition NOT IN (1, 2, 8) AND lease_ms <= ?3 ORDER BY name LIMIT ?4",
};

/// What is ready and has a period to pay, or was not used for about as long as its plan says.
pub(super) const DUE: Turn = Turn {
    list: "provision due",
    select: "SELECT name FROM pay_resource WHERE provisioner = ?1 AND name > ?2 AND condition = 1 \
             AND (paid_ms <= ?3 OR used_ms + 1000 * json_extract(plan, '$.idle_after.secs') <= ?3) \
             ORDER BY name LIMIT ?4",
};

impl Turn {
    /// Returns the next at most `limit` names of a provisioner, each once. They count as looked at from
    /// here on: what a process that dies does not get to is reached in the next round.
    pub(super) fn next(&self, tx: &Tx<'_>, of: &str, limit: usize) -> Result<Vec<ResourceName>> {
        let list = format!("{}/{of}", self.list);
        let select = "SELECT key FROM pay_turn WHERE list = ?1";
        let found = tx.sql().prepare_cached(select).and_then(|mut select| {
            let read = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
            select.query_row([&list], read).optional()
        });
        let last = found.map_err(sql("find the last page"))?;
        let mut page = self.after(tx, of, last.as_deref().unwrap_or_default(), limit)?;
        if let Some(last) = last {
            // The end: on from the beginning, up to where this page began.
            let missing = limit.saturating_sub(page.len());
            let before = self.after(tx, of, "", missing)?.into_iter();
            page.extend(before.take_while(|name| *name <= last));
        }
        if page.len() == limit
            && let Some(name) = page.last()
        {
            let keep = "INSERT OR REPLACE INTO pay_turn VALUES (?1, 0, ?2)";
            run(tx, keep, params![list, name])?;
        }
        page.into_iter().map(ResourceName::new).collect()
    }

    fn after(&self, tx: &Tx<'_>, of: &str, name: &str, limit: usize) -> Result<Vec<String>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let found = tx.sql().prepare_cached(self.select).and_then(|mut select| {
            let values = params![of, name, tx.now().as_unix_ms(), limit];
            let rows = select.query_map(values, |row| row.get(0))?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        });
        Ok(found.map_err(sql("list resources"))?)
    }
}
