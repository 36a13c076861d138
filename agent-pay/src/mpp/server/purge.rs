//! What a server need not keep.

use std::time::Duration;

use agent_core::IdempotencyKey;
use agent_core::store::Tx;
use rusqlite::params;

use super::Server;
use crate::authority::SpendState;
use crate::backend::sqlite::authority::{kept_since, spend};
use crate::backend::sqlite::statement::run;
use crate::backend::sqlite::turn::Turns;
use crate::error::{Error, Result};

/// What a server forgot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Purged {
    /// Answers to credentials of charges, and charges whose run did not end.
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
        let (realm, offered_for) = (self.config.realm.clone(), self.config.offered_for);
        let ended_after = offered_for.saturating_add(self.config.session_max);
        let write = move |tx: &mut Tx<'_>| {
            // What an earlier version kept does not say until when its offer holds.
            let charges = (kept_since(tx.now(), kept.max(offered_for)), limit);
            let vouchers = (kept_since(tx.now(), kept.max(ended_after)), limit);
            let sessions = (kept_since(tx.now(), kept), limit);
            let n_charges = purge_answers(tx, &format!("mpp/{realm}"), charges)?;
            let n_unended = purge_unended(tx, sessions)?;
            Ok::<_, Error>(Purged {
                n_charges: n_charges.saturating_add(n_unended),
                n_vouchers: purge_answers(tx, &format!("mpp-session/{realm}"), vouchers)?,
                n_sessions: purge_sessions(tx, sessions)?,
            })
        };
        self.authority.db().write(write).await
    }
}

fn purge_answers(tx: &Tx<'_>, scope: &str, (before_ms, limit): (i64, usize)) -> Result<usize> {
    // By age: in the order of scopes the answers themselves, which are long, would be read. No money is held
    // for what is answered.
    run(
        tx,
        "DELETE FROM pay_replay WHERE (scope, key) IN (SELECT scope, key FROM pay_replay \
         WHERE +scope = ?1 AND at_ms < ?2 AND lease_ms < ?3 AND status IS NOT NULL \
         ORDER BY at_ms LIMIT ?4)",
        params![scope, before_ms, tx.now().as_unix_ms(), at_most(limit)],
    )
}

/// Charges whose run did not end, of any server in the store: what the ledger has under their keys uses
/// them up.
const UNENDED: Turns = Turns {
    list: "mpp unended",
    select: "SELECT at_ms, scope || ' ' || key, scope, key, lease_ms FROM pay_replay \
             WHERE +scope >= 'mpp' AND +scope < 'mpq' AND status IS NULL AND at_ms >= ?1 \
             AND at_ms < ?4 AND (at_ms, scope || ' ' || key) > (?1, ?2) ORDER BY 1, 2 LIMIT ?3",
};

fn purge_unended(tx: &Tx<'_>, (before_ms, limit): (i64, usize)) -> Result<usize> {
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(2)?, row.get(3)?, row.get(4)?));
    let unended: Vec<(String, String, i64)> = UNENDED.next(tx, before_ms, limit, read)?;
    let mut n_purged = 0_usize;
    for (scope, key, lease_ms) in unended {
        let spend = spend(tx, &IdempotencyKey::new(format!("mpp_{key}"))?)?;
        let is_held = spend
            .is_some_and(|hold| matches!(hold.state, SpendState::Held | SpendState::Submitted));
        if !is_held && lease_ms < tx.now().as_unix_ms() {
            let delete = "DELETE FROM pay_replay WHERE scope = ?1 AND key = ?2";
            n_purged = n_purged.saturating_add(run(tx, delete, [scope, key])?);
        }
    }
    Ok(n_purged)
}

fn purge_sessions(tx: &Tx<'_>, (before_ms, limit): (i64, usize)) -> Result<usize> {
    run(
        tx,
        "DELETE FROM pay_mpp_channel WHERE channel IN (SELECT channel FROM pay_mpp_channel \
         WHERE is_closed = 1 AND ends_ms < ?1 ORDER BY ends_ms LIMIT ?2)",
        params![before_ms, at_most(limit)],
    )
}

fn at_most(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
