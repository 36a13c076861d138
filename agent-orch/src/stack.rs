//! The layers of one host process, composed on one data directory.

mod agents;
mod config;
mod enlist;
mod place;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent_core::store::{self, Db};
use agent_core::{AgentId, Amount, Digest, Env, Principal, RunId, Scope};
use agent_identity::backend::{SqliteGrantStore, SqliteKeyStore};
use agent_identity::{DidKey, GrantStore, Key, KeyName, KeyStore};
use agent_memory::MemoryStore;
use agent_pay::backend::sqlite as ledger;
use agent_pay::{BudgetPath, RateCard};
use agent_sandbox::Runtime;
use agent_tools::Toolset;
use serde_json::Value;

use crate::audit::Sealer;
use crate::backend::sqlite::Sqlite;
use crate::error::{Error, Result};
use crate::fleet::Fleet;
use crate::journal::{Journal, NewRun, Run};
use crate::throttle::Gauges;

pub use config::{Layers, StackConfig};
pub(crate) use enlist::Enlisted;

/// The composed layers. Cheap to clone.
#[derive(Clone)]
pub struct Stack {
    inner: Arc<Inner>,
}

struct Inner {
    data: PathBuf,
    env: Env,
    db: Db,
    journal: Arc<dyn Journal>,
    keys: Arc<dyn KeyStore>,
    grants: Arc<dyn GrantStore>,
    memory: Arc<dyn MemoryStore>,
    sandbox: Arc<dyn Runtime>,
    tools: Arc<dyn Toolset>,
    rates: Arc<RateCard>,
    host: Key,
    host_name: Principal,
    gauges: Gauges,
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack")
            .field("data", &self.inner.data)
            .finish_non_exhaustive()
    }
}

/// One layer of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Layer {
    /// The layer.
    pub layer: &'static str,
    /// Its backend.
    pub backend: &'static str,
    /// The version of the crate.
    pub version: &'static str,
    /// Whether the backend stands in for a service that will replace it.
    pub is_shim: bool,
}

/// The name of the host's own key.
const HOST_KEY: &str = "host";

impl Stack {
    /// Opens the embedded stack, creating the directory and everything in it where absent.
    ///
    /// # Errors
    /// `Conflict` if another process has the directory, `Corrupt` if a file in it is damaged,
    /// `Denied` if the vault does not open, `Exhausted` for a full disk, `Unavailable` if the
    /// directory cannot be made or written.
    ///
    /// # Cancel safety
    /// Not cancel safe in that directories and tables may have been made; opening again continues.
    pub async fn open(config: StackConfig, env: Env, layers: Layers) -> Result<Self> {
        let StackConfig {
            data,
            unlock,
            durability,
            rates,
        } = config;
        std::fs::create_dir_all(&data).map_err(|e| {
            Error::invalid(format!("data directory {}", data.display()), e.to_string())
        })?;
        let at = store::Config::new(data.join("stack.db")).with_durability(durability);
        let db = Db::open(at, &env).await?;
        let journal = Sqlite::open(db.clone(), env.clone()).await?;
        let keys = SqliteKeyStore::open(&db, unlock).await?;
        let grants = SqliteGrantStore::open(&db).await?;
        let embedder = Arc::new(agent_memory::StaticEmbedder::new()?);
        let config = agent_memory::backend::sqlite::Config::new();
        let memory =
            agent_memory::backend::Sqlite::open(db.clone(), env.clone(), embedder, config).await?;
        let scope = Scope::new(Principal::host());
        let host = one_key(&keys, &scope, HOST_KEY).await?;
        let host_name = Principal::try_from(host.did)?;
        Ok(Self {
            inner: Arc::new(Inner {
                journal: Arc::new(journal),
                keys: Arc::new(keys),
                grants: Arc::new(grants),
                memory: Arc::new(memory),
                sandbox: layers.sandbox,
                tools: layers.tools,
                rates: Arc::new(rates),
                host,
                host_name,
                gauges: Gauges::default(),
                data,
                env,
                db,
            }),
        })
    }

    /// Returns the directory all state lies in.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.inner.data
    }

    /// Returns the clock and the source of randomness.
    #[must_use]
    pub fn env(&self) -> &Env {
        &self.inner.env
    }

    /// Returns the embedded store.
    #[must_use]
    pub fn db(&self) -> &Db {
        &self.inner.db
    }

    /// Returns the journal.
    #[must_use]
    pub fn journal(&self) -> Arc<dyn Journal> {
        Arc::clone(&self.inner.journal)
    }

    /// Returns the key store.
    #[must_use]
    pub fn keys(&self) -> Arc<dyn KeyStore> {
        Arc::clone(&self.inner.keys)
    }

    /// Returns the memory store.
    #[must_use]
    pub fn memory(&self) -> Arc<dyn MemoryStore> {
        Arc::clone(&self.inner.memory)
    }

    /// Returns the sandbox runtime.
    #[must_use]
    pub fn sandbox(&self) -> Arc<dyn Runtime> {
        Arc::clone(&self.inner.sandbox)
    }

    /// Returns the tools.
    #[must_use]
    pub fn tools(&self) -> Arc<dyn Toolset> {
        Arc::clone(&self.inner.tools)
    }

    /// Returns the prices.
    #[must_use]
    pub fn rates(&self) -> Arc<RateCard> {
        Arc::clone(&self.inner.rates)
    }

    /// Returns the host's own key, which issues all grants.
    #[must_use]
    pub fn host_key(&self) -> &Key {
        &self.inner.host
    }

    /// Returns the limits on effects that all runs of this process share.
    pub(crate) fn gauges(&self) -> &Gauges {
        &self.inner.gauges
    }

    /// Returns a scope in which the host itself acts.
    #[must_use]
    pub fn host_scope(&self) -> Scope {
        Scope::new(self.inner.host_name.clone())
    }

    /// Returns what signs the audit chain with the host's key.
    #[must_use]
    pub fn sealer(&self) -> Sealer {
        Sealer::new(
            self.journal(),
            self.keys(),
            self.inner.env.clone(),
            self.host_scope(),
            self.inner.host.clone(),
        )
    }

    /// Opens the run of `subject`, or the unfinished one with what it was opened with.
    ///
    /// # Errors
    /// `Invalid` for an oversized subject; the store's.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn open_run(&self, fleet: &Fleet, subject: &str, meta: Value) -> Result<Run> {
        let run = NewRun::new(subject, fleet.digest()?, meta);
        self.inner.journal.open_run(&self.host_scope(), run).await
    }

    /// Starts a run under another subject from what a run was after an audit record.
    ///
    /// # Errors
    /// As [`Journal::fork`].
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn fork(&self, run: RunId, at: u64, subject: &str) -> Result<Run> {
        let scope = self.host_scope();
        let journal = &self.inner.journal;
        journal.fork(&scope, run, at, subject.to_owned()).await
    }

    /// Returns what a budget has left, held and spent.
    ///
    /// # Errors
    /// `NotFound` for a budget that is not open; the store's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn balance(&self, path: &str, limit: Amount) -> Result<agent_pay::Balance> {
        let (path, asset) = (BudgetPath::new(path)?, limit.asset());
        Ok(self
            .inner
            .db
            .read(move |tx| ledger::balance(tx, asset, &path))
            .await?)
    }

    /// Lists the layers and their backends.
    #[must_use]
    pub fn inventory(&self) -> Vec<Layer> {
        let version = env!("CARGO_PKG_VERSION");
        [
            ("agent-core", "sqlite"),
            ("agent-sandbox", "wasm"),
            ("agent-identity", "sqlite"),
            ("agent-memory", "sqlite"),
            ("agent-tools", "in_process"),
            ("agent-pay", "sqlite"),
            ("agent-orch", "sqlite"),
        ]
        .into_iter()
        .map(|(layer, backend)| Layer {
            layer,
            backend,
            version,
            is_shim: false,
        })
        .collect()
    }

    /// Ends the store's threads and releases the data directory.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn close(&self) {
        self.inner.db.close().await;
    }
}

async fn one_key(keys: &dyn KeyStore, scope: &Scope, name: &str) -> Result<Key> {
    let made = keys.generate(scope, vec![KeyName::new(name)?]).await?;
    made.into_iter()
        .next()
        .ok_or_else(|| Error::not_found("key", name))
}

/// Returns the id of the agent whose key this is.
#[must_use]
pub fn agent_id(did: &DidKey) -> AgentId {
    AgentId::from_bits(Digest::of_bytes(did.public_key()).to_bits())
}
