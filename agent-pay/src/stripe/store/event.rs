//! Events of Stripe that were worked off.

use agent_core::Timestamp;
use agent_core::store::{Tx, sql};
use rusqlite::{OptionalExtension, params};

use crate::backend::sqlite::statement::run;
use crate::error::Result;

/// Returns whether an event was worked off.
pub(in crate::stripe) fn is_seen(tx: &Tx<'_>, event: &str) -> Result<bool> {
    let select = "SELECT 1 FROM pay_stripe_event WHERE id = ?1";
    let found: Option<i64> = tx
        .sql()
        .prepare_cached(select)
        .and_then(|mut select| select.query_row([event], |row| row.get(0)).optional())
        .map_err(sql("read an event of Stripe"))?;
    Ok(found.is_some())
}

/// Notes that an event was worked off; true for the first time.
pub(in crate::stripe) fn mark_seen(tx: &mut Tx<'_>, event: &str) -> Result<bool> {
    let n_rows = run(
        tx,
        "INSERT INTO pay_stripe_event VALUES (?1, ?2) ON CONFLICT (id) DO NOTHING",
        params![event, tx.now().as_unix_ms()],
    )?;
    Ok(n_rows == 1)
}

/// Forgets events worked off before a moment.
pub(in crate::stripe) fn forget_seen(
    tx: &mut Tx<'_>,
    before: Timestamp,
    limit: usize,
) -> Result<usize> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    run(
        tx,
        "DELETE FROM pay_stripe_event WHERE id IN \
         (SELECT id FROM pay_stripe_event WHERE at_ms < ?1 ORDER BY at_ms LIMIT ?2)",
        params![before.as_unix_ms(), limit],
    )
}
