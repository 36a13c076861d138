//! A provisioner whose calls fail at a planted place.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use agent_core::{ErrorKind, Retry};
use agent_pay::provision::{
    Blocker, CredentialName, Inspected, Offer, Provisioner, ResourceName, Spec, SqliteDatabases,
    Vault,
};
use agent_pay::{Error, Result};

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It never arrived.
    Lost,
    /// It was done and its answer is lost.
    AnswerLost,
    /// It was half done, and trying again is useless.
    Refused,
}

/// Fails calls number `from` up to `until` of those that change something.
#[derive(Debug)]
pub(crate) struct Faulty {
    pub(crate) inner: SqliteDatabases,
    pub(crate) n_calls: Arc<AtomicUsize>,
    pub(crate) fails: std::ops::Range<usize>,
    pub(crate) fault: Fault,
}

impl Faulty {
    async fn call<T>(&self, effect: impl Future<Output = Result<T>>) -> Result<T> {
        let n = self.n_calls.fetch_add(1, Ordering::SeqCst);
        let failed = |retry| {
            let kind = ErrorKind::Unavailable;
            Err(Error::backend("faulty", "answer", kind, retry, "planted"))
        };
        if !self.fails.contains(&n) {
            return effect.await;
        }
        match self.fault {
            Fault::Lost => failed(Retry::Safe),
            Fault::AnswerLost => {
                effect.await?;
                failed(Retry::Unknown)
            }
            Fault::Refused => {
                effect.await?;
                failed(Retry::Never)
            }
        }
    }
}

#[async_trait::async_trait]
impl Provisioner for Faulty {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn catalogue(&self) -> Result<Vec<Offer>> {
        self.inner.catalogue().await
    }

    async fn preflight(&self, spec: &Spec) -> Result<Vec<Blocker>> {
        self.inner.preflight(spec).await
    }

    async fn create(&self, spec: &Spec, vault: &dyn Vault) -> Result<Vec<CredentialName>> {
        self.call(self.inner.create(spec, vault)).await
    }

    async fn alter(&self, spec: &Spec, is_awake: bool) -> Result<()> {
        self.call(self.inner.alter(spec, is_awake)).await
    }

    async fn destroy(&self, name: &ResourceName, vault: &dyn Vault) -> Result<()> {
        self.call(self.inner.destroy(name, vault)).await
    }

    async fn inspect(&self, name: &ResourceName) -> Result<Option<Inspected>> {
        self.inner.inspect(name).await
    }

    async fn list(&self) -> Result<Vec<ResourceName>> {
        self.inner.list().await
    }
}
