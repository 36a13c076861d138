//! The reads of the ledger that are not part of a write.

use std::collections::{BTreeMap, BTreeSet};

use agent_core::Asset;
use agent_core::store::{Tx, sql};
use rusqlite::{CachedStatement, Params, Row, params};

use super::book::{
    ACCOUNT, AssetText, BATCHES, BATCHES_AFTER, BLOCK, ListedKeys, TRANSFERS, TxBook, account,
    batch, number, stored, transfer,
};
use crate::account::{Account, AccountQuery};
use crate::batch::Transfer;
use crate::error::{Error, Result};
use crate::journal::{self, Auditor, Book, Journaled, TransferRow};
use crate::ledger::{Anchor, JournalQuery, StatementQuery, TrialBalance, Verified};

fn list<T>(
    tx: &Tx<'_>,
    statement: &str,
    values: impl Params,
    read: fn(&Row<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let mut prepared = tx
        .sql()
        .prepare_cached(statement)
        .map_err(sql("prepare a query"))?;
    let mut rows = prepared.query(values).map_err(sql("run a query"))?;
    let mut all = Vec::new();
    while let Some(row) = rows.next().map_err(sql("read a row"))? {
        all.push(read(row)?);
    }
    Ok(all)
}

pub(super) fn accounts(tx: &Tx<'_>, query: &AccountQuery) -> Result<Vec<Account>> {
    let under = query.under.as_str();
    // `0` is the character behind `/`, so the range holds everything below.
    let (first, end) = if query.is_exact {
        (under.to_owned(), under.to_owned())
    } else {
        (format!("{under}/"), format!("{under}0"))
    };
    let after = query.after.as_ref().map_or("", |after| after.as_str());
    let limit = query.limit.min(AccountQuery::LIMIT_MAX);
    list(
        tx,
        &format!(
            "{ACCOUNT} WHERE asset = ?1 AND (name = ?2 OR name >= ?3 AND name < ?4) \
             AND name > ?5 ORDER BY name LIMIT ?6"
        ),
        params![
            AssetText::of(query.asset).as_str(),
            under,
            first,
            end,
            after,
            i64::try_from(limit).unwrap_or(i64::MAX),
        ],
        account,
    )
}

pub(super) fn statement(tx: &Tx<'_>, query: &StatementQuery) -> Result<Vec<Transfer>> {
    let book = TxBook::new(tx);
    let account = book.account_by_name(query.asset, &query.account)?;
    let account = account.ok_or_else(|| Error::AccountNotFound {
        asset: query.asset,
        account: query.account.clone(),
    })?;
    let limit = query.limit.min(StatementQuery::LIMIT_MAX);
    let rows: Vec<TransferRow> = list(
        tx,
        // By block and number, which is the order both loops run in, so that a page reads no more
        // than it shows.
        &format!(
            "SELECT t.id, t.batch, t.debit, t.credit, t.units, t.kind, t.hold \
             FROM pay_activity a CROSS JOIN pay_transfer t \
             ON t.id >= a.block * {BLOCK} AND t.id < (a.block + 1) * {BLOCK} \
             WHERE a.account = ?1 AND a.block >= ?2 / {BLOCK} AND t.id > ?2 \
             AND (t.debit = ?1 OR t.credit = ?1) ORDER BY a.block, t.id LIMIT ?3"
        ),
        params![
            stored(account.id)?,
            stored(query.after)?,
            i64::try_from(limit).unwrap_or(i64::MAX),
        ],
        transfer,
    )?;
    rows.iter()
        .map(|row| {
            let (debit, credit) = (book.account(row.debit)?, book.account(row.credit)?);
            Ok(journal::name_transfer(row, &debit, &credit))
        })
        .collect()
}

pub(super) fn journal(tx: &Tx<'_>, query: JournalQuery) -> Result<Vec<Journaled>> {
    let book = TxBook::new(tx);
    let limit = query.limit.min(JournalQuery::LIMIT_MAX);
    let values = params![
        stored(query.after)?,
        i64::try_from(limit).unwrap_or(i64::MAX)
    ];
    let rows = list(tx, BATCHES_AFTER, values, batch)?;
    rows.into_iter()
        .map(|row| journal::journaled(&book, row))
        .collect()
}

pub(super) fn trial_balance(tx: &Tx<'_>) -> Result<Vec<TrialBalance>> {
    let mut prepared = tx
        .sql()
        .prepare_cached(ACCOUNT)
        .map_err(sql("sum the ledger"))?;
    let mut rows = prepared.query([]).map_err(sql("sum the ledger"))?;
    let mut sums: BTreeMap<Asset, TrialBalance> = BTreeMap::new();
    while let Some(row) = rows.next().map_err(sql("sum the ledger"))? {
        let account = account(row)?;
        let zero = || TrialBalance::zero(account.asset);
        sums.entry(account.asset)
            .or_insert_with(zero)
            .add(&account)?;
    }
    Ok(sums.into_values().collect())
}

pub(super) fn verify(tx: &Tx<'_>, anchor: Option<Anchor>) -> Result<Verified> {
    let mut auditor = Auditor::new(list(tx, ACCOUNT, [], account)?, anchor)?;
    let operation = "read the journal";
    let mut batches = tx.sql().prepare_cached(BATCHES).map_err(sql(operation))?;
    let mut transfers = tx.sql().prepare_cached(TRANSFERS).map_err(sql(operation))?;
    let mut batches = batches.query([]).map_err(sql(operation))?;
    let mut transfers = transfers.query([]).map_err(sql(operation))?;
    let mut listed = Listed::new(tx)?;
    let mut keys = ListedKeys::new(tx)?;
    let mut waiting: Vec<TransferRow> = Vec::new();
    while let Some(row) = batches.next().map_err(sql(operation))? {
        let batch = batch(row)?;
        keys.check(&batch)?;
        waiting.clear();
        while u64::try_from(waiting.len()).unwrap_or(u64::MAX) < batch.n_transfers {
            match transfers.next().map_err(sql(operation))? {
                Some(row) => waiting.push(listed.check(transfer(row)?)?),
                None => break,
            }
        }
        auditor.batch(&batch, &waiting)?;
    }
    if transfers.next().map_err(sql(operation))?.is_some() {
        return Err(Error::corrupt("a transfer belongs to no batch"));
    }
    keys.finish()?;
    let pending = list(tx, "SELECT batch, expires_ms FROM pay_pending", [], |row| {
        let expires_ms: Option<i64> = row.get(1).map_err(sql("read a pending batch"))?;
        Ok((number(row, 0)?, expires_ms))
    })?;
    let head = TxBook::new(tx).head()?;
    auditor.finish(&head, &pending.into_iter().collect())
}

/// Checks that accounts are listed in the blocks they have transfers in, in the order of these.
struct Listed<'c> {
    block: u64,
    accounts: BTreeSet<u64>,
    find: CachedStatement<'c>,
}

impl<'c> Listed<'c> {
    fn new(tx: &Tx<'c>) -> Result<Self> {
        let find = "SELECT 1 FROM pay_activity WHERE account = ?1 AND block = ?2";
        let find = tx.sql().prepare_cached(find);
        Ok(Self {
            block: 0,
            accounts: BTreeSet::new(),
            find: find.map_err(sql("read the blocks"))?,
        })
    }

    fn check(&mut self, transfer: TransferRow) -> Result<TransferRow> {
        let block = transfer.id / BLOCK;
        if block != self.block {
            self.block = block;
            self.accounts.clear();
        }
        for account in [transfer.debit, transfer.credit] {
            if !self.accounts.insert(account) {
                continue;
            }
            let found = self.find.exists([stored(account)?, stored(block)?]);
            if !found.map_err(sql("read the blocks"))? {
                let found = format!("account {account} is not listed in block {block}");
                return Err(Error::corrupt(found));
            }
        }
        Ok(transfer)
    }
}
