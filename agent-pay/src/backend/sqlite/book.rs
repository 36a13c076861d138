//! The storage primitives of the ledger over a transaction of the store.

use std::cell::{Cell, RefCell};

use agent_core::store::{Tx, sql};
use agent_core::{Asset, Digest, IdempotencyKey, Timestamp};
use rusqlite::{OptionalExtension, Params, Row, params};

use crate::account::{Account, AccountName, Balances, Guard};
use crate::batch::TransferKind;
use crate::error::{Error, Result};
use crate::journal::{BatchRow, Book, Commit, Head, Origin, TransferRow};

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

/// The most accounts a book remembers: those of a spend through all levels, and few enough that a
/// search through them beats a statement.
const KNOWN_MAX: usize = 48;

/// A transaction as the journal sees it. It remembers the head and the accounts it has read and
/// written, so while it lives nothing else may write to the ledger.
pub(super) struct TxBook<'a, 'c> {
    tx: &'a Tx<'c>,
    head: Cell<Option<Head>>,
    known: RefCell<Vec<Account>>,
}

impl<'a, 'c> TxBook<'a, 'c> {
    pub(super) const fn new(tx: &'a Tx<'c>) -> Self {
        Self {
            tx,
            head: Cell::new(None),
            known: RefCell::new(Vec::new()),
        }
    }

    fn known(&self, is_it: impl Fn(&Account) -> bool) -> Option<Account> {
        self.known.borrow().iter().find(|a| is_it(a)).cloned()
    }

    fn learn(&self, account: &Account) {
        let mut known = self.known.borrow_mut();
        if let Some(before) = known.iter_mut().find(|a| a.id == account.id) {
            before.clone_from(account);
        } else if known.len() < KNOWN_MAX {
            known.push(account.clone());
        }
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
        if let Some(known) = self.known(|a| a.asset == asset && a.name == *name) {
            return Ok(Some(known));
        }
        let asset = AssetText::of(asset);
        let values = params![asset.as_str(), name.as_str()];
        let found = self.one(ACCOUNT_BY_NAME, values, account, "find an account")?;
        found.iter().for_each(|account| self.learn(account));
        Ok(found)
    }

    fn account(&self, id: u64) -> Result<Account> {
        if let Some(known) = self.known(|a| a.id == id) {
            return Ok(known);
        }
        let found = self.one(ACCOUNT_BY_ID, [stored(id)?], account, "read an account")?;
        found.iter().for_each(|account| self.learn(account));
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
            self.learn(account);
        }
        self.put_balances(commit.changed)?;
        for account in commit.changed {
            self.learn(account);
        }
        let head = commit.head;
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
        )?;
        self.head.set(Some(head));
        Ok(())
    }
}

impl TxBook<'_, '_> {
    fn put_transfers(&self, transfers: &[TransferRow]) -> Result<()> {
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
        if let Some(resolved) = batch.resolves {
            self.change(
                "DELETE FROM pay_pending WHERE batch = ?1",
                [stored(resolved)?],
                "end a hold",
            )?;
        }
        if commit.is_pending {
            self.change(
                "INSERT INTO pay_pending (batch, expires_ms) VALUES (?1, ?2)",
                params![stored(batch.seq)?, expires_ms],
                "begin a hold",
            )?;
        }
        Ok(())
    }
}

/// The stored text of an asset, without an allocation for the default scale.
pub(super) struct AssetText(Asset, Option<String>);

impl AssetText {
    pub(super) fn of(asset: Asset) -> Self {
        let is_plain = asset.scale() == Asset::SCALE_DEFAULT;
        Self(asset, (!is_plain).then(|| asset.to_string()))
    }

    pub(super) fn as_str(&self) -> &str {
        self.1.as_deref().unwrap_or_else(|| self.0.code())
    }
}

/// Converts a number of this crate to SQLite's.
pub(super) fn stored(number: u64) -> Result<i64> {
    i64::try_from(number).map_err(|_range| Error::invalid("number", "it does not fit in 63 bits"))
}

fn column<T: rusqlite::types::FromSql>(row: &Row<'_>, at: usize) -> Result<T> {
    Ok(row.get(at).map_err(sql("read a column"))?)
}

pub(super) fn number(row: &Row<'_>, at: usize) -> Result<u64> {
    let number: i64 = column(row, at)?;
    u64::try_from(number).map_err(|_sign| Error::corrupt("a stored number is negative"))
}

fn optional_number(row: &Row<'_>, at: usize) -> Result<Option<u64>> {
    let number: Option<i64> = column(row, at)?;
    let number = number.map(u64::try_from).transpose();
    number.map_err(|_sign| Error::corrupt("a stored number is negative"))
}

fn text<'r>(row: &'r Row<'_>, at: usize) -> Result<&'r str> {
    let value = row.get_ref(at).map_err(sql("read a column"))?;
    value
        .as_str()
        .map_err(|e| Error::corrupt(format!("column {at}: {e}")))
}

pub(super) fn asset(row: &Row<'_>, at: usize) -> Result<Asset> {
    text(row, at)?
        .parse()
        .map_err(|e| Error::corrupt(format!("a stored asset: {e}")))
}

fn code(row: &Row<'_>, at: usize) -> Result<u8> {
    column(row, at)
}

fn head(row: &Row<'_>) -> Result<Head> {
    Ok(Head::new(
        number(row, 0)?,
        number(row, 1)?,
        number(row, 2)?,
        Timestamp::from_unix_ms(column(row, 3)?),
        Digest::from_bytes(column(row, 4)?),
    ))
}

pub(super) fn batch(row: &Row<'_>) -> Result<BatchRow> {
    let mut batch = BatchRow::new(
        number(row, 0)?,
        Digest::from_bytes(column(row, 2)?),
        Origin::from_code(code(row, 3)?)?,
        Timestamp::from_unix_ms(column(row, 5)?),
        Digest::from_bytes(column(row, 9)?),
    );
    let key: Option<String> = column(row, 1)?;
    batch.key = key
        .map(IdempotencyKey::new)
        .transpose()
        .map_err(|e| Error::corrupt(format!("a stored key: {e}")))?;
    batch.resolves = optional_number(row, 4)?;
    let expires_ms: Option<i64> = column(row, 6)?;
    batch.expires_at = expires_ms.map(Timestamp::from_unix_ms);
    batch.first_transfer = number(row, 7)?;
    batch.n_transfers = number(row, 8)?;
    batch.memo = column(row, 10)?;
    Ok(batch)
}

pub(super) fn transfer(row: &Row<'_>) -> Result<TransferRow> {
    let transfer = TransferRow::new(
        number(row, 0)?,
        number(row, 1)?,
        number(row, 2)?,
        number(row, 3)?,
        column(row, 4)?,
        TransferKind::from_code(code(row, 5)?)?,
    );
    Ok(transfer.with_hold(optional_number(row, 6)?))
}

pub(super) fn account(row: &Row<'_>) -> Result<Account> {
    let name = AccountName::new(text(row, 2)?)
        .map_err(|e| Error::corrupt(format!("a stored account name: {e}")))?;
    let balances = Balances::new(
        column(row, 5)?,
        column(row, 6)?,
        column(row, 7)?,
        column(row, 8)?,
    );
    Ok(Account::new(
        number(row, 0)?,
        asset(row, 1)?,
        name,
        Guard::from_code(code(row, 3)?)?,
        number(row, 4)?,
        balances,
    ))
}
