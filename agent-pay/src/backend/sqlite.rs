//! The ledger in the embedded store, and its writes as functions of a transaction.
//!
//! The functions here run within a write of [`Db`], so that a caller can commit them together with
//! its own rows. Each checks before it writes: a denial or any other refusal has written nothing,
//! and the transaction may go on. Only after `Error::Backend` or `Error::Corrupt` must the
//! caller's write fail too, so that it is rolled back.

#![expect(
    clippy::module_name_repetitions,
    clippy::needless_pass_by_ref_mut,
    reason = "backends are named side by side; a write has the transaction to itself"
)]

mod append;
pub mod authority;
mod book;
mod invoice;
mod query;
mod schema;
pub(crate) mod statement;
pub(crate) mod turn;
mod usage;

use agent_core::store::{Db, Tx};
use agent_core::{Asset, IdempotencyKey};
use async_trait::async_trait;

use crate::account::{Account, AccountQuery};
use crate::batch::{Batch, Found, Receipt, Resolution, Transfer};
use crate::budget::{
    Admission, Balance, BudgetPath, Charge, HoldState, MoveLimit, OpenBudget, Reserve, SetLimit,
    Settle, Settled, sync,
};
use crate::error::Result;
use crate::journal::{self, Journaled};
use crate::ledger::{Anchor, JournalQuery, Ledger, StatementQuery, TrialBalance, Verified};
use book::TxBook;

pub use authority::SqliteAuthority;
pub use invoice::{close_invoice, invoice};
pub use usage::{SqliteMeter, record_usage, spend_report};

/// A ledger in the embedded store.
#[derive(Clone, Debug)]
pub struct SqliteLedger {
    db: Db,
}

impl SqliteLedger {
    /// Opens the ledger of a store, creating or migrating its tables.
    ///
    /// # Errors
    /// `Unsupported` if the store was written by a later version, else those of the store.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn open(db: Db) -> Result<Self> {
        migrate(&db).await?;
        Ok(Self { db })
    }

    /// Returns the store, for writes that commit together with others.
    #[must_use]
    pub const fn db(&self) -> &Db {
        &self.db
    }
}

/// Creates or migrates the tables of this layer.
///
/// # Errors
/// As [`SqliteLedger::open`].
///
/// # Cancel safety
/// Safe to repeat: each of its writes is atomic, and the next call does what is missing.
pub async fn migrate(db: &Db) -> Result<()> {
    db.migrate("pay", schema::STEPS).await?;
    if !db.read(book::is_listed).await? {
        db.write(|tx| book::list_all(tx)).await?;
    }
    Ok(())
}

/// Posts a batch; see [`Ledger::post`].
///
/// # Errors
/// As there.
pub fn post(tx: &mut Tx<'_>, batch: &Batch) -> Result<Receipt> {
    journal::post(&mut TxBook::new(tx), batch)
}

/// Resolves the holds of a batch; see [`Ledger::resolve`].
///
/// # Errors
/// As there.
pub fn resolve(tx: &mut Tx<'_>, key: &IdempotencyKey, resolution: &Resolution) -> Result<Receipt> {
    journal::resolve(&mut TxBook::new(tx), key, resolution)
}

/// Finds a batch by its key; see [`Ledger::find`].
///
/// # Errors
/// As there.
pub fn find(tx: &Tx<'_>, key: &IdempotencyKey) -> Result<Option<Found>> {
    journal::find(&TxBook::new(tx), key)
}

/// Opens a budget; see [`Budgets::open`](crate::Budgets::open).
///
/// # Errors
/// As there.
pub fn open_budget(tx: &mut Tx<'_>, open: &OpenBudget) -> Result<Balance> {
    sync::open_budget(&mut TxBook::new(tx), open)
}

/// Changes a limit; see [`Budgets::set_limit`](crate::Budgets::set_limit).
///
/// # Errors
/// As there.
pub fn set_limit(tx: &mut Tx<'_>, set: &SetLimit) -> Result<()> {
    sync::set_limit(&mut TxBook::new(tx), set)
}

/// Moves part of a limit; see [`Budgets::move_limit`](crate::Budgets::move_limit).
///
/// # Errors
/// As there.
pub fn move_limit(tx: &mut Tx<'_>, step: &MoveLimit) -> Result<()> {
    sync::move_limit(&mut TxBook::new(tx), step)
}

/// Reserves an amount; see [`Budgets::reserve`](crate::Budgets::reserve).
///
/// # Errors
/// As there.
pub fn reserve(tx: &mut Tx<'_>, reserve: &Reserve) -> Result<Admission> {
    sync::reserve(&mut TxBook::new(tx), reserve)
}

/// Settles a reservation; see [`Budgets::settle`](crate::Budgets::settle).
///
/// # Errors
/// As there.
pub fn settle(tx: &mut Tx<'_>, settle: &Settle) -> Result<Settled> {
    sync::settle(&mut TxBook::new(tx), settle)
}

/// Releases a reservation; see [`Budgets::release`](crate::Budgets::release).
///
/// # Errors
/// As there.
pub fn release(tx: &mut Tx<'_>, key: &IdempotencyKey) -> Result<()> {
    sync::release(&mut TxBook::new(tx), key)
}

/// Spends without a reservation; see [`Budgets::charge`](crate::Budgets::charge).
///
/// # Errors
/// As there.
pub fn charge(tx: &mut Tx<'_>, charge: &Charge) -> Result<()> {
    sync::charge(&mut TxBook::new(tx), charge)
}

/// Releases what is expired by the store's clock; see [`Ledger::expire`].
///
/// # Errors
/// As there.
pub fn expire(tx: &mut Tx<'_>, limit: usize) -> Result<Vec<Receipt>> {
    journal::expire(&mut TxBook::new(tx), limit)
}

/// Returns what became of a reservation; see [`Budgets::hold`](crate::Budgets::hold).
///
/// # Errors
/// As there.
pub fn hold(tx: &Tx<'_>, key: &IdempotencyKey) -> Result<Option<HoldState>> {
    sync::hold(&TxBook::new(tx), key)
}

/// Returns the state of a budget; see [`Budgets::balance`](crate::Budgets::balance).
///
/// # Errors
/// As there.
pub fn balance(tx: &Tx<'_>, asset: Asset, path: &BudgetPath) -> Result<Balance> {
    sync::balance(&TxBook::new(tx), asset, path)
}

/// Returns the states of a budget and of those below it; see
/// [`Budgets::balances`](crate::Budgets::balances).
///
/// # Errors
/// As there.
pub fn balances(
    tx: &Tx<'_>,
    asset: Asset,
    under: &BudgetPath,
    after: Option<&BudgetPath>,
) -> Result<Vec<Balance>> {
    let (query, read) = sync::subtree(asset, under, after)?;
    Ok(query::accounts(tx, &query)?
        .iter()
        .filter_map(read)
        .collect())
}

#[async_trait]
impl Ledger for SqliteLedger {
    async fn post(&self, batch: Batch) -> Result<Receipt> {
        let written = self.db.write(move |tx| match post(tx, &batch) {
            // The note that the key is used up must be kept.
            Err(error) if batch.pins_refusal && error.is_refusal() => Ok(Err(error)),
            answer => answer.map(Ok),
        });
        written.await?
    }

    async fn resolve(&self, key: IdempotencyKey, resolution: Resolution) -> Result<Receipt> {
        self.db
            .write(move |tx| resolve(tx, &key, &resolution))
            .await
    }

    async fn find(&self, key: IdempotencyKey) -> Result<Option<Found>> {
        self.db.read(move |tx| find(tx, &key)).await
    }

    async fn accounts(&self, query: AccountQuery) -> Result<Vec<Account>> {
        self.db.read(move |tx| query::accounts(tx, &query)).await
    }

    async fn statement(&self, query: StatementQuery) -> Result<Vec<Transfer>> {
        self.db.read(move |tx| query::statement(tx, &query)).await
    }

    async fn journal(&self, query: JournalQuery) -> Result<Vec<Journaled>> {
        self.db.read(move |tx| query::journal(tx, query)).await
    }

    async fn trial_balance(&self) -> Result<Vec<TrialBalance>> {
        self.db.read(query::trial_balance).await
    }

    async fn expire(&self, limit: usize) -> Result<Vec<Receipt>> {
        self.db.write(move |tx| expire(tx, limit)).await
    }

    async fn verify(&self, anchor: Option<Anchor>) -> Result<Verified> {
        self.db.read(move |tx| query::verify(tx, anchor)).await
    }
}
