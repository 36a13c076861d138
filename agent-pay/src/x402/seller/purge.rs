//! What a seller need not keep.

use std::time::Duration;

use agent_core::store::{Tx, sql};
use rusqlite::params;

use super::Seller;
use super::serve::WORK;
use super::settle::{SETTLE, UNDO};
use crate::backend::sqlite::authority::kept_since;
use crate::backend::sqlite::statement::run;
use crate::error::{Error, Result};

/// What a seller forgot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Purged {
    /// Payments that were sold for: their answers and texts. What is left of each is its name, by which it
    /// is known to be used.
    pub n_sold: usize,
    /// Payments that never moved and never will: they were not carried out in their time, and work that
    /// was done for them is taken back. Nothing of them is left.
    pub n_unpaid: usize,
    /// Names that payments had of themselves (the extension `payment-identifier`).
    pub n_identifiers: usize,
}

impl Seller {
    /// Forgets what is over, at most `limit` payments and as many names of payments: answers that are
    /// given again, with the texts of their payments. A payment is over when its authorization can be
    /// carried out no more (its `validBefore`) and the request that was answered came, both longer than
    /// `kept` ago and a day at least, whatever `kept` says: an answer that took its time is kept that much
    /// shorter than a day. Call it from time to time.
    ///
    /// A payment that is forgotten buys nothing more, whoever sends it: one that was sold for is answered
    /// with 410 `answer_forgotten` and its settlement, so that a buyer who never heard of it learns that
    /// it paid; one that never moved with 402, since its time is over. Of that one nothing is left: its
    /// payer can sign its nonce anew for a later time, and work that was taken back is then done and paid
    /// under the same [`CanonicalKey`](crate::x402::CanonicalKey). Kept is all of a payment of which nobody
    /// knows what became, whose work is to be taken back, or that was carried out and got no answer yet.
    ///
    /// # Errors
    /// Those of the store.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn purge(&self, kept: Duration, limit: usize) -> Result<Purged> {
        let write = move |tx: &mut Tx<'_>| {
            let before_ms = kept_since(tx.now(), kept);
            let mut purged = Purged::default();
            for (key, is_sold) in over(tx, before_ms, limit)? {
                for scope in [WORK, SETTLE, UNDO] {
                    let delete = "DELETE FROM pay_replay WHERE scope = ?1 AND key = ?2";
                    run(tx, delete, params![scope, key])?;
                }
                if is_sold {
                    let strip = "UPDATE pay_x402_sale SET payment = '', asked = '' WHERE key = ?1";
                    purged.n_sold = purged.n_sold.saturating_add(run(tx, strip, [key])?);
                } else {
                    let delete = "DELETE FROM pay_x402_sale WHERE key = ?1";
                    purged.n_unpaid = purged.n_unpaid.saturating_add(run(tx, delete, [key])?);
                }
            }
            purged.n_identifiers = purge_names(tx, before_ms, limit)?;
            Ok::<_, Error>(purged)
        };
        self.inner.db.write(write).await
    }
}

/// Lists payments that are over and whether they were sold for: none that a request is at work with.
fn over(tx: &Tx<'_>, before_ms: i64, limit: usize) -> Result<Vec<(String, bool)>> {
    // The words of the index, or it is not used.
    let select = "SELECT key, state = 1 FROM pay_x402_sale AS sale \
         WHERE ((state = 1 AND work = 1 AND payment <> '') OR (state = 2 AND work = 2) \
         OR (state = 0 AND n_tries = 0 AND work = 0)) AND ends_ms < ?1 \
         AND NOT EXISTS (SELECT 1 FROM pay_replay AS kept \
         WHERE kept.scope IN ('x402/work', 'x402/settle', 'x402/undo') AND kept.key = sale.key \
         AND (kept.at_ms >= ?1 OR (kept.status IS NULL AND kept.lease_ms >= ?2))) \
         ORDER BY ends_ms LIMIT ?3";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let values = params![before_ms, tx.now().as_unix_ms(), limit];
    let found = tx.sql().prepare_cached(select).and_then(|mut select| {
        let rows = select.query_map(values, |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    });
    Ok(found.map_err(sql("list what is over"))?)
}

/// Forgets names of payments that can be carried out no more.
fn purge_names(tx: &Tx<'_>, before_ms: i64, limit: usize) -> Result<usize> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    run(
        tx,
        "DELETE FROM pay_replay WHERE (scope, key) IN (SELECT scope, key FROM pay_replay \
         WHERE scope >= 'x402/id/' AND scope < 'x402/id0' AND at_ms < ?1 AND lease_ms < ?1 LIMIT ?2)",
        params![before_ms, limit],
    )
}
