//! Where credentials go.

use std::collections::BTreeMap;
use std::fmt;

use agent_core::Secret;
use async_trait::async_trait;
use parking_lot::Mutex;

use super::name::{CredentialName, ResourceName};
use crate::error::Result;

/// Keeps the values of credentials, so that everybody else can do with their names.
///
/// The host implements it over the vault it has. A write must be as durable as the host's records:
/// a resource is called ready once its credentials are in.
#[async_trait]
pub trait Vault: fmt::Debug + Send + Sync + 'static {
    /// Keeps a value; another under the same name is replaced.
    ///
    /// # Errors
    /// Those of the host.
    ///
    /// # Cancel safety
    /// Atomic.
    async fn put(&self, name: &CredentialName, value: Secret) -> Result<()>;

    /// Removes all values of a resource; without any, nothing happens.
    ///
    /// # Errors
    /// Those of the host.
    ///
    /// # Cancel safety
    /// Not cancel safe: call it again.
    async fn remove_all(&self, provisioner: &str, resource: &ResourceName) -> Result<()>;
}

/// A vault in memory, for tests and for hosts whose resources do not outlive them. `Debug` shows
/// names.
#[derive(Default)]
pub struct MemoryVault(Mutex<BTreeMap<CredentialName, Secret>>);

impl MemoryVault {
    /// An empty vault.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a value, for whoever may open the resource.
    #[must_use]
    pub fn get(&self, name: &CredentialName) -> Option<Secret> {
        self.0.lock().get(name).cloned()
    }

    /// Returns the names of all values.
    #[must_use]
    pub fn names(&self) -> Vec<CredentialName> {
        self.0.lock().keys().cloned().collect()
    }
}

impl fmt::Debug for MemoryVault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

#[async_trait]
impl Vault for MemoryVault {
    async fn put(&self, name: &CredentialName, value: Secret) -> Result<()> {
        self.0.lock().insert(name.clone(), value);
        Ok(())
    }

    async fn remove_all(&self, provisioner: &str, resource: &ResourceName) -> Result<()> {
        let beginning = format!("{provisioner}/{resource}/");
        let is_other = |name: &CredentialName| !name.as_str().starts_with(&beginning);
        self.0.lock().retain(|name, _value| is_other(name));
        Ok(())
    }
}
