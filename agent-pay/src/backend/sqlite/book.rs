//! The storage primitives of the ledger over a transaction of the store.

mod keys;
mod known;
mod row;
mod waiting;
mod write;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use agent_core::store::{Tx, sql};
use agent_core::{Asset, Digest, IdempotencyKey, Timestamp};
use rusqlite::{OptionalExtension, Params, Row, params};

use crate::account::{Account, AccountName};
use crate::error::{Error, Result};
use crate::journal::{BatchRow, Book, Commit, Difference, Head, TransferRow};
use known::Known;
use row::{column, head};
use waiting::Waiting;

pub(super) use keys::{ListedKeys, batch_of, is_listed, list_all};
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
    waiting: RefCell<Waiting>,
    /// The keys of the batches it posted, stored or waiting.
    posted: BTreeSet<IdempotencyKey>,
    /// The blocks of transfers it knows an account to be listed in.
    listed: BTreeSet<(u64, u64)>,
    has_refusals: Cell<Option<bool>>,
    is_deferred: bool,
    /// Whether balances and the head wait to be written.
    is_behind: bool,
    /// Whether rows that waited are lost.
    is_broken: Cell<bool>,
    n_put: u64,
    n_appended: Cell<u64>,
}

impl<'a, 'c> TxBook<'a, 'c> {
    /// Writes everything at once.
    pub(super) fn new(tx: &'a Tx<'c>) -> Self {
        Self {
            tx,
            head: Cell::new(None),
            known: RefCell::default(),
            waiting: RefCell::default(),
            posted: BTreeSet::new(),
            listed: BTreeSet::new(),
            has_refusals: Cell::new(None),
            is_deferred: false,
            is_behind: false,
            is_broken: Cell::new(false),
            n_put: 0,
            n_appended: Cell::new(0),
        }
    }

    /// Writes balances and the head only with [`Self::flush`], so that those which many batches
    /// change are written once, and appends batches and transfers many at once, then or when they
    /// are looked for.
    pub(super) fn deferred(tx: &'a Tx<'c>) -> Self {
        Self {
            is_deferred: true,
            ..Self::new(tx)
        }
    }

    /// Returns how many changes it made or still has to make, other than those of its own book that
    /// [`Self::append`] catches up with. The same number twice says that nothing was written between.
    pub(super) fn n_changes(&self) -> u64 {
        let n_changes = self.tx.sql().total_changes();
        let n_caught_up = n_changes.saturating_sub(self.n_appended.get());
        n_caught_up.saturating_add(self.n_put)
    }

    /// Returns whether it posted a batch under a key, which may wait to be written.
    pub(super) fn has_posted(&self, key: &IdempotencyKey) -> bool {
        self.posted.contains(key)
    }

    /// Appends the batches and transfers that wait, so that statements find them.
    pub(super) fn append(&self) -> Result<()> {
        let waiting = self.waiting.take();
        if waiting.is_empty() {
            return Ok(());
        }
        let before = self.tx.sql().total_changes();
        self.is_broken.set(true);
        waiting.write(self.tx)?;
        self.is_broken.set(false);
        let n_appended = self.tx.sql().total_changes().saturating_sub(before);
        self.n_appended
            .set(self.n_appended.get().saturating_add(n_appended));
        Ok(())
    }

    /// Appends what waits if what is looked for is among it.
    fn append_if(&self, is_waiting: impl FnOnce(&Waiting) -> bool) -> Result<()> {
        let is_waiting = is_waiting(&self.waiting.borrow());
        if is_waiting { self.append() } else { Ok(()) }
    }

    /// Writes what waits. Without it the transaction must not be kept.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.append()?;
        if self.is_broken.get() {
            return Err(Error::corrupt("rows of the journal are lost"));
        }
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

    /// Returns whether any key is used up by a refusal; mostly none is.
    fn has_refusals(&self) -> Result<bool> {
        if let Some(has_refusals) = self.has_refusals.get() {
            return Ok(has_refusals);
        }
        let select = self.tx.sql().prepare_cached("SELECT 1 FROM pay_refusal");
        let found = select.and_then(|mut select| select.exists([]));
        let has_refusals = found.map_err(sql("look for refusals"))?;
        self.has_refusals.set(Some(has_refusals));
        Ok(has_refusals)
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
        if self.has_posted(key) {
            self.append()?;
        }
        for seq in keys::candidates(self.tx, key.as_str())? {
            let found = self.one(BATCH_BY_SEQ, [seq], batch, "find a batch by key")?;
            if found.as_ref().and_then(|batch| batch.key.as_ref()) == Some(key) {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn resolution_of(&self, seq: u64) -> Result<Option<BatchRow>> {
        self.append_if(|waiting| waiting.resolves(seq))?;
        self.one(
            BATCH_BY_RESOLVED,
            [stored(seq)?],
            batch,
            "find a resolution",
        )
    }

    fn batch(&self, seq: u64) -> Result<BatchRow> {
        self.append_if(|waiting| waiting.has_batch(seq))?;
        self.one(BATCH_BY_SEQ, [stored(seq)?], batch, "read a batch")?
            .ok_or_else(|| Error::corrupt(format!("batch {seq} is missing")))
    }

    fn transfers(&self, batch: &BatchRow) -> Result<Vec<TransferRow>> {
        self.append_if(|waiting| waiting.has_batch(batch.seq))?;
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
            return Ok(known.cloned());
        }
        let text = AssetText::of(asset);
        let values = params![text.as_str(), name.as_str()];
        let found = self.one(ACCOUNT_BY_NAME, values, account, "find an account")?;
        let mut known = self.known.borrow_mut();
        match &found {
            Some(account) => known.learn(account),
            None => known.learn_absent(asset, name),
        }
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
        if !self.has_refusals()? {
            return Ok(None);
        }
        let statement = "SELECT request FROM pay_refusal WHERE key = ?1";
        let read = |row: &Row<'_>| Ok(Digest::from_bytes(column(row, 0)?));
        self.one(statement, [key.as_str()], read, "find a refusal")
    }

    fn put_refusal(&mut self, key: &IdempotencyKey, request: &Digest) -> Result<()> {
        self.has_refusals.set(Some(true));
        self.change(
            "INSERT INTO pay_refusal (key, request) VALUES (?1, ?2)",
            params![key.as_str(), request.as_bytes()],
            "pin a refusal",
        )
    }

    fn put(&mut self, commit: &Commit<'_>) -> Result<()> {
        // Who posts has looked for the key; only what this book posted since could have it.
        if let Some(key) = commit.batch.key.clone()
            && !self.posted.insert(key.clone())
        {
            let differs = Difference::Entries;
            return Err(Error::KeyReused { key, differs });
        }
        let waiting = self.waiting.get_mut();
        waiting.add(commit.batch, commit.transfers, &mut self.listed);
        self.n_put = self.n_put.saturating_add(1);
        self.put_pending(commit)?;
        for account in commit.opened {
            self.put_account(account)?;
        }
        if !self.is_deferred {
            self.append()?;
            self.put_balances(commit.changed)?;
            self.put_head(&commit.head)?;
        }
        let known = self.known.get_mut();
        commit.opened.iter().for_each(|account| known.put(account));
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
