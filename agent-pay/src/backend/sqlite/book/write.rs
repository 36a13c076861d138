//! What a commit of the journal writes.

use agent_core::Timestamp;
use agent_core::store::sql;
use rusqlite::params;

use super::{AssetText, TxBook, stored};
use crate::account::Account;
use crate::error::{Error, Result};
use crate::journal::{Commit, Head};

impl TxBook<'_, '_> {
    pub(super) fn put_account(&self, a: &Account) -> Result<()> {
        let b = a.balances;
        self.change(
            "INSERT INTO pay_account (id, asset, name, guard, opened_in, debits_pending, \
             debits_posted, credits_pending, credits_posted) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            params![
                stored(a.id)?,
                AssetText::of(a.asset).as_str(),
                a.name.as_str(),
                a.guard.code(),
                stored(a.opened_in)?,
                b.debits_pending,
                b.debits_posted,
                b.credits_pending,
                b.credits_posted,
            ],
            "open an account",
        )
    }

    pub(super) fn put_head(&self, head: &Head) -> Result<()> {
        self.change(
            "UPDATE pay_head SET seq = ?1, n_transfers = ?2, n_accounts = ?3, at_ms = ?4, \
             hash = ?5 WHERE one = 1",
            params![
                stored(head.seq)?,
                stored(head.n_transfers)?,
                stored(head.n_accounts)?,
                head.at.as_unix_ms(),
                head.hash.as_bytes(),
            ],
            "move the head",
        )
    }

    pub(super) fn put_balances(&self, changed: &[Account]) -> Result<()> {
        let operation = "change a balance";
        let mut update = self
            .tx
            .sql()
            .prepare_cached(
                "UPDATE pay_account SET debits_pending = ?2, debits_posted = ?3, \
                 credits_pending = ?4, credits_posted = ?5 WHERE id = ?1",
            )
            .map_err(sql(operation))?;
        for a in changed {
            let b = a.balances;
            let values = params![
                stored(a.id)?,
                b.debits_pending,
                b.debits_posted,
                b.credits_pending,
                b.credits_posted,
            ];
            if update.execute(values).map_err(sql(operation))? != 1 {
                return Err(Error::corrupt(format!("account {} is missing", a.name)));
            }
        }
        Ok(())
    }

    /// Keeps the list of holds that expire by themselves, of which alone somebody has to find the
    /// next.
    pub(super) fn put_pending(&self, commit: &Commit<'_>) -> Result<()> {
        let batch = commit.batch;
        if let Some(resolved) = batch.resolves {
            let operation = "end a hold";
            self.tx
                .sql()
                .prepare_cached("DELETE FROM pay_pending WHERE batch = ?1")
                .map_err(sql(operation))?
                .execute([stored(resolved)?])
                .map_err(sql(operation))?;
        }
        match batch.expires_at.map(Timestamp::as_unix_ms) {
            Some(expires_ms) if commit.is_pending => self.change(
                "INSERT INTO pay_pending (batch, expires_ms) VALUES (?1, ?2)",
                params![stored(batch.seq)?, expires_ms],
                "begin a hold",
            ),
            _ => Ok(()),
        }
    }
}
