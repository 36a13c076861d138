//! The storage primitives of the ledger over a transaction of the store.

mod known;
mod row;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use agent_core::store::{Tx, sql};
use agent_core::{Asset, Digest, IdempotencyKey, Timestamp};
use rusqlite::{OptionalExtension, Params, Row, params};

use crate::account::{Account, AccountName};
use crate::error::{Error, Result};
use crate::journal::{BatchRow, Book, Commit, Head, TransferRow};
use known::Known;
use row::{column, head};

pub(super) use row::{AssetText, account, batch, number, stored, transfer};

pub(super) const ACCOUNT: &str = "SELECT id, asset, name, guard, opened_in, debits_pending, \
     debits_posted, credits_pending, credits_posted FROM pay_account";
const ACCOUNT_BY_NAME: &str = "SELECT id, asset, name, guard, opened_in, debits_pending, \
     debits_posted, credits_pending, credits_posted FROM pay_account WHERE asset = ?1 AND name = ?2";
const ACCOUNT_BY_ID: &str = "SELECT id, asset, name, guard, opened_in, debits_pending, \
     debits_posted, credits_pending, credits_posted FROM pay_account WHERE id = ?1";
pub(super) const BATCHES: &str = "SELECT seq, key, request, origin, resolves, at_ms, expires_ms, \
     first_transfer, n_transfers, hash, memo FROM pay_batch ORDER BY seq";
pub(super) const BATCHES_AFTER: &str = "SELECT seq, key, request, origin, resolves, at_ms, \
     expires_ms, first_transfer, n_transfers, hash, memo FROM pay_batch WHERE seq > ?1 \
     ORDER BY seq LIMIT ?2";
const BATCH_BY_KEY: &str = "SELECT seq, key, request, origin, resolves, at_ms, expires_ms, \
     first_transfer, n_transfers, hash, memo FROM pay_batch WHERE key = ?1";
const BATCH_BY_SEQ: &str = "SELECT seq, key, request, origin, resolves, at_ms, expires_ms, \
     first_transfer, n_transfers, hash, memo FROM pay_batch WHERE seq = ?1";
const BATCH_BY_RESOLVED: &str = "SELECT seq, key, request, origin, resolves, at_ms, expires_ms, \
     first_transfer, n_transfers, hash, memo FROM pay_batch WHERE resolves = ?1";
pub(super) const TRANSFERS: &str =
    "SELECT id, batch, debit, credit, units, kind, hold FROM pay_transfer ORDER BY id";
const TRANSFERS_OF: &str = "SELECT id, batch, debit, credit, units, kind, hold FROM pay_transfer \
     WHERE id >= ?1 AND id < ?2 ORDER BY id";

/// How many transfers a block has. An account is listed in the blocks it has transfers in, and its
/// statement reads those whole: a row now and then instead of two entries of an index for each
/// transfer.
pub(super) const BLOCK: u64 = 64;

/// A transaction as the journal sees it. It remembers the head and the accounts it has read and
/// written, so while it lives nothing else may write to the ledger.
pub(super) struct TxBook<'a, 'c> {
    tx: &'a Tx<'c>,
    head: Cell<Option<Head>>,
    known: RefCell<Known>,
    /// The blocks of transfers it knows an account to be listed in.
    listed: BTreeSet<(u64, u64)>,
    is_deferred: bool,
    /// Whether something waits to be written.
    is_behind: bool,
}

impl<'a, 'c> TxBook<'a, 'c> {
    /// Writes everything at once.
    pub(super) fn new(tx: &'a Tx<'c>) -> Self {
        Self {
            tx,
            head: Cell::new(None),
            known: RefCell::default(),
            listed: BTreeSet::new(),
            is_deferred: false,
            is_behind: false,
        }
    }

    /// Writes balances and the head only with [`Self::flush`], so that those which many batches
    /// change are written once.
    pub(super) fn deferred(tx: &'a Tx<'c>) -> Self {
        Self {
            is_deferred: true,
            ..Self::new(tx)
        }
    }

    /// Writes what waits. Without it the transaction must not be kept.
    pub(super) fn flush(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.is_behind) {
            return Ok(());
        }
        let changed = self.known.get_mut().take_changed();
        self.put_balances(&changed)?;
        let head = self.head.get();
        self.put_head(&head.ok_or_else(|| Error::corrupt("the head is missing"))?)
    }

    /// Runs a statement that changes exactly one row.
    fn change(&self, statement: &str, values: impl Params, operation: &'static str) -> Result<()> {
        let mut prepared = self
            .tx
            .sql()
            .prepare_cached(statement)
            .map_err(sql(operation))?;
        let n_rows = prepared.execute(values).map_err(sql(operation))?;
        if n_rows == 1 {
            Ok(())
        } else {
            Err(Error::corrupt(format!(
                "{n_rows} rows changed: {operation}"
            )))
        }
    }

    fn one<T>(
        &self,
        statement: &str,
        values: impl Params,
        read: fn(&Row<'_>) -> Result<T>,
        operation: &'static str,
    ) -> Result<Option<T>> {
        let mut prepared = self
            .tx
            .sql()
            .prepare_cached(statement)
            .map_err(sql(operation))?;
        prepared
            .query_row(values, |row| Ok(read(row)))
            .optional()
            .map_err(sql(operation))?
            .transpose()
    }
}

impl Book for TxBook<'_, '_> {
    fn now(&self) -> Timestamp {
        self.tx.now()
    }

    fn head(&self) -> Result<Head> {
        let statement = "SELECT seq, n_transfers, n_accounts, at_ms, hash FROM pay_head \
                         WHERE one = 1";
        if let Some(head) = self.head.get() {
            return Ok(head);
        }
        let head = self.one(statement, [], head, "read the head")?;
        self.head.set(head);
        head.ok_or_else(|| Error::corrupt("the head is missing"))
    }

    fn batch_by_key(&self, key: &IdempotencyKey) -> Result<Option<BatchRow>> {
        self.one(BATCH_BY_KEY, [key.as_str()], batch, "find a batch by key")
    }

    fn resolution_of(&self, seq: u64) -> Result<Option<BatchRow>> {
        self.one(
            BATCH_BY_RESOLVED,
            [stored(seq)?],
            batch,
            "find a resolution",
        )
    }

    fn batch(&self, seq: u64) -> Result<BatchRow> {
        self.one(BATCH_BY_SEQ, [stored(seq)?], batch, "read a batch")?
            .ok_or_else(|| Error::corrupt(format!("batch {seq} is missing")))
    }

    fn transfers(&self, batch: &BatchRow) -> Result<Vec<TransferRow>> {
        let first = stored(batch.first_transfer)?;
        let end = stored(batch.first_transfer.saturating_add(batch.n_transfers))?;
        let mut prepared = self
            .tx
            .sql()
            .prepare_cached(TRANSFERS_OF)
            .map_err(sql("read transfers"))?;
        let mut rows = prepared
            .query([first, end])
            .map_err(sql("read transfers"))?;
        let mut transfers = Vec::new();
        while let Some(row) = rows.next().map_err(sql("read transfers"))? {
            transfers.push(transfer(row)?);
        }
        Ok(transfers)
    }

    fn account_by_name(&self, asset: Asset, name: &AccountName) -> Result<Option<Account>> {
        if let Some(known) = self.known.borrow().by_name(asset, name) {
            return Ok(Some(known.clone()));
        }
        let asset = AssetText::of(asset);
        let values = params![asset.as_str(), name.as_str()];
        let found = self.one(ACCOUNT_BY_NAME, values, account, "find an account")?;
        found
            .iter()
            .for_each(|account| self.known.borrow_mut().learn(account));
        Ok(found)
    }

    fn account(&self, id: u64) -> Result<Account> {
        if let Some(known) = self.known.borrow().by_id(id) {
            return Ok(known.clone());
        }
        let found = self.one(ACCOUNT_BY_ID, [stored(id)?], account, "read an account")?;
        found
            .iter()
            .for_each(|account| self.known.borrow_mut().learn(account));
        found.ok_or_else(|| Error::corrupt(format!("account {id} is missing")))
    }

    fn expired(&self, now: Timestamp, limit: usize) -> Result<Vec<u64>> {
        let statement = "SELECT batch FROM pay_pending WHERE expires_ms <= ?1 \
                         ORDER BY expires_ms, batch LIMIT ?2";
        let operation = "list expired holds";
        let mut prepared = self
            .tx
            .sql()
            .prepare_cached(statement)
            .map_err(sql(operation))?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut rows = prepared
            .query([now.as_unix_ms(), limit])
            .map_err(sql(operation))?;
        let mut due = Vec::new();
        while let Some(row) = rows.next().map_err(sql(operation))? {
            due.push(number(row, 0)?);
        }
        Ok(due)
    }

    fn refusal(&self, key: &IdempotencyKey) -> Result<Option<Digest>> {
        let statement = "SELECT request FROM pay_refusal WHERE key = ?1";
        let read = |row: &Row<'_>| Ok(Digest::from_bytes(column(row, 0)?));
        self.one(statement, [key.as_str()], read, "find a refusal")
    }

    fn put_refusal(&mut self, key: &IdempotencyKey, request: &Digest) -> Result<()> {
        self.change(
            "INSERT INTO pay_refusal (key, request) VALUES (?1, ?2)",
            params![key.as_str(), request.as_bytes()],
            "pin a refusal",
        )
    }

    fn put(&mut self, commit: &Commit<'_>) -> Result<()> {
        self.put_batch(commit)?;
        self.put_transfers(commit.transfers)?;
        for account in commit.opened {
            self.put_account(account)?;
        }
        if !self.is_deferred {
            self.put_balances(commit.changed)?;
            self.put_head(&commit.head)?;
        }
        let known = self.known.get_mut();
        commit
            .opened
            .iter()
            .for_each(|account| known.learn(account));
        for account in commit.changed {
            if self.is_deferred {
                known.change(account);
            } else {
                known.learn(account);
            }
        }
        self.head.set(Some(commit.head));
        self.is_behind = self.is_deferred;
        Ok(())
    }
}

impl TxBook<'_, '_> {
    fn put_transfers(&mut self, transfers: &[TransferRow]) -> Result<()> {
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

    fn put_account(&self, a: &Account) -> Result<()> {
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

    fn put_head(&self, head: &Head) -> Result<()> {
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

    fn put_balances(&self, changed: &[Account]) -> Result<()> {
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

    fn put_batch(&self, commit: &Commit<'_>) -> Result<()> {
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
