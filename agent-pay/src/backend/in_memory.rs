//! A ledger in memory, for tests and for hosts that keep no money.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use agent_core::{Asset, Clock, Digest, Env, IdempotencyKey, Timestamp};
use async_trait::async_trait;
use parking_lot::Mutex;

use crate::account::{Account, AccountName, AccountQuery};
use crate::batch::{Batch, Found, Receipt, Resolution, Transfer};
use crate::error::{Error, Result};
use crate::journal::{self, Auditor, BatchRow, Book, Commit, Head, Journaled, TransferRow};
use crate::ledger::{Anchor, JournalQuery, Ledger, StatementQuery, TrialBalance, Verified};

/// A ledger in memory. It survives nothing.
#[derive(Debug)]
pub struct InMemoryLedger {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    head: Head,
    accounts: BTreeMap<u64, Account>,
    names: BTreeMap<(Asset, AccountName), u64>,
    batches: BTreeMap<u64, BatchRow>,
    keys: BTreeMap<IdempotencyKey, u64>,
    refusals: BTreeMap<IdempotencyKey, Digest>,
    resolutions: BTreeMap<u64, u64>,
    transfers: BTreeMap<u64, TransferRow>,
    /// Expiry and number of the batches that wait; those without an expiry are last.
    pending: BTreeSet<(Option<Timestamp>, u64)>,
}

impl InMemoryLedger {
    /// Creates an empty ledger with the clock of `env`.
    #[must_use]
    pub fn new(env: &Env) -> Self {
        Self {
            clock: Arc::clone(&env.clock),
            state: Mutex::new(State {
                head: Head::EMPTY,
                accounts: BTreeMap::new(),
                names: BTreeMap::new(),
                batches: BTreeMap::new(),
                keys: BTreeMap::new(),
                refusals: BTreeMap::new(),
                resolutions: BTreeMap::new(),
                transfers: BTreeMap::new(),
                pending: BTreeSet::new(),
            }),
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Locked<'_>) -> Result<T>) -> Result<T> {
        let now = self.clock.now();
        work(&mut Locked {
            now,
            state: &mut self.state.lock(),
        })
    }
}

struct Locked<'a> {
    now: Timestamp,
    state: &'a mut State,
}

impl Book for Locked<'_> {
    fn now(&self) -> Timestamp {
        self.now
    }

    fn head(&self) -> Result<Head> {
        Ok(self.state.head)
    }

    fn batch_by_key(&self, key: &IdempotencyKey) -> Result<Option<BatchRow>> {
        let seq = self.state.keys.get(key);
        seq.map(|seq| self.batch(*seq)).transpose()
    }

    fn resolution_of(&self, seq: u64) -> Result<Option<BatchRow>> {
        let by = self.state.resolutions.get(&seq);
        by.map(|by| self.batch(*by)).transpose()
    }

    fn batch(&self, seq: u64) -> Result<BatchRow> {
        let row = self.state.batches.get(&seq).cloned();
        row.ok_or_else(|| Error::corrupt(format!("batch {seq} is missing")))
    }

    fn transfers(&self, batch: &BatchRow) -> Result<Vec<TransferRow>> {
        let end = batch.first_transfer.saturating_add(batch.n_transfers);
        let rows = self.state.transfers.range(batch.first_transfer..end);
        Ok(rows.map(|(_id, row)| *row).collect())
    }

    fn account_by_name(&self, asset: Asset, name: &AccountName) -> Result<Option<Account>> {
        let id = self.state.names.get(&(asset, name.clone()));
        id.map(|id| self.account(*id)).transpose()
    }

    fn account(&self, id: u64) -> Result<Account> {
        let account = self.state.accounts.get(&id).cloned();
        account.ok_or_else(|| Error::corrupt(format!("account {id} is missing")))
    }

    fn expired(&self, now: Timestamp, limit: usize) -> Result<Vec<u64>> {
        let from = (Some(Timestamp::from_unix_ms(i64::MIN)), 0);
        let due = self.state.pending.range(from..=(Some(now), u64::MAX));
        Ok(due.take(limit).map(|(_at, seq)| *seq).collect())
    }

    fn refusal(&self, key: &IdempotencyKey) -> Result<Option<Digest>> {
        Ok(self.state.refusals.get(key).copied())
    }

    fn put_refusal(&mut self, key: &IdempotencyKey, request: &Digest) -> Result<()> {
        self.state.refusals.insert(key.clone(), *request);
        Ok(())
    }

    fn put(&mut self, commit: &Commit<'_>) -> Result<()> {
        let batch = commit.batch;
        if let Some(resolved) = batch.resolves {
            let held = self.batch(resolved)?;
            self.state.pending.remove(&(held.expires_at, resolved));
            self.state.resolutions.insert(resolved, batch.seq);
        }
        let state = &mut *self.state;
        if commit.is_pending {
            state.pending.insert((batch.expires_at, batch.seq));
        }
        if let Some(key) = &batch.key {
            state.keys.insert(key.clone(), batch.seq);
        }
        for account in commit.opened {
            let name = (account.asset, account.name.clone());
            state.names.insert(name, account.id);
        }
        for account in commit.opened.iter().chain(commit.changed) {
            state.accounts.insert(account.id, account.clone());
        }
        for transfer in commit.transfers {
            state.transfers.insert(transfer.id, *transfer);
        }
        state.batches.insert(batch.seq, batch.clone());
        state.head = commit.head;
        Ok(())
    }
}

impl Locked<'_> {
    fn list(&self, query: &AccountQuery) -> Vec<Account> {
        let below = format!("{}/", query.under);
        let wanted = |name: &AccountName| {
            (name == &query.under || !query.is_exact && name.as_str().starts_with(&below))
                && query.after.as_ref().is_none_or(|after| name > after)
        };
        let start = (query.asset, query.under.clone());
        let names = self.state.names.range(start..);
        names
            .take_while(|((asset, name), _id)| {
                *asset == query.asset && name.as_str().starts_with(query.under.as_str())
            })
            .filter(|((_asset, name), _id)| wanted(name))
            .take(query.limit.min(AccountQuery::LIMIT_MAX))
            .filter_map(|(_name, id)| self.state.accounts.get(id).cloned())
            .collect()
    }

    fn statement(&self, query: &StatementQuery) -> Result<Vec<Transfer>> {
        let account = self.account_by_name(query.asset, &query.account)?;
        let account = account.ok_or_else(|| Error::AccountNotFound {
            asset: query.asset,
            account: query.account.clone(),
        })?;
        self.state
            .transfers
            .range(query.after.saturating_add(1)..)
            .map(|(_id, row)| row)
            .filter(|row| row.debit == account.id || row.credit == account.id)
            .take(query.limit.min(StatementQuery::LIMIT_MAX))
            .map(|row| {
                let (debit, credit) = (self.account(row.debit)?, self.account(row.credit)?);
                Ok(journal::name_transfer(row, &debit, &credit))
            })
            .collect()
    }

    fn verify(&self, anchor: Option<Anchor>) -> Result<Verified> {
        let accounts = self.state.accounts.values().cloned().collect();
        let mut auditor = Auditor::new(accounts, anchor)?;
        for row in self.state.batches.values() {
            auditor.batch(row, &self.transfers(row)?)?;
        }
        let pending = self.state.pending.iter();
        let pending = pending.map(|(at, seq)| (*seq, at.map(Timestamp::as_unix_ms)));
        auditor.finish(&self.state.head, &pending.collect())
    }
}

#[async_trait]
impl Ledger for InMemoryLedger {
    async fn post(&self, batch: Batch) -> Result<Receipt> {
        self.with(|book| journal::post(book, &batch))
    }

    async fn resolve(&self, key: IdempotencyKey, resolution: Resolution) -> Result<Receipt> {
        self.with(|book| journal::resolve(book, &key, &resolution))
    }

    async fn find(&self, key: IdempotencyKey) -> Result<Option<Found>> {
        self.with(|book| journal::find(book, &key))
    }

    async fn accounts(&self, query: AccountQuery) -> Result<Vec<Account>> {
        self.with(|book| Ok(book.list(&query)))
    }

    async fn statement(&self, query: StatementQuery) -> Result<Vec<Transfer>> {
        self.with(|book| book.statement(&query))
    }

    async fn journal(&self, query: JournalQuery) -> Result<Vec<Journaled>> {
        self.with(|book| {
            let rows = book.state.batches.range(query.after.saturating_add(1)..);
            let rows = rows.take(query.limit.min(JournalQuery::LIMIT_MAX));
            rows.map(|(_seq, row)| journal::journaled(book, row.clone()))
                .collect()
        })
    }

    async fn trial_balance(&self) -> Result<Vec<TrialBalance>> {
        self.with(|book| {
            let mut sums: BTreeMap<Asset, TrialBalance> = BTreeMap::new();
            for account in book.state.accounts.values() {
                let zero = || TrialBalance::zero(account.asset);
                sums.entry(account.asset)
                    .or_insert_with(zero)
                    .add(account)?;
            }
            Ok(sums.into_values().collect())
        })
    }

    async fn expire(&self, limit: usize) -> Result<Vec<Receipt>> {
        self.with(|book| journal::expire(book, limit))
    }

    async fn verify(&self, anchor: Option<Anchor>) -> Result<Verified> {
        self.with(|book| book.verify(anchor))
    }
}
