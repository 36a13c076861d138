//! Loses and duplicates calls, to show that repeating them is harmless.

use std::sync::Arc;

use agent_core::{Entropy, EntropyExt, ErrorKind, IdempotencyKey, Retry};
use async_trait::async_trait;

use crate::account::{Account, AccountQuery};
use crate::batch::{Batch, Found, Receipt, Resolution, Transfer};
use crate::error::{Error, Result};
use crate::journal::Journaled;
use crate::ledger::{Anchor, JournalQuery, Ledger, StatementQuery, TrialBalance, Verified};

/// How often calls go wrong, of a million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FaultRates {
    /// The call never reaches the ledger.
    pub lost_requests: u32,
    /// The call has its effect and the answer is lost.
    pub lost_answers: u32,
    /// A write reaches the ledger twice, and the second answer is returned.
    pub duplicates: u32,
}

impl FaultRates {
    /// Every third call is lost, before or after its effect, and every third write is doubled.
    #[must_use]
    pub const fn harsh() -> Self {
        Self {
            lost_requests: 160_000,
            lost_answers: 160_000,
            duplicates: 330_000,
        }
    }
}

/// A ledger whose calls are lost and doubled, as those of a remote one are.
#[derive(Debug)]
pub struct Fault<L> {
    inner: L,
    rates: FaultRates,
    entropy: Arc<dyn Entropy>,
}

impl<L: Ledger> Fault<L> {
    /// Disturbs the calls of `inner` at the given rates; the same entropy, the same faults.
    #[must_use]
    pub const fn new(inner: L, rates: FaultRates, entropy: Arc<dyn Entropy>) -> Self {
        Self {
            inner,
            rates,
            entropy,
        }
    }

    async fn disturb<T, F>(&self, call: impl Fn() -> F + Send, may_double: bool) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send,
        T: Send,
    {
        if self.entropy.chance(self.rates.lost_requests) {
            return Err(lost("the request was lost"));
        }
        let mut answer = call().await;
        if may_double && self.entropy.chance(self.rates.duplicates) {
            answer = call().await;
        }
        if self.entropy.chance(self.rates.lost_answers) {
            return Err(lost("the answer was lost"));
        }
        answer
    }
}

fn lost(what: &'static str) -> Error {
    let (kind, retry) = (ErrorKind::Unavailable, Retry::Unknown);
    Error::backend("fault", "reach the ledger", kind, retry, what)
}

#[async_trait]
#[deny(
    clippy::missing_trait_methods,
    reason = "a layer must not bypass a method"
)]
impl<L: Ledger> Ledger for Fault<L> {
    async fn post(&self, batch: Batch) -> Result<Receipt> {
        self.disturb(|| self.inner.post(batch.clone()), true).await
    }

    async fn resolve(&self, key: IdempotencyKey, resolution: Resolution) -> Result<Receipt> {
        let call = || self.inner.resolve(key.clone(), resolution.clone());
        self.disturb(call, true).await
    }

    async fn find(&self, key: IdempotencyKey) -> Result<Option<Found>> {
        self.disturb(|| self.inner.find(key.clone()), false).await
    }

    async fn accounts(&self, query: AccountQuery) -> Result<Vec<Account>> {
        self.disturb(|| self.inner.accounts(query.clone()), false)
            .await
    }

    async fn statement(&self, query: StatementQuery) -> Result<Vec<Transfer>> {
        self.disturb(|| self.inner.statement(query.clone()), false)
            .await
    }

    async fn journal(&self, query: JournalQuery) -> Result<Vec<Journaled>> {
        self.disturb(|| self.inner.journal(query), false).await
    }

    async fn trial_balance(&self) -> Result<Vec<TrialBalance>> {
        self.disturb(|| self.inner.trial_balance(), false).await
    }

    async fn expire(&self, limit: usize) -> Result<Vec<Receipt>> {
        self.disturb(|| self.inner.expire(limit), true).await
    }

    async fn verify(&self, anchor: Option<Anchor>) -> Result<Verified> {
        self.disturb(|| self.inner.verify(anchor), false).await
    }
}
