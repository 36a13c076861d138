//! What a server need not keep.

use std::time::Duration;

use agent_core::store::Tx;
use rusqlite::params;

use super::Server;
use crate::backend::sqlite::authority::kept_since;
use crate::backend::sqlite::statement::run;
use crate::error::{Error, Result};

/// What a server forgot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Purged {
    /// Answers to credentials of charges.
    pub n_charges: usize,
    /// Answers to vouchers of sessions.
    pub n_vouchers: usize,
    /// Sessions that were closed.
    pub n_sessions: usize,
}

impl Server {
    /// Forgets what is over, at most `limit` of each kind: answers that are given again to their
    /// credentials, longer than `kept` after they were given, and a day at least, whatever `kept` says;
    /// never before the challenge expired, or before the session ended that they are of. And sessions
    /// that were closed, as long after their end. Call it from time to time.
    ///
    /// A credential whose answer is forgotten runs nothing and moves nothing, whoever presents it: what
    /// was held for it is in the ledger for good, and an offer that expired takes no payment. What it paid
    /// is not given back on its buyer's word any more. Kept is all of a credential whose money is still
    /// held.
    ///
    /// # Errors
    /// Those of the store.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn purge(&self, kept: Duration, limit: usize) -> Result<Purged> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let (realm, offered_for) = (self.config.realm.clone(), self.config.offered_for);
        let ended_after = offered_for.saturating_add(self.config.session_max);
        let write = move |tx: &mut Tx<'_>| {
            // What an earlier version kept does not say until when its offer holds.
            let charges = (kept_since(tx.now(), kept.max(offered_for)), limit);
            let vouchers = (kept_since(tx.now(), kept.max(ended_after)), limit);
            let sessions = (kept_since(tx.now(), kept), limit);
            Ok::<_, Error>(Purged {
                n_charges: purge_answers(tx, &format!("mpp/{realm}"), charges)?,
                n_vouchers: purge_answers(tx, &format!("mpp-session/{realm}"), vouchers)?,
                n_sessions: purge_sessions(tx, sessions)?,
            })
        };
        self.authority.db().write(write).await
    }
}

fn purge_answers(tx: &Tx<'_>, scope: &str, (before_ms, limit): (i64, i64)) -> Result<usize> {
    // By age: in the order of scopes the answers themselves, which are long, would be read. The spend of a
    // charge has its key; a voucher has none.
    run(
        tx,
        "DELETE FROM pay_replay WHERE (scope, key) IN (SELECT scope, key FROM pay_replay AS kept \
         WHERE +scope = ?1 AND at_ms < ?2 AND lease_ms < ?3 AND NOT EXISTS \
         (SELECT 1 FROM pay_batch JOIN pay_spend ON pay_spend.batch = pay_batch.seq \
         WHERE pay_batch.key = 'mpp_' || kept.key AND pay_spend.state < 2) \
         ORDER BY at_ms LIMIT ?4)",
        params![scope, before_ms, tx.now().as_unix_ms(), limit],
    )
}

fn purge_sessions(tx: &Tx<'_>, (before_ms, limit): (i64, i64)) -> Result<usize> {
    run(
        tx,
        "DELETE FROM pay_mpp_channel WHERE channel IN (SELECT channel FROM pay_mpp_channel \
         WHERE is_closed = 1 AND ends_ms < ?1 ORDER BY ends_ms LIMIT ?2)",
        params![before_ms, limit],
    )
}
