//! What a commit of the journal writes.

use agent_core::store::sql;
use agent_core::{IdempotencyKey, Timestamp};
use rusqlite::params;

use super::{AssetText, BLOCK, TxBook, stored};
use crate::account::Account;
use crate::error::{Error, Result};
use crate::journal::{Commit, Head, TransferRow};

impl TxBook<'_, '_> {
    pub(super) fn put_transfers(&mut self, transfers: &[TransferRow]) -> Result<()> {
        let operation = "append a transfer";
        let mut insert = self
            .tx
            .sql()
            .prepare_cached("INSERT INTO pay_transfer VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")
            .map_err(sql(operation))?;
        for t in transfers {
            let values = params![
                stored(t.id)?,
                stored(t.batch)?,
                stored(t.debit)?,
                stored(t.credit)?,
                t.units,
                t.kind.code(),
                t.hold.map(stored).transpose()?,
            ];
            insert.execute(values).map_err(sql(operation))?;
        }
        for t in transfers {
            let block = t.id / BLOCK;
            for account in [t.debit, t.credit] {
                if self.listed.insert((account, block)) {
                    self.list(account, block)?;
                }
            }
        }
        Ok(())
    }

    fn list(&self, account: u64, block: u64) -> Result<()> {
        let operation = "list an account";
        self.tx
            .sql()
            .prepare_cached("INSERT INTO pay_activity VALUES (?1, ?2) ON CONFLICT DO NOTHING")
            .map_err(sql(operation))?
            .execute([stored(account)?, stored(block)?])
            .map_err(sql(operation))?;
        Ok(())
    }

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

    pub(super) fn put_batch(&self, commit: &Commit<'_>) -> Result<()> {
        let batch = commit.batch;
        let expires_ms = batch.expires_at.map(Timestamp::as_unix_ms);
        self.change(
            "INSERT INTO pay_batch (seq, key, request, origin, resolves, at_ms, expires_ms, \
             first_transfer, n_transfers, hash, memo) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            params![
                stored(batch.seq)?,
                batch.key.as_ref().map(IdempotencyKey::as_str),
                batch.request.as_bytes(),
                batch.origin.code(),
                batch.resolves.map(stored).transpose()?,
                batch.at.as_unix_ms(),
                expires_ms,
                stored(batch.first_transfer)?,
                stored(batch.n_transfers)?,
                batch.hash.as_bytes(),
                batch.memo,
            ],
            "append a batch",
        )?;
        // Only what expires by itself is ever looked for there.
        if let Some(resolved) = batch.resolves {
            let operation = "end a hold";
            self.tx
                .sql()
                .prepare_cached("DELETE FROM pay_pending WHERE batch = ?1")
                .map_err(sql(operation))?
                .execute([stored(resolved)?])
                .map_err(sql(operation))?;
        }
        if commit.is_pending && expires_ms.is_some() {
            self.change(
                "INSERT INTO pay_pending (batch, expires_ms) VALUES (?1, ?2)",
                params![stored(batch.seq)?, expires_ms],
                "begin a hold",
            )?;
        }
        Ok(())
    }
}
