//! The contract of a ledger.

use std::fmt;
use std::sync::Arc;

use agent_core::{Amount, Asset, Digest, IdempotencyKey};
use async_trait::async_trait;

use crate::account::{Account, AccountName, AccountQuery};
use crate::batch::{Batch, Found, Receipt, Resolution, Transfer};
use crate::error::{Error, Result};
use crate::journal::Journaled;

/// The end of the journal: how much there is and the hash of its last batch, which covers all
/// before it. Kept elsewhere, it proves later that nothing was cut off or rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Anchor {
    /// The last batch.
    pub seq: u64,
    /// Its hash.
    pub hash: Digest,
}

impl Anchor {
    /// The hash an empty journal ends with.
    pub const ROOT: Digest = Digest::from_bytes([0; 32]);

    /// Takes an anchor that was kept elsewhere.
    #[must_use]
    pub const fn new(seq: u64, hash: Digest) -> Self {
        Self { seq, hash }
    }
}

/// The sums of one ledger. It balances: what was debited was credited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrialBalance {
    /// The posted debits of all accounts.
    pub debits_posted: Amount,
    /// The posted credits of all accounts.
    pub credits_posted: Amount,
    /// The pending debits of all accounts.
    pub debits_pending: Amount,
    /// The pending credits of all accounts.
    pub credits_pending: Amount,
}

impl TrialBalance {
    /// Starts with empty sums.
    #[must_use]
    pub const fn zero(asset: Asset) -> Self {
        let zero = Amount::zero(asset);
        Self {
            debits_posted: zero,
            credits_posted: zero,
            debits_pending: zero,
            credits_pending: zero,
        }
    }

    /// Adds an account of the asset.
    ///
    /// # Errors
    /// `Invalid` if the account is of another asset.
    pub fn add(&mut self, account: &Account) -> Result<()> {
        self.debits_posted = self.debits_posted.plus(account.debits_posted())?;
        self.credits_posted = self.credits_posted.plus(account.credits_posted())?;
        self.debits_pending = self.debits_pending.plus(account.debits_pending())?;
        self.credits_pending = self.credits_pending.plus(account.credits_pending())?;
        Ok(())
    }

    /// Returns the asset.
    #[must_use]
    pub const fn asset(&self) -> Asset {
        self.debits_posted.asset()
    }

    /// Returns whether debits equal credits.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.debits_posted == self.credits_posted && self.debits_pending == self.credits_pending
    }
}

/// What a verification found: everything in order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// The end of the journal.
    pub anchor: Anchor,
    /// The transfers read.
    pub n_transfers: u64,
    /// The accounts read.
    pub n_accounts: u64,
    /// The batches whose holds are pending.
    pub n_pending: u64,
}

/// Which transfers of an account to list, in the order of the journal.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StatementQuery {
    /// The ledger.
    pub asset: Asset,
    /// The account.
    pub account: AccountName,
    /// Continue behind this transfer; 0 is the start.
    pub after: u64,
    /// The most transfers returned, at most [`StatementQuery::LIMIT_MAX`].
    pub limit: usize,
}

impl StatementQuery {
    /// The most transfers of one page.
    pub const LIMIT_MAX: usize = 1_000;

    /// Asks for the first page of an account.
    #[must_use]
    pub const fn new(asset: Asset, account: AccountName) -> Self {
        Self {
            asset,
            account,
            after: 0,
            limit: Self::LIMIT_MAX,
        }
    }

    /// Continues behind the last transfer of a page. Default: 0, the start.
    #[must_use]
    pub const fn with_after(mut self, transfer: u64) -> Self {
        self.after = transfer;
        self
    }

    /// Sets the size of a page. Default: [`Self::LIMIT_MAX`], which is also the most.
    #[must_use]
    pub fn with_limit(mut self, limit: usize) -> Self {
        self.limit = limit.min(Self::LIMIT_MAX);
        self
    }
}

/// Which batches of the journal to list.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct JournalQuery {
    /// Continue behind this batch; 0 is the start.
    pub after: u64,
    /// The most batches returned, at most [`JournalQuery::LIMIT_MAX`].
    pub limit: usize,
}

impl JournalQuery {
    /// The most batches of one page: with the most transfers each, a few megabytes.
    pub const LIMIT_MAX: usize = 256;

    /// Asks for the page behind the batch `after`; 0 is the start.
    #[must_use]
    pub const fn new(after: u64) -> Self {
        Self {
            after,
            limit: Self::LIMIT_MAX,
        }
    }

    /// Sets the size of a page. Default: [`Self::LIMIT_MAX`], which is also the most.
    #[must_use]
    pub fn with_limit(mut self, limit: usize) -> Self {
        self.limit = limit.min(Self::LIMIT_MAX);
        self
    }
}

/// Keeps accounts in double entry, one ledger per asset.
///
/// This is the contract for _implementors_. Transfers are immutable: a hold is resolved by a new
/// transfer. Writes are serializable, each is atomic and durable at the backend's level when it
/// returns, and repeating one with the same key gives the same answer and no second effect. A
/// crash before a write returns leaves all of it or nothing; repeat it with its key. An
/// implementation passes the conformance suite.
#[async_trait]
pub trait Ledger: fmt::Debug + Send + Sync + 'static {
    /// Posts a batch: all its entries or none.
    ///
    /// # Errors
    /// `Exhausted` ([`Error::Insufficient`]) if a guard refuses an entry, `NotFound` for an
    /// account that is not open, `Conflict` for a key used with another body or used up by a pinned
    /// refusal or an account open with another guard, `Invalid` for a malformed batch, holds that are expired from the
    /// start, or a balance beyond 64 bits.
    ///
    /// # Cancel safety
    /// Atomic: a dropped future loses the answer at most; repeat it with the same key.
    async fn post(&self, batch: Batch) -> Result<Receipt>;

    /// Resolves the holds of the batch posted under `key`, once.
    ///
    /// # Errors
    /// `NotFound` for an unknown key, `Conflict` if the holds are resolved in another way or
    /// expired, `Invalid` if the batch holds nothing or less than the capture asks for.
    ///
    /// # Cancel safety
    /// Atomic: a dropped future loses the answer at most; repeat it.
    async fn resolve(&self, key: IdempotencyKey, resolution: Resolution) -> Result<Receipt>;

    /// Returns the batch posted under a key.
    ///
    /// # Errors
    /// Those of the backend.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn find(&self, key: IdempotencyKey) -> Result<Option<Found>>;

    /// Lists accounts in the order of their names.
    ///
    /// # Errors
    /// Those of the backend.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn accounts(&self, query: AccountQuery) -> Result<Vec<Account>>;

    /// Lists the transfers of an account in the order of the journal.
    ///
    /// # Errors
    /// `NotFound` for an account that is not open.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn statement(&self, query: StatementQuery) -> Result<Vec<Transfer>>;

    /// Lists the batches of the journal with their transfers, in their order.
    ///
    /// # Errors
    /// Those of the backend.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn journal(&self, query: JournalQuery) -> Result<Vec<Journaled>>;

    /// Sums each ledger, in the order of the assets, on one snapshot.
    ///
    /// # Errors
    /// Those of the backend.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn trial_balance(&self) -> Result<Vec<TrialBalance>>;

    /// Releases at most `limit` batches whose holds are expired by the ledger's clock, the oldest
    /// first, and returns the receipts.
    ///
    /// # Errors
    /// Those of the backend.
    ///
    /// # Cancel safety
    /// Atomic.
    async fn expire(&self, limit: usize) -> Result<Vec<Receipt>>;

    /// Reads the whole journal: recomputes every hash and balance and checks every guard.
    ///
    /// An `anchor` kept elsewhere must lie on the chain. Without one, cutting off the end of the
    /// journal together with its effect on every balance cannot be seen.
    ///
    /// # Errors
    /// `Corrupt` with the first altered, removed, added or reordered row.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn verify(&self, anchor: Option<Anchor>) -> Result<Verified>;
}

/// Shorthands over [`Ledger`], for users. Do not implement it.
#[async_trait]
pub trait LedgerExt: Ledger {
    /// Returns an account.
    ///
    /// # Errors
    /// `NotFound` if it is not open.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn account(&self, asset: Asset, name: AccountName) -> Result<Account> {
        self.accounts(AccountQuery::exact(asset, name.clone()))
            .await?
            .pop()
            .ok_or(Error::AccountNotFound {
                asset,
                account: name,
            })
    }

    /// Takes back whatever the batch posted under a key moved, once, as new transfers in one
    /// batch. What was held and not captured is not moved and stays as it is.
    ///
    /// # Errors
    /// `NotFound` for an unknown key, `Invalid` if nothing is posted, `Exhausted` if a guarded
    /// account has passed on what it got, `Conflict` ([`Error::KeyReused`]) if it was taken back
    /// before more of it was captured: that more is not taken back by this.
    ///
    /// # Cancel safety
    /// Atomic: repeating it is harmless.
    async fn reverse(&self, key: IdempotencyKey) -> Result<Receipt> {
        let found = self.find(key.clone()).await?;
        let found = found.ok_or(Error::KeyNotFound { key })?;
        self.post(found.reversal()?).await
    }
}

impl<L: Ledger + ?Sized> LedgerExt for L {}

#[async_trait]
#[deny(
    clippy::missing_trait_methods,
    reason = "a forwarded ledger forwards everything"
)]
impl<L: Ledger + ?Sized> Ledger for Arc<L> {
    async fn post(&self, batch: Batch) -> Result<Receipt> {
        (**self).post(batch).await
    }

    async fn resolve(&self, key: IdempotencyKey, resolution: Resolution) -> Result<Receipt> {
        (**self).resolve(key, resolution).await
    }

    async fn find(&self, key: IdempotencyKey) -> Result<Option<Found>> {
        (**self).find(key).await
    }

    async fn accounts(&self, query: AccountQuery) -> Result<Vec<Account>> {
        (**self).accounts(query).await
    }

    async fn statement(&self, query: StatementQuery) -> Result<Vec<Transfer>> {
        (**self).statement(query).await
    }

    async fn journal(&self, query: JournalQuery) -> Result<Vec<Journaled>> {
        (**self).journal(query).await
    }

    async fn trial_balance(&self) -> Result<Vec<TrialBalance>> {
        (**self).trial_balance().await
    }

    async fn expire(&self, limit: usize) -> Result<Vec<Receipt>> {
        (**self).expire(limit).await
    }

    async fn verify(&self, anchor: Option<Anchor>) -> Result<Verified> {
        (**self).verify(anchor).await
    }
}
