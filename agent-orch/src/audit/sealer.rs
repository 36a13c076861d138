//! Signing the end of the chain from time to time.

use std::fmt;
use std::sync::Arc;

use agent_core::{Env, Scope};
use agent_identity::{Key, KeyStore};

use super::{Audit, Root};
use crate::error::Result;
use crate::journal::Journal;

/// Signs and stores roots with the host's key.
#[derive(Clone)]
pub struct Sealer {
    journal: Arc<dyn Journal>,
    keys: Arc<dyn KeyStore>,
    env: Env,
    scope: Scope,
    key: Key,
    every: u64,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer")
            .field("key", &self.key.did)
            .field("every", &self.every)
            .finish_non_exhaustive()
    }
}

impl Sealer {
    /// Prepares to sign a journal's chain with a key, every [`Root::EVERY_DEFAULT`] records.
    #[must_use]
    pub const fn new(
        journal: Arc<dyn Journal>,
        keys: Arc<dyn KeyStore>,
        env: Env,
        scope: Scope,
        key: Key,
    ) -> Self {
        Self {
            journal,
            keys,
            env,
            scope,
            key,
            every: Root::EVERY_DEFAULT,
        }
    }

    /// Sets after how many records a root is due. Default: [`Root::EVERY_DEFAULT`].
    #[must_use]
    pub const fn every(mut self, every: u64) -> Self {
        self.every = every;
        self
    }

    /// Signs the end of the chain if a root is due, and returns it.
    ///
    /// # Errors
    /// The store's and the key store's.
    ///
    /// # Cancel safety
    /// Atomic: the root is stored or not.
    pub async fn seal_if_due(&self) -> Result<Option<Root>> {
        self.seal_after(self.every).await
    }

    /// Signs the end of the chain unless it is signed, and returns the root.
    ///
    /// # Errors
    /// The store's and the key store's.
    ///
    /// # Cancel safety
    /// Atomic: the root is stored or not.
    pub async fn seal(&self) -> Result<Option<Root>> {
        self.seal_after(1).await
    }

    async fn seal_after(&self, n_records: u64) -> Result<Option<Root>> {
        let end: Audit = self.journal.head().await?;
        // The record of the last root is no reason for another one.
        let unsigned = end.records.saturating_sub(end.signed);
        let unsigned = unsigned.saturating_sub(u64::from(end.signed > 0));
        if unsigned < n_records.max(1) {
            return Ok(None);
        }
        let (at, keys) = (self.env.clock.now(), self.keys.as_ref());
        let root = Root::sign(&end, at, keys, &self.scope, &self.key).await?;
        self.journal.seal(&self.scope, root.clone()).await?;
        Ok(Some(root))
    }
}
