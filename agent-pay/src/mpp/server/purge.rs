//! What a server need not keep.

use std::time::Duration;

use agent_core::IdempotencyKey;
use agent_core::store::{Tx, sql};
use rusqlite::params;

use super::Server;
use crate::authority::{SpendHold, SpendState};
use crate::backend::sqlite::authority::{kept_since, spend};
use crate::backend::sqlite::statement::run;
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
    /// credentials, longer than `kept` after their request came, and a day at least, whatever `kept` says;
    /// never before the challenge expired, or before the session ended that they are of. And sessions
    /// that were closed, as long after their end. Call it from time to time.
    ///
    /// A credential whose answer is forgotten runs nothing and moves nothing, whoever presents it: its
    /// spend is in the ledger for good, and an offer that expired takes no payment. Its buyer, and nobody
    /// else, is still told from the ledger how it ended: with a receipt that it was paid, without what it
    /// bought; that a refund went back; what a session cost. No more of it is given back on its buyer's
    /// word. Kept is all of a credential whose money is still held.
    ///
    /// Servers of other realms on the same store keep their answers and their sessions.
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
            let since = |kept| kept_since(tx.now(), kept);
            let (charges, sessions) = (format!("mpp/{realm}"), format!("mpp-session/{realm}"));
            let vouchers_before = since(kept.max(ended_after));
            Ok::<_, Error>(Purged {
                n_charges: purge_answers(tx, &charges, since(kept.max(offered_for)), limit)?,
                n_vouchers: purge_answers(tx, &sessions, vouchers_before, limit)?,
                n_sessions: purge_sessions(tx, &sessions, since(kept), limit)?,
            })
        };
        self.authority.db().write(write).await
    }
}

/// By age, from the index alone, which has the keys too: in the order of scopes, or to look at more of those
/// of other scopes, the answers themselves would be read, which are long.
const OLD: &str = "SELECT key FROM pay_replay WHERE +scope = ?1 AND at_ms < ?2 ORDER BY at_ms";

fn purge_answers(tx: &Tx<'_>, scope: &str, before_ms: i64, limit: usize) -> Result<usize> {
    let operation = "list answers that are over";
    let mut over = Vec::new();
    let mut select = tx.sql().prepare_cached(OLD).map_err(sql(operation))?;
    let rows = select.query(params![scope, before_ms]);
    let mut rows = rows.map_err(sql(operation))?;
    while over.len() < limit
        && let Some(row) = rows.next().map_err(sql(operation))?
    {
        let key: String = row.get(0).map_err(sql(operation))?;
        if is_over(tx, scope, &key)? {
            over.push(key);
        }
    }
    for key in &over {
        let delete = "DELETE FROM pay_replay WHERE scope = ?1 AND key = ?2";
        run(tx, delete, params![scope, key])?;
    }
    Ok(over.len())
}

/// Returns whether an answer of age may go: its time is over, and no money is held for it.
fn is_over(tx: &Tx<'_>, scope: &str, key: &str) -> Result<bool> {
    let select = "SELECT lease_ms < ?3 FROM pay_replay WHERE scope = ?1 AND key = ?2";
    let now_ms = tx.now().as_unix_ms();
    let is_over: bool = tx
        .sql()
        .prepare_cached(select)
        .and_then(|mut select| select.query_row(params![scope, key, now_ms], |row| row.get(0)))
        .map_err(sql("look at an answer"))?;
    if !is_over {
        return Ok(false);
    }
    // The spend of a charge has its key; a voucher has none.
    let hold = spend(tx, &IdempotencyKey::new(format!("mpp_{key}"))?)?;
    let is_open = |hold: SpendHold| matches!(hold.state, SpendState::Held | SpendState::Submitted);
    Ok(!hold.is_some_and(is_open))
}

/// A channel of an earlier version does not say whose it is.
fn purge_sessions(tx: &Tx<'_>, scope: &str, before_ms: i64, limit: usize) -> Result<usize> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    run(
        tx,
        "DELETE FROM pay_mpp_channel WHERE channel IN (SELECT channel FROM pay_mpp_channel \
         WHERE is_closed = 1 AND scope IN ('', ?1) AND ends_ms < ?2 LIMIT ?3)",
        params![scope, before_ms, limit],
    )
}

#[cfg(test)]
mod tests {
    use agent_core::Env;
    use agent_core::store::{Config, Db, sql};

    use super::OLD;
    use crate::backend::SqliteAuthority;
    use crate::error::Error;

    /// Others may keep many answers, and the ledger has many batches: neither is read.
    #[tokio::test]
    async fn what_is_old_is_found_in_an_index_alone() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::new(dir.path().join("pay.db"));
        let db = Db::open(config, &Env::system()).await.unwrap();
        let authority = SqliteAuthority::open(db).await.unwrap();
        let plan = authority.db().read(|tx| {
            let explain = format!("EXPLAIN QUERY PLAN {OLD}");
            let lines: rusqlite::Result<Vec<String>> =
                tx.sql().prepare(&explain).and_then(|mut plan| {
                    plan.query_map(("mpp/realm", 1), |row| row.get(3))?
                        .collect()
                });
            Ok::<_, Error>(lines.map_err(sql("explain"))?)
        });
        let wanted = "SEARCH pay_replay USING COVERING INDEX pay_replay_at (at_ms<?)";
        assert_eq!(plan.await.unwrap(), [wanted]);
    }
}
