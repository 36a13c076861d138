//! Repeats calls whose answer was lost.

use std::sync::Arc;
use std::time::Duration;

use agent_core::{Classify, Clock, ClockExt, ErrorKind, IdempotencyKey};
use async_trait::async_trait;

use crate::account::{Account, AccountQuery};
use crate::batch::{Batch, Found, Receipt, Resolution, Transfer};
use crate::error::Result;
use crate::journal::Journaled;
use crate::ledger::{Anchor, JournalQuery, Ledger, StatementQuery, TrialBalance, Verified};

/// Repeats a call while the ledger is unavailable. Every write of a ledger carries a key, so a
/// repeated one has no second effect.
#[derive(Debug)]
pub struct Retry<L> {
    inner: L,
    clock: Arc<dyn Clock>,
    n_attempts_max: u32,
    delay: Duration,
}

impl<L> Retry<L> {
    /// Repeats calls of `inner`: 5 attempts, 20 ms apart, which outlasts a busy store.
    #[must_use]
    pub const fn new(inner: L, clock: Arc<dyn Clock>) -> Self {
        Self {
            inner,
            clock,
            n_attempts_max: 5,
            delay: Duration::from_millis(20),
        }
    }

    /// Sets the most attempts, the first included. Default: 5.
    #[must_use]
    pub const fn with_attempts(mut self, n_attempts_max: u32) -> Self {
        self.n_attempts_max = n_attempts_max;
        self
    }

    /// Sets the time between attempts. Default: 20 ms.
    #[must_use]
    pub const fn with_delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

impl<L: Ledger> Retry<L> {
    async fn repeat<T, F>(&self, call: impl Fn() -> F + Send + Sync) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send,
        T: Send,
    {
        let mut n_left = self.n_attempts_max;
        loop {
            n_left = n_left.saturating_sub(1);
            match call().await {
                Err(error)
                    if n_left > 0
                        && error.kind() == ErrorKind::Unavailable
                        && error.retry() != agent_core::Retry::Never => {}
                answer => return answer,
            }
            if !self.delay.is_zero() {
                self.clock.sleep(self.delay).await;
            }
        }
    }
}

#[async_trait]
#[deny(
    clippy::missing_trait_methods,
    reason = "a layer must not bypass a method"
)]
impl<L: Ledger> Ledger for Retry<L> {
    async fn post(&self, batch: Batch) -> Result<Receipt> {
        self.repeat(|| self.inner.post(batch.clone())).await
    }

    async fn resolve(&self, key: IdempotencyKey, resolution: Resolution) -> Result<Receipt> {
        self.repeat(|| self.inner.resolve(key.clone(), resolution.clone()))
            .await
    }

    async fn find(&self, key: IdempotencyKey) -> Result<Option<Found>> {
        self.repeat(|| self.inner.find(key.clone())).await
    }

    async fn accounts(&self, query: AccountQuery) -> Result<Vec<Account>> {
        self.repeat(|| self.inner.accounts(query.clone())).await
    }

    async fn statement(&self, query: StatementQuery) -> Result<Vec<Transfer>> {
        self.repeat(|| self.inner.statement(query.clone())).await
    }

    async fn journal(&self, query: JournalQuery) -> Result<Vec<Journaled>> {
        self.repeat(|| self.inner.journal(query)).await
    }

    async fn trial_balance(&self) -> Result<Vec<TrialBalance>> {
        self.repeat(|| self.inner.trial_balance()).await
    }

    async fn expire(&self, limit: usize) -> Result<Vec<Receipt>> {
        self.repeat(|| self.inner.expire(limit)).await
    }

    async fn verify(&self, anchor: Option<Anchor>) -> Result<Verified> {
        self.repeat(|| self.inner.verify(anchor)).await
    }
}
